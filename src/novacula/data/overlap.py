"""Which rows of one set are also in another."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from novacula.data.data import Data


def shared_rows(known: Data, rows: Data) -> Tensor:
    """Which rows, input and label, are among known ones.

    Args:
        known: Data.
        rows: Other data.

    Returns:
        A mask of the rows of ``rows``, on the CPU, shape ``(N,)``.

    Example:
        >>> a, b = Data([[0.0], [1.0], [2.0]], [0.5, 1.5, 2.5]), Data([[1.0], [2.0]], [1.5, 9.0])
        >>> shared_rows(a, b)
        tensor([ True, False])
    """
    if known.x_shape != rows.x_shape or known.y.shape[1:] != rows.y.shape[1:]:
        return torch.zeros(rows.n, dtype=torch.bool)
    seen = set(_digests(known))
    return torch.tensor([digest in seen for digest in _digests(rows)])


def _digests(data: Data) -> list[bytes]:
    x, y = (t.detach().cpu().flatten(1) if t.ndim > 1 else t.detach().cpu().unsqueeze(1) for t in (data.x, data.y))
    # The two zeros are one, and a dtype is none of a row's contents.
    pairs = zip((x.double() + 0).numpy(), (y.double() + 0).numpy(), strict=True)
    return [hashlib.blake2b(a.tobytes() + b.tobytes(), digest_size=16).digest() for a, b in pairs]
