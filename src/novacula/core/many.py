"""A function of weights, for many networks at once: chunks, vmap or a loop, gradients.

`torch.func.vmap` in chunks of members, small enough that what they compute stays near the processor. Where vmap does
not cover a network (an LSTM, say), or gets its gradient wrong, the members are taken one after another, and a warning
says so; which of the two is found out once a network, by trial and by comparison, and kept in its `Notes` along with
the chunks that memory sufficed for. `noisy_gradient` is
for objectives that also depend on tensors no gradient is wanted of: the noise of variational methods, the masks of
dropout. Noise is drawn outside, from the run's generator, so that a step repeats exactly with vmap and without.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.func import vmap

from novacula.core.attention import plain_attention
from novacula.core.errors import NovaculaWarning
from novacula.core.memory import is_out_of_memory, with_halving
from novacula.core.modules.training import Training
from novacula.core.params import Params, count, unstack
from novacula.core.rng import global_draws

_FLOATS = 2**20
"""Weights and activations that one chunk of members may have, about."""

R = TypeVar("R")


@dataclass(eq=False)
class Notes:
    """What has been found out about a function of weights while it was evaluated; what wraps the function keeps it."""

    name: str  # what the function is called in a warning
    looped: bool = False  # whether members must be taken one after another, as far as is known
    held: bool = False  # whether gradients by vmap have been held against those of single members
    warned: bool = False  # whether a warning of vmap's has been waited for
    # how many members memory sufficed for, by rows of input, where it ever ran out
    fits: dict[int, int] = field(default_factory=dict)
    # recordings of gradients by all that they depend on; None where there can be none
    recordings: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    # which per-example gradients hooks give, as was measured, by shape of inputs, dtype and parameters
    coverage: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    # a function that steps were taken of on another device, and its copy there, by device
    elsewhere: dict[torch.device, tuple[Any, Any]] = field(default_factory=dict)
    training: Training | None = None  # what train mode changes about a network; None before it was looked at

    def __reduce__(self) -> tuple[type[Notes], tuple[str]]:
        """Copies, perhaps in another process, find out for themselves: recordings belong to one process and network."""
        return Notes, (self.name,)

    def at_most(self, size: int, rows: int) -> int:
        """How many members to take at once, of as many as were meant to be."""
        return min(size, self.fits.get(rows, size))

    def loop(self, error: Exception) -> None:
        """Note that vmap failed where a loop works, and say so."""
        self.looped = True
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        warnings.warn(
            f"vmap does not cover {self.name}, so networks are taken one after another: {first}",
            NovaculaWarning,
            stacklevel=3,
        )

    def hold(self, function: Callable[[int, int], Any], members: int) -> None:
        """Hold gradients of two members at once against those of one alone, once a network.

        A network whose gradient vmap gets wrong without a word (by a hook on its graph, say) is looped over. One that
        draws noise cannot be told, and is trusted.

        Args:
            function: From the first member and the last but one to tensors, or tuples of them, ``(M, …)``.
            members: How many there are.
        """
        if members < 2 or self.looped or self.held:
            return
        with global_draws(*(torch.device("cuda", i) for i in range(torch.cuda.device_count()))):
            try:
                with _strict(self):
                    both = [v[:1] for v in _tensors(function(0, 2))]
                alone, again = (list(_tensors(function(0, 1))) for _ in range(2))
            except (RuntimeError, NotImplementedError, ValueError, UserWarning) as error:
                if is_out_of_memory(error):
                    return
                function(0, 1)  # where the function itself is at fault, it fails here too
                self.loop(error)
                return
        if not all(torch.isfinite(v).all() for v in alone):
            return
        self.held = True
        if _agree(again, alone) and not (self.looped or _agree(both, alone)):
            self.loop(RuntimeError("its gradients of several networks at once are not those of each"))


@contextmanager
def _strict(notes: Notes) -> Iterator[None]:
    # At first, that vmap loops over members by itself, which it says in a warning, counts as a failure.
    if notes.warned:
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "There is a performance drop")
        yield
    notes.warned = True


def _tensors(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found.detach()
    else:
        for part in found:
            yield from _tensors(part)


def _agree(found: list[Tensor], expected: list[Tensor]) -> bool:
    # Far from rounding, which counts for all in a tensor whose exact value is zero.
    sizes = [float(v.norm()) for v in expected]
    slack = 1e-3 * max(sizes)
    pairs = zip(found, expected, sizes, strict=True)
    return all(float((a - b).norm()) <= torch.finfo(b.dtype).eps ** 0.25 * (size + slack) for a, b, size in pairs)


def chunk_of(params: Params, rows: int = 1) -> int:
    """How many members to take at once."""
    members = members_of(params)
    each = count(params) // members
    # As a layer's inputs and outputs are about as many as the root of its weights, so are activations for each row.
    most = max(1, min(members, int(_FLOATS / (each + 4 * rows * each**0.5))))
    # Of that many chunks, the least uneven ones.
    return math.ceil(members / math.ceil(members / most))


def over_members(function: Callable[[Params], Any], params: Params, notes: Notes) -> Any:
    """``function`` of each member, by vmap or one after another; params ``(M, *shape)``."""
    if members_of(params) == 1 or notes.looped:
        return _one_by_one(function, params)
    try:
        with plain_attention(), _strict(notes):  # vmap does not cover the other kinds
            return vmap(function, randomness="different")(params)
    except (RuntimeError, NotImplementedError, ValueError, UserWarning) as error:
        if is_out_of_memory(error):
            raise
        found = _one_by_one(function, params)  # where the function itself is at fault, it fails here too
        notes.loop(error)
        return found


def _one_by_one(function: Callable[[Params], Any], params: Params) -> Any:
    found = [function(w) for w in unstack(params)]
    if isinstance(found[0], tuple):
        return tuple(torch.stack(parts) for parts in zip(*found, strict=True))
    return torch.stack(found)


def in_chunks(function: Callable[[int, int], R], members: int, size: int, notes: Notes, rows: int = 1) -> list[R]:
    """A function of consecutive chunks of members; from where memory runs out on, it is asked for fewer at once."""

    def halved(now: int) -> None:
        notes.fits[rows] = now

    return with_halving(function, members, notes.at_most(size, rows), what="networks", halved=halved)


def part_of(params: Params, start: int, stop: int) -> Params:
    """Some of the members (views)."""
    return {k: w[start:stop] for k, w in params.items()}


def members_of(params: Params) -> int:
    """M, of stacked weights ``(M, *shape)``."""
    return next(iter(params.values())).shape[0]


def per_member(numbers: Tensor, like: Tensor) -> Tensor:
    """A number for each member, in a shape that meets its weights, ``(M, 1, …)``."""
    return numbers.reshape(-1, *[1] * (like.ndim - 1))


def normal_like(params: Params, rng: torch.Generator) -> Params:
    """Standard normal noise in the shape of weights."""
    return {
        k: torch.randn(w.shape, generator=rng, device=rng.device, dtype=w.dtype).to(w.device) for k, w in params.items()
    }


def noisy_gradient(
    function: Callable[[Params], tuple[Tensor, ...]], leaves: Params, noise: Params, *, notes: Notes, rows: int
) -> tuple[tuple[Tensor, ...], Params]:
    """Evaluate a function of each member, and differentiate its last value, ``(M,)``."""

    def of_chunk(start: int, stop: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        mine = {k: w.detach().requires_grad_() for k, w in part_of(leaves, start, stop).items()}
        with torch.enable_grad():
            found = over_members(function, {**mine, **part_of(noise, start, stop)}, notes)
        grads = torch.autograd.grad(found[-1].sum(), list(mine.values()), allow_unused=True, materialize_grads=True)
        return tuple(v.detach() for v in found), grads

    notes.hold(of_chunk, members_of(leaves))
    chunks = in_chunks(of_chunk, members_of(leaves), chunk_of(leaves, rows), notes, rows)
    values, grads = zip(*chunks, strict=True)
    gathered = tuple(torch.cat(parts) for parts in zip(*values, strict=True))
    return gathered, {k: torch.cat(parts) for k, parts in zip(leaves, zip(*grads, strict=True), strict=True)}
