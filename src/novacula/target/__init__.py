"""The target density: a network with its prior, likelihood, invariance and temperature."""

from novacula.target.target import Copies, Target

__all__ = ["Copies", "Target"]
