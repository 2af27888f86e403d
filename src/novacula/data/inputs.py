"""Inputs as tensors: tables ``(N, D)``, signals ``(N, channels, T)``, images ``(N, channels, H, W)``, tokens."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from novacula.core.checks.numbers import shown
from novacula.core.errors import InputError, NovaculaWarning
from novacula.data.arrays import check_finite, check_rounding, check_rows, place, to_tensor
from novacula.data.lazy import LazyRows, Source, sampled

_CHANNELS = (1, 3, 4)


def as_inputs(x: Any, *, tokens: bool, dtype: torch.dtype | None, columns: Sequence[str], least: int = 2) -> Tensor:
    """Inputs as a tensor of finite floats, or of token ids.

    Unsigned bytes of shape ``(N, H, W)``, ``(N, H, W, channels)`` or ``(N, channels, H, W)`` are images and become
    floats in [0, 1]. Channels that come last (1, 3 or 4 of them, while the second axis is none of these) are moved to
    the second axis, except in floating tensors, which are taken to be in PyTorch's layout already.

    Returns:
        A contiguous tensor of shape ``(N, …)``.

    Raises:
        InputError: If the values are not finite numbers, or the shape is not ``(N, …)`` with at least one feature.
    """
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise InputError(
            "a floating dtype of torch's", shown(dtype), "use dtype=torch.float32, or tokens=True for whole-number ids"
        )
    if isinstance(x, LazyRows):
        check_rows(len(x), "inputs", least)
        return x  # each row is checked when it is read
    t = to_tensor(x, "inputs", least=least)
    if t.ndim < 2 or t.numel() == 0:
        raise InputError(
            "inputs of shape (N, features) or (N, channels, height, width), none of them 0",
            f"shape {tuple(t.shape)}",
            "use x.reshape(-1, 1) for one feature" if t.ndim == 1 else "check which columns were selected",
        )
    if tokens:
        return _as_tokens(t)
    columns = columns if t.ndim == 2 and len(columns) == t.shape[1] else ()
    bytes_ = t.dtype == torch.uint8 and t.ndim >= 3
    own = isinstance(x, Tensor) and t.is_floating_point()
    if bytes_ and t.ndim == 3:
        t = t.unsqueeze(1)
    if not own and t.ndim == 4 and t.shape[-1] in _CHANNELS and t.shape[1] not in _CHANNELS:
        t = t.permute(0, 3, 1, 2)
    check_finite(t, "inputs", columns)
    out = t.to(dtype or (t.dtype if own else torch.get_default_dtype()))
    check_rounding(t, out, "inputs", columns)
    if bytes_:
        out = out / 255
    elif out.ndim == 4:
        warn_unscaled(out)
    return out.contiguous()


@dataclass(frozen=True)
class AsInputs:
    """`as_inputs` of rows that are read as needed."""

    tokens: bool
    dtype: torch.dtype | None
    columns: tuple[str, ...]

    def __call__(self, raw: Any) -> Tensor:
        """Inputs ``(n, …)`` of some rows as they are stored."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NovaculaWarning)  # said once, of the first rows
            return as_inputs(raw, tokens=self.tokens, dtype=self.dtype, columns=self.columns, least=1)


def lazy_inputs(source: Source, *, tokens: bool, dtype: torch.dtype | None, columns: Sequence[str]) -> LazyRows:
    """Inputs of a source whose rows are read as needed."""
    first = source.read(sampled(source.shape[0], 64))
    as_inputs(first, tokens=tokens, dtype=dtype, columns=columns, least=1)
    return LazyRows(source, AsInputs(tokens, dtype, tuple(columns)))


def _as_tokens(t: Tensor) -> Tensor:
    bad = (~torch.isfinite(t) | (t != t.round())).nonzero() if t.is_floating_point() else []
    if len(bad):
        value, where = t[tuple(bad[0])].item(), place(bad[0].tolist())
        raise InputError("whole numbers as tokens", f"{value:g} in {where}", "leave out tokens=True for measurements")
    bad = (t < 0).nonzero() if t.dtype != torch.bool else []
    if len(bad):
        value, where = t[tuple(bad[0])].item(), place(bad[0].tolist())
        raise InputError("token ids from 0", f"{value:g} in {where}", "give padding an id of its own")
    return t.long().contiguous()


def warn_unscaled(images: Tensor) -> None:
    """Warn of images ``(N, channels, H, W)`` whose values are those of bytes."""
    low, high = float(images.min()), float(images.max())
    if low >= 0 and 16 < high <= 255 and bool((images == images.round()).all()):
        warnings.warn(
            f"images hold whole numbers up to {high:g}, not colours in [0, 1]: divide by 255, or pass uint8",
            NovaculaWarning,
            stacklevel=4,
        )
