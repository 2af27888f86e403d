"""Fully connected networks, for inputs of any shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Literal, TypeAlias

from torch import nn

from novacula.core.checks.numbers import check_whole, shown
from novacula.core.errors import InputError

Activation: TypeAlias = Literal["gelu", "tanh", "relu"]
_ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "tanh": nn.Tanh, "relu": nn.ReLU}


def mlp(
    x_shape: Sequence[int], outputs: int, *, width: int = 128, depth: int = 1, activation: Activation = "gelu"
) -> nn.Sequential:
    """A multi-layer perceptron.

    GELU and tanh are smooth, so that gradients of the evidence agree with its finite differences; ReLU is not.

    Args:
        x_shape: The shape of one input; inputs are flattened to D numbers.
        outputs: The number of outputs C.
        width: Units in each hidden layer.
        depth: The number of hidden layers; 0 gives `linear`.
        activation: The nonlinearity.

    Returns:
        A module from ``(N, *x_shape)`` to ``(N, C)`` with ``(D + 1)·width + (depth − 1)·(width + 1)·width +
        (width + 1)·C`` weights (for ``depth ≥ 1``).

    Raises:
        InputError: If a size is not positive or the activation is unknown.

    Example:
        >>> sum(w.numel() for w in mlp((1, 8, 8), 10).parameters())
        9610
    """
    check_sizes(x_shape, outputs=outputs, width=width)
    check_whole("depth", depth, least=0)
    if activation not in _ACTIVATIONS:
        raise InputError(f"an activation among {', '.join(_ACTIVATIONS)}", repr(activation), "activation='gelu'")
    layers: list[nn.Module] = [nn.Flatten()]
    size = math.prod(x_shape)
    for _ in range(depth):
        layers += [nn.Linear(size, width), _ACTIVATIONS[activation]()]
        size = width
    return nn.Sequential(*layers, nn.Linear(size, outputs))


def linear(x_shape: Sequence[int], outputs: int) -> nn.Sequential:
    """A linear model: one layer, no nonlinearity.

    Args:
        x_shape: The shape of one input; inputs are flattened to D numbers.
        outputs: The number of outputs C.

    Returns:
        A module from ``(N, *x_shape)`` to ``(N, C)`` with ``(D + 1)·C`` weights.

    Raises:
        InputError: If a size is not positive.
    """
    return mlp(x_shape, outputs, depth=0)


def check_sizes(x_shape: Sequence[int], **sizes: int) -> None:
    """Refuse sizes that are not positive."""
    as_shape(x_shape)
    for name, size in sizes.items():
        check_whole(name, size)


def as_shape(x_shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of one input, if it is one."""
    sizes = tuple(x_shape) if isinstance(x_shape, Sequence) else ()
    if not sizes or not all(isinstance(size, Integral) and size > 0 for size in sizes):
        wanted = "the shape of one input, such as (1, 28, 28) or (8,)"
        raise InputError(wanted, shown(x_shape), "pass data.x_shape")
    return tuple(map(int, sizes))


def check_image(x_shape: Sequence[int]) -> tuple[int, int, int]:
    """Refuse what is not the shape of an image."""
    if len(x_shape) != 3:
        raise InputError(
            "images of shape (channels, height, width)",
            f"inputs of shape {tuple(x_shape)}",
            "use the network 'mlp', or reshape the inputs to (N, channels, height, width)",
        )
    channels, height, width = x_shape
    return channels, height, width
