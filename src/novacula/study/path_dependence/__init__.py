"""How much trained networks depend on the path of their training: runs are read, compared, and told of in words."""
