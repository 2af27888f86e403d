"""Novacula: see, score, learn and average over a network's prior.

    import novacula as nv

    data = nv.load("digits")
    target = nv.Target(network, likelihood=nv.Categorical(), prior=nv.Gaussian(), invariance=nv.Affine())
    fit = nv.learn(target, data, epochs=24, seed=0)
    fit.save("runs/digits")
    nv.report("runs/digits")

Names are imported when they are first used (``__init__.pyi`` says from where), so that ``import novacula`` and
the command line's help need no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
