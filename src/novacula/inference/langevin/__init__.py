"""Stochastic-gradient samplers, and how they find their step size."""
