"""What the folds say of an invariance: whether it is needed, and whether it is kept.

The evidence proposes extents, the folds dispose. Networks that are trained alike, with the learned extents, with mild
ones, and with none, predict the examples that they have not seen; the proposal with the least loss is kept, and the
others are said. An invariance whose loss is above that of none by more than a standard error is dropped, so that the
result is never knowingly worse than without. Each transformation by itself has its verdict from
`novacula.study.learning.each`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import torch

from novacula.data.data import Data
from novacula.invariances.base import Invariance
from novacula.study.cross_fit.result import CrossFit
from novacula.study.learning import each
from novacula.target import Target

MILD = {k: v for k, v in each.STRENGTH.items() if k not in {"flip", "flip_vertical", "hue", "erasing"}}
"""Extents of the mild proposal; no flips, which may change classes, and nothing that is left to be found out."""
_FEW = 600  # examples up to which every proposal is tried on all folds, and not on one


class Plan(each.Plan, Protocol):
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
) -> tuple[Any, CrossFit, dict[str, each.Verdict], list[str]]:
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
    tried = invariance
    if gain < -stderr:
        invariance = None
        tried = dataclasses.replace(tried, eta=torch.zeros_like(tried.eta))  # type: ignore[type-var]
        said = [
            "the transformations were dropped: networks trained without them predict unseen examples better, by "
            f"{-gain:.4f} ± {stderr:.4f} nats an example"
        ]
    if invariance is not trained.target.averaged:
        trained = plan.train(dataclasses.replace(target, invariance=invariance), data, still=True)
        best = plan.cross_fit(trained, data, unseen.folds)
    verdicts = each.each(plan, trained, best, tried, data, only, (gain, stderr))
    said += [
        f"training with {name} as well (at an extent of {each.STRENGTH[name]:g}) would lower the loss on unseen "
        f"examples, by {v['gain']:.4f} ± {v['stderr']:.4f} nats an example: start from there"
        for name, v in verdicts.items()
        if v["verdict"] == "needed" and v["extent"] < each.SMALL
    ]
    return trained, best, verdicts, said


def _gain(one: CrossFit, other: CrossFit, only: int | None) -> tuple[float, float]:
    # The paired gain of one over the other, on the examples that both have predicted.
    if only is None:
        return one.compare(other)
    few = min(one.data.n, other.data.n)
    losses = [fit.losses if fit.data.n == few else fit.losses[fit.folds < only] for fit in (one, other)]
    difference = losses[1] - losses[0]
    return float(difference.mean()), float(difference.std()) / few**0.5


def _mild(invariance: Invariance) -> Invariance | None:
    # The same with mild extents; None where nothing would change.
    now = invariance.magnitude(invariance.eta.detach())
    wanted = torch.tensor([MILD.get(n, float(v)) for n, v in zip(invariance.names, now, strict=True)]).to(now)
    if torch.allclose(wanted, now, atol=0.02):
        return None
    return dataclasses.replace(invariance, eta=wanted)  # type: ignore[type-var]
