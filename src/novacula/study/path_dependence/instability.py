"""`instability`: from which step on does the noise of training no longer decide where it ends?

Children part from one parent at a step k and see other orders of the data afterwards (`novacula.paths.spawn`). Where
the loss on the line between two of them rises, noise after step k has taken them to different basins; the first k from
which on it does not is when the outcome was settled, up to a linear valley.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from novacula.core.brief import brief
from novacula.core.checks.numbers import check_callable, check_whole
from novacula.core.rng import lent
from novacula.data.given import DataLike
from novacula.paths.barrier import Barrier, barrier
from novacula.paths.spawn import OnStep, Spawn
from novacula.study.path_dependence.words import TOLERABLE
from novacula.target.given import TargetLike


@dataclass(frozen=True, eq=False)
class Instability:
    """Barriers between children by the step at which they part.

    Attributes:
        at: The steps, increasing.
        barriers: Of each step, those of all pairs of children.
    """

    at: tuple[int, ...]
    barriers: tuple[tuple[Barrier, ...], ...]

    __repr__ = brief

    @property
    def heights(self) -> tuple[float, ...]:
        """The mean loss barrier of each step, in nats an example."""
        return tuple(sum(b.height for b in own) / len(own) for own in self.barriers)

    @property
    def settled(self) -> int | None:
        """The first step from which on no pair has a barrier to speak of (.05 nats); None if the last one has."""
        over = [k for k, own in zip(self.at, self.barriers, strict=True) if max(b.height for b in own) > TOLERABLE]
        return next((k for k in self.at if not over or k > over[-1]), None)

    @property
    def words(self) -> str:
        """The verdict, in a sentence."""
        rises = ", ".join(f"{h:.2g} at step {k}" for k, h in zip(self.at, self.heights, strict=True))
        end = "where children parted, the loss between them rose, in nats an example, by " + rises
        since = (
            "Noise decides to the last of these steps"
            if self.settled is None
            else (f"From step {self.settled} on noise no longer decides where training ends")
        )
        return f"{since}: {end}."


def instability(
    train: Callable[[int, OnStep], Any],
    at: Sequence[int],
    module: TargetLike,
    data: DataLike,
    *,
    children: int = 2,
    statistics: DataLike | None = None,
    points: int = 11,
    progress: Callable[[int, int], None] | None = None,
) -> Instability:
    """Train children that part from one parent at several steps, and measure what lies between them.

    Args:
        train: Trains one run: called with the seed of its order (and of all noise after the first weights, which are to
            be the same) and a callback; calls ``callback(step, network, optimiser, …)`` before every step from 0 on
            with all that has a ``state_dict``; gives the weights (a state dictionary, a posterior or a result).
        at: The steps at which children part.
        module: The network; or a target.
        data: Examples for the loss along lines.
        children: How many part at each step, two or more.
        statistics: Training data from which statistics of normalisation layers are taken anew on lines.
        points: Points of a line.
        progress: Called with (runs done, runs in all).

    Returns:
        Barriers by step, and the step from which on there is none.

    Raises:
        InputError: If a step is not a whole number that the loop passes, or there are fewer than two children.
    """
    check_whole("children", children, least=2)
    check_callable("train", train)
    check_callable("progress", progress)
    steps, done = sorted(set(at)), 1
    spawn, found = Spawn(steps), list[tuple[Barrier, ...]]()
    _trained(train, 0, spawn)
    for k in steps:
        ends = list[Any]()
        for child in range(children):
            ends.append(_trained(train, child + 1, spawn.child(k)))
            done += 1
            if progress is not None:
                progress(done, 1 + children * len(steps))
        lines = [barrier(module, a, b, data, train=statistics, points=points) for a, b in combinations(ends, 2)]
        found.append(tuple(lines))
    return Instability(tuple(steps), tuple(found))


def _trained(train: Callable[[int, OnStep], Any], seed: int, on_step: OnStep) -> Any:
    with lent():
        found = train(seed, on_step)
    # A loop may hand out its network's own tensors, which the next run changes.
    return {k: v.clone() for k, v in found.items()} if isinstance(found, dict) else found
