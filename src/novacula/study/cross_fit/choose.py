"""Choosing the predictive by examples that no network has seen.

The candidates stand on rungs, in the order of what a prediction costs: the point estimate; the point estimate with its
labels at the calibrated temperature; the mixture of several networks, where there are several; a Laplace posterior.
Each is built on each fold's network and scored on the examples which that network has not seen. A higher rung is taken
only where it beats the best one below by more than one standard error of the paired difference, and by a thousandth of
a nat. One standard error rather than two: the examples are unseen, so that a gain is as likely too small as too large,
and a predictive that is taken by chance costs about nothing, since it was about as good. The fitted temperature is
scored on each fold as the other folds have it, so that no label judges a number that was fitted to it. Of the Laplace
posteriors the best one stands for all; the gain of the best of several, alike as they are, is a little too large, which
the margin covers.

References:
    Classification and regression trees. L. Breiman, J. Friedman, R. Olshen, C. Stone, 1984 (the rule of one standard
    error).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params, detach, unstack
from novacula.core.rng import derive, generator
from novacula.curvature.structures.names import Structure
from novacula.data.data import Data
from novacula.diagnostics.crossed_mean import nested
from novacula.posteriors.base import Point
from novacula.posteriors.laplace import laplace_posterior
from novacula.posteriors.mixture import mixture
from novacula.prediction import Choice, Score, predict
from novacula.prediction.choose import WORTH
from novacula.study.cross_fit.temperature import SPREAD, fit_temperature, log_prob_at
from novacula.target import Target

MARGIN = 1.0


@dataclass(frozen=True, eq=False)
class Unseen:
    """Networks, and examples that each of them has not seen."""

    target: Target  # the target
    data: Data  # all examples
    labels: Tensor  # their labels, in their own units
    folds: Tensor  # which network has not seen an example
    params: tuple[Params, ...]  # the weights of each fold's first network
    members: Tensor  # out-of-fold outputs of all networks, (M, N, C); the first ones are the point estimates
    losses: Tensor  # out-of-fold losses of the point estimates, (N,)
    temperature: float  # the calibrated temperature of their labels
    mixed: float  # that of the mixture's
    seed: int  # seed of the transformations


def choose_unseen(
    unseen: Unseen,
    params: Params,
    structures: Sequence[Structure],
    temperatures: Sequence[float],
    examples: int,
    seed: int,
    members: Params | None = None,
) -> Choice:
    """Choose the predictive by out-of-fold predictions, and build it on the final network."""
    target, final = unseen.target, detach(params)
    if not target.likelihood.normalised:
        why = f"the point estimate: the loss {target.likelihood.loss!r} has no predictive density to score"
        return Choice("point", 0.0, (), why, (), Point(final, target))
    everyone = torch.arange(unseen.data.n)
    candidates = [_Candidate("point", 0.0, 1.0, everyone, unseen.losses)]
    if target.likelihood.tempering is not None:
        candidates.append(_Candidate("point", 0.0, unseen.temperature, everyone, _tempered(unseen, 1)))
    if members is not None and len(unseen.members) > 1:
        candidates.append(_Candidate("ensemble", 0.0, unseen.mixed, everyone, _tempered(unseen, None)))
    averages, problems = _averages(unseen, structures, temperatures, examples)
    best = candidates[0]
    for rival in (*candidates[1:], *([min(averages, key=lambda c: c.mean)] if averages else [])):
        gain, stderr = rival.against(best, unseen)
        if gain > max(MARGIN * stderr, WORTH):
            best = rival
    scores = tuple(_score(c, candidates[0], unseen) for c in (*candidates, *averages))
    mine = scores[[*candidates, *averages].index(best)]
    reason = f"{mine}: on {len(best.rows):,} training examples, by networks that have not seen them, "
    if best is candidates[0]:
        others = [s for s in scores[1:] if math.isfinite(s.nll)]
        closest = max(others, key=lambda s: s.gain, default=None)
        rest = (
            ""
            if closest is None
            else f"; the closest is {closest}, a gain of {closest.gain:.4f} ± {closest.stderr:.4f}"
        )
        return Choice("point", 0.0, scores, f"{reason}nothing beats it{rest}", problems, Point(final, target))
    reason += f"better than the point estimate by {mine.gain:.4f} ± {mine.stderr:.4f}"
    if best.structure == "point":
        point = Point(final, target.calibrated(best.calibration))
        return Choice("point", 0.0, scores, reason, problems, point, best.calibration)
    if best.structure == "ensemble":
        at = target.calibrated(best.calibration)
        mixed = mixture([Point(w, at) for w in unstack(detach(members or {}))])
        return Choice("ensemble", 0.0, scores, reason, problems, mixed, best.calibration)
    structure: Structure = best.structure  # type: ignore[assignment]
    made = laplace_posterior(
        target, final, unseen.data, structure=structure, seed=seed, temperature=best.temperature, check=False
    )
    return Choice(structure, best.temperature, scores, reason, (*problems, *made.warnings), made)


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A predictive, and its losses on some of the examples."""

    structure: str
    temperature: float
    calibration: float
    rows: Tensor
    losses: Tensor

    @property
    def mean(self) -> float:
        return float(self.losses.mean())

    def against(self, other: _Candidate, unseen: Unseen) -> tuple[float, float]:
        # The gain over another one that was scored on these rows too, and its error.
        theirs = torch.full((unseen.data.n,), math.nan, dtype=torch.float64).index_put((other.rows,), other.losses)
        found = nested(theirs[self.rows] - self.losses, unseen.folds[self.rows])
        return found.value, found.stderr


def _score(candidate: _Candidate, point: _Candidate, unseen: Unseen) -> Score:
    # A loss that only some examples have is its gain on these, from the loss of all.
    gain, stderr = (0.0, 0.0) if candidate is point else candidate.against(point, unseen)
    c, n = candidate, len(candidate.rows)
    return Score(c.structure, c.temperature, point.mean - gain, gain, stderr, n, MARGIN, c.calibration)


def _tempered(unseen: Unseen, members: int | None) -> Tensor:
    # The losses of a fold at the temperature that the other folds have; by so many members, or all.
    likelihood, y, f, found = unseen.target.likelihood, unseen.data.y, unseen.members[:members], unseen.losses.clone()
    for k in range(len(unseen.params)):
        out = unseen.folds == k
        t = fit_temperature(likelihood, f[:, ~out], y[~out], unseen.folds[~out], spread=SPREAD).value
        # Standard units shift all losses of an example alike.
        point = log_prob_at(likelihood, unseen.members[:1, out], y[out], 1.0)
        found[out] += (point - log_prob_at(likelihood, f[:, out], y[out], t)).cpu()
    return found


def _averages(
    unseen: Unseen, structures: Sequence[Structure], temperatures: Sequence[float], examples: int
) -> tuple[list[_Candidate], tuple[str, ...]]:
    # Laplace posteriors around each fold's network; and what went wrong.
    n, found, problems = unseen.data.n, list[_Candidate](), list[str]()
    rows = torch.randperm(n, generator=generator(unseen.seed, "choose"))[:examples].sort().values
    wanted = sorted({*(t for t in temperatures if t > 0), unseen.temperature})
    for structure in structures:
        losses = torch.empty(len(wanted), n, dtype=torch.float64)
        try:
            for k in range(len(unseen.params)):
                mine = rows[unseen.folds[rows] == k]
                if len(mine):
                    losses[:, mine] = _laplace_losses(unseen, structure, wanted, k, mine)
        except InputError as error:
            problems.append(f"the structure {structure!r} was not considered: {error}")
            continue
        kept = [_Candidate(structure, t, 1.0, rows, losses[i, rows]) for i, t in enumerate(wanted)]
        found += [c for c in kept if math.isfinite(c.mean)]
    return found, tuple(problems)


def _laplace_losses(
    unseen: Unseen, structure: Structure, temperatures: Sequence[float], k: int, rows: Tensor
) -> Tensor:
    seen, seed = unseen.data.subset(unseen.folds != k), derive(unseen.seed, "laplace", k)
    made = laplace_posterior(
        unseen.target, unseen.params[k], seen, structure=structure, seed=seed, temperature=1.0, check=False
    )
    device = unseen.data.x.device
    x, y = unseen.data.x[rows.to(device)], unseen.labels[rows.to(device)]
    predictives = [
        predict(made.with_temperature(t), x, seed=unseen.seed).in_units(unseen.data.scaling) for t in temperatures
    ]
    return torch.stack([-p.log_prob(y).double().cpu() for p in predictives])
