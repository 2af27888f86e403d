"""Matching by the loss half-way, ``L(½ (w_a + T w_b))``: its gradients move the transformation T.

*Straight through*, for permutations and signs, which have no gradient: weights are moved from ``w = w_a`` by
``w ← w − η ∇L(½ (w_a + T(w) w_b))`` with ``T(w) = argmin_T ‖w − T w_b‖²``, as if ``T(w) w_b`` were w (Ainsworth and
others, 2022). *Turning*, for what is continuous: the gradient passes through ``T = exp(θ)``, a rotation for
antisymmetric θ, an invertible map for any, scales for a vector (Theus and others, 2025). What is kept is the
transformation whose middle had the lowest loss on examples that no step saw.

References:
    Git Re-Basin. S. K. Ainsworth, J. Hayase, S. Srinivasa, 2022. arXiv:2209.04836.
    Generalized linear mode connectivity for transformers. A. Theus and others, 2025. arXiv:2506.22712.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.rng import derive, generator, global_draws
from novacula.data.data import Data
from novacula.paths.matching.descent import Weights, acted, descend
from novacula.paths.symmetries.groups import Element, Group, Kind
from novacula.paths.symmetries.result import Symmetries
from novacula.target import Target

_EVERY, _BATCH, _KEPT = 10, 100, 500  # steps between looks at the loss; examples of a step, and of a look at most
_TURN = 0.15  # the angle, or the logarithm of a factor, by which a first step turns a vector at most
FINITE: tuple[Kind, ...] = ("permutation", "sign")
Moved = tuple[list[Element], dict[str, Tensor]]
Move = Callable[[Weights], Moved]
"""From the gradient half-way to all elements so far, and b after them."""


@dataclass(frozen=True, eq=False)
class Middle:
    """The loss half-way between a and another network, as it trains: at the statistics of each batch."""

    target: Target
    data: Data
    a: Weights

    def loss(self, b: Weights, rows: Tensor, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss of examples, and its gradient by the weights half-way."""
        own, x = self.target.params(), self.data.x[rows]
        buffers = {k: v for k, v in self.target.forward.module.named_buffers() if k in self.a}
        like: Mapping[str, Tensor] = {**buffers, **own}
        half = {k: ((self.a[k] + b[k]) / 2).to(w) for k, w in like.items() if k in self.a}
        leaves = {k: half[k].requires_grad_() for k in own if k in half}
        training = self.target.forward.trains(x)
        with torch.enable_grad(), global_draws(x.device, seed=seed):
            f, _ = self.target.forward.train({**own, **half, **leaves}, x, training.moving)
            loss = -self.target.likelihood.log_prob(f, self.data.y[rows]).mean()
            found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
        return loss.detach(), dict(zip(leaves, found, strict=True))


def lowered(middle: Middle, b: Weights, move: Move, steps: int, seed: int) -> Moved:
    """The elements whose middle is best, and b after them; ``b`` is where a start has taken it."""
    rng = generator(seed, "half-way")
    order = torch.randperm(middle.data.n, generator=rng)
    kept = order[: min(_KEPT, middle.data.n // 5 + 1)]
    rows = order[len(kept) :] if len(order) > len(kept) else order
    here = dict(b)
    best, least = ([], here), float(middle.loss(here, kept, seed)[0])
    for step in range(1, steps + 1):
        batch = rows[torch.randint(len(rows), (min(_BATCH, len(rows)),), generator=rng)]
        elements, here = move(middle.loss(here, batch, derive(seed, "noise", step))[1])
        if step % _EVERY == 0 or step == steps:
            now = float(middle.loss(here, kept, seed)[0])
            best, least = ((list(elements), dict(here)), now) if now < least else (best, least)
    return best


def straight_through(middle: Middle, b: Weights, symmetries: Symmetries, lr: float, seed: int) -> Move | None:
    """Of permutations and signs; None where there are none."""
    own = dataclasses.replace(symmetries, groups=tuple(g for g in symmetries.groups if g.kind in FINITE))
    if not own.groups:
        return None
    rng, elements, here = generator(seed, "straight-through"), list[Element](), dict(b)
    w = {k: v.clone() for k, v in middle.a.items()}
    adam = torch.optim.Adam([v for v in w.values() if v.is_floating_point()], lr)

    def move(gradient: Weights) -> Moved:
        nonlocal here
        for name, value in w.items():
            value.grad = gradient[name].to(value) if name in gradient else None
        adam.step()
        more, here = descend(w, here, own, rng, sweeps=1)
        elements.extend(more)
        return elements, here

    return move


def turning(b: Weights, symmetries: Symmetries, steps: int) -> Move | None:
    """Of scales, rotations and invertible maps; None where there are none."""
    groups = [g for g in symmetries.groups if g.kind not in FINITE]
    if not groups:
        return None
    logs = [torch.zeros_like(g.identity().values).requires_grad_() for g in groups]
    wide = [1 if g.kind in ("scale", "rotation") else g.size for g in groups]
    adam = torch.optim.Adam([{"params": [t], "lr": _TURN / math.sqrt(n)} for t, n in zip(logs, wide, strict=True)])
    fall = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1 - step / steps)

    def turned() -> Moved:
        elements = [exponential(g, t, b) for g, t in zip(groups, logs, strict=True)]
        return elements, acted(b, elements, symmetries)

    def move(gradient: Weights) -> Moved:
        with torch.enable_grad():
            there = {k: v for k, v in turned()[1].items() if v.requires_grad and k in gradient}
        slopes = [gradient[k].to(v) / 2 for k, v in there.items()]
        found = torch.autograd.grad([*there.values()], logs, slopes, allow_unused=True, materialize_grads=True)
        for t, slope in zip(logs, found, strict=True):
            t.grad = slope
        adam.step()
        fall.step()
        with torch.no_grad():
            return turned()

    return move


def exponential(group: Group, log: Tensor, b: Weights) -> Element:
    """The element ``exp(θ)``; factors that a map absorbs are afterwards as they were."""
    if group.kind in ("scale", "rotation"):
        return Element(group, log.exp() if group.kind == "scale" else log)
    map_ = torch.matrix_exp(log - log.mT if group.kind == "orthogonal" else log)
    return Element(group, map_, tuple(b[name] for name, _ in group.absorbed))
