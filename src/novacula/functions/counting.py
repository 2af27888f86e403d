"""How often each function was drawn, in bounded memory.

Functions are packed bits. Rows that were drawn wait in a buffer and are merged into a sorted table once they are many;
a table that outgrows its limit loses its rarest functions, and says by how much a count may be too low.

References:
    Approximate frequency counts over data streams. G. S. Manku, R. Motwani, 2002. VLDB (the bound on the undercount).
"""

from __future__ import annotations

import numpy as np

_BUFFER = 2**16


class Table:
    """Counts of byte rows ``(K,)``."""

    def __init__(self, width: int, limit: int) -> None:
        self.keys, self.counts = np.zeros((0, width), np.uint8), np.zeros(0, np.int64)
        self.limit, self.undercount, self.n = limit, 0, 0
        self._waiting: list[np.ndarray] = []
        self._many = 0

    @classmethod
    def of(cls, keys: np.ndarray, counts: np.ndarray, undercount: int, limit: int) -> Table:
        """A table that goes on from counts."""
        table = cls(keys.shape[1], limit)
        table.keys, table.counts, table.undercount, table.n = keys, counts, undercount, int(counts.sum())
        return table

    def add(self, rows: np.ndarray) -> None:
        """Count rows ``(S, K)``."""
        self._waiting.append(rows)
        self._many += len(rows)
        self.n += len(rows)
        if self._many >= max(_BUFFER, len(self.counts) // 2):
            self.settle()

    def settle(self) -> None:
        """Merge what waits into the table."""
        if not self._waiting:
            return
        rows = np.concatenate([self.keys, *self._waiting])
        counts = np.concatenate([self.counts, np.ones(self._many, np.int64)])
        self._waiting, self._many = [], 0
        order, first = grouped(rows)
        self.keys, self.counts = rows[order[first]], np.add.reduceat(counts[order], first)
        if len(self.counts) > self.limit:
            keep = np.argsort(-self.counts, kind="stable")[: self.limit // 2]
            lost = np.ones(len(self.counts), bool)
            lost[keep] = False
            self.undercount += int(self.counts[lost].max())
            self.keys, self.counts = self.keys[keep], self.counts[keep]


def grouped(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An order in which equal rows ``(S, K)`` follow each other, and where each group begins in it."""
    width = -(-rows.shape[1] // 8)
    full = np.zeros((len(rows), 8 * width), np.uint8)
    full[:, : rows.shape[1]] = rows
    words = full.view(np.uint64)
    order = np.argsort(words[:, 0], kind="stable") if width == 1 else np.lexsort(words.T)
    sorted_ = words[order]
    new = np.ones(len(rows), bool)
    new[1:] = (sorted_[1:] != sorted_[:-1]).any(1)
    return order, np.flatnonzero(new)
