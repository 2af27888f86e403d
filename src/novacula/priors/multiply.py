"""Multiplying the precisions of a prior, through the numbers of it that can be learned.

Of many Gaussian priors ``log λ`` of each tensor is one learnable number times a slope, and a constant: `Gaussian` has a
number for each tensor (slope 1) and `FanIn` two (slope −2). Which number is whose, and the slope, are found by
differentiation, so that a prior of the user's own needs to say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.priors.base import Prior


class Handle(NamedTuple):
    """Entry ``place`` of the flattened field ``field``, with which ``log λ`` of a tensor moves by ``slope``."""

    field: str
    place: int
    slope: float


def handles(prior: Prior, params: Params) -> dict[str, Handle]:
    """The learnable number behind each tensor's precision; refuses none, and more than one."""
    leaves = {name: getattr(prior, name).detach().clone().requires_grad_() for name in prior.learnable}
    found = {}
    with torch.enable_grad():
        logs = _moved(prior, leaves).precision(params)
        for k, p in logs.items():
            slopes = _slopes(p, leaves)
            if len(slopes) != 1:
                raise InputError(
                    f"a prior that has one learnable number behind the precision of {k}",
                    f"{len(slopes)} of them in {type(prior).__name__}",
                    "learn it by gradient: nv.learn",
                )
            found[k] = slopes[0]
    return found


def groups(found: Mapping[str, Handle], names: Sequence[str]) -> list[tuple[str, ...]]:
    """The tensors whose precisions move together."""
    keys = sorted({found[k][:2] for k in names})
    return [tuple(k for k in names if found[k][:2] == key) for key in keys]


def multiplied(
    prior: Prior, params: Params, found: Mapping[str, Handle], logs: Mapping[str, float]
) -> dict[str, Tensor]:
    """The learnable fields that add ``logs`` to the ``log λ`` of tensors; refuses what is no exponential of them."""
    values = {name: getattr(prior, name).detach().clone() for name in prior.learnable}
    for (field, place), (slope, a) in {found[k][:2]: (found[k].slope, a) for k, a in logs.items()}.items():
        values[field].view(-1)[place] += a / slope
    before, after = prior.precision(params), _moved(prior, values).precision(params)
    for k, a in logs.items():
        if not torch.allclose(after[k].double().log() - before[k].double().log(), torch.tensor(a).double(), atol=1e-4):
            raise InputError(
                "precisions that are exponentials of the learnable numbers",
                f"another function for {k} in {type(prior).__name__}",
                "learn it by gradient: nv.learn",
            )
    return values


def _moved(prior: Prior, values: dict[str, Tensor]) -> Prior:
    return cast(Prior, replace(prior, **values)) if values else prior  # type: ignore[type-var]


def _slopes(precision: Tensor, leaves: dict[str, Tensor]) -> list[Handle]:
    # d log λ / dθ of one tensor, where it is not zero.
    if not precision.requires_grad:
        return []
    log = precision.double().log().mean()
    grads = torch.autograd.grad(
        log, list(leaves.values()), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return [
        # Rounded, as autograd's quotient λ/λ is not exactly one.
        Handle(name, int(i), round(float(g.reshape(-1)[i]), 6))
        for name, g in zip(leaves, grads, strict=True)
        for i in g.reshape(-1).nonzero()[:, 0]
    ]
