"""Diagnostics of samplers: arrays in, numbers out.

`rhat` tells whether chains agree, `ess` how many independent draws they are worth, `mcse` how far their averages are
from the truth. All take draws of shape ``(chains, draws, …)`` and return one number for each trailing index. `to_arviz`
hands draws to ArviZ. `psis_loo` and `waic` say how well examples are predicted without themselves, from log-likelihoods
of shape ``(draws, examples)``. `bayes_factor`, `better` and `changed` watch a stream of forecasts, as often as one
likes.

Names are imported when they are first used: the page needs `scores` on machines without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
