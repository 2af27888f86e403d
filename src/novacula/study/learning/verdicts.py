"""What the folds say of an invariance: whether it is needed, and whether it is kept.

The evidence proposes extents, the folds dispose. Networks that are trained alike, with the learned extents, with mild
ones, and with none, predict the examples that they have not seen; the proposal with the least loss is kept, and the
others are said. An invariance whose loss is above that of none by more than a standard error is dropped, so that the
result is never knowingly worse than without.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, TypeAlias

import torch

from novacula.data.data import Data
from novacula.invariances.base import Invariance
from novacula.study.cross_fit.result import CrossFit
from novacula.target import Target

MILD = {
    "rotation": 0.06,
    "translation_x": 0.1,
    "translation_y": 0.1,
    "scale": 0.1,
    "shear": 0.1,
    "amplitude": 0.03,
    "brightness": 0.1,
    "contrast": 0.1,
    "saturation": 0.1,
}
"""Extents that people use without thinking: ±11°, ±5 % of the width, ±10 % in size, and so on."""
WORTH = 0.005
"""Nats an example that are worth a word."""
_Z = 1.645
_FEW = 600  # examples up to which every proposal is tried on all folds, and not on one

Verdict: TypeAlias = dict[str, Any]


class Plan(Protocol):
    """How a target is trained and cross-fitted."""

    def train(self, target: Target, data: Data, *, still: bool = False) -> Any:
        """Train on everything, perhaps with extents that stay."""
        ...

    def cross_fit(
        self, trained: Any, data: Data, folds: Any, target: Target | None = None, only: int | None = None
    ) -> CrossFit:
        """Networks blind to a fold each."""
        ...


def judged(
    plan: Plan, target: Target, trained: Any, unseen: CrossFit, data: Data
) -> tuple[Any, CrossFit, dict[str, Verdict], list[str]]:
    """The training to keep, its folds, a verdict for each extent, and what must be said."""
    invariance = trained.target.averaged
    only = None if data.n <= _FEW else 1
    without = plan.cross_fit(trained, data, unseen.folds, dataclasses.replace(trained.target, invariance=None), only)
    best, mild, said = unseen, _mild(invariance), list[str]()
    if mild is not None:
        gentle = plan.cross_fit(trained, data, unseen.folds, dataclasses.replace(trained.target, invariance=mild), only)
        more, error = _gain(gentle, unseen, only)
        if more > error:
            best, invariance = gentle, mild
            said.append(
                "mild transformations were kept in the place of the learned extents: networks trained with them "
                f"predict unseen examples better, by {more:.4f} ± {error:.4f} nats an example"
            )
    gain, stderr = _gain(best, without, only)
    verdicts = _verdicts(invariance, gain, stderr, float(without.losses.mean()))
    if gain < -stderr:
        invariance = None
        said = [
            "the transformations were dropped: networks trained without them predict unseen examples better, by "
            f"{-gain:.4f} ± {stderr:.4f} nats an example"
        ]
    if invariance is not trained.target.averaged:
        trained = plan.train(dataclasses.replace(target, invariance=invariance), data, still=True)
        best = plan.cross_fit(trained, data, unseen.folds)
    return trained, best, verdicts, said


def _gain(one: CrossFit, other: CrossFit, only: int | None) -> tuple[float, float]:
    # The paired gain of one over the other, on the examples that both have predicted.
    if only is None:
        return one.compare(other)
    few = min(one.data.n, other.data.n)
    losses = [fit.losses if fit.data.n == few else fit.losses[fit.folds < only] for fit in (one, other)]
    difference = losses[1] - losses[0]
    return float(difference.mean()), float(difference.std()) / few**0.5


def _verdicts(invariance: Invariance, gain: float, stderr: float, loss: float) -> dict[str, Verdict]:
    worth = max(WORTH, 0.02 * abs(loss))
    low, high = gain - _Z * stderr, gain + _Z * stderr
    if low > 0:
        word = "needed"
    elif high < 0:
        word = "harmful"
    else:
        word = "no effect" if -worth < low and high < worth else "undecided"
    found = {}
    extents = invariance.magnitude(invariance.eta.detach()).tolist()
    for name, extent in zip(invariance.names, extents, strict=True):
        small = extent < 0.02
        found[name] = {
            "verdict": "undecided" if small else word,
            "extent": extent,
            "interval": None,
            "gain": None if small else gain,
            "stderr": None if small else stderr,
        }
    return found


def _mild(invariance: Invariance) -> Invariance | None:
    # The same with mild extents; None where nothing would change.
    now = invariance.magnitude(invariance.eta.detach())
    wanted = torch.tensor([MILD.get(n, float(v)) for n, v in zip(invariance.names, now, strict=True)]).to(now)
    if torch.allclose(wanted, now, atol=0.02):
        return None
    return dataclasses.replace(invariance, eta=wanted)  # type: ignore[type-var]
