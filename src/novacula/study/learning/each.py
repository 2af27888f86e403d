"""A verdict for every transformation: what training with it at a sensible strength does.

The networks that are blind to a fold go on for a quarter of their steps, once as they were trained, and once for each
transformation with a change: one that was kept is left out; one that was not is put in, at an extent that people use.
All go on from the same weights, with the same minibatches, so that the paired difference of their losses on unseen
examples is owed to the transformation (and to what a network can still unlearn: the gain of one that was kept is, if
anything, too small). With the 90 % interval of that gain,

    needed       it lies above w,
    harmful      it lies below −w,
    no effect    it lies between,
    undecided    otherwise,

where w is 2 % of the loss, at least .005 nats. Of a single transformation that was kept, the gain of the whole says
more, and is taken.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, TypeAlias

from torch import Tensor

from novacula.core.params import Params
from novacula.data.data import Data
from novacula.invariances.base import Invariance
from novacula.study.cross_fit.result import CrossFit
from novacula.target import Target

SMALL = 0.02
"""An extent below which a transformation is not there."""
STRENGTH = {
    "rotation": 0.06,
    "translation_x": 0.1,
    "translation_y": 0.1,
    "scale": 0.1,
    "stretch": 0.1,
    "shear": 0.1,
    "amplitude": 0.03,
    "flip": 0.5,
    "flip_vertical": 0.5,
    "brightness": 0.1,
    "contrast": 0.1,
    "saturation": 0.1,
    "hue": 0.1,
    "erasing": 0.25,
}
"""Extents that people use without thinking: ±11°, ±5 % of the width, ±10 % in size, every second image flipped."""
WORTH = 0.005
"""Nats an example that are worth a word."""
_Z = 1.645

Verdict: TypeAlias = dict[str, Any]


class Plan(Protocol):
    """How networks of folds go on."""

    def go_on(self, trained: Any, data: Data, best: CrossFit, target: Target, only: int | None) -> CrossFit:
        """The networks of folds after some more steps under a target."""
        ...


def each(
    plan: Plan,
    trained: Any,
    best: CrossFit,
    invariance: Invariance,
    data: Data,
    only: int | None,
    whole: tuple[float, float],
) -> dict[str, Verdict]:
    """A verdict for each transformation.

    Args:
        plan: How networks go on.
        trained: The training that was kept.
        best: Its networks blind to a fold each.
        invariance: The transformations that were tried, with the extents that were kept; zeros for those dropped.
        data: The training data.
        only: So few folds; None for all.
        whole: What all that was kept gains over none, and the standard error.

    Returns:
        By name: the verdict, the extent that was kept, its interval (not known here), gain and standard error.
    """
    extents = invariance.magnitude(invariance.eta.detach()).tolist()
    control = plan.go_on(trained, data, best, trained.target, only)
    alone = sum(extent >= SMALL for extent in extents) == 1
    found = {}
    for i, (name, extent) in enumerate(zip(invariance.names, extents, strict=True)):
        entry: Verdict = {"verdict": "undecided", "extent": extent, "interval": None, "gain": None, "stderr": None}
        found[name] = entry
        there = extent >= SMALL
        if not there and name not in STRENGTH:
            continue  # what a sensible strength is, nobody knows
        if there and alone:
            gain, stderr = whole
        else:
            eta = changed(invariance.eta.detach(), i, 0.0 if there else STRENGTH[name])
            other = dataclasses.replace(invariance, eta=eta)  # type: ignore[type-var]
            arm = plan.go_on(trained, data, best, dataclasses.replace(trained.target, invariance=other), only)
            gain, stderr = control.compare(arm) if there else arm.compare(control)
        loss = float(control.losses.mean())
        entry |= {"verdict": word(gain, stderr, loss), "gain": gain, "stderr": stderr}
    return found


def changed(eta: Tensor, i: int, value: float) -> Tensor:
    """Extents with another i-th."""
    other = eta.clone()
    other[i] = value
    return other


def word(gain: float, stderr: float, loss: float) -> str:
    """What a gain in nats an example says, with its standard error, beside this loss."""
    worth = max(WORTH, 0.02 * abs(loss))
    low, high = gain - _Z * stderr, gain + _Z * stderr
    if -worth < low and high < worth:
        return "no effect"
    if low > worth:
        return "needed"
    return "harmful" if high < -worth else "undecided"


def starts_of(best: CrossFit, folds: int) -> list[Params]:
    """First weights for every fold; those of folds that are left out are not looked at."""
    return [*best.networks, *best.networks[:1] * (folds - len(best.networks))]
