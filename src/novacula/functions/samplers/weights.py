"""Weights of many networks at once: from a prior, as networks initialise themselves, in number formats.

Normal weights are most of the cost of a small network's function, and a generator that draws one number after another
most of theirs. They are made here from 64 random bits a pair (SFC64), by Box and Müller's method, chunk by chunk; the
bits come from a seed that the given generator draws.

References:
    A note on the generation of random normal deviates. G. E. P. Box, M. E. Muller, 1958. Annals of Mathematical
    Statistics 29(2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal, Protocol, Self, cast, get_args

import numpy as np
import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params, count, stack
from novacula.core.rng import split
from novacula.inference.starts import initial_weights
from novacula.likelihoods import Normal
from novacula.priors.base import Prior
from novacula.target import Target

Format = Literal["float32", "bfloat16", "int8"]
Draw = Callable[[int, "Normals"], Params]
"""From a number of networks and a source to weights ``(n, *shape)``; they may be overwritten by the next call."""


class Drawn(Protocol):
    """What gives weights: any prior."""

    gaussian: ClassVar[bool] = False

    def bind(self, params: Params) -> Self:
        """For these weights."""
        return self

    def sample(self, params: Params, n: int, rng: torch.Generator) -> Params:
        """Draw weights, ``(n, *shape)``."""
        ...


class Normals:
    """A stream of standard normal numbers of float32, with the generator that it came from."""

    def __init__(self, rng: torch.Generator) -> None:
        self.rng = rng
        self._bits = np.random.SFC64(split(rng))
        self._kept: Tensor = torch.empty(0)

    def fill(self, out: Tensor) -> None:
        """Fill a contiguous vector of float32 and even length."""
        half = len(out) // 2
        if len(self._kept) != half:
            self._kept = torch.empty(half)
        radius, (across, up) = self._kept, out.view(2, half)
        # float32 keeps the small ones of 32 bits exact, so that the tails reach 6.7 standard deviations.
        out.copy_(torch.from_numpy(self._bits.random_raw(half).view(np.int32)))
        torch.abs(across, out=radius)
        radius.add_(0.5).mul_(2.0**-31).log_().mul_(-2).sqrt_()
        up.mul_(math.pi * 2.0**-31)
        torch.cos(up, out=across)
        across.mul_(radius)
        up.sin_().mul_(radius)


def drawing(prior: Drawn | None, network: torch.nn.Module, own: Params) -> Draw:
    """How weights are drawn; None for the network's own initialisation."""
    if prior is None:
        # A target knows how its network initialises itself; its likelihood plays no part.
        target = Target(network, likelihood=Normal())
        return lambda n, source: stack(initial_weights(target, n, split(source.rng)))
    bound = prior.bind(own)
    if bound.gaussian and all(w.dtype == torch.float32 and w.device.type == "cpu" for w in own.values()):
        return _Gaussian(cast(Prior, bound), own)  # what says so states its precision
    return lambda n, source: bound.sample(own, n, source.rng)


class _Gaussian:
    """Weights of a Gaussian prior, whose tensors share one buffer; each is contiguous in it."""

    def __init__(self, prior: Prior, own: Params) -> None:
        self.own, self.centre = own, prior.centre(own)
        self.scales = {k: p.detach().double().rsqrt().float() for k, p in prior.precision(own).items()}
        self.buffer = torch.empty(0)

    def __call__(self, n: int, source: Normals) -> Params:
        total = n * count(self.own)
        if len(self.buffer) != total + total % 2:
            self.buffer = torch.empty(total + total % 2)
        source.fill(self.buffer)
        found, at = {}, 0
        for k, w in self.own.items():
            size = n * w.numel()
            found[k] = self.buffer[at : at + size].view(n, *w.shape).mul_(self.scales[k])
            if self.centre is not None:
                found[k].add_(self.centre[k])
            at += size
        return found


def rounded(params: Params, to: Format) -> Params:
    """Weights as a number format holds them, as float32: int8 with one step a tensor, its largest weight over 127."""
    if to == "float32":
        return params
    if to == "bfloat16":
        return {k: w.to(torch.bfloat16).to(w.dtype) for k, w in params.items()}
    return {k: _eight_bits(w) for k, w in params.items()}


def _eight_bits(w: Tensor) -> Tensor:
    step = w.flatten(1).abs().amax(1).clamp_min(torch.finfo(w.dtype).tiny).reshape(-1, *[1] * (w.ndim - 1)) / 127
    return (w / step).round() * step


def check_format(to: object) -> None:
    """Refuse what is no format."""
    if to not in get_args(Format):
        raise InputError(f"a format among {', '.join(get_args(Format))}", repr(to), "format='float32'")
