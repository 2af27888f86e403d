"""The target density: network, prior, likelihood, invariance and temperature joined; or any log-density."""

from typing import TypeAlias

from novacula.target.log_density import LogDensity
from novacula.target.passes import Copies
from novacula.target.target import Target

Density: TypeAlias = Target | LogDensity
"""What a sampler takes."""

__all__ = ["Copies", "Density", "LogDensity", "Target"]
