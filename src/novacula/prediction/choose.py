"""Choosing the predictive on the training data alone, so that it is not worse than its own point estimate.

A Laplace predictive at the prior that maximises the evidence is often far worse than the weights it is built around:
the Gaussian is too wide where the network is not linear. A temperature T mends that, ``T Σ`` in the place of Σ, with
T = 0 the point estimate itself. Structure and temperature are chosen by the log predictive density of training
examples, each predicted without itself (`novacula.posteriors.leave_one_out.newton`); no validation data are needed and
nothing is trained again.

The point estimate is always a candidate. Another one replaces it only if it gains more than two standard errors of
the paired difference (three where only the last layer can be left out), and a thousandth of a nat. Where nothing can be
held against it (a loss without a density, no affordable matrix), it stays.

References:
    Improving predictions of Bayesian neural nets via local linearization. A. Immer, M. Korzepa, M. Bauer, 2021.
    arXiv:2008.08711.
    How good is the Bayes posterior in deep neural networks really? F. Wenzel, K. Roth, B. Veeling, J. Świątkowski,
    L. Tran, S. Mandt, J. Snoek, T. Salimans, R. Jenatton, S. Nowozin, 2020. arXiv:2002.02405.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.core.params import Params, detach
from novacula.core.rng import derive
from novacula.core.storage.plain import record
from novacula.curvature.structures.names import STRUCTURES, Structure, build
from novacula.data.data import Data
from novacula.posteriors.base import Point, Posterior
from novacula.posteriors.laplace import LaplacePosterior, laplace_posterior
from novacula.posteriors.leave_one_out.newton import LeaveOneOut
from novacula.posteriors.leave_one_out.reference import Reference, reference
from novacula.target import Target

TEMPERATURES = (0.01, 0.03, 0.1, 0.3, 1.0)
EXAMPLES = 1_000
MARGIN = {"exact": 2.0, "last_layer": 3.0, "fit": 3.0}
"""How many standard errors a gain must have, by what the means are judged by. With one, a few examples that the
linearisation throws far from their labels were enough to give up a point estimate that was better on new data. The last
layer's leverages know nothing of how far the features themselves are fitted to the training data, so they say less."""
WORTH = 1e-3
"""The least gain, in nats an example, for which the point estimate is given up."""

# Candidates by what their means are judged by; and how a reason speaks of that.
_DEFAULT: dict[str, tuple[Structure, ...]] = {
    "exact": ("exact", "last_layer", "kron"),
    "last_layer": ("last_layer", "kron"),
    "fit": (),
}
_CHEAP = {"exact", "last_layer"}
_BASIS = {
    "exact": ", each predicted without itself",
    "last_layer": ", each predicted without itself (as far as the last layer goes)",
    "fit": " (their fit itself: no exact curvature is affordable)",
}


@dataclass(frozen=True)
class Score:
    """What leave-one-out says about one candidate.

    Args:
        structure: The curvature's structure, ``"point"`` or ``"ensemble"``.
        temperature: T; 0 for points.
        nll: Negative log predictive density, nats an example.
        gain: How much better than the point estimate.
        stderr: The standard error of the gain, from the examples.
        examples: The training examples that it was measured on.
        margin: How many standard errors the gain must have.
        calibration: The temperature of the labels, see `novacula.target.Target.calibrated`.
    """

    structure: str
    temperature: float
    nll: float
    gain: float
    stderr: float
    examples: int
    margin: float = 2.0
    calibration: float = 1.0

    @property
    def better(self) -> bool:
        """Whether the gain exceeds ``margin`` standard errors, and a thousandth of a nat."""
        return self.gain > max(self.margin * self.stderr, WORTH)

    def __str__(self) -> str:
        points = {"point": "the point estimate", "ensemble": "the mixture of several networks"}
        name = points.get(self.structure, f"{self.structure} at temperature {self.temperature:g}")
        if self.calibration != 1:
            name = f"{name} with its labels at temperature {self.calibration:.3g}"
        return f"{name} ({self.nll:.4f} nats an example)"


@dataclass(frozen=True, eq=False)
class Choice:
    """A predictive that was chosen, and why.

    Args:
        structure: The curvature's structure, ``"point"``, or ``"ensemble"``: the mixture of several points.
        temperature: T; 0 for points.
        scores: All candidates, the point estimate first.
        reason: The choice in words.
        warnings: Reservations a reader must know.
        posterior: What `predict` takes.
        calibration: The temperature of its labels, see `novacula.target.Target.calibrated`; 1 where they are as they
            were trained.
    """

    structure: str
    temperature: float
    scores: tuple[Score, ...]
    reason: str
    warnings: tuple[str, ...]
    posterior: Posterior
    calibration: float = 1.0

    __repr__ = brief

    def to_dict(self) -> dict[str, Any]:
        """The choice as plain JSON values.

        Returns:
            Everything but the posterior.
        """
        names = ("structure", "temperature", "calibration", "reason", "warnings")
        more = {"members": len(self.posterior.parts), "scores": [dataclasses.asdict(s) for s in self.scores]}
        return record(self, *names, **more)


def choose(
    target: Target,
    params: Params,
    data: Data,
    *,
    structures: Sequence[Structure] | None = None,
    temperatures: Sequence[float] = TEMPERATURES,
    requested: tuple[Structure, float] | None = None,
    examples: int = EXAMPLES,
    seed: int = 0,
) -> Choice:
    """Choose structure and temperature of the predictive on the training data.

    Args:
        target: The target, with the hyperparameters it was trained with.
        params: Trained weights.
        data: The training data.
        structures: Structures to consider; by default the last layer, Kronecker-factored, and the exact matrix where it
            is affordable.
        temperatures: Temperatures above 0 to consider; the point estimate always is.
        requested: A structure and a temperature to use whatever the scores say; a warning tells if they are worse than
            the point estimate.
        examples: At most this many training examples are predicted without themselves.
        seed: Seed of everything random.

    Returns:
        The choice.

    Raises:
        InputError: If a structure is unknown, or one that was requested is not possible for this network, or a
            temperature is not positive.
    """
    if requested is not None:
        structures, temperatures = (requested[0],), (requested[1],)
    check_candidates(structures, temperatures)
    if not target.likelihood.normalised:
        return _unscored(target, params, data, requested, seed)
    held_out = reference(target, params, data, seed=seed, examples=examples)
    wanted = tuple(structures if structures is not None else _DEFAULT[held_out.structure])
    found, problems = _candidates(held_out, data, wanted, seed, strict=requested is not None)
    scores = _scores(held_out, found, temperatures)
    if requested is not None:
        return _requested(held_out, data, found, scores, requested, problems, seed)
    best = max((s for s in scores if s.better), key=lambda s: s.gain, default=None)
    if best is None or not held_out.believable:
        reason = _stay(held_out, scores)
        return Choice("point", 0.0, tuple(scores), reason, problems, Point(detach(params), target))
    basis = f"{best.examples:,} training examples{_BASIS[held_out.structure]}"
    reason = f"{best}: better than the point estimate by {best.gain:.4f} ± {best.stderr:.4f} on {basis}"
    posterior = _posterior(held_out, data, found, best.structure, best.temperature, seed)
    return Choice(best.structure, best.temperature, tuple(scores), reason, (*problems, *posterior.warnings), posterior)


def _candidates(
    held_out: Reference, data: Data, wanted: Sequence[Structure], seed: int, *, strict: bool
) -> tuple[dict[str, LeaveOneOut], tuple[str, ...]]:
    # Leave-one-out posteriors by structure, and what went wrong.
    found: dict[str, LeaveOneOut] = {}
    problems: list[str] = []
    for name in wanted:
        try:
            if (curvature := held_out.curvature) is not None and name == held_out.structure:
                found[name] = held_out.of(curvature)
            else:
                part = held_out if name in _CHEAP else held_out.few
                found[name] = part.of(build(name, part.problem(data, seed=derive(seed, "laplace"))))
        except InputError as error:
            if strict:
                raise
            problems.append(f"the structure {name!r} was not considered: {error}")
    return found, tuple(problems)


def _posterior(
    held_out: Reference, data: Data, found: dict[str, LeaveOneOut], name: str, temperature: float, seed: int
) -> LaplacePosterior:
    # The scores may come from a subset; the posterior itself is that of all data.
    made = laplace_posterior(
        held_out.target,
        held_out.params,
        data,
        structure=name,  # type: ignore[arg-type]
        seed=seed,
        temperature=temperature,
        check=False,
    )
    return dataclasses.replace(made, held_out=found[name])


def _scores(held_out: Reference, found: dict[str, LeaveOneOut], temperatures: Sequence[float]) -> list[Score]:
    # The point estimate's score is that of all examples; others are its gains on as many as they could afford.
    if not found:
        return []
    point = -float(held_out.target.likelihood.log_prob(held_out.mean, held_out.y).mean())
    scores = [Score("point", 0.0, point, 0.0, 0.0, len(held_out.y))]
    for name, posterior in found.items():
        for t in sorted(t for t in temperatures if t > 0):
            mine, theirs, stderr = posterior.compare(t)
            gain, margin = mine - theirs, MARGIN[held_out.structure]
            scores.append(Score(name, t, point - gain, gain, stderr, len(posterior.y), margin))
    return [s for s in scores if math.isfinite(s.nll)]


def _stay(held_out: Reference, scores: Sequence[Score]) -> str:
    # Why the point estimate stays.
    rivals = [s for s in scores if s.temperature > 0]
    if not rivals:
        return "the point estimate: no exact curvature is affordable by which an average over weights could be judged"
    if not held_out.believable:
        return (
            f"the point estimate: {held_out.cut:,} of {len(held_out.y):,} training examples have too much influence on "
            "their own predictions for an average over weights to be judged without them"
        )
    rival = max(rivals, key=lambda s: s.gain)
    return (
        f"the point estimate: no average over weights beats it on {len(held_out.y):,} training "
        f"examples{_BASIS[held_out.structure]}; the closest is {rival}, against {scores[0].nll:.4f} (difference ± "
        f"{rival.stderr:.4f})"
    )


def _requested(
    held_out: Reference,
    data: Data,
    found: dict[str, LeaveOneOut],
    scores: list[Score],
    requested: tuple[str, float],
    problems: tuple[str, ...],
    seed: int,
) -> Choice:
    name, temperature = requested
    posterior = _posterior(held_out, data, found, name, temperature, seed)
    reason = f"{name} at temperature {temperature:g}, as requested"
    return Choice(name, temperature, tuple(scores), reason, (*problems, *posterior.warnings), posterior)


def _unscored(
    target: Target, params: Params, data: Data, requested: tuple[Structure, float] | None, seed: int
) -> Choice:
    why = f"the loss {target.likelihood.loss!r} has no predictive density to score"
    if requested is None:
        return Choice("point", 0.0, (), f"the point estimate: {why}", (), Point(detach(params), target))
    name, temperature = requested
    made = laplace_posterior(target, params, data, structure=name, seed=seed, temperature=temperature, check=False)
    doubt = f"the predictive was not held against its point estimate: {why}"
    reason = f"{name} at temperature {temperature:g}, as requested"
    return Choice(name, temperature, (), reason, (doubt, *made.warnings), made)


def check_candidates(structures: Sequence[str] | None, temperatures: Sequence[float]) -> None:
    """Refuse unknown structures and temperatures that are not positive."""
    unknown = [s for s in structures or () if s not in STRUCTURES]
    if unknown or structures == ():
        raise InputError(
            f"structures among {', '.join(STRUCTURES)}", repr(unknown[0]) if unknown else "none", "leave them out"
        )
    bad = [t for t in temperatures if not 0 <= t < math.inf]
    if bad or not any(t > 0 for t in temperatures):
        raise InputError("temperatures above zero", str(list(temperatures)), "use, for instance, (0.1, 0.3, 1.0)")
