"""Scales of priors: made from a number, bound to weights, looked up by name.

A scale is learned through its logarithm, one for all weights (shape ``()``) or an entry for each of the T tensors
(shape ``(T,)``). Binding fixes which entry is whose, so that a subset of the weights, or another order, finds its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params, flatten

Per: TypeAlias = Literal["tensor", "all"]


def log_scale(name: str, value: float, default: float, log: Tensor | None, per: str) -> Tensor:
    """The tensor to learn, from a number or from the user's own tensor."""
    if per not in {"tensor", "all"}:
        raise InputError("per as 'tensor' or 'all'", repr(per), "use per='tensor' for one scale a tensor")
    if log is None:
        if not isinstance(value, Real) or not 0 < float(value) < math.inf:
            raise InputError(
                f"{name} as a positive number", repr(value), f"pass a float, or a tensor of logarithms as log_{name}"
            )
        return torch.tensor(math.log(float(value)), dtype=torch.float64)
    if value != default:
        raise InputError(f"either {name} or log_{name}", "both", f"pass log_{name} alone")
    if not isinstance(log, Tensor) or not log.is_floating_point() or log.ndim > (0 if per == "all" else 1):
        got = f"shape {tuple(log.shape)}, {log.dtype}" if isinstance(log, Tensor) else repr(log)
        shape = "()" if per == "all" else "() or (T,)"
        raise InputError(f"log_{name} as a floating tensor of shape {shape}", got, "pass torch.tensor(0.0)")
    return log


def bound(log: Tensor, names: tuple[str, ...], per: Per, params: Params) -> Tensor | None:
    """The scales for these weights; log ``()``."""
    if names:
        if names != tuple(params):
            other = sorted(set(names) ^ set(params)) or ["the order"]
            raise InputError(
                f"the {len(names)} tensors that the prior is bound to",
                f"{len(params)} tensors that differ in {', '.join(other[:3])}",
                "make a new prior for another network",
            )
        return None
    if log.ndim == 1 and len(log) != len(params):
        raise InputError(
            f"one scale for each of the {len(params)} tensors of weights",
            f"{len(log)} scales",
            f"give one for each of: {', '.join(params)}",
        )
    wide = log.expand(len(params)) if per == "tensor" and log.ndim == 0 else log
    return wide if wide.requires_grad else wide.detach().clone()


def by_tensor(log: Tensor, names: Sequence[str], params: Params) -> Params:
    """Each tensor's log scale; log ``()``."""
    if log.ndim == 0:
        return {k: log.to(w.device) for k, w in params.items()}
    if not names and len(log) != len(params):
        raise InputError(
            f"{len(log)} tensors of weights, one for each scale",
            f"{len(params)}",
            "call prior.bind(params) with all weights",
        )
    place = {k: i for i, k in enumerate(names or params)}
    for k in params:
        if k not in place:
            raise InputError(
                f"weights among those that the prior is bound to ({', '.join(place)})", repr(k), "bind a new prior"
            )
    return {k: log[place[k]].to(w.device) for k, w in params.items()}


def normal_log_prob(log_precision: Params, params: Params) -> Tensor:
    """``Σ_t ½ n_t (log λ_t − log 2π) − ½ λ_t ‖w_t‖²``."""
    terms = []
    for k, w in params.items():
        log = log_precision[k]
        terms.append(0.5 * (w.numel() * (log - math.log(2 * math.pi)) - log.exp() * w.square().sum()))
    return total(terms)


def normal_log_partition(precision: Params, params: Params, temperature: float) -> Tensor:
    """``log ∫ p(w)^(1/T) dw`` of Gaussians: ``(λ/2π)^(1/2T) (2πT/λ)^(1/2)`` for each weight."""
    t, each = temperature, {}
    for k, p in precision.items():
        log = p.double().log()
        each[k] = ((log - math.log(2 * math.pi)) / t + math.log(2 * math.pi * t) - log) / 2
    return volume(each, params)


def volume(each: Params, params: Params) -> Tensor:
    """The sum over all weights of a number for each, which their tensors may share."""
    sums = [v.expand(w.shape).sum() if (v := each[k]).ndim else w.numel() * v for k, w in params.items()]
    return torch.stack(sums).sum()


def doubles(log: Tensor, names: Sequence[str], params: Params) -> Params:
    """Each tensor's log scale, in float64."""
    return {k: v.double() for k, v in by_tensor(log, names, params).items()}


def chosen(log: Tensor, names: tuple[str, ...], some: Mapping[str, str]) -> Tensor:
    """The scales of some tensors; log ``()`` or ``(T,)``."""
    return log.detach()[[names.index(k) for k in some]] if log.ndim else log.detach()


@torch.no_grad()
def flat_precision(precision: Params, like: Params) -> Tensor:
    """λ of every weight, ``(P,)``."""
    return flatten({k: precision[k].to(w.dtype).expand(w.shape) for k, w in like.items()})


def normal_sample(log_precision: Params, params: Params, n: int, rng: torch.Generator) -> Params:
    """Draw from zero-mean Gaussians, ``(n, *shape)``."""
    draws = {}
    for k, w in params.items():
        noise = torch.randn(n, *w.shape, generator=rng, device=rng.device, dtype=w.dtype).to(w.device)
        draws[k] = (-0.5 * log_precision[k]).exp().to(w.dtype) * noise
    return draws


def geometric_mean(precision: Params) -> dict[str, float]:
    """One number for each tensor."""
    return {k: float(v.detach().double().log().mean().exp()) for k, v in precision.items()}


def total(terms: list[Tensor]) -> Tensor:
    """Add scalars in the widest of their dtypes."""
    return torch.stack([t.to(terms[0].device) for t in terms]).sum() if terms else torch.zeros(())
