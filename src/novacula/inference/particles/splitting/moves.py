"""Moves that leave the prior as it is, restricted to networks above a level.

`elliptical` moves are for Gaussian priors: points on the ellipse through a network and a draw of the prior, from an arc
of random place around it that shrinks until a point is above the level. `refresh` moves draw some weights anew, and are
for any prior under which weights are independent: ±1 weights, for instance, of which some are flipped. Both have a
scale, the arc's length and the share of weights, which follows from how many networks had to be tried.

References:
    Elliptical slice sampling. I. Murray, R. P. Adams, D. J. C. MacKay, 2010. arXiv:1001.0175.
    Slice sampling. R. M. Neal, 2003 (intervals of random place that shrink).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from novacula.core.params import Params, flatten
from novacula.inference.hamiltonian.trajectory import normal
from novacula.priors.base import Prior

Score: TypeAlias = Callable[[Tensor], Tensor]
"""Positions ``(R, P)`` to how close each network is to a fit, ``(R,)`` in float64."""

Take: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Rows, and what is proposed for each, to whether it is taken; what takes it keeps it."""

MOST, _LEAST = 2 * math.pi, 1e-3  # length of an arc
_SHRINKS = 40
_TRIES = 3  # networks that one refresh move tries; an elliptical one needs about as many
_ACCEPTED = 0.3  # share of refreshed networks that is aimed at


def elliptical(
    prior: Prior, like: Params, q: Tensor, score: Tensor, level: Tensor, arc: Tensor, of: Score, rng: torch.Generator
) -> tuple[Tensor, Tensor, int, Tensor]:
    """One elliptical move of each row of q ``(R, P)``: positions, scores, evaluations, and times tried ``(R,)``."""
    centre = prior.centre(like)
    middle = torch.zeros_like(q[0]) if centre is None else flatten(centre)
    base, q, score = q - middle, q.clone(), score.clone()

    def take(rows: Tensor, turned: Tensor) -> Tensor:
        value = of(turned + middle)
        inside = value > level[rows]
        q[rows[inside]], score[rows[inside]] = (turned + middle)[inside], value[inside]
        return inside

    tried = turn(base, deviations(prior, like).to(q) * normal(q, rng), arc, take, rng)
    return q, score, int(tried.sum()), tried


def deviations(prior: Prior, like: Params) -> Tensor:
    """Standard deviations of all weights under a Gaussian prior, ``(P,)``."""
    precision = prior.precision(like)
    return torch.cat([(precision[k] ** -0.5).expand_as(w).flatten() for k, w in like.items()])


def turn(q: Tensor, other: Tensor, arc: Tensor, take: Take, rng: torch.Generator) -> Tensor:
    """How often each row of q ``(R, P)`` was turned towards the other, in an arc that shrinks until `take` keeps it."""
    q, low = q.clone(), -arc * torch.rand(len(q), generator=rng, dtype=torch.float64)
    high, active, tried = low + arc, torch.arange(len(q)), torch.zeros_like(low)
    for _ in range(_SHRINKS):
        u = torch.rand(len(active), generator=rng, dtype=torch.float64)
        angle = low[active] + u * (high[active] - low[active])
        by = angle.to(q)[:, None]
        inside = take(active, q[active] * by.cos() + other[active] * by.sin())
        tried[active] += 1
        active, angle = active[~inside], angle[~inside]
        if len(active) == 0:
            break
        low[active] = torch.where(angle < 0, angle, low[active])
        high[active] = torch.where(angle < 0, high[active], angle)
    return tried


def refresh(
    prior: Prior, like: Params, q: Tensor, score: Tensor, level: Tensor, share: Tensor, of: Score, rng: torch.Generator
) -> tuple[Tensor, Tensor, int, Tensor]:
    """Attempts to draw weights of each row of q ``(R, P)`` anew; the last result is how many were taken ``(R,)``."""
    q, score, taken = q.clone(), score.clone(), torch.zeros_like(share)
    weights = q.shape[1]
    for _ in range(_TRIES):
        # Between one weight and the whole share, evenly on a logarithmic scale.
        most, least = share.clamp(1 / weights, 1.0).log()[:, None], -math.log(weights)
        u = torch.rand(len(q), 1, generator=rng, dtype=torch.float64)
        chance = (least + u * (most - least)).exp()
        chosen = torch.rand(q.shape, generator=rng, dtype=torch.float64) < chance
        one = torch.randint(weights, (len(q),), generator=rng)
        chosen[torch.arange(len(q)), one] = True
        fresh = flatten(prior.sample(like, len(q), rng), batch_dims=1)
        proposed = torch.where(chosen.to(q.device), fresh, q)
        value = of(proposed)
        inside = value > level
        q, score = torch.where(inside[:, None].to(q.device), proposed, q), torch.where(inside, value, score)
        taken += inside
    return q, score, _TRIES * len(q), taken


def scaled(scale: Tensor, tried: Tensor, gaussian: bool) -> Tensor:
    """The next scale, from the mean times that a move tried, or of `refresh` took."""
    if gaussian:  # an arc from which every second or third network is taken is neither too short nor a waste
        return (scale * (0.5 * (2.5 - tried)).exp()).clamp(_LEAST, MOST)
    return (scale * (tried / _TRIES - _ACCEPTED).exp()).clamp(_LEAST, 1.0)
