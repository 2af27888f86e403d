"""From losses on unseen images to verdicts, with an error that holds examples, folds and training noise.

**Gain.** The loss of an example without augmentation, averaged over that arm's starts, less its loss with it, each arm
at its own calibrated temperature of the labels: what a transformation does for more than overconfidence. The gain of an
arm is the mean over the N examples predicted by both.

**Error.** With ``s²`` the variance of the paired differences within folds and ``τ²`` the variance of a network's mean
loss from one start and fold to another,

    s.e.² = s²/N + τ² (1/U + 1/U₀),

with U and U₀ networks behind the two means. ``τ²`` is pooled over all arms: from networks that differ in the start
alone, and from the table of arms by folds, less its means of rows and columns and less what its examples explain. An
arm whose own spread between folds is larger than that, beyond what chance allows at 5 %, takes its own.

**Verdicts.** ``needed``: training with it gains more than a small worth, 2 % of the loss of none, between .005
and .02 nats.
``harmful``: it loses more than that. ``no effect``: the 90 % interval is within ±10 % of that loss, between .01
and .05 nats (two one-sided tests at 5 %). ``undecided``: nothing of this.

After each of at most three looks, needed and harmful are claimed by the Benjamini–Hochberg rule over all arms and both
directions, at levels that add up to 5 %: of the claims of a report at most 5 % are false in expectation (the shared
baseline makes the tests positively dependent, for which the rule holds). Intervals have the level that belongs to the
number of claims (Benjamini and Yekutieli's), so that a claim and its interval say the same.

References:
    Controlling the false discovery rate. Y. Benjamini, Y. Hochberg, 1995.
    False discovery rate-adjusted multiple confidence intervals for selected parameters. Y. Benjamini, D. Yekutieli,
    2005.
    A comparison of the two one-sided tests procedure and the power approach. D. Schuirmann, 1987.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from scipy.stats import f as fisher
from scipy.stats import t as student
from torch import Tensor

Verdict = Literal["needed", "no effect", "harmful", "undecided"]
LEVELS = (0.02, 0.015, 0.015)
"""The share of false claims that each look may add."""
_ODD = 0.05
_SAME = 0.05


@dataclass(frozen=True)
class Gain:
    """What an arm gains over none, in nats an example."""

    value: float
    stderr: float
    freedom: float  # the degrees of freedom of ``stderr``
    networks: int
    n: int  # the examples predicted by both

    def reach(self, level: float) -> float:
        """Half the width of a two-sided interval that misses at this rate."""
        return float(student.isf(level / 2, self.freedom)) * self.stderr

    def beyond(self, worth: float) -> float:
        """The two-sided p-value of a gain or loss of more than this worth."""
        return min(1.0, 2 * float(student.sf((abs(self.value) - worth) / self.stderr, self.freedom)))

    def within(self, slight: float) -> bool:
        """Whether both one-sided tests say that gain and loss are smaller than this."""
        return float(student.sf((slight - abs(self.value)) / self.stderr, self.freedom)) <= _SAME


@dataclass(frozen=True)
class Judged:
    """A gain, its interval, and what is claimed of it."""

    gain: Gain
    interval: tuple[float, float]
    verdict: Verdict
    unsettled: bool = False  # whether harm was found that longer training did not confirm


def worth(nll: float) -> float:
    """The gain that counts."""
    return min(max(0.005, 0.02 * nll), 0.02)


def slight(nll: float) -> float:
    """What counts as no effect."""
    return min(max(0.01, 0.1 * nll), 0.05)


def gains(losses: Mapping[str, Tensor], folds: Tensor, none: str = "none") -> dict[str, Gain]:
    """Gains over ``none`` by arm, of losses ``(starts, N)``, NaN where not predicted; none without common examples."""
    noise = training_noise(losses, folds, none)
    pairs = {name: paired(losses[none], table, folds, noise) for name, table in losses.items() if name != none}
    return {name: gain for name, gain in pairs.items() if gain is not None}


def paired(base: Tensor, table: Tensor, folds: Tensor, noise: tuple[float, float]) -> Gain | None:
    """The gain of one table of losses ``(starts, N)`` over another; None where they share no example."""
    d = base.nanmean(0) - table.nanmean(0)
    known = ~d.isnan()
    if not bool(known.any()):
        return None
    d, which = d[known], folds[known]
    n, networks = len(d), _networks(table, folds, known)
    means = _fold_means(d, which)
    there = means[~means.isnan()]
    k = len(there)
    of_examples = float((d - means[which]).square().sum()) / max(1, n - k) / n
    if math.isinf(noise[0]):
        return Gain(float(d.mean()), math.inf, 1.0, networks, n)
    of_training = noise[0] * (1 / networks + 1 / _networks(base, folds, known))
    squared = max(of_examples + of_training, 1e-300)
    rest = of_examples**2 / max(1, n - k) + of_training**2 / noise[1]
    freedom = squared**2 / rest if rest > 0 else math.inf
    if k > 1:
        # Its own spread between folds is rough: it counts only where it is more than chance.
        between = float(there.var()) / k
        squared = between if between > squared * float(fisher.isf(_ODD, k - 1, freedom)) else squared
    return Gain(float(d.mean()), math.sqrt(squared), freedom, networks, n)


def training_noise(losses: Mapping[str, Tensor], folds: Tensor, none: str = "none") -> tuple[float, float]:
    """The variance of a network's mean loss from one training to another, and its degrees of freedom."""
    count = int(folds.max()) + 1
    total, freedom = 0.0, 0
    for table in losses.values():
        for k in range(count):
            means = table[:, folds == k].mean(1)
            means = means[~means.isnan()]
            if len(means) > 1:
                total += float(means.var()) * (len(means) - 1)
                freedom += len(means) - 1
    # Arms that one network has predicted for every example: arms by folds.
    whole = [t[0] for name, t in losses.items() if name != none and not bool(t[0].isnan().any())]
    if len(whole) > 1 and count > 1:
        e = torch.stack(whole)
        e = e - e.mean(0)
        cells = torch.stack([e[:, folds == k].mean(1) for k in range(count)], 1)
        sizes = torch.stack([(folds == k).sum() for k in range(count)])
        rows, columns = len(whole) - 1, count - 1
        spread = float((cells - cells.mean(1, keepdim=True)).square().sum()) / (rows * columns)
        within = torch.stack([e[:, folds == k].var(1).sum() / (rows * sizes[k]) for k in range(count)]).mean()
        total += max(0.0, spread - float(within)) * rows * columns
        freedom += rows * columns
    return (total / freedom, float(freedom)) if freedom else (math.inf, 1.0)


def judge(
    found: Mapping[str, Gain], before: Mapping[str, Judged], nll: float, look: int, arms: int, *, skilled: bool = True
) -> dict[str, Judged]:
    """The verdicts after a look (from 0) at so many arms; what was decided before stays."""
    level = LEVELS[min(look, len(LEVELS) - 1)]
    decided = {name: old for name, old in before.items() if old.verdict != "undecided"}
    left = sorted(((g.beyond(worth(nll)), name) for name, g in found.items() if name not in decided))
    claims = max((r for r, (p, _) in enumerate(left, 1) if p <= r * level / arms), default=0)
    claimed = {name for _, name in left[:claims]}
    result = dict(decided)
    for name, g in found.items():
        if name in decided:
            continue
        reach = g.reach(max(1, claims) * level / arms)
        verdict: Verdict = "undecided"
        if name in claimed:
            verdict = "needed" if g.value > 0 else "harmful"
        elif skilled and g.within(slight(nll)):
            verdict, reach = "no effect", g.reach(2 * _SAME)
        result[name] = Judged(g, (g.value - reach, g.value + reach), verdict)
    return result


def _fold_means(d: Tensor, which: Tensor) -> Tensor:
    # By fold number; NaN where a fold is absent.
    size = int(which.max()) + 1
    sums = torch.zeros(size, dtype=d.dtype).index_add(0, which, d)
    return sums / which.bincount(minlength=size)


def _networks(table: Tensor, folds: Tensor, known: Tensor) -> int:
    # Networks behind the losses of the known examples.
    return sum(int((~table[:, (folds == k) & known].isnan()).any(1).sum()) for k in folds[known].unique().tolist())
