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
in so few steps, may be too little to tell, or look like nothing. Then the networks that were trained without any are
asked what this one alone gives them, from where they are; and of a single transformation that is there, the gain of the
whole says more, and is taken. One that is there is doubled again as long as that gains. What is put in, on the other
hand, costs networks something until they have grown used to it: its harm must last when both go on as long again. A
change that gains more than half a standard error is proposed. Whatever was tried and is not worse than the best beyond
doubt is *plausible*: the interval of the extent must not leave it out.

Occam's razor decides between extents that unseen examples do not tell apart. One that is close to the end of its range,
where all orientations, hues or sides are alike, has a number less at that end; shifts that are as far both ways have
one instead of two. Such a *simpler* extent is proposed unless it loses more than a standard error.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from novacula.core.params import Params
from novacula.data.data import Data
from novacula.invariances.base import Invariance
from novacula.invariances.measured import unit_of, within
from novacula.study.cross_fit.result import CrossFit
from novacula.study.learning.plan import Plan
from novacula.study.learning.trials import Trials, at, only_one

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
WHOLE = {"rotation": 1.0, "hue": 1.0, "flip": 0.5, "flip_vertical": 0.5}
"""The ends of ranges at which all orientations, hues or sides are alike …"""
NEAR = 2 / 3
"""… and the share of them from which on that is the simpler extent."""
PAIR = ("translation_x", "translation_y")
"""What is simpler at one extent."""
WIDE = 5
"""How many times that is tried before it is said that a transformation has no effect: ±54°, hues turned half around."""
_Z = 1.645

Verdict: TypeAlias = dict[str, Any]
Gain: TypeAlias = tuple[float, float]
"""In nats an example, and its standard error."""


@dataclass(frozen=True, eq=False)
class Look:
    """What a look at each transformation found."""

    control: CrossFit  # the networks after going on as they were
    more: Gain  # what they gained by that
    verdicts: dict[str, Verdict]
    changes: dict[str, float]  # other extents that unseen examples seem to prefer
    simpler: frozenset[str]  # those of them that are simpler, and not worse
    plausible: dict[str, tuple[float, ...]]  # extents that were tried, or are there, and are not worse beyond doubt


def each(
    plan: Plan,
    best: CrossFit,
    invariance: Invariance,
    data: Data,
    steps: int,
    only: int | None,
    whole: Gain | None,
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
        whole: What all that is there gains over none, where networks were trained with it.
        names: The transformations to look at.
        without: The networks that were trained without any transformation; of the first folds.

    Returns:
        By name: the verdict, the extent, its interval (not known here), gain and standard error; and better extents.
    """
    copies = dataclasses.replace(best.target.copies, predict=min(COPIES, best.target.copies.predict))
    quick = dataclasses.replace(best.target, copies=copies)
    before = plan.blind(quick, data, best.folds, best.networks, only)
    trials = Trials(plan, quick, best, best.networks, data, steps, only)
    alone = Trials(plan, dataclasses.replace(quick, invariance=None), best, without, data, steps, only)
    asked = _Asked(trials, alone, invariance, whole)
    found = {name: asked.of(i) for i, name in enumerate(invariance.names) if name in names}
    changes = {name: one.change for name, one in found.items() if one.change is not None}
    tied = asked.tied(changes) if found else {}
    return Look(
        control=trials.control,
        more=trials.control.compare(before),
        verdicts={name: one.verdict for name, one in found.items()},
        changes={**changes, **tied},
        simpler=frozenset({name for name, one in found.items() if one.simpler} | tied.keys()),
        plausible={name: one.plausible for name, one in found.items()},
    )


@dataclass(frozen=True, eq=False)
class _One:
    """What was found of one transformation."""

    verdict: Verdict
    change: float | None  # another extent
    simpler: bool  # whether that is merely the simpler one
    plausible: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class _Asked:
    """Who is asked: networks with all transformations, and those without any."""

    trials: Trials
    alone: Trials
    invariance: Invariance
    whole: Gain | None

    @cached_property
    def extents(self) -> list[float]:
        return self.invariance.magnitude(self.invariance.eta.detach()).tolist()

    @cached_property
    def there(self) -> dict[str, bool]:
        usual = strengths(self.invariance)
        return {name: abs(e) >= usual[name] / 2 for name, e in zip(self.invariance.names, self.extents, strict=True)}

    @cached_property
    def loss(self) -> float:
        return float(self.trials.control.losses.mean())

    def say(self, gain: Gain, harm: float = 1) -> str:
        return word(*gain, self.loss, learned=self.trials.control.learned, harm=harm)

    def gain(self, values: dict[int, float]) -> Gain:
        return self.trials.under(at(self.invariance, values)).compare(self.trials.control)

    def of(self, i: int) -> _One:
        """What is to be said of the i-th."""
        name, extent = self.invariance.names[i], self.extents[i]
        said, worth, tried, beyond = self._present(i) if self.there[name] else self._absent(i)
        # So wide an extent is not taken up for what it gains by chance.
        tried |= {k: v for k, v in beyond.items() if self.say(v) == "needed"}
        value, (more, error) = max(tried.items(), key=lambda item: item[1][0])
        end = WHOLE.get(name, math.inf)
        simpler = end in tried and extent > NEAR * end and not_lost(tried[end], more)
        change = end if simpler else value if more > error / 2 else None
        # One that is better left out beside the others is not needed, whatever it would be by itself.
        if self.there[name] and said in {"undecided", "no effect"} and self.alone.networks and change != 0:
            first = self.alone.under(only_one(self.invariance, i)).compare(self.alone.control)
            said, worth = self.say(first), first if self.say(first) != "undecided" else worth
        entry = {"verdict": said, "extent": extent, "interval": None, "gain": worth[0], "stderr": worth[1]}
        return _One(entry, change, simpler, not_worse({extent: (0.0, 0.0), **tried, **beyond}))

    def _present(self, i: int) -> tuple[str, Gain, dict[float, Gain], dict[float, Gain]]:
        # What none, twice as much, and again twice as much while that gains, give; the gain of all where it is alone.
        own = self.whole if self.whole and sum(self.there.values()) == 1 else None
        tried = {0.0: self.gain({i: 0.0}) if own is None else (-own[0], own[1])}
        worth = own or (-tried[0.0][0], tried[0.0][1])
        extent, gained, least = self.extents[i], 0.0, SMALL * float(unit_of(self.invariance)[i])
        better_out = tried[0.0][0] > tried[0.0][1] / 2  # and no better at twice as much
        while not better_out and (wide := within(self.invariance, i, 2 * extent)) - extent >= least:
            tried[wide] = more = self.gain({i: wide})
            if more[0] - gained <= more[1] / 2:
                break
            extent, gained = wide, more[0]
        return self.say(worth), worth, tried, {}

    def _absent(self, i: int) -> tuple[str, Gain, dict[float, Gain], dict[float, Gain]]:
        # What it gives at a strength that people use and, where that is nothing, at a wide one.
        usual, harm, beyond = strengths(self.invariance)[self.invariance.names[i]], 1, dict[float, Gain]()
        fit = self.trials.under(at(self.invariance, {i: usual}))
        tried = {usual: (worth := fit.compare(self.trials.control))}
        wide = within(self.invariance, i, WIDE * usual)
        if self.say(worth) != "harmful" and worth[0] + _Z * worth[1] < worth_a_word(self.loss) and wide > usual:
            far = self.trials.under(at(self.invariance, {i: wide}))
            beyond[wide] = gain = far.compare(self.trials.control)
            # Networks would have to grow used to so much: to call it harmful takes a loss that is as much greater.
            fit, worth, harm = (fit, worth, 1) if self.say(gain) == "no effect" else (far, gain, WIDE)
        if self.say(worth, harm) == "harmful":
            worth = self.trials.lasting(fit)
        return self.say(worth, harm), worth, tried, beyond

    def tied(self, changes: dict[str, float]) -> dict[str, float]:
        """One extent for both of a pair, the greater one, as searches err towards small ones; none where it loses."""
        if not all(self.there.get(n) for n in PAIR) or not changes.keys().isdisjoint(PAIR):
            return {}
        both = [self.invariance.names.index(n) for n in PAIR]
        sizes = [self.extents[i] for i in both]
        value = max(sizes)
        if value - min(sizes) < SMALL or not not_lost(self.gain(dict.fromkeys(both, value)), 0.0):
            return {}
        return dict.fromkeys(PAIR, value)


def not_lost(gain: Gain, best: float) -> bool:
    """Whether an extent loses no more than a standard error to what is there, and to the best that was tried."""
    return gain[0] + gain[1] >= max(0.0, best)


def strengths(invariance: Invariance) -> dict[str, float]:
    """A sensible extent of each transformation by name."""
    units = unit_of(invariance).tolist()
    return {name: STRENGTH.get(name) or USUAL * unit for name, unit in zip(invariance.names, units, strict=True)}


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
