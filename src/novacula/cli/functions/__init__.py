"""The verbs of ``novacula functions``: what networks do before they see data."""
