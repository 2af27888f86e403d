"""Hamiltonian Monte Carlo: trajectories, their mass and step size, NUTS."""
