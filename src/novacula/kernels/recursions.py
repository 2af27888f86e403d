"""Kernels of infinitely wide multilayer perceptrons, by the recursion from layer to layer.

With weights ``N(0, σ_w²/fan_in)`` and biases ``N(0, σ_b²)``, outputs of a network whose layers are wide are a Gaussian
process. Its covariance starts at ``K⁰ = σ_b² + σ_w² x·x'/d`` and goes on by ``K^{l+1} = σ_b² + σ_w² E[φ(u) φ(u')]``,
with ``(u, u')`` Gaussian of the covariance K^l:

    ReLU:  E = √(k k') [sin θ + (π − θ) cos θ] / 2π,   θ = arccos(K/√(k k'))
    erf:   E = (2/π) arcsin(2K / √((1 + 2k)(1 + 2k'))).

References:
    Kernel methods for deep learning. Y. Cho, L. K. Saul, 2009.
    Computing with infinite networks. C. K. I. Williams, 1996.
    Deep neural networks as Gaussian processes. J. Lee et al., 2018. arXiv:1711.00165.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError

Moment: TypeAlias = Callable[[Tensor], Tensor]
"""Covariance ``(N, N)`` of inputs of a nonlinearity to the second moments of what it gives, ``(N, N)``."""


def relu_moment(k: Tensor) -> Tensor:
    """``E[relu(u) relu(u')]``, ``(N, N)``."""
    size = k.diagonal().sqrt()
    scale = size[:, None] * size
    # A variance of zero is the constant 0.
    cosine = torch.where(scale > 0, k / scale.clamp(min=torch.finfo(k.dtype).tiny), 1.0).clamp(-1, 1)
    angle = cosine.arccos()
    return scale * (angle.sin() + (math.pi - angle) * cosine) / (2 * math.pi)


def erf_moment(k: Tensor) -> Tensor:
    """``E[erf(u) erf(u')]``, ``(N, N)``."""
    size = (1 + 2 * k.diagonal()).sqrt()
    return 2 / math.pi * (2 * k / (size[:, None] * size)).clamp(-1, 1).arcsin()


def identity_moment(k: Tensor) -> Tensor:
    """``E[u u']``, ``(N, N)``: of layers with nothing in between."""
    return k


def arc_cosine(x: Tensor, depth: int = 1, *, sigma_w: float = math.sqrt(2), sigma_b: float = 0.0) -> Tensor:
    """The kernel of an infinitely wide ReLU network's outputs.

    Args:
        x: Inputs ``(N, …)``; all but the first axis are one vector.
        depth: Hidden layers, 0 or more.
        sigma_w: σ_w, of weights ``N(0, σ_w²/fan_in)``.
        sigma_b: σ_b, of biases.

    Returns:
        Shape ``(N, N)``, in float64.

    Raises:
        InputError: If a number is outside its range.

    Example:
        >>> arc_cosine(torch.eye(2), sigma_w=1.0).diagonal()  # 1/2 for the inputs' length, 1/2 for the half that is on
        tensor([0.2500, 0.2500], dtype=torch.float64)
    """
    return _deep(x, depth, sigma_w, sigma_b, relu_moment)


def erf(x: Tensor, depth: int = 1, *, sigma_w: float = 1.0, sigma_b: float = 0.0) -> Tensor:
    """The kernel of an infinitely wide network's outputs with the error function in between.

    Args:
        x: Inputs ``(N, …)``; all but the first axis are one vector.
        depth: Hidden layers, 0 or more.
        sigma_w: σ_w, of weights ``N(0, σ_w²/fan_in)``.
        sigma_b: σ_b, of biases.

    Returns:
        Shape ``(N, N)``, in float64.

    Raises:
        InputError: If a number is outside its range.

    Example:
        >>> erf(torch.zeros(1, 3), depth=2, sigma_b=0.0)
        tensor([[0.]], dtype=torch.float64)
    """
    return _deep(x, depth, sigma_w, sigma_b, erf_moment)


def _deep(x: Tensor, depth: int, sigma_w: float, sigma_b: float, moment: Moment) -> Tensor:
    check_whole("depth", depth, least=0)
    for name, value, least in (("sigma_w", sigma_w, "above zero"), ("sigma_b", sigma_b, "of at least zero")):
        if not (0 <= value < math.inf) or (name == "sigma_w" and value == 0):
            raise InputError(f"{name} as a number {least}", repr(value), "leave it out for the default")
    layers = [(sigma_w**2, sigma_b**2)] * (depth + 1)
    return recursion(x, layers, [moment] * depth)


def recursion(x: Tensor, layers: Sequence[tuple[float, float]], moments: Sequence[Moment]) -> Tensor:
    """The kernel after linear layers of ``(σ_w², σ_b²)`` with nonlinearities in between; x ``(N, …)``."""
    flat = x.detach().flatten(1).double()
    (w, b), *rest = layers
    k = b + w * (flat @ flat.T) / flat.shape[1]
    for (w, b), moment in zip(rest, moments, strict=True):
        k = b + w * moment(k)
    return k
