"""Perturbations made against one network, and what they do to others.

    x_{k+1} = x + clip(x_k − x + α sign ∇ loss(x_k), ±ε),        α = 2.5 ε / steps,

steps of the gradient's sign within ``‖x' − x‖_∞ ≤ ε`` (Madry and others, 2018), ε in standard deviations of the inputs:
of each column of a table, of all pixels of an image. What carries over to other runs (Szegedy and others, 2014) says
how much of what a network looks at is shared by runs, and how much is one path's own.

References:
    Intriguing properties of neural networks. C. Szegedy and others, 2014. arXiv:1312.6199.
    Towards deep learning models resistant to adversarial attacks. A. Madry and others, 2018. arXiv:1706.06083.
"""

from __future__ import annotations

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_positive, check_whole
from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.data.given import DataLike
from novacula.paths.barrier import point_of
from novacula.posteriors.base import Learned, Posterior
from novacula.target.given import TargetLike, prepared


def attack(
    module: TargetLike,
    weights: Params | Posterior | Learned,
    data: DataLike,
    *,
    size: float = 0.25,
    steps: int = 10,
) -> Tensor:
    """Move inputs so that a network's loss rises.

    Args:
        module: The network; or a target, of which the network itself is attacked, without its invariance.
        weights: Its weights: a state dictionary, a posterior (its mode) or a result of `novacula.learn`.
        data: The examples, inputs of floating point.
        size: How far every number may move at most, in standard deviations of the inputs.
        steps: Steps of the gradient's sign.

    Returns:
        Inputs of the same shape.

    Raises:
        InputError: If inputs are whole numbers, weights are not those of the network, or size or steps not positive.

    Example:
        >>> net = torch.nn.Linear(2, 2)
        >>> w = {"weight": torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), "bias": torch.zeros(2)}
        >>> data = Data(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]))
        >>> (attack(net, w, data, size=0.1) - data.x).sign()  # against the label, of both columns
        tensor([[-1.,  1.],
                [ 1., -1.]])
    """
    check_positive("size", size)
    check_whole("steps", steps)
    target, data = prepared(module, data)
    if not data.x.is_floating_point():
        raise InputError("inputs of floating point", str(data.x.dtype), "attack networks of measurements or images")
    there, own = target.at(point_of(target, weights))
    room, x = size * spread(data.x), data.x
    for _ in range(steps):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            loss = -there.likelihood.log_prob(there.forward(own, leaf), data.y).sum()
            (slope,) = torch.autograd.grad(loss, leaf)
        x = data.x + torch.clamp(x + 2.5 * room / steps * slope.sign() - data.x, -room, room)
    return x


def shaken(data: Data, size: float, seed: int) -> Tensor:
    """Inputs with random signs of the same size, against which an attack is held."""
    signs = torch.rand(data.x.shape, generator=generator(seed, "shaken")) < 0.5
    return data.x + size * spread(data.x) * torch.where(signs, -1.0, 1.0).to(data.x)


def spread(x: Tensor) -> Tensor:
    """The standard deviation of each column of a table, which has units of its own; of all pixels of an image."""
    return x.std(0) if x.ndim == 2 else x.std()
