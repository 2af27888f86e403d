"""Matching by the loss half-way: straight-through estimation over all symmetries.

    w ← w − η ∇L(½ (w_a + T(w) w_b)),        T(w) = argmin_T ‖w − T w_b‖²,

from w = w_a: the weights that b is taken towards are moved so that the middle between a and what comes of b is good,
as if T(w) w_b were w (Ainsworth and others, 2022). T is of any kind, the descent of `novacula.paths.matching.descent`.
What is kept is the transformation whose middle had the lowest loss on examples that no step saw.

References:
    Git Re-Basin. S. K. Ainsworth, J. Hayase, S. Srinivasa, 2022. arXiv:2209.04836.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.modules.training import seeded
from novacula.core.rng import derive, generator
from novacula.data.data import Data
from novacula.paths.matching.descent import Weights, descend
from novacula.paths.symmetries.groups import Element
from novacula.paths.symmetries.result import Symmetries
from novacula.target import Target

_EVERY, _BATCH, _KEPT = 10, 100, 500  # steps between looks at the loss; examples of a step, and of a look at most


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
        with torch.enable_grad(), seeded(seed, x.device):
            f, _ = self.target.forward.train({**own, **half, **leaves}, x, training.moving)
            loss = -self.target.likelihood.log_prob(f, self.data.y[rows]).mean()
            found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
        return loss.detach(), dict(zip(leaves, found, strict=True))


def straight_through(
    middle: Middle, b: Weights, symmetries: Symmetries, steps: int, lr: float, seed: int
) -> tuple[list[Element], dict[str, Tensor]]:
    """The elements whose middle is best, and b after them; ``b`` is where a start has taken it."""
    rng = generator(seed, "straight-through")
    order = torch.randperm(middle.data.n, generator=rng)
    kept = order[: min(_KEPT, middle.data.n // 5 + 1)]
    rows = order[len(kept) :] if len(order) > len(kept) else order
    w = {k: v.clone() for k, v in middle.a.items()}
    adam = torch.optim.Adam([v for v in w.values() if v.is_floating_point()], lr)
    elements = list[Element]()
    best = (float(middle.loss(b, kept, seed)[0]), 0, dict(b))
    for step in range(1, steps + 1):
        batch = rows[torch.randint(len(rows), (min(_BATCH, len(rows)),), generator=rng)]
        _, gradient = middle.loss(b, batch, derive(seed, "noise", step))
        for name, value in w.items():
            value.grad = gradient[name].to(value) if name in gradient else None
        adam.step()
        more, b = descend(w, b, symmetries, rng, sweeps=1)
        elements += more
        if step % _EVERY == 0 or step == steps:
            now = float(middle.loss(b, kept, seed)[0])
            best = (now, len(elements), dict(b)) if now < best[0] else best
    return elements[: best[1]], best[2]
