"""What a race of models found: who won, who was dropped, on which rung and by what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from novacula.core.brief import brief
from novacula.core.params import count
from novacula.core.text import markdown
from novacula.study.comparing.gaps import Gap
from novacula.study.comparing.stacking import Stack, stack
from novacula.study.cross_fit.result import CrossFit

By: TypeAlias = Literal["unseen", "speed"]


@dataclass(frozen=True, eq=False)
class Runner:
    """A model of a race, as it was left."""

    name: str  # its name
    fit: CrossFit  # its networks, each blind to a fold, and what they say of the examples that they have not seen
    steps: tuple[int, ...]  # steps of each network, by rung that it ran
    unseen: tuple[float, ...]  # its loss on unseen examples after each of these rungs
    speed: tuple[float, ...]  # its training-speed estimate of each, lower is better
    seconds: tuple[float, ...]  # what each took
    gap: Gap | None = None  # its loss on unseen examples over that of the first in its last rung; None for that one

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Race:
    """Models in the order in which they were left: the winner, those that ran with it, the first to be dropped last.

    Attributes:
        runners: One for each model.
        by: The score that dropped them.
        budget: The seconds that were allowed.
        length: Steps of a full training.
    """

    runners: tuple[Runner, ...]
    by: By
    budget: float
    length: int

    __repr__ = brief

    @property
    def best(self) -> Runner:
        """The winner; ``nv.predict(race.best.fit.posterior, x)`` predicts."""
        return self.runners[0]

    @property
    def seconds(self) -> float:
        """What the race took, in seconds of one worker."""
        return sum(sum(r.seconds) for r in self.runners)

    @property
    def finalists(self) -> tuple[Runner, ...]:
        """The models that ran in the last rung in which there were several."""
        rungs = sorted((len(r.steps) for r in self.runners), reverse=True)
        return tuple(r for r in self.runners if len(r.steps) >= rungs[min(1, len(rungs) - 1)])

    @property
    def stack(self) -> Stack:
        """The finalists with the weights of their best mixture, see `novacula.study.stack`."""
        return stack({r.name: r.fit for r in self.finalists})

    def word(self, runner: Runner) -> str:
        """``"best"``; ``"worse"`` than the best of its last rung, or ``"tied"`` with it.

        Args:
            runner: One of the models.

        Returns:
            The word; ``"behind"`` for what would be worse, and was left before half of a full training, or is one
            network only.
        """
        if runner.gap is None or not runner.gap.real:
            return "best" if runner.gap is None else "tied"
        several = len(runner.fit.networks) > 1
        return "worse" if several and 2 * sum(runner.steps) >= self.length else "behind"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before choosing."""
        found, steps = [], sum(self.best.steps)
        if steps < self.length:
            found.append(f"the best was trained for {steps:,} steps of {self.length:,}: the budget ended")
        if self.seconds > 1.1 * self.budget:
            found.append(f"one pass of all models takes more than the budget: {self.seconds:.0f} s were used")
        tied = [r.name for r in self.runners if r not in self.finalists and self.word(r) == "tied"]
        early = [f"{r.name!r} ({sum(r.steps):,} steps)" for r in self.runners if self.word(r) == "behind"]
        if early:
            listed = ", ".join(early[:3]) + (" and others" if len(early) > 3 else "")
            found.append(f"behind when they were left, which is not worse in the end: {listed}")
        if tied:
            listed = ", ".join(repr(name) for name in tied[:3]) + (" and others" if len(tied) > 3 else "")
            found.append(f"dropped for want of time, not beyond doubt: {listed}")
        return tuple(found)

    def table(self) -> str:
        """The race as text, from the winner to the first that was dropped.

        Returns:
            A table in Markdown, in nats an example. ``behind`` is the gap to the best of the model's last rung,
            and the word beside it that of `word`.
        """
        last = max(len(r.steps) for r in self.runners)
        titles, lines = ["model", "P", "rungs", "steps", "loss", "behind", "", "training loss", "s"], []
        for r in self.runners:
            behind = "" if r.gap is None else f"{r.gap.value:.4f} ± {r.gap.stderr:.4f}"
            rungs = f"{len(r.steps)} of {last}"
            scores = [f"{r.unseen[-1]:.4f}", behind, self.word(r), f"{r.speed[-1]:.4f}", f"{sum(r.seconds):.1f}"]
            lines.append([r.name, str(count(r.fit.target.params())), rungs, f"{sum(r.steps):,}", *scores])
        return markdown(titles, "lrrrrrlrr", lines)

    def to_dict(self) -> dict[str, Any]:
        """The race as plain JSON values, without weights and single losses.

        Returns:
            One record a model under ``models``, in the order of the table.
        """
        models = []
        for r in self.runners:
            behind = None if r.gap is None else {"value": r.gap.value, "stderr": r.gap.stderr}
            trail = {k: list(getattr(r, k)) for k in ("steps", "unseen", "speed", "seconds")}
            row = {"name": r.name, "weights": count(r.fit.target.params()), "loss": r.unseen[-1], "behind": behind}
            models.append({**row, "word": self.word(r), **trail})
        told = {"by": self.by, "budget": self.budget, "seconds": self.seconds, "length": self.length}
        return {**told, "models": models, "warnings": list(self.warnings)}
