"""A verdict for every transformation: what training with it at a sensible strength does.

The networks that are blind to a fold go on for an eighth of their steps, once as they were trained, and once for each
change of one transformation: one that is there is left out, or doubled; one that is not, or hardly, is put in, at an
extent that people use. All go on from the same weights, with the same minibatches, so that the paired difference of
their losses on unseen examples is owed to the transformation (and to what a network can still unlearn: the gain of one
that was there is, if anything, too small). With the 90 % interval of what it gains to have it,

    needed       it lies above w,
    harmful      it lies below −w,
    no effect    it lies between, at an extent that people use and at five times that,
    undecided    otherwise, or where it lies between because the networks have learned nothing,

where w is 2 % of the loss, at least .005 nats (harmful at the wide extent alone: five times that). A label that hangs
on a hue bears a little of other hues, and not all. What networks that learned to bear a transformation lose without it,
in so few steps, may be too little to tell. Then the networks that were trained without any are asked what this one
alone gives them, from where they are; and of a single transformation that is there, the gain of the whole says more,
and is taken. A change that gains more than half a standard error is proposed. Whatever was tried and is not worse than
the best beyond doubt is *plausible*: the interval of the extent must not leave it out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from novacula.core.params import Params
from novacula.data.data import Data
from novacula.invariances.base import Invariance
from novacula.invariances.measured import unit_of, within
from novacula.study.cross_fit.result import CrossFit
from novacula.study.learning.plan import Plan
from novacula.target import Target

SHARE = 8
"""By what part of their steps networks go on."""
COPIES = 8
"""Transformed copies of an unseen example that these comparisons take: so many suffice for differences."""
SMALL = 0.02
"""An extent below which a transformation is not there, in its unit."""
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
USUAL = 0.1
"""The same for other transformations, in their units (`novacula.invariances.measured`)."""
WIDE = 5
"""How many times that is tried before it is said that a transformation has no effect: ±54°, hues turned half around."""
_Z = 1.645

Verdict: TypeAlias = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Look:
    """What a look at each transformation found."""

    control: CrossFit  # the networks after going on as they were
    more: tuple[float, float]  # what they gained by that, and its standard error
    verdicts: dict[str, Verdict]
    changes: dict[str, float]  # other extents that unseen examples seem to prefer
    plausible: dict[str, tuple[float, ...]]  # extents that were tried, or are there, and are not worse beyond doubt


def each(
    plan: Plan,
    best: CrossFit,
    invariance: Invariance,
    data: Data,
    steps: int,
    only: int | None,
    whole: tuple[float, float] | None,
    names: Sequence[str],
    without: Sequence[Params] = (),
) -> Look:
    """A verdict for each transformation.

    Args:
        plan: How networks go on.
        best: The networks blind to a fold each, as they were trained.
        invariance: The transformations with the extents that were kept; zeros for those dropped.
        data: The training data.
        steps: How many steps networks go on.
        only: So few folds; None for all.
        whole: What all that is there gains over none, and the standard error, where networks were trained with it.
        names: The transformations to look at.
        without: The networks that were trained without any transformation; of the first folds.

    Returns:
        By name: the verdict, the extent, its interval (not known here), gain and standard error; and better extents.
    """
    extents, strength = invariance.magnitude(invariance.eta.detach()).tolist(), strengths(invariance)
    copies = dataclasses.replace(best.target.copies, predict=min(COPIES, best.target.copies.predict))
    quick = dataclasses.replace(best.target, copies=copies)
    before = plan.blind(quick, data, best.folds, best.networks, only)
    control = plan.go_on(quick, data, best, steps, only)
    loss = float(control.losses.mean())
    say, least = partial(word, loss=loss, learned=control.learned), worth_a_word(loss)

    def gain(i: int, value: float) -> tuple[float, float]:
        # Of another i-th extent.
        other = dataclasses.replace(invariance, eta=changed(invariance, i, value))  # type: ignore[type-var]
        return plan.go_on(dataclasses.replace(quick, invariance=other), data, best, steps, only).compare(control)

    alone = _Alone(plan, quick, best, without, data, steps, only)
    there = [abs(extent) >= usual / 2 for extent, usual in zip(extents, strength.values(), strict=True)]
    found, changes, plausible = dict[str, Verdict](), dict[str, float](), dict[str, tuple[float, ...]]()
    for i, (name, extent) in enumerate(zip(invariance.names, extents, strict=True)):
        if name not in names:
            continue
        entry: Verdict = {"verdict": "undecided", "extent": extent, "interval": None, "gain": None, "stderr": None}
        found[name] = entry
        tried, beyond, harm = dict[float, tuple[float, float]](), dict[float, tuple[float, float]](), 1
        if there[i]:
            tried[0.0] = less, stderr = gain(i, 0.0)
            worth = whole if whole and sum(there) == 1 else (-less, stderr)
            if not same(invariance, i, 2 * extent):
                tried[2 * extent] = gain(i, 2 * extent)
        else:
            tried[strength[name]] = worth = gain(i, strength[name])
            wide = within(invariance, i, WIDE * strength[name])
            if say(*worth) != "harmful" and worth[0] + _Z * worth[1] < least and wide > strength[name]:
                beyond[wide] = far = gain(i, wide)
                # Networks would have to grow used to so much: to call it harmful takes a loss that is as much greater.
                worth, harm = (worth, 1) if say(*far) == "no effect" else (far, WIDE)
        # So wide an extent is not taken up for what it gains by chance.
        tried |= {k: v for k, v in beyond.items() if say(*v) == "needed"}
        said, (value, (more, error)) = say(*worth, harm=harm), max(tried.items(), key=lambda item: item[1][0])
        plausible[name] = not_worse({extent: (0.0, 0.0), **tried, **beyond})
        if more > error / 2:
            changes[name] = value
        # One that is better left out beside the others is not needed, whatever it would be by itself.
        if there[i] and said == "undecided" and without and changes.get(name) != 0:
            first = alone.gain(dataclasses.replace(invariance, eta=only_one(invariance, i)))  # type: ignore[type-var]
            said, worth = (say(*first), first) if say(*first) != "undecided" else (said, worth)
        entry |= {"verdict": said, "gain": worth[0], "stderr": worth[1]}
    return Look(control, control.compare(before), found, changes, plausible)


@dataclass(eq=False)
class _Alone:
    """What single transformations give the networks that were trained without any."""

    plan: Plan
    target: Target
    best: CrossFit
    without: Sequence[Params]
    data: Data
    steps: int
    only: int | None

    @cached_property
    def control(self) -> CrossFit:
        return self._gone_on(None)

    def gain(self, invariance: Invariance) -> tuple[float, float]:
        return self._gone_on(invariance).compare(self.control)

    def _gone_on(self, invariance: Invariance | None) -> CrossFit:
        target = dataclasses.replace(self.target, invariance=invariance)
        return self.plan.go_on(target, self.data, self.best, self.steps, self.only, networks=self.without)


def strengths(invariance: Invariance) -> dict[str, float]:
    """A sensible extent of each transformation by name."""
    units = unit_of(invariance).tolist()
    return {name: STRENGTH.get(name) or USUAL * unit for name, unit in zip(invariance.names, units, strict=True)}


def only_one(invariance: Invariance, i: int) -> Tensor:
    """Extents of nought but for the i-th."""
    eta = torch.zeros_like(invariance.eta)
    eta[i] = invariance.eta[i]
    return invariance.project(eta.detach())


def changed(invariance: Invariance, i: int, value: float) -> Tensor:
    """Extents with another i-th, as far as it is admissible."""
    eta = invariance.eta.detach().clone()
    eta[i] = value
    return invariance.project(eta)


def same(invariance: Invariance, i: int, value: float) -> bool:
    """Whether an i-th extent of this size is, as far as it is admissible, the present one."""
    now, then = (invariance.magnitude(e)[i] for e in (invariance.eta.detach(), changed(invariance, i, value)))
    return float((now - then).abs()) < SMALL * float(unit_of(invariance)[i])


def not_worse(tried: dict[float, tuple[float, float]]) -> tuple[float, ...]:
    """The values, by what each gains and the standard error, that are not worse than the best beyond doubt."""
    best, error = max(tried.values())
    return tuple(v for v, (gain, stderr) in tried.items() if best - gain <= _Z * math.hypot(error, stderr))


def worth_a_word(loss: float) -> float:
    """The gain in nats an example that is worth a word, beside this loss."""
    return max(WORTH, 0.02 * abs(loss))


def word(gain: float, stderr: float, loss: float, *, learned: bool = True, harm: float = 1) -> str:
    """What a gain in nats, with its error, says beside this loss; to be harmful it must be ``harm`` times as large."""
    worth = worth_a_word(loss)
    low, high = gain - _Z * stderr, gain + _Z * stderr
    if -worth < low and high < worth:
        # Networks that have learned nothing lose nothing by any transformation.
        return "no effect" if learned else "undecided"
    if low > worth:
        return "needed"
    return "harmful" if high < -harm * worth else "undecided"
