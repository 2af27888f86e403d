"""From what people have (arrays, tensors, lists, frames) to tensors of finite numbers.

Every refusal names the row, and the column, or the channel and pixel. Rows are counted from 0.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from novacula.core.checks.tensors import check_plain
from novacula.core.errors import InputError, NovaculaWarning


def to_tensor(x: Any, what: str, *, least: int = 2) -> Tensor:
    """A tensor of numbers or booleans."""
    columns = frame_columns(x)
    if isinstance(x, Tensor):
        check_plain(x, what)
    t = x.detach() if isinstance(x, Tensor) else _from_numpy(_to_numpy(x, what, columns), what)
    if t.ndim == 0:
        raise InputError(
            f"{what} with one row per example", f"a single value of type {type(x).__name__}", "pass an array"
        )
    if t.is_complex():
        raise InputError(f"real {what}", f"dtype {t.dtype}", "pass the real and imaginary parts as two features")
    check_rows(len(t), what, least)
    return t


def check_rows(n: int, what: str, least: int = 2) -> None:
    """Refuse too few rows."""
    if n < least:
        got = "one row" if n == 1 else "no rows"
        wanted = f"{what} with at least {'two rows' if least == 2 else 'one row'}"
        raise InputError(wanted, got, "check the file and the filter that selected the rows")


def check_finite(t: Tensor, what: str, columns: Sequence[str] = ()) -> None:
    """Refuse NaN and infinity; t ``(N, …)``."""
    if not t.is_floating_point() or bool(torch.isfinite(t).all()):
        return
    bad = (~torch.isfinite(t)).nonzero()
    rows = len(torch.unique(bad[:, 0]))
    value = t[tuple(bad[0])].item()
    name = "NaN" if value != value else "infinity" if value > 0 else "minus infinity"
    others = f" (and in {rows - 1} more row{'s' * (rows > 2)})" if rows > 1 else ""
    raise InputError(f"finite {what}", f"{name} in {place(bad[0].tolist(), columns)}{others}", _filled(what))


def _filled(what: str) -> str:
    # What to do about missing values. What fills them is learned from training rows and kept with a run: a file has it.
    if what != "inputs":
        return "drop these rows"
    return (
        "drop or impute these rows; of a table in a file (a csv, or np.savez('data.npz', x=x, y=y)) nv.load fills what "
        "is missing, and marks it in columns beside"
    )


def check_rounding(before: Tensor, after: Tensor, what: str, columns: Sequence[str] = ()) -> None:
    """Refuse overflow, and warn of columns whose spread is lost in a narrower float; before ``(N, …)``."""
    if before.dtype == after.dtype or before.dtype == torch.bool or after.dtype == torch.float64:
        return
    over = (~torch.isfinite(after)).nonzero()
    if len(over):
        where = over[0].tolist()
        raise InputError(
            f"{what} within the range of {after.dtype}",
            f"{before[tuple(where)].item():g} in {place(where, columns)}",
            "rescale the column, or pass dtype=torch.float64",
        )
    if before.ndim > 2 or before.dtype.itemsize < 4:
        return
    columnwise = zip(*(t.reshape(len(t), -1).unbind(1) for t in (before, after)), strict=True)
    lost = [i for i, (exact, rounded) in enumerate(columnwise) if _is_lost(exact.double(), rounded.double())]
    if lost:
        named = ", ".join(repr(columns[i]) if columns else str(i) for i in lost[:5])
        warnings.warn(
            f"{what} in column {named}{' …' * (len(lost) > 5)} vary by less than {after.dtype} resolves at their size: "
            "subtract an offset, or pass dtype=torch.float64",
            NovaculaWarning,
            stacklevel=4,
        )


def _is_lost(exact: Tensor, rounded: Tensor) -> bool:
    # A constant column's computed deviation may be a rounding error above 0.
    error = float((exact - rounded).abs().amax())
    return error > 1e-3 * float(exact.std(correction=0)) and bool(exact.amax() > exact.amin())


def place(index: Sequence[int], columns: Sequence[str] = ()) -> str:
    """Say where an entry is.

    Returns:
        A phrase.

    Example:
        >>> place([3, 1], ["age", "height"]), place([3, 0, 5, 6])
        ("row 3, column 1 ('height')", 'row 3, channel 0, pixel (5, 6)')
    """
    row, *rest = index
    if not rest:
        return f"row {row}" + (f", column {columns[0]!r}" if len(columns) == 1 else "")
    if len(rest) == 1:
        return f"row {row}, column {rest[0]}" + (f" ({columns[rest[0]]!r})" if columns else "")
    channel, *pixel = rest
    return f"row {row}, channel {channel}, " + (f"pixel {tuple(pixel)}" if len(pixel) > 1 else f"position {pixel[0]}")


def check_paired(x: Any, y: Any) -> None:
    """Warn where two pandas objects have one index in different orders: rows are paired by their places."""
    pandas = sys.modules.get("pandas")
    if pandas is None or not all(isinstance(a, (pandas.DataFrame, pandas.Series)) for a in (x, y)):
        return
    if not x.index.equals(y.index) and x.index.is_unique and not len(x.index.symmetric_difference(y.index)):
        said = "inputs and labels have one index in different orders, and are paired by their places"
        warnings.warn(f"{said}: pass y.loc[x.index] if they belong together by their index", NovaculaWarning, 3)


def frame_columns(x: Any) -> tuple[str, ...]:
    """Column names of a pandas object; nothing for anything else."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(x, pandas.DataFrame):
        return tuple(map(str, x.columns))
    if pandas is not None and isinstance(x, pandas.Series) and x.name is not None:
        return (str(x.name),)
    return ()


def _to_numpy(x: Any, what: str, columns: Sequence[str]) -> np.ndarray:
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(x, pandas.DataFrame):
        parts = [_series_to_numpy(column, what, (str(name),)) for name, column in x.items()]
        return np.stack(parts, axis=1) if parts else np.empty((len(x), 0))
    if pandas is not None and isinstance(x, pandas.Series):
        return _series_to_numpy(x, what, columns)
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        where = place([int(i) for i in np.argwhere(np.ma.getmaskarray(x))[0]], columns)
        raise InputError(f"finite {what}", f"a masked value in {where}", _filled(what))
    try:
        if isinstance(x, Sequence) and len(x) > 0 and isinstance(x[0], Tensor):
            x = torch.stack([torch.as_tensor(item) for item in x]).detach().cpu().numpy()
        a = np.asarray(x)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{what} as an array with rows of equal length", f"a {type(x).__name__}: {error}", "pad or cut the rows"
        ) from error
    return _numbers(a, what, columns)


def _series_to_numpy(column: Any, what: str, columns: Sequence[str]) -> np.ndarray:
    missing = column.isna().to_numpy()
    if missing.any():
        where = place([int(missing.argmax())], columns)
        raise InputError(f"finite {what}", f"a missing value in {where}", _filled(what))
    # Nullable and Arrow-backed columns become plain arrays by way of Python's own numbers.
    a = column.to_numpy() if isinstance(column.dtype, np.dtype) else np.asarray(column.tolist())
    return _numbers(a, what, columns)


# The array, if it holds numbers; an object array of numbers becomes a plain one.
def _numbers(a: np.ndarray, what: str, columns: Sequence[str]) -> np.ndarray:
    if a.dtype.kind in "biufc":
        return a
    if a.ndim == 0 and isinstance(a.item(), Mapping):
        raise InputError(
            f"{what} as one array", f"a dictionary with keys {', '.join(map(str, a.item()))}", "choose one of them"
        )
    if a.ndim == 0:
        hint = "call its toarray(), or nv.Data.from_dataset(…)"
        raise InputError(f"{what} as an array", f"an object of type {type(a.item()).__name__}", hint)
    bad = next((i for i in np.ndindex(a.shape) if not _is_number(a[i])), None)
    if a.dtype.kind == "O" and bad is None and a.size:
        try:
            found = np.asarray(a.tolist(), dtype=np.float64 if any(isinstance(v, float) for v in a.flat) else None)
            if found.dtype.kind == "O":
                raise OverflowError(f"whole numbers up to {max(a.flat):.3g}")
        except (OverflowError, ValueError) as error:
            raise InputError(f"{what} that fit 64 bits", str(error), "rescale them") from error
        if found.dtype.kind in "biuf":
            return found
    if a.size == 0:
        check_rows(len(a), what)
        raise InputError(
            f"numbers as {what}", f"an empty array of dtype {a.dtype}", "check which columns were selected"
        )
    bad = bad or (0,) * a.ndim
    where = place(bad, columns)
    if a[bad] is None:
        raise InputError(f"finite {what}", f"a missing value (None) in {where}", _filled(what))
    raise InputError(
        f"numbers as {what}",
        f"{type(a[bad]).__name__.removesuffix('_')} {str(a[bad])!r:.60} in {where} (dtype {a.dtype})",
        "encode categories as numbers (novacula.load does it for files) and dates as durations",
    )


def _is_number(value: object) -> bool:
    if isinstance(value, (str, bytes)):
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating))


def _from_numpy(a: np.ndarray, what: str) -> Tensor:
    if a.dtype.kind == "u" and a.dtype.itemsize > 1:
        if a.size and int(a.max()) >= 2**63:
            raise InputError(f"{what} that fit 64 bits", f"{int(a.max())}", "rescale them")
        a = a.astype(np.int64)
    if a.dtype.kind == "f" and a.dtype.itemsize > 8:
        a = a.astype(np.float64)
    # A copy: the array stays its owner's, and may be read-only, of negative stride or of foreign byte order.
    return torch.from_numpy(np.array(a, dtype=a.dtype.newbyteorder("="), order="C", copy=True))
