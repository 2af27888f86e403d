"""The verb ``novacula paths``: how much trained networks depend on the path of their training."""
