"""`relaxation`: how much of each part a layer has, decided by the evidence: how equivariant it is, what tasks share.

A relaxed network (`novacula.structure.relax`) has two parts in each layer, each with a precision of its own in the
prior. Weights are trained and precisions solved for in turn (`novacula.evidence.tune`), and a part that the data do not
need shrinks. It does so ever more slowly, as the evidence is all but flat in the logarithm of a precision that wants to
be infinite; so that end is tried as such: the network goes on training as it is, and with one part alone in one layer,
for each of them; of these the better two thirds by the evidence go on, until one is left (what takes a weight away
that was in use is behind at first, whatever it comes to: a half would be too few). What is decided for one layer binds
the next: the race is run again for the other layers, from the network that won and from the best of those in which
another layer was decided, until none is better with one part alone; what is left is trained to its end. A layer ends as
dense, as a convolution, or between the two. The same decides what tasks share (`novacula.structure.share`).

References:
    Learning layer-wise equivariances automatically using gradients. T. F. A. van der Ouderaa, A. Immer,
    M. van der Wilk, 2023. arXiv:2310.06131.
    Fast marginal likelihood maximisation for sparse Bayesian models. M. E. Tipping, A. C. Faul, 2003 (the evidence at
    an infinite precision).
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from novacula.core.brief import brief
from novacula.core.checks.numbers import check_numbers, check_whole
from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.data.given import DataLike
from novacula.evidence import effective, tune
from novacula.inference import MAP, infer
from novacula.posteriors.base import Point
from novacula.priors.multiply import handles, multiplied
from novacula.priors.restrict import restricted
from novacula.structure import keep, parts, shares
from novacula.target import Target
from novacula.target.given import TargetLike, prepared


@dataclass(frozen=True)
class Trial:
    """One layer with one part alone."""

    layer: str  # its name
    part: str  # the part that was kept
    before: float  # the log evidence with both parts, in nats, where it left the race
    without: float  # that of this part alone, where it did
    kept: bool  # whether the network that is left came by it


@dataclass(frozen=True, eq=False)
class Relaxation:
    """What became of each layer.

    Attributes:
        target: The network with the parts that are left, its prior, and the posterior's likelihood.
        params: Its weights.
        evidence: Its log evidence, in nats.
        effective: By layer and part, the effective number of parameters; a part that is gone has none.
        trials: What was tried.
        seconds: Of all.
    """

    target: Target
    params: Params
    evidence: float
    effective: dict[str, dict[str, float]]
    trials: tuple[Trial, ...]
    seconds: float

    __repr__ = brief

    @property
    def posterior(self) -> Point:
        """The trained network, for `nv.predict`."""
        return Point(self.params, self.target)

    def share(self, part: str) -> float:
        """The share of one part in the effective parameters of all relaxed layers.

        Args:
            part: ``"convolution"``, ``"dense"``, ``"varying"``, ``"shared"`` or ``"private"``.

        Returns:
            Between 0 and 1.
        """
        whole = sum(sum(of.values()) for of in self.effective.values())
        return sum(of.get(part, 0.0) for of in self.effective.values()) / whole if whole else float("nan")


def relaxation(
    target: TargetLike,
    data: DataLike,
    *,
    steps: int = 300,
    rounds: int = 12,
    batch_size: int = 64,
    lr: float = 4e-3,
    subset: int = 500,
    seed: int = 0,
) -> Relaxation:
    """Decide how much of each part the layers of a network have.

    Of L layers of two parts, up to ``2 L²`` trials are made, of a third of the rounds or a few times that.

    Args:
        target: A target whose network `nv.structure.relax` or `nv.structure.share` gave; its prior is Gaussian, with a
            precision for each tensor.
        data: The training data.
        steps: Steps of a round of training.
        rounds: Rounds of training and of solving for the precisions before the first trial; trials go on by thirds of
            them.
        batch_size: Examples a step.
        lr: Peak learning rate.
        subset: Examples whose curvature gives the evidence, the same for all trials.
        seed: Seed of everything random.

    Returns:
        The network that is left, and what was tried.

    Raises:
        InputError: If no layer of the network is relaxed, or target and data do not fit together.
    """
    began = time.perf_counter()
    check_numbers(steps=steps, batch_size=batch_size, lr=lr, seed=seed)
    check_whole("rounds", rounds)
    check_whole("subset", subset)
    target, data = prepared(target, data)
    known = parts(target.forward.module)
    if not known:
        raise InputError("a network with relaxed layers", "none", "nv.structure.relax(network, data.x[:2])")
    fit = _Fit(MAP(lr=lr), data, steps, batch_size, subset, seed)
    first = {k: v.log() for k, v in target.prior.precision(target.params()).items()}
    best, tried = fit(target, target.params(), rounds), list[tuple[float, _Trained]]()
    beam, more = [best], max(1, rounds // 3)
    while _undecided(best):
        ended = _raced(fit, beam, first, more)
        before = {t.path: t.evidence for t in ended}
        known_paths = {t.path for t in beam}
        fresh = [t for t in ended if t.path not in known_paths]
        tried += [(before[t.path[:-1]], t) for t in fresh]
        best = ended[0]
        if best.path in known_paths:
            break
        beam = [best, *[t for t in fresh if t.path[-1][0] != best.path[-1][0]][:1]]
    if best.path:  # what is left has had less time than what it replaced
        best = dataclasses.replace(fit(best.target, best.params, rounds), path=best.path)
    trials = [Trial(*t.path[-1], before, t.evidence, best.path[: len(t.path)] == t.path) for before, t in tried]
    used = effective(best.target, data, best.params, subset=subset, seed=derive(seed, "solve"))
    left = shares(best.target.forward.module, used)
    return Relaxation(
        target=best.target,
        params=best.params,
        evidence=best.evidence,
        effective={k: {part: left.get(k, {}).get(part, 0.0) for part in of} for k, of in known.items()},
        trials=tuple(trials),
        seconds=time.perf_counter() - began,
    )


@dataclass(frozen=True, eq=False)
class _Trained:
    target: Target
    params: Params
    evidence: float = -math.inf
    path: tuple[tuple[str, str], ...] = ()  # what was decided, layer and part, in order


def _undecided(trained: _Trained) -> list[str]:
    return [layer for layer, of in parts(trained.target.forward.module).items() if len(of) > 1]


def _raced(fit: _Fit, beam: list[_Trained], first: Params, more: int) -> list[_Trained]:
    # These networks, and each of them with one more layer decided: the winner first, and who left first last.
    run = {frozenset(t.path): t for t in beam}
    for t in beam:
        for layer in _undecided(t):
            for part, target in _alone(t, layer, first):
                path = (*t.path, (layer, part))
                run.setdefault(frozenset(path), _Trained(target, t.params, path=path))
    going, left = [*run.values()], list[_Trained]()
    while len(going) > 1:
        going = [dataclasses.replace(fit(t.target, t.params, more), path=t.path) for t in going]
        going.sort(key=lambda t: t.evidence, reverse=True)
        stay = len(going) - max(1, len(going) // 3)
        left, going = [*going[stay:], *left], going[:stay]
    return [*going, *left]


@dataclass(frozen=True, eq=False)
class _Fit:
    # Rounds of training and solving.
    method: MAP
    data: Data
    steps: int
    batch_size: int
    subset: int
    seed: int

    def __call__(self, target: Target, params: Params, rounds: int) -> _Trained:
        own = target.params()
        params, value = {k: params[k] for k in own}, float("nan")
        for r in range(rounds):
            post = infer(
                self.method,
                target,
                self.data,
                init=params,
                steps=self.steps,
                batch_size=self.batch_size,
                seed=derive(self.seed, "round", r),
            )
            params = {k: post.mode[k] for k in own}
            found = tune(target, self.data, params, subset=self.subset, columns=8, seed=derive(self.seed, "solve"))
            target, value = found.target, float(found.evidence)
        return _Trained(target, params, value)


def _alone(trained: _Trained, layer: str, first: Params) -> Iterator[tuple[str, Target]]:
    # The target with each part of a layer alone, its precisions as they were at first: the part may be all but gone.
    target = trained.target
    for part, names in parts(target.forward.module)[layer].items():
        forward = target.forward.over(keep(target.forward.module, {layer: part}))
        left, params = {k: k for k in forward.params()}, target.params()
        now = target.prior.precision(params)
        back = {k: float(first[k] - now[k].log()) if k in names else 0.0 for k in left}
        prior = restricted(target.prior, params, left)
        values = multiplied(prior, forward.params(), handles(prior, forward.params()), back)
        prior = dataclasses.replace(prior, **values)  # type: ignore[type-var]  # a Gaussian
        yield part, dataclasses.replace(target, network=forward.module, forward=forward, prior=prior)
