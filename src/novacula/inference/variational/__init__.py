"""Gaussians fitted to the posterior by gradient."""
