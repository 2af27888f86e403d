"""The rounds of a run: how long each is, when they end, and which was the best."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from novacula.core.params import Params
from novacula.study.learning.solve import FIT, Solved, chance
from novacula.target import Target

GROWTH = 2.0
"""How much longer each round is than the one before."""
_LEAST_GAIN = 0.1  # nats: less is no gain, however small its error
_WARM = 30  # steps by which the time of a step is known
_SHORT = 400  # steps below which a run is a single round


@dataclass(frozen=True)
class Rounds:
    """Where the run is."""

    index: int  # the round, from 0
    began: int  # the step at which it began
    length: int  # its steps
    steps: int  # steps of the whole run at most
    seconds: float = 0.0  # seconds spent
    cut: bool = False  # whether time cut a round short
    opened: bool = False  # whether extents have begun to move
    settled: bool = False  # whether the run ended because a round gained less than its error
    ended: bool = False  # whether it ended

    @classmethod
    def planned(cls, first: int, steps: int, *, single: bool = False) -> Rounds:
        """The first round; a short run has two, the first of two fifths of it, or one."""
        single = single or steps < _SHORT
        return cls(0, 0, steps if single else min(first, max(1, round(0.4 * steps))), steps)

    def spent(self, seconds: float) -> Rounds:
        """With more time spent."""
        return replace(self, seconds=self.seconds + seconds)

    def hurried(self, budget: float | None, step: int) -> Rounds:
        """Shorter, where the seconds that are left would not suffice; told by the time of the first steps."""
        if budget is None or self.ended or step < _WARM or step == self.began or (step - self.began) % _WARM:
            return self
        left = int((budget - self.seconds) / (self.seconds / step))
        end = self.began + self.length
        if step + left >= end:
            return self
        return replace(self, length=max(step - self.began + max(left, 1), 2), cut=True)

    def next(self, step: int, gained: bool) -> Rounds:
        """What follows a round that ended with this step."""
        left = self.steps - step
        if not gained or left <= 0 or self.cut:
            # A round that was cut short tells nothing of what a whole one would gain.
            return replace(self, ended=True, settled=not gained and not self.cut)
        length = min(round(GROWTH * self.length), left)
        # A rest too short for a round of its own is added to this one.
        length = left if left - length < length / 2 else length
        return replace(self, index=self.index + 1, began=step, length=length)


@dataclass(frozen=True, eq=False)
class Best:
    """The best round: what was found in it, and how the rounds went."""

    params: Params  # its weights
    trained: dict[str, Tensor]  # the hyperparameters that they were trained under
    hyper: dict[str, Tensor]  # those solved for at its end
    score: float  # its log evidence
    fit: Tensor  # the log-likelihood of some examples
    latest: float  # the score of the last round
    gain: float  # what the last round gained
    error: float  # the error of that gain
    rounds: int  # rounds that ended
    warnings: tuple[str, ...] = field(default=(), metadata={"checkpoint": False})
    measure: str = field(default="nats of evidence", metadata={"checkpoint": False})  # what gains are counted in

    @classmethod
    def none(cls, params: Params, hyper: dict[str, Tensor], n: int) -> Best:
        """Before the first round has ended."""
        fit = torch.zeros(min(n, FIT), dtype=torch.float64)
        return cls(params, hyper, hyper, -math.inf, fit, math.nan, math.inf, 0.0, 0)


def better(
    best: Best, solved: Solved, trained: dict[str, Tensor], hyper: dict[str, Tensor], n: int, index: int
) -> tuple[Best, bool]:
    """The best of the rounds, and whether the last one gained more than its error."""
    gain = solved.score - best.score
    error = 0.0 if index == 0 else max(_LEAST_GAIN, chance(solved.fit, best.fit, n))
    gained = index == 0 or gain > error
    said = {"latest": solved.score, "gain": gain, "error": error, "rounds": index + 1}
    if gain <= 0:
        return replace(best, **said), gained
    return replace(
        best,
        params=solved.params,
        trained=trained,
        hyper=hyper,
        score=solved.score,
        fit=solved.fit,
        warnings=solved.warnings,
        **said,
    ), gained


def continued(history: list[dict[str, float]], more: list[dict[str, float]]) -> list[dict[str, float]]:
    """The records of a run, and those of another that followed, numbered on."""
    if not history:
        return more
    last = history[-1]
    return [*history, *({**r, "epoch": r["epoch"] + last["epoch"], "step": r["step"] + last["step"]} for r in more)]


def described(target: Target, hyper: dict[str, Tensor], eta: str) -> dict[str, float]:
    """Hyperparameters as flat numbers, by the names of the history."""
    found: dict[str, float] = {}
    for key, value in hyper.items():
        values = value.detach().flatten().tolist()
        if key == eta and target.invariance is not None:
            values = target.invariance.magnitude(value.detach()).tolist()
            found |= {f"extent/{n}": v for n, v in zip(target.invariance.names, values, strict=True)}
        elif key == "prior.log_precision" and len(values) > 1:
            found |= {f"log_precision/{n}": v for n, v in zip(target.forward.params(), values, strict=True)}
        else:
            name = key if key.startswith("network.") else key.split(".", 1)[1]
            found |= {name if len(values) == 1 else f"{name}/{i}": v for i, v in enumerate(values)}
    return found
