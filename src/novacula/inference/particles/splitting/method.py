"""`Splitting`: networks of the prior that fit all labels, and how rare they are.

A population of networks is drawn from the prior. The level is raised so that a share of them is above it; the others
are replaced by copies of those, and all are moved by a Markov chain that leaves the prior above the level as it is. The
product of the shares estimates the probability that a random network fits,

    P̂ = Π_t (networks above level t) / (all networks),

however small it is. The level is how close a network is to a fit (`novacula.target.margins.closeness`): the hinge of
its margins over the size of its outputs. Counting errors instead, or adding example after example, does worse. The
networks at the end are draws of the posterior: the prior, restricted to those that fit.

Populations are independent, and the spread between them is the error: networks of one population have few ancestors, so
that a population's own idea of its error is far too small.

References:
    Sequential Monte Carlo for rare event estimation. F. Cérou, P. Del Moral, T. Furon, A. Guyader, 2012.
    Estimation of small failure probabilities in high dimensions by subset simulation. S.-K. Au, J. L. Beck, 2001.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_fields
from novacula.core.errors import InputError
from novacula.core.params import Params, count, flatten, unflatten
from novacula.core.rng import split
from novacula.data.data import Data
from novacula.inference.method import Batching, Info, Start
from novacula.inference.particles.splitting.moves import MOST, Score, elliptical, refresh, scaled
from novacula.inference.particles.splitting.surrogate import Surrogate
from novacula.inference.recorder import Recorder, check_room, draws_of
from novacula.posteriors.draws import Draws
from novacula.target import Density, Target
from novacula.target.batch import Batch
from novacula.target.margins import FITS, check_fittable, closeness_of


@dataclass(frozen=True, eq=False)
class SplittingState:
    """M populations of N networks."""

    positions: Tensor  # shape ``(M, N, P)``
    score: Tensor  # how close each is to a fit, shape ``(M, N)``, float64
    level: Tensor  # which all are above, shape ``(M,)``
    log_evidence: Tensor  # logarithm of the product so far, shape ``(M,)``
    ended: Tensor  # whether all networks of a population fit, or none can be told apart, shape ``(M,)``
    scale: Tensor  # of each population's moves, shape ``(M, K)``
    evaluations: Tensor  # networks that were evaluated, in all populations, shape ``()``
    copies: int  # seed of the transformations that outputs are averaged over
    data: Data = field(metadata={"checkpoint": False})  # the training data
    like: Params = field(metadata={"checkpoint": False})  # one point, which gives names and shapes


@dataclass(frozen=True)
class Splitting:
    """Multilevel splitting from the prior to the networks that fit all labels; the chains of `infer` are populations.

    A step of the run is one level, and the run ends when all networks fit; ``steps`` is the most that may be taken. The
    likelihood only says what the labels are. A Gaussian prior is explored by elliptical moves, where a network ends in
    a linear layer by those of `Surrogate`; any other prior under which weights are independent, by drawing some anew.

    Args:
        particles: N of each population.
        moves: Moves of each network at each level.
        keep: The share of networks that is above the next level.

    Raises:
        InputError: If a number is outside its range.
    """

    particles: int = 500
    moves: int = 8
    keep: float = 0.5

    batching: Batching = field(default="full", init=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.particles < 4 or self.moves < 1 or not 0 < self.keep < 1:
            raise InputError(
                "4 or more particles, 1 or more moves, and keep between 0 and 1",
                f"{self.particles}, {self.moves} and {self.keep:g}",
                "leave them out for the defaults",
            )

    def init(self, target: Density, data: Data | None, rng: torch.Generator, start: Start) -> SplittingState:
        """Draw the networks from the prior."""
        if not isinstance(target, Target) or data is None:
            raise InputError("a network's Target for splitting", "a plain log-density", "use nv.SMC for a density")
        if target.temperature != 1.0:
            hint = "use temperature=1: the prior itself is split"
            raise InputError("temperature=1 for Splitting", f"{target.temperature:g}", hint)
        check_fittable(target, data)
        like, m = target.params(), start.members
        check_room(self.particles, m, count(like), next(iter(like.values())), hint="take fewer particles")
        positions = flatten(target.prior.sample(like, m * self.particles, rng), batch_dims=1)
        copies = split(rng)
        score = closeness_of(target, unflatten(positions, like), data, seed=copies).unflatten(0, (m, -1))
        zero = torch.zeros(m, dtype=torch.float64)
        scale = torch.full((m, 2), MOST if target.prior.gaussian else 0.5, dtype=torch.float64)
        return SplittingState(
            positions.unflatten(0, (m, -1)),
            score,
            zero - math.inf,
            zero,
            torch.zeros(m, dtype=torch.bool),
            scale,
            torch.tensor(len(positions)),
            copies,
            data,
            like,
        )

    def step(
        self, target: Target, state: SplittingState, batch: Batch, rng: torch.Generator
    ) -> tuple[SplittingState, Info]:
        """Raise the level, replace the networks below it, and move all."""
        level, share = _next_level(state.score, self.keep)
        stuck = (share == 0) & ~state.ended
        going = ~state.ended & ~stuck
        rows = going.nonzero()[:, 0]
        after = replace(state, ended=state.ended | stuck)
        if len(rows):
            positions, score = _split(state.positions[rows], state.score[rows], level[rows], rng)
            positions, score, tried, scale = self._moved(target, state, rows, positions, score, level[rows], rng)
            after = replace(
                after,
                positions=state.positions.index_copy(0, rows.to(state.positions.device), positions),
                score=state.score.index_copy(0, rows, score),
                level=torch.where(going, level, state.level),
                log_evidence=torch.where(going, state.log_evidence + share.log(), state.log_evidence),
                ended=after.ended | (after.score.index_copy(0, rows, score) == FITS).all(1),
                scale=state.scale.index_copy(0, rows, scale),
                evaluations=state.evaluations + tried,
            )
        metrics = {
            "log_evidence": float(after.log_evidence.mean()),
            "fits": float((after.score == FITS).double().mean()),
            "evaluations": float(after.evaluations),
        }
        return after, Info(-float(after.log_evidence.mean()) / state.data.n, metrics, done=bool(after.ended.all()))

    def posterior(self, target: Target, state: SplittingState) -> Draws:
        """The networks, with every population's log-probability of a fit."""
        fits = (state.score == FITS).double().mean(1)
        warnings = []
        if bool((fits < 1).any()):
            warnings.append(
                f"no more than {float(fits.min()):.3g} of a population fit: these are not draws of the posterior, and "
                "the probability is below what was reached. Take more steps, or look whether any network can fit"
            )
        if len(fits) == 1:
            warnings.append("one population: the error of its probability is not known. Use chains=4 or more")
        flat = state.positions.transpose(0, 1)
        prior = torch.stack([target.prior.log_prob(w) for w in _unstacked(state)]).unflatten(0, state.score.shape)
        recorder = Recorder(flat, prior.T.to(flat.dtype), len(flat), 0, 1)
        stats = {
            "log_evidence": state.log_evidence,
            "fits": fits,
            "evaluations": state.evaluations.double().expand(len(fits)) / len(fits),
        }
        return draws_of(target, recorder, state.data, stats=stats, warnings=warnings)

    def _moved(
        self,
        target: Target,
        state: SplittingState,
        rows: Tensor,
        positions: Tensor,
        score: Tensor,
        level: Tensor,
        rng: torch.Generator,
    ) -> tuple[Tensor, Tensor, int, Tensor]:
        def of(q: Tensor) -> Tensor:
            return closeness_of(target, unflatten(q, state.like), state.data, seed=state.copies)

        evaluate: Score = of
        q, s, shape, gaussian = positions.flatten(0, 1), score.flatten(), score.shape, target.prior.gaussian
        above, scale = level.repeat_interleave(shape[1]), state.scale[rows].repeat_interleave(shape[1], 0)
        surrogate = Surrogate.of(target, state.data, seed=state.copies) if gaussian else None
        if surrogate is not None:
            q, s, total, tried = surrogate.move(q, s, above, scale, self.moves, rng)
            if bool((fits := s == FITS).any()):
                s[fits] = evaluate(q[fits])  # as the network itself rounds
        else:
            move, total, tried = elliptical if gaussian else refresh, 0, torch.zeros_like(scale)
            for _ in range(self.moves):
                q, s, spent, now = move(target.prior, state.like, q, s, above, scale[:, 0], evaluate, rng)
                total, tried = total + spent, tried + now[:, None] / self.moves
        # From one level to the next, so that within a level the moves are those of one Markov chain.
        after = scaled(state.scale[rows], tried.unflatten(0, shape).mean(1), gaussian)
        return q.unflatten(0, shape), s.unflatten(0, shape), total, after


def _next_level(score: Tensor, keep: float) -> tuple[Tensor, Tensor]:
    # The level above which a share of each population is, and that share; where many networks are equally close, those
    # above them, or else they themselves. Above the last level are those that fit. Score ``(M, N)``.
    n = score.shape[1]
    place = n - max(1, math.floor(keep * n)) - 1
    level = score.sort(1).values[:, place]
    fits = (score == FITS).double().mean(1)
    # Where more than the share fits already, the last level is below all of these alone.
    last = torch.where(score == FITS, -math.inf, score).amax(1)
    level = torch.where(fits >= keep, last, level)
    share = (score > level[:, None]).double().mean(1)
    # Nothing is above the level where half the networks or more are equally close, and none closer: take these whole.
    below = torch.where(score < level[:, None], score, -math.inf).amax(1)
    lower = (score > below[:, None]).double().mean(1)
    tied = (share == 0) & (lower < 1) & (below > -math.inf)
    return torch.where(tied, below, level), torch.where(tied, lower, share)


def _split(positions: Tensor, score: Tensor, level: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    # Networks above the level stay; each other becomes a copy of one of these, which are dealt as evenly as can be.
    index = torch.arange(score.shape[1]).repeat(len(score), 1)
    for row, above in zip(index, score > level[:, None], strict=True):
        alive = above.nonzero()[:, 0]
        dead = (~above).nonzero()[:, 0]
        turns = -(-len(dead) // len(alive))
        dealt = torch.cat([alive[torch.randperm(len(alive), generator=rng)] for _ in range(turns)]) if turns else dead
        row[dead] = dealt[: len(dead)]
    chosen = index[..., None].to(positions.device)
    return torch.take_along_dim(positions, chosen, 1), torch.take_along_dim(score, index, 1)


def _unstacked(state: SplittingState) -> list[Params]:
    stacked = unflatten(state.positions.flatten(0, 1), state.like)
    return [{k: w[i] for k, w in stacked.items()} for i in range(state.score.numel())]
