"""Moves that leave the prior as it is, restricted to networks above a level.

`elliptical` moves are for Gaussian priors: points on the ellipse through a network and a draw of the prior, from an arc
of random place around it that shrinks until a point is above the level. `refresh` moves draw some weights anew, and are
for any prior under which weights are independent: ±1 weights, for instance, of which some are flipped. Both have a
scale: the arc's length, and the share of weights. It follows from how many networks had to be tried.

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
from novacula.priors.base import Prior

Score: TypeAlias = Callable[[Tensor], Tensor]
"""Positions ``(R, P)`` to how close each network is to a fit, ``(R,)`` in float64."""

_SHRINKS = 40
_TRIES = 3  # networks that one refresh move tries; an elliptical one needs about as many
_LEAST, _MOST = 1e-3, 2 * math.pi  # length of an arc
_ACCEPTED = 0.3  # share of refreshed networks that is aimed at


def elliptical(
    prior: Prior, like: Params, q: Tensor, score: Tensor, level: Tensor, arc: float, of: Score, rng: torch.Generator
) -> tuple[Tensor, Tensor, int, float]:
    """One elliptical move of each row of q ``(R, P)``: positions, scores, networks evaluated, the next arc."""
    precision, centre = prior.precision(like), prior.centre(like)
    middle = torch.zeros_like(q[0]) if centre is None else flatten(centre)
    scale = torch.cat([(precision[k] ** -0.5).expand_as(w).flatten() for k, w in like.items()]).to(q)
    base, q, score = q - middle, q.clone(), score.clone()
    other = scale * torch.randn(q.shape, generator=rng, dtype=q.dtype, device=rng.device).to(q.device)
    low = -arc * torch.rand(len(q), generator=rng, dtype=torch.float64)
    high = low + arc
    active, tried = torch.arange(len(q)), 0
    for _ in range(_SHRINKS):
        u = torch.rand(len(active), generator=rng, dtype=torch.float64)
        angle = low[active] + u * (high[active] - low[active])
        turn = angle.to(q)[:, None]
        proposed = middle + base[active] * turn.cos() + other[active] * turn.sin()
        value = of(proposed)
        tried += len(active)
        inside = value > level[active]
        q[active[inside]], score[active[inside]] = proposed[inside], value[inside]
        active, angle = active[~inside], angle[~inside]
        if len(active) == 0:
            break
        low[active] = torch.where(angle < 0, angle, low[active])
        high[active] = torch.where(angle < 0, high[active], angle)
    # An arc from which every second or third network is taken is neither too short nor a waste.
    arc = min(max(arc * math.exp(0.5 * (2.5 - tried / len(q))), _LEAST), _MOST)
    return q, score, tried, arc


def refresh(
    prior: Prior, like: Params, q: Tensor, score: Tensor, level: Tensor, share: float, of: Score, rng: torch.Generator
) -> tuple[Tensor, Tensor, int, float]:
    """Attempts to draw weights of each row of q ``(R, P)`` anew: positions, scores, evaluations, the next share."""
    q, score, taken = q.clone(), score.clone(), 0
    weights = q.shape[1]
    for _ in range(_TRIES):
        # Between one weight and the whole share, evenly on a logarithmic scale.
        least = min(math.log(1 / weights), math.log(share))
        u = torch.rand(len(q), 1, generator=rng, dtype=torch.float64)
        chance = (least + u * (math.log(share) - least)).exp()
        chosen = torch.rand(q.shape, generator=rng, dtype=torch.float64) < chance
        one = torch.randint(weights, (len(q),), generator=rng)
        chosen[torch.arange(len(q)), one] = True
        fresh = flatten(prior.sample(like, len(q), rng), batch_dims=1)
        proposed = torch.where(chosen.to(q.device), fresh, q)
        value = of(proposed)
        inside = value > level
        q, score = torch.where(inside[:, None].to(q.device), proposed, q), torch.where(inside, value, score)
        taken += int(inside.sum())
    rate = taken / (_TRIES * len(q))
    return q, score, _TRIES * len(q), min(max(share * math.exp(rate - _ACCEPTED), 1 / weights), 1.0)
