"""Choices that people make without much thought, as levels for `novacula.study.vary`: for built-in networks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.data.data import Data
from novacula.inference.optimising.map import MAP
from novacula.networks.make import BUILT_IN, make
from novacula.study.comparing.vary import Setting

LEVELS: dict[str, tuple[Any, ...]] = {
    "init": ("default", "orthogonal"),
    "optimizer": ("one-cycle", "constant"),
    "depth": (1, 2),
    "width": (32, 128),
    "standardise": (False, True),
}
"""What `usual` can vary: the draw of the first weights, Adam's schedule, layers (or blocks), units, input units."""
_OPTIONS = {"depth": ("depth", "blocks"), "width": ("width",)}


def usual(
    network: str, data: Data, names: Sequence[str], outputs: int, *, seed: int = 0
) -> tuple[Callable[..., Setting], dict[str, tuple[Any, ...]]]:
    """What `vary` asks for: from levels to a network and its method, and the levels of the named choices."""
    if network not in BUILT_IN:
        raise InputError(f"a network among {', '.join(BUILT_IN)}", repr(network), "for others call nv.study.vary")
    own = inspect.signature(BUILT_IN[network]).parameters
    options = {}
    for name in names:
        if name not in LEVELS:
            raise InputError(f"choices among {', '.join(LEVELS)}", repr(name), "--vary depth,standardise")
        if name in _OPTIONS:
            options[name] = next((o for o in _OPTIONS[name] if o in own), None)
            if options[name] is None:
                raise InputError(f"a network with a {name}", network, "another --net, or leave it out")
    over = [0, *range(2, data.x.ndim)]  # by column of tables, by channel of images
    mean, sd = data.x.mean(over, keepdim=True)[0], data.x.std(over, keepdim=True)[0]
    sd = torch.where(sd > 0, sd, torch.ones_like(sd))

    def setting(**level: Any) -> Setting:
        chosen = {options[name]: level[name] for name in options}
        net = make(network, data.x_shape, outputs, seed=seed, **chosen)
        if level.get("standardise"):
            net = _InUnits(net, mean, sd)
        if level.get("init") == "orthogonal":
            net = _Orthogonal(net)
        return net, MAP(lr=4e-3, schedule=level.get("optimizer", "one-cycle"))

    return setting, {name: LEVELS[name] for name in names}


class _InUnits(nn.Module):
    """A network that brings its inputs to standard units first."""

    def __init__(self, net: nn.Module, mean: Tensor, sd: Tensor) -> None:
        super().__init__()
        self.net = net
        self.units: tuple[Tensor, Tensor] = (mean, sd)

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x - self.units[0].to(x)) / self.units[1].to(x))


class _Orthogonal(nn.Sequential):
    """A network whose weights are drawn as orthogonal matrices."""

    def _init_weights(self, layer: nn.Module) -> None:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(layer.weight)
