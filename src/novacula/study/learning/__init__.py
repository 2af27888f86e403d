"""Learning a prior along with the weights."""
