"""A curve of low loss between two networks: its control point is trained.

    w(t) = (1 − t)² w_a + 2 t (1 − t) θ + t² w_b,        θ = argmin E_{t ~ U(0, 1)} L(w(t)),

a quadratic Bézier curve (Garipov and others, 2018). Where the loss along it does not rise, the two networks lie in one
connected valley, though the straight line between them may leave it. θ are the weights of a network that draws t in
every pass of its training, so that it trains as any other does.

References:
    Loss surfaces, mode connectivity, and fast ensembling of DNNs. T. Garipov, P. Izmailov, D. Podoprikhin,
    D. Vetrov, A. G. Wilson, 2018. arXiv:1802.10026.
    Essentially no barriers in neural network energy landscape. F. Draxler and others, 2018. arXiv:1803.00885.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from novacula.core.params import Params, detach
from novacula.data.given import DataLike
from novacula.inference import MAP, infer
from novacula.paths.barrier import bezier, point_of
from novacula.posteriors.base import Learned, Posterior, weights_of
from novacula.priors import Gaussian
from novacula.target.given import TargetLike, prepared

_FLAT = 1e-6  # the prior's precision: next to none, since the ends have had theirs


class _Bent(nn.Module):
    """The network at a random point of the curve in every pass of its training, and else half-way."""

    def __init__(self, module: nn.Module, a: Params, b: Params) -> None:
        super().__init__()
        own = dict(module.named_parameters())
        self.names = [k for k in own if k in a]
        self.inner, self.ends = module, tuple({k: w[k] for k in self.names} for w in (a, b))
        self.bend = nn.ParameterList([nn.Parameter((a[k] + b[k]).detach() / 2) for k in self.names])

    def forward(self, *inputs: Any, **named: Any) -> Any:
        t: Tensor | float = torch.rand((), device=self.bend[0].device).to(self.bend[0]) if self.training else 0.5
        here = bezier(self.ends[0], dict(zip(self.names, self.bend, strict=True)), self.ends[1], t)
        return torch.func.functional_call(self.inner, here, inputs, named)


def bend(
    module: TargetLike,
    a: Params | Posterior | Learned,
    b: Params | Posterior | Learned,
    train: DataLike,
    *,
    steps: int = 1000,
    lr: float = 0.01,
    batch_size: int = 100,
    seed: int = 0,
) -> Params:
    """Train the control point of a curve of low loss between two networks.

    Args:
        module: The network; or a target, whose likelihood and invariance the loss has.
        a: Weights at t = 0: a state dictionary, a posterior (its mode) or a result of `novacula.learn`.
        b: Weights at t = 1. After `match` the curve is nearer to a line.
        train: Training data.
        steps: Steps of `novacula.MAP`, each at one t.
        lr: Its peak learning rate.
        batch_size: Examples a step.
        seed: Seed of batches and of t.

    Returns:
        θ by the names of the weights, for ``barrier(module, a, b, data, bend=θ, train=train)``.

    Raises:
        InputError: If the weights are not those of the network, or steps or rates are not positive.

    Example:
        >>> import novacula as nv
        >>> data = nv.load("digits").subset(range(100))
        >>> a, b = (nv.networks.make("linear", data.x_shape, 10, seed=s) for s in (0, 1))
        >>> middle = bend(a, a.state_dict(), b.state_dict(), data, steps=50, lr=0.1)
        >>> line, curve = (nv.paths.barrier(a, a.state_dict(), b.state_dict(), data, bend=m) for m in (None, middle))
        >>> bool(curve.loss[5] < line.loss[5])  # which of a convex loss has no barrier
        True
    """
    target, data = prepared(module, train)
    first, last = (point_of(target, w) for w in (a, b))
    there, _ = target.at(first)
    network = _Bent(there.forward.module, first, last)
    bent = dataclasses.replace(
        target, network=network, forward=None, prior=Gaussian(precision=_FLAT), parameters=("bend.*",)
    )
    found = infer(MAP(lr=lr, warm=0), bent, data, steps=steps, batch_size=min(batch_size, data.n), seed=seed)
    weights = weights_of(found)
    return detach({k: weights[f"bend.{i}"] for i, k in enumerate(network.names)})
