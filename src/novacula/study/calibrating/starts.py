"""Where the copies of a network begin: with weights that have seen none of the data.

A copy that went on from trained weights would know the fold that it is to be blind to. Weights are therefore drawn
anew by the layers' own ``reset_parameters``, as when they were made, and it is checked that each has changed. Weights
that are frozen (``requires_grad=False``) stay: they were not trained on these data.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.networks.make import seeded


def redrawn(network: nn.Module, seed: int) -> nn.Module:
    """A copy with weights drawn anew, but for frozen ones; a layer that cannot draw its own is refused by name."""
    made = copy.deepcopy(network)
    before = {name: w.detach().clone() for name, w in made.named_parameters() if w.requires_grad}
    with seeded(seed):
        # What stands inside first: an outer layer may draw the weights of its parts in a way of its own.
        for layer in reversed(list(made.modules())):
            reset = _reset(layer)
            if reset is not None and any(w.requires_grad for w in layer.parameters(recurse=False)):
                reset()
    for name, w in made.named_parameters():
        if name in before and torch.equal(w, before[name]) and not _constant(w):
            path = name.rpartition(".")[0]
            kind = type(made.get_submodule(path)).__name__
            raise InputError(
                "layers that can draw their weights anew (reset_parameters), for copies that are blind to a fold",
                f"the trained parameter {name!r} of a {kind}, which has none",
                "pass start= (the network before its training, or a function that makes it), or calibration= "
                "(labelled rows that it was not trained on)",
            )
    return made


def made_by(start: nn.Module | Callable[[], nn.Module], seed: int) -> nn.Module:
    """A copy of an untrained network, or the network that a function makes under a seed; else an InputError."""
    if isinstance(start, nn.Module):
        return copy.deepcopy(start)
    if not callable(start):
        raise InputError("start= as a network or a function that makes one", repr(start), "pass the function make_net")
    with seeded(seed):
        made = start()
    if not isinstance(made, nn.Module):
        raise InputError("a network from start()", f"a {type(made).__name__}", "return an nn.Module")
    return made


def _reset(layer: nn.Module) -> Callable[[], Any] | None:
    # torch's own layers have one or the other.
    found = getattr(layer, "reset_parameters", None) or getattr(layer, "_reset_parameters", None)
    return found if callable(found) else None


def _constant(w: Tensor) -> bool:
    return w.numel() == 0 or bool((w == w.flatten()[0]).all())
