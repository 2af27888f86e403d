"""Priors over weights, proper densities with learnable scales.

| prior | density | learnable |
| --- | --- | --- |
| `Gaussian` | ``N(0, 1/λ)``; one λ for each tensor, or ``per="all"``: isotropic | ``log_precision`` |
| `FanIn` | ``N(0, σ_w²/fan_in)`` for weights, ``N(0, σ_b²)`` for vectors | ``log_scales`` |
| `Laplace` | ``exp(−abs(w)/b)/2b`` | ``log_scale`` |
| `Signs` | ±s with probability ½ each | – |
| `StudentT` | ``t_ν`` with scale s | ``log_scale`` |

A prior covers all trainable weights, those of normalisation layers too. To a curvature it is a precision (`precision`):
its own if it is Gaussian, else that of the Gaussian that touches it from below.
"""

from novacula.priors.base import Prior
from novacula.priors.fan_in import FanIn
from novacula.priors.gaussian import Gaussian
from novacula.priors.laplace import Laplace
from novacula.priors.signs import Signs
from novacula.priors.student_t import StudentT

__all__ = ["FanIn", "Gaussian", "Laplace", "Prior", "Signs", "StudentT"]
