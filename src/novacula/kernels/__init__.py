"""Kernels of infinitely wide networks, and probabilities of Gaussian orthants.

| name | what it gives |
| --- | --- |
| `arc_cosine`, `erf` | the covariance of an infinitely wide perceptron's outputs, by recursion |
| `monte_carlo` | the covariance of any network's outputs under its prior, by drawing networks |
| `SquaredExponential`, `Invariant` | a kernel of inputs, and one averaged over an invariance with learned extents |
| `process` | a Gaussian process: evidence, its maximum over a kernel's tensors, predictions |
| `inducing` | one of many examples, by a bound of its evidence in minibatches and unbiased averages |
| `orthant`, `orthant_draws` | the probability that a Gaussian vector has given signs; draws of those that have |
| `rate_distortion` | bits to describe a draw of a Gaussian process within an error |
"""

from novacula.kernels.inducing import Inducing, inducing
from novacula.kernels.invariant import Invariant, Kernel, SquaredExponential
from novacula.kernels.monte_carlo import monte_carlo
from novacula.kernels.orthants.orthant import orthant, orthant_draws
from novacula.kernels.process import Process, process
from novacula.kernels.rate import rate_distortion
from novacula.kernels.recursions import arc_cosine, erf

__all__ = [
    "Inducing",
    "Invariant",
    "Kernel",
    "Process",
    "SquaredExponential",
    "arc_cosine",
    "erf",
    "inducing",
    "monte_carlo",
    "orthant",
    "orthant_draws",
    "process",
    "rate_distortion",
]
