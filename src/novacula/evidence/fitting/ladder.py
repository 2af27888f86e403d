"""Every estimator of the probability of a fit that applies, side by side, and where they agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.data.data import Data
from novacula.evidence.fitting.annealing import Annealing
from novacula.evidence.fitting.counting import Counting
from novacula.evidence.fitting.nngp import NNGP
from novacula.evidence.fitting.splitting import Splitting
from novacula.evidence.start import bound
from novacula.target import Target
from novacula.target.margins import check_fittable

Rung: TypeAlias = Annealing | Counting | Splitting | NNGP

_APART = 3.0  # standard errors
_ROUNDING = 1e-4  # nats, of what is exact but for jitter and tolerance


@dataclass(frozen=True, eq=False)
class Ladder:
    """Estimates by name, and why others are missing.

    Args:
        estimates: By the estimator's name.
        refused: What the estimators that do not apply said, by name.
    """

    estimates: dict[str, Estimate]
    refused: dict[str, str]

    @property
    def agree(self) -> dict[tuple[str, str], bool]:
        """Whether each two lie within three standard errors of their difference.

        An estimate without an error of its own, as expectation propagation's, is held against the other's error alone:
        that they are apart is then what its own error is. Two such say nothing of each other. A difference between
        networks of finite and infinite width is no error of either: it is what width does. A bound agrees with all that
        is below it.
        """
        all_ = list(self.estimates.items())
        pairs = [((a, x), (b, y)) for i, (a, x) in enumerate(all_) for b, y in all_[i + 1 :]]
        known = [p for p in pairs if any(math.isfinite(e.stderr) for _, e in p)]
        return {(a, b): _agree(x, y) for (a, x), (b, y) in known}

    def to_dict(self) -> dict[str, Any]:
        """The ladder as plain JSON values.

        Returns:
            ``estimates``, ``refused``, and ``agree`` with names joined by ``" / "``.
        """
        return {
            "estimates": {k: e.to_dict() for k, e in self.estimates.items()},
            "refused": dict(self.refused),
            "agree": {" / ".join(pair): ok for pair, ok in self.agree.items()},
        }

    def __str__(self) -> str:
        rows = []
        for name, e in self.estimates.items():
            error = f"{e.stderr / math.log(10):.3f}" if math.isfinite(e.stderr) else "?"
            rows.append(f"{name:32} {float(e) / math.log(10):10.3f} ± {error} dex  {e.kind}")
        return "\n".join([*rows, *(f"{name:32} {why}" for name, why in self.refused.items())])


def ladder(
    target: Target,
    data: Data,
    *,
    seed: int,
    estimators: Sequence[Rung] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Ladder:
    """Estimate the probability of a fit in every way that applies.

    Args:
        target: The network and its prior.
        data: The examples, of classes.
        seed: Of everything random.
        estimators: Which ones; by default `Counting`, `Splitting`, `Annealing`, and `NNGP` by both methods.
        progress: Called before each with (how many are done, how many there are, its name).

    Returns:
        The estimates, and why others are missing.

    Raises:
        InputError: If the labels are not classes, or contradict each other.
    """
    target, data = bound(target, data)
    check_fittable(target, data)
    rungs = estimators or (Counting(), NNGP("ep"), NNGP("tilting"), Splitting(), Annealing())
    estimates, refused = {}, {}
    for i, rung in enumerate(rungs):
        if progress is not None:
            progress(i, len(rungs), rung.name)
        try:
            estimates[rung.name] = rung(target, data, seed=seed)
        except InputError as error:
            refused[rung.name] = str(error)
    return Ladder(estimates, refused)


def _agree(x: Estimate, y: Estimate) -> bool:
    slack = _APART * math.hypot(*(e.stderr for e in (x, y) if math.isfinite(e.stderr))) + _ROUNDING
    if "upper bound" in (x.kind, y.kind):
        bound, other = (x, y) if x.kind == "upper bound" else (y, x)
        return other.kind == "upper bound" or float(other) <= float(bound) + slack
    return abs(float(x) - float(y)) <= slack
