"""Diagnostics of samplers: arrays in, numbers out.

`rhat` tells whether chains agree, `ess` how many independent draws they are worth, `mcse` how far their averages are
from the truth. All take draws of shape ``(chains, draws, …)`` and return one number for each trailing index. `to_arviz`
hands draws to ArviZ. `psis_loo` and `waic` say how well examples are predicted without themselves, from log-likelihoods
of shape ``(draws, examples)``.
"""

from novacula.diagnostics.arviz import to_arviz
from novacula.diagnostics.convergence import ess, mcse, rhat
from novacula.diagnostics.loo import Loo, Waic, psis_loo, waic

__all__ = ["Loo", "Waic", "ess", "mcse", "psis_loo", "rhat", "to_arviz", "waic"]
