"""Where a Gaussian prior is centred: at zero, at the weights that a network came with, or at given ones.

Weights that were pretrained elsewhere are knowledge: a prior ``N(w₀, 1/λ)`` around them says how far the data may move
them, and its evidence asks whether they need to move at all. Centred at zero it would have them forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params, detach
from novacula.priors.base import Prior

Mean: TypeAlias = Params | Literal["start"] | None
"""What a prior is given: weights by name, ``"start"``, or None for zero."""


def checked_mean(mean: Any) -> Mean:
    """Refuse what is no mean."""
    named = isinstance(mean, Mapping) and all(isinstance(v, Tensor) and v.is_floating_point() for v in mean.values())
    if mean is None or mean == "start" or named:
        return dict(mean) if isinstance(mean, Mapping) else mean
    got = f"a {type(mean).__name__}" if not isinstance(mean, str) else repr(mean)
    raise InputError("a mean of 'start', or weights by name", got, 'use mean="start", or leave it out for zero')


def bound_mean(mean: Mean, params: Params) -> Mean:
    """The mean for these weights: those that they have, where that is what ``"start"`` asks for."""
    if mean is None:
        return None
    if mean == "start":
        return detach(params)
    for k, v in mean.items():
        if k not in params or v.shape != params[k].shape:
            got = f"shape {tuple(v.shape)}" if k in params else f"weights of {', '.join(params)}"
            wanted = f"a mean {k!r}" + (f" of shape {tuple(params[k].shape)}" if k in params else " of the network")
            raise InputError(wanted, got, "name the network's own tensors")
    return {k: mean[k].detach().to(w).clone() if k in mean else w.new_zeros(w.shape) for k, w in params.items()}


def centre_of(mean: Mean, params: Params) -> Params | None:
    """M by tensor, of some of the weights; None for zero."""
    if mean is None:
        return None
    if mean == "start":
        raise InputError("a prior that is bound to weights", 'mean="start" of none', "pass it to a Target")
    return {k: mean[k].to(w) for k, w in params.items()}


def deviations(prior: Prior, params: Params) -> Params:
    """``w − m``; params ``(…, *shape)``."""
    centre = prior.centre(params)
    return params if centre is None else {k: w - centre[k] for k, w in params.items()}


def shifted(prior: Prior, draws: Params) -> Params:
    """Draws around zero moved to the mean, ``(n, *shape)``."""
    centre = prior.centre(draws)
    return draws if centre is None else {k: w + centre[k] for k, w in draws.items()}
