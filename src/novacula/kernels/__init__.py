"""Kernels of infinitely wide networks, and probabilities of Gaussian orthants.

| name | what it gives |
| --- | --- |
| `arc_cosine`, `erf` | the covariance of an infinitely wide perceptron's outputs, by recursion |
| `monte_carlo` | the covariance of any network's outputs under its prior, by drawing networks |
| `orthant` | the probability that a Gaussian vector has given signs |
"""

from novacula.kernels.monte_carlo import monte_carlo
from novacula.kernels.orthants.orthant import orthant
from novacula.kernels.recursions import arc_cosine, erf

__all__ = ["arc_cosine", "erf", "monte_carlo", "orthant"]
