"""Checks of what users pass to an invariance, in one wording for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from novacula.core.errors import InputError

Name = TypeVar("Name", bound=str)


def choose(only: Sequence[Name], known: Sequence[Name]) -> tuple[Name, ...]:
    """The chosen extents, as a tuple."""
    hint = f"use some of {', '.join(map(repr, known))}"
    if isinstance(only, str):
        raise InputError("only=(name, …), a tuple of names", f"the string {only!r}", f"write only=({only!r},)")
    chosen = tuple(only)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise InputError("names of extents", f"{unknown[0]!r} in only={chosen}", hint)
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError("one or more different names of extents", f"only={chosen}", hint)
    return chosen


def option(name: str, value: str, known: Sequence[str]) -> None:
    """Check one of a few words."""
    if value not in known:
        raise InputError(f"{name} to be one of {', '.join(map(repr, known))}", repr(value), f"use {name}={known[0]!r}")


def extents(eta: Tensor | None, init: Sequence[float], names: Sequence[str]) -> Tensor:
    """The extents: ``eta`` if it fits, ``init`` if it is absent: eta ``(K,)`` to ``(K,)``."""
    expected = f"eta as a floating-point tensor of shape ({len(names)},), one extent each for {', '.join(names)}"
    hint = "pass torch.tensor([...]) with as many finite floats, or leave eta out to start from the default"
    given = torch.tensor(init) if eta is None else eta
    if not isinstance(given, Tensor):
        raise InputError(expected, f"a {type(given).__name__}", hint)
    if not given.is_floating_point():
        raise InputError(expected, f"dtype {given.dtype}", hint)
    if given.shape != (len(names),):
        raise InputError(expected, f"shape {tuple(given.shape)}", hint)
    finite = torch.isfinite(given.detach())
    if not finite.all():
        k = int(finite.logical_not().nonzero()[0])
        raise InputError(f"{expected}, all finite", f"{float(given[k])} for {names[k]}", hint)
    return given


def images(x: Tensor) -> None:
    """Check that ``x`` is a batch of images."""
    _batch(
        x, 4, "image (n, C, H, W)", "x.float().div(255)", "add the channel axis with x.unsqueeze(1) if it is missing"
    )


def rgb(x: Tensor, changes: Sequence[str], hint: str) -> None:
    """Check that images have three channels where changes of colour need them."""
    if changes and x.shape[1] != 3:
        raise InputError(
            f"three channels (red, green, blue) to change the {' and the '.join(changes)} of",
            f"images with {x.shape[1]}, shape {tuple(x.shape)}",
            hint,
        )


def signals(x: Tensor) -> None:
    """Check that ``x`` is a batch of one-dimensional signals."""
    _batch(x, 3, "signal (n, C, T)", "x.float()", "add the channel axis with x.unsqueeze(1) if it is missing")


def _batch(x: Tensor, ndim: int, expected: str, convert: str, reshape: str) -> None:
    if not isinstance(x, Tensor):
        raise InputError(expected, f"a {type(x).__name__}", "convert it with torch.as_tensor")
    if x.ndim != ndim or 0 in x.shape[1:]:
        raise InputError(expected, f"shape {tuple(x.shape)}", reshape)
    if not x.is_floating_point():
        raise InputError(f"{expected} of floating-point numbers", f"dtype {x.dtype}", f"convert it with {convert}")


def noise(noise: Tensor, shape: tuple[int, ...]) -> None:
    """Check that there is one draw of noise for each input."""
    if noise.shape != shape:
        raise InputError(
            f"noise of shape {shape}, one draw for each of the {shape[0]} inputs",
            f"shape {tuple(noise.shape)}",
            "draw it with invariance.noise(x.shape[0], x, rng) for inputs of the same size",
        )
