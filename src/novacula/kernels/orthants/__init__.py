"""Probabilities of Gaussian orthants: expectation propagation, minimax tilting, and what both start from."""
