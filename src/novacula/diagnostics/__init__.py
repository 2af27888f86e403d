"""Diagnostics of samplers: arrays in, numbers out.

`rhat` tells whether chains agree, `ess` how many independent draws they are worth, `mcse` how far their averages are
from the truth. All take draws of shape ``(chains, draws, …)`` and return one number for each trailing index.
"""

from novacula.diagnostics.convergence import ess, mcse, rhat

__all__ = ["ess", "mcse", "rhat"]
