"""Checks of what users pass to an invariance, in one wording for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from novacula.core.errors import InputError

Name = TypeVar("Name", bound=str)


def choose(only: Sequence[Name], known: Sequence[Name]) -> tuple[Name, ...]:
    """The chosen extents, as a tuple.

    Args:
        only: The names to learn, in the order that ``eta`` has.
        known: The names there are.

    Returns:
        ``only`` as a tuple.

    Raises:
        InputError: If it is a bare string, empty, repeats a name or holds an unknown one.
    """
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
    """Check one of a few words.

    Args:
        name: The argument's name.
        value: What came.
        known: What there is.

    Raises:
        InputError: If ``value`` is not known.
    """
    if value not in known:
        raise InputError(f"{name} to be one of {', '.join(map(repr, known))}", repr(value), f"use {name}={known[0]!r}")


def extents(eta: Tensor | None, init: Sequence[float], names: Sequence[str]) -> Tensor:
    """The extents: ``eta`` if it fits, ``init`` if it is absent.

    Args:
        eta: Extents, shape ``(K,)``, or None.
        init: K values to start from.
        names: The K names.

    Returns:
        A finite floating-point tensor of shape ``(K,)``; ``eta`` itself where it is given, with its gradient.

    Raises:
        InputError: If ``eta`` is not a finite floating-point tensor with one entry a name, or ``init`` is not finite.
    """
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
    """Check that ``x`` is a batch of images.

    Args:
        x: Inputs.

    Raises:
        InputError: If it is not a floating-point tensor of shape ``(n, C, H, W)``.
    """
    _batch(
        x, 4, "image (n, C, H, W)", "x.float().div(255)", "add the channel axis with x.unsqueeze(1) if it is missing"
    )


def signals(x: Tensor) -> None:
    """Check that ``x`` is a batch of one-dimensional signals.

    Args:
        x: Inputs.

    Raises:
        InputError: If it is not a floating-point tensor of shape ``(n, C, T)``.
    """
    _batch(x, 3, "signal (n, C, T)", "x.float()", "add the channel axis with x.unsqueeze(1) if it is missing")


def _batch(x: Tensor, ndim: int, expected: str, convert: str, reshape: str) -> None:
    if not isinstance(x, Tensor):
        raise InputError(expected, f"a {type(x).__name__}", "convert it with torch.as_tensor")
    if x.ndim != ndim or 0 in x.shape[1:]:
        raise InputError(expected, f"shape {tuple(x.shape)}", reshape)
    if not x.is_floating_point():
        raise InputError(f"{expected} of floating-point numbers", f"dtype {x.dtype}", f"convert it with {convert}")


def noise(noise: Tensor, shape: tuple[int, ...]) -> None:
    """Check that there is one draw of noise for each input.

    Args:
        noise: What came.
        shape: What the invariance needs, with the leading axis n.

    Raises:
        InputError: If the shapes differ.
    """
    if noise.shape != shape:
        raise InputError(
            f"noise of shape {shape}, one draw for each of the {shape[0]} inputs",
            f"shape {tuple(noise.shape)}",
            "draw it with invariance.noise(x.shape[0], x, rng) for inputs of the same size",
        )
