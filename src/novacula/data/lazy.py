"""A tensor whose rows are read when they are asked for: data that are larger than memory.

Everything above the data asks for rows: a minibatch, a chunk, the rows of a fold. `LazyRows` is a tensor to all of it.
Rows that are asked for (``x[index]``, ``x[a:b]``, the parts of ``x.split(n)``) are read and are plain tensors, where
they are at most `FEW` or take at most `AT_ONCE` bytes; a larger choice of rows is such a tensor again. Its shape, dtype
and device are known without reading. Any other function of it gets all rows as a plain tensor, if these take at most
`WHOLE` bytes, and is refused otherwise: never more memory than that, and never another result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from novacula.core.errors import InputError

AT_ONCE = 2**26
"""Bytes that a choice of rows may take to be read at once."""
FEW = 1_024
"""Rows that are read at once whatever they take: a minibatch, the rows of a chunk."""
WHOLE = 2**30
"""Bytes that all rows may take where a function wants them together."""
LARGE = 2**29
"""Bytes from which on inputs are read as needed."""
SAMPLE = 1_000
"""Rows whose contents go into a fingerprint."""
_AHEAD = 2  # minibatches


class Source(Protocol):
    """Rows that can be read in any order, by several threads at once."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all rows, as they are stored."""
        ...

    @property
    def workers(self) -> int:
        """How many threads may read at once."""
        ...

    def read(self, rows: np.ndarray) -> Any:
        """Some rows, as they are stored; rows ``(n,)`` to ``(n, …)``."""
        ...

    def digest(self) -> str:
        """What tells these rows from others without reading them all: names, sizes, contents of a sample."""
        ...


class LazyRows(Tensor):
    """Some rows of a source, each turned into inputs when it is read."""

    source: Source
    rows: np.ndarray
    become: Callable[[Any], Tensor]

    @staticmethod
    def __new__(cls, source: Source, become: Callable[[Any], Tensor], rows: np.ndarray | None = None) -> LazyRows:
        """Rows of a source; ``become`` turns what is stored into inputs ``(n, …)``, row by row alike."""
        chosen = np.arange(source.shape[0]) if rows is None else rows
        like = become(source.read(chosen[:1]))
        return _wrapped(source, become, chosen, tuple(like.shape[1:]), like.dtype, like.device)

    def __init__(self, *arguments: Any, **more: Any) -> None:
        """Nothing is left to do."""

    @property
    def fingerprint(self) -> str:
        """BLAKE2b of the source's digest and of which rows these are."""
        digest = hashlib.blake2b(self.source.digest().encode(), digest_size=8)
        digest.update(f"{self.dtype}{tuple(self.shape)}".encode())
        digest.update(np.ascontiguousarray(self.rows, dtype="<i8").data)
        return digest.hexdigest()

    def whole(self, what: str = "this") -> Tensor:
        """All rows as a plain tensor for ``what``; refused where they take more than `WHOLE` bytes."""
        if (size := _bytes(self)) > WHOLE:
            got = f"{len(self.rows):,} rows of {size / 2**30:.1f} GiB, which {what} wants in memory together"
            raise InputError(f"inputs of at most {WHOLE / 2**30:.0f} GiB", got, "fewer examples: --train N")
        parts = list(self.parts())
        return torch.cat(parts) if len(parts) != 1 else parts[0]

    def parts(self, size: int | None = None) -> Iterator[Tensor]:
        """All rows in order, so many at once; by default as many as are read at once."""
        size = size or max(1, AT_ONCE // max(_bytes(self) // max(len(self.rows), 1), 1))
        for start in range(0, len(self.rows), size):
            yield self._read(self.rows[start : start + size])

    def ahead(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """The rows of each index, read by threads while those before them are in use."""
        waiting: list[Future[Tensor]] = []
        with ThreadPoolExecutor(self.source.workers) as pool:
            for index in indices:
                waiting.append(pool.submit(self._read, self.rows[index.cpu().numpy()]))
                if len(waiting) > _AHEAD:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()

    def mapped(self, become: Callable[[Tensor], Tensor]) -> LazyRows:
        """The same rows, each changed further when it is read."""
        return LazyRows(self.source, _Then(self.become, become), self.rows)

    def _read(self, rows: np.ndarray) -> Tensor:
        return self.become(self.source.read(rows))

    def _choose(self, index: Any) -> Tensor:
        first, *rest = index if isinstance(index, tuple) else (index,)
        if first is None or first is Ellipsis:
            return self.whole("an index")[index]
        if isinstance(first, Tensor):
            first = first.cpu().numpy()
        if isinstance(first, int | np.integer):
            found = self._read(self.rows[[int(first)]])[0]
            return found[tuple(rest)] if rest else found
        rows = self.rows[np.asarray(first) if isinstance(first, list) else first]
        if rows.ndim != 1:
            return self.whole("an index")[index]
        some = _wrapped(self.source, self.become, rows, tuple(self.shape[1:]), self.dtype, self.device)
        if not rest and len(rows) > FEW and _bytes(some) > AT_ONCE:
            return some
        none = torch.empty(0, *self.shape[1:], dtype=self.dtype, device=self.device)
        found = torch.cat(list(some.parts())) if len(rows) else none
        return found[(slice(None), *rest)] if rest else found

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Metadata and choices of rows are answered; everything else gets the rows."""
        kwargs = kwargs or {}
        own = args[0] if args and isinstance(args[0], LazyRows) else None
        if func in _KNOWN:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if own is not None:
            if func is Tensor.__getitem__:
                return own._choose(args[1])
            if func in _SAME:
                return own
            if func is Tensor.split and len(args) == 2 and not kwargs and isinstance(args[1], int):
                return _Parts(own, args[1])
            if func in (Tensor.to, Tensor.cpu):
                return _to(own, *(args[1:] if func is Tensor.to else ("cpu",)), **kwargs)
            if func is Tensor.__repr__:
                return f"LazyRows(shape={tuple(own.shape)}, dtype={own.dtype})"
            if func is Tensor.__reduce_ex__:
                return _wrapped, (own.source, own.become, own.rows, tuple(own.shape[1:]), own.dtype, own.device)
        name = getattr(func, "__name__", "a function")
        read = lambda v: v.whole(name) if isinstance(v, LazyRows) else v  # noqa: E731
        return func(*tree_map(read, args), **tree_map(read, kwargs))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What reaches the operators gets the rows too."""
        read = lambda v: v.whole(str(func)) if isinstance(v, LazyRows) else v  # noqa: E731
        return func(*tree_map(read, args), **tree_map(read, kwargs or {}))


class _Parts(Sequence[Tensor]):
    """The parts of ``x.split(size)``, each read when it is asked for."""

    def __init__(self, x: LazyRows, size: int) -> None:
        self.x, self.size = x, size

    def __len__(self) -> int:
        return -(-len(self.x.rows) // self.size)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        k = range(len(self))[i]
        return self.x[k * self.size : (k + 1) * self.size]


class _Then:
    """One change after another."""

    def __init__(self, first: Callable[[Any], Tensor], then: Callable[[Tensor], Tensor]) -> None:
        self.first, self.then = first, then

    def __call__(self, raw: Any) -> Tensor:
        return self.then(self.first(raw))


class _Cast:
    """Another dtype and device."""

    def __init__(self, like: Tensor) -> None:
        self.dtype, self.device = like.dtype, like.device

    def __call__(self, x: Tensor) -> Tensor:
        return x.to(self.device, self.dtype)


def fingerprint_of(x: Tensor) -> bytes:
    """What a fingerprint takes of inputs or labels: contents, shape and dtype; of lazy rows what stands for them."""
    if isinstance(x, LazyRows):
        return x.fingerprint.encode()
    digest = hashlib.blake2b(f"{x.dtype}{tuple(x.shape)}".encode(), digest_size=32)
    digest.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.digest()


def row_keys(x: Tensor) -> np.ndarray:
    """A number for each different row, equal for equal rows; of lazy rows by a digest of 128 bits, read once."""
    if len(x) == 0 or x[:1].numel() == 0:
        return np.zeros(len(x), np.int64)
    if not isinstance(x, LazyRows):
        rows = np.ascontiguousarray(x.detach().cpu().flatten(1).numpy() + 0)
        as_bytes = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0]
        return np.unique(as_bytes, return_inverse=True)[1].ravel()
    found = []
    for part in x.parts():
        rows = np.ascontiguousarray(part.cpu().flatten(1).numpy() + 0)
        found += [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]
    return np.unique(np.array(found, dtype="V16"), return_inverse=True)[1].ravel()


def some_rows(x: Tensor, most: int = 4 * SAMPLE) -> Tensor:
    """All rows; of lazy ones, so many that are spread evenly."""
    return x[torch.from_numpy(sampled(len(x), most))] if isinstance(x, LazyRows) else x


def sampled(n: int, most: int = SAMPLE) -> np.ndarray:
    """Row numbers spread evenly over all, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def _wrapped(
    source: Source,
    become: Callable[[Any], Tensor],
    rows: np.ndarray,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> LazyRows:
    made: Any = torch.Tensor._make_wrapper_subclass(LazyRows, (len(rows), *shape), dtype=dtype, device=device)  # type: ignore[attr-defined]
    made.source, made.become, made.rows = source, become, rows
    return made


def _bytes(x: Tensor) -> int:
    return x.numel() * x.dtype.itemsize


def _to(x: LazyRows, *args: Any, **kwargs: Any) -> Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        like = torch.empty(0, dtype=x.dtype, device=x.device).to(*args, **kwargs)
    return x if like.dtype == x.dtype and like.device == x.device else x.mapped(_Cast(like))


_FACTS = (
    *("shape", "dtype", "device", "ndim", "layout", "requires_grad", "is_leaf"),
    *("is_cuda", "is_sparse", "is_nested", "is_meta", "is_quantized"),
)
_KNOWN: frozenset[Any] = frozenset(
    [getattr(Tensor, name).__get__ for name in _FACTS]
    + [Tensor.size, Tensor.dim, Tensor.numel, Tensor.__len__, torch.numel]
    + [Tensor.is_floating_point, Tensor.is_complex, torch.is_floating_point, torch.is_complex]
)
_SAME: frozenset[Any] = frozenset({Tensor.detach, Tensor.contiguous, Tensor.__deepcopy__})
