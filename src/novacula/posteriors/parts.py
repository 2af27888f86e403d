"""A part of a network's weights as a target of its own, the others held fixed.

Where whole tensors are chosen, the part's network is a copy whose other parameters require no gradient, and all that
knows layers (curvatures, flipout) works on it as on any network. Where single weights are chosen, it is a function of
vectors that are written into the tensors.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.layers import first_names, last_linear
from novacula.core.modules.call import call_with
from novacula.core.modules.training import keep_in_eval
from novacula.core.params import Params, count, flatten, unflatten
from novacula.curvature import diagonal
from novacula.data.data import Data
from novacula.priors.restrict import restricted
from novacula.target import Target

Which: TypeAlias = Literal["last_layer"] | tuple[str, ...] | tuple[Literal["largest_variance"], int]


def check_which(which: Which) -> None:
    """Refuse what names no weights; which ``("largest_variance", n)``."""
    if isinstance(which, tuple) and which and which[0] == "largest_variance":
        fits = len(which) == 2 and type(which[1]) is int and which[1] > 0
    else:
        fits = which == "last_layer" or (
            isinstance(which, tuple) and bool(which) and all(isinstance(p, str) for p in which)
        )
    if not fits:
        raise InputError(
            "which='last_layer', a tuple of patterns, or ('largest_variance', n) with n above 0",
            repr(which),
            "use for instance ('2.*',)",
        )


@dataclass(frozen=True, eq=False)
class Part:
    """The random part of a network."""

    whole: Target  # the whole network's target
    target: Target  # the target of the chosen weights
    fixed: Params  # all weights of the network, among them the fixed ones, and the statistics beside them
    index: Params | None  # where the chosen single weights are in each flattened tensor

    def merge(self, chosen: Params) -> Params:
        """All weights: chosen ``(n, *shape)`` to ``(n, *shape)``."""
        if unknown := set(chosen) - set(self.target.params()):
            raise InputError("weights of the part", ", ".join(sorted(unknown)), "choose another method")
        n = next(iter(chosen.values())).shape[0]
        merged = {k: w.expand(n, *w.shape) for k, w in self.fixed.items()}
        names = {_alias(k): k for k in self.index or {}}
        for key, value in chosen.items():
            if self.index is None:
                merged[key] = value
            else:
                name = names[key]
                flat = merged[name].reshape(n, -1).clone()
                flat[:, self.index[name]] = value
                merged[name] = flat.reshape(merged[name].shape)
        return merged

    def select(self, params: Params) -> Params:
        """The chosen weights; params ``(n, *shape)``."""
        if self.index is None:
            return {k: params[k] for k in self.target.params()}
        return {_alias(k): params[k].reshape(len(params[k]), -1)[:, i] for k, i in self.index.items()}


def part_of(target: Target, params: Params, data: Data, which: Which) -> Part:
    """Choose weights, and fix the others."""
    point = {k: w.detach() for k, w in params.items()}
    target, params = target.at(point)
    network = target.forward.over(target.forward.module).module  # a copy
    with torch.no_grad():
        for name, w in network.named_parameters():
            if name in params:
                w.copy_(params[name])
    if isinstance(which, tuple) and which[0] == "largest_variance":
        index = _largest(target, params, data, int(which[1]))
        names, aliases = tuple(index), tuple(_alias(k) for k in index)
        network = _Some(network, index)
    else:
        index = None
        names = _last_layer(target, params, data.x[:2]) if which == "last_layer" else _matching(params, tuple(which))
        aliases = names
        for name, w in network.named_parameters():
            w.requires_grad_(name in names)
    keep_in_eval(network)  # statistics and noise belong to all weights
    prior = restricted(target.prior, params, dict(zip(names, aliases, strict=True)), index)
    chosen = dataclasses.replace(target, network=network, forward=target.forward.over(network), prior=prior)
    return Part(target, chosen, point, index)


class _Some(nn.Module):
    """A network as a function of some single weights, which are vectors, one for each tensor."""

    def __init__(self, network: nn.Module, index: Params) -> None:
        super().__init__()
        self.network, self.names = network.requires_grad_(False), tuple(index)
        own = dict(network.named_parameters())
        for name, places in index.items():
            self.register_parameter(_alias(name), nn.Parameter(own[name].detach().flatten()[places]))
            self.register_buffer(f"{_alias(name)}/index", places)

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Any:
        own, merged = dict(self.network.named_parameters()), {}
        for name in self.names:
            places, values = self.get_buffer(f"{_alias(name)}/index"), getattr(self, _alias(name))
            merged[name] = own[name].flatten().scatter(0, places, values).reshape(own[name].shape)
        return call_with(self.network, merged, args, kwargs)


def _alias(name: str) -> str:
    # A name that a module allows for a parameter of its own.
    return name.replace(".", "/")


def _largest(target: Target, params: Params, data: Data, n: int) -> Params:
    # The places of the n weights of largest marginal variance, by tensor.
    if n > count(params):
        raise InputError(f"at most {count(params)} weights, all there are", str(n), "choose fewer")
    with torch.no_grad():
        curvature = flatten(diagonal(target.problem(params, data, seed=0)).diagonal())
        precision = {k: v.double().expand_as(params[k]) for k, v in target.prior.precision(params).items()}
        variance = 1 / (curvature + flatten(precision))
        rank = torch.where(curvature > 0, variance, variance - variance.max() - 1)
    chosen = torch.zeros(len(rank), dtype=torch.bool, device=rank.device)
    chosen[rank.sort(descending=True, stable=True).indices[:n]] = True
    parts = {k: v.flatten().nonzero()[:, 0] for k, v in unflatten(chosen, params).items()}
    return {k: places for k, places in parts.items() if len(places)}


def _last_layer(target: Target, params: Params, x: Tensor) -> tuple[str, ...]:
    module = target.forward.module
    with torch.no_grad():
        last, _ = last_linear(target.forward, params, x.unsqueeze(1))
    aliases = first_names(module)
    prefixes = [] if last is None else [f"{last}." if last else ""]
    names = tuple(aliases[p + k] for p in prefixes for k in ("weight", "bias") if aliases.get(p + k) in params)
    if not names:
        raise InputError(
            "a network whose output is that of a linear layer with trainable weights",
            f"{type(module).__name__}, which has none",
            f"choose tensors by patterns, such as which=({next(iter(params))!r},)",
        )
    return names


def _matching(params: Params, patterns: tuple[Any, ...]) -> tuple[str, ...]:
    for pattern in patterns:
        if not any(fnmatchcase(name, str(pattern)) for name in params):
            raise InputError(f"patterns that match a tensor among {', '.join(params)}", repr(pattern), "check the name")
    return tuple(name for name in params if any(fnmatchcase(name, str(p)) for p in patterns))
