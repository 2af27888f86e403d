"""Copies of a training that part from it at a step: a callback for the user's own loop.

The parent's run keeps the state of all that has one, network and optimiser, at chosen steps. A child is a run of the
same loop with another order of the data (or noise), which takes the parent's state at its step and goes on from there.

References:
    Linear mode connectivity and the lottery ticket hypothesis. J. Frankle, G. K. Dziugaite, D. M. Roy, M. Carbin, 2020.
    arXiv:1912.05671.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError

OnStep = Callable[..., None]
"""Called before every step with its number and all that has a state."""


class Spawn:
    """Keeps the states of a training at some steps, and gives them to others.

    Args:
        at: The steps, from 0.

    Attributes:
        states: By step, a copy of the state of each thing that the loop passed.

    Raises:
        InputError: If a step is not a whole number from 0 on, or there is none.

    Example:
        >>> import torch
        >>> spawn, one, other = Spawn(at=(2,)), torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
        >>> for step in range(4):
        ...     spawn(step, one)  # in the parent's loop: network, optimiser, schedule
        >>> for step in range(4):
        ...     spawn.child(2)(step, other)  # in a child's
        >>> bool(one.weight == other.weight)
        True
    """

    def __init__(self, at: Sequence[int]) -> None:
        for step in at:
            check_whole("at", step, least=0)
        if not at:
            raise InputError("a step to part at", "none", "Spawn(at=(0, 100, 1000))")
        self.at, self.states = tuple(at), dict[int, list[dict[str, Any]]]()

    def __call__(self, step: int, *things: Any) -> None:
        """Keep the states before a step, where it is one of those chosen."""
        if step in self.at:
            self.states[step] = [copy.deepcopy(thing.state_dict()) for thing in things]

    def child(self, at: int) -> OnStep:
        """The callback of a run that takes the parent's state before this step, and is left alone at others.

        Raises:
            InputError: If the parent has not passed that step, or the loop passes other things than the parent's did.
        """  # noqa: DOC201
        if at not in self.states:
            raise InputError(
                f"a step that the parent passed, of {sorted(self.states)}", str(at), "run the parent first"
            )

        def take(step: int, *things: Any) -> None:
            if step == at:
                if len(things) != len(self.states[at]):
                    got = str(len(things))
                    raise InputError(
                        f"{len(self.states[at])} things that have a state", got, "pass what the parent did"
                    )
                for thing, state in zip(things, self.states[at], strict=True):
                    thing.load_state_dict(copy.deepcopy(state))

        return take
