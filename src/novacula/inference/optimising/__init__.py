"""Point estimates, what is made of their paths, and ensembles of them."""
