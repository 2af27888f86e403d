"""Rows that two sets share."""

from __future__ import annotations

import torch

from novacula.data.data import Data
from novacula.data.overlap import shared_rows


def test_rows_are_shared_where_inputs_and_labels_are() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(20, 2, 3, generator=rng)
    known = Data(x, torch.arange(20) % 4)
    order = torch.randperm(20, generator=rng)
    assert bool(shared_rows(known, known.subset(order)).all())
    other = known.with_values(torch.cat([x[:5] + 1e-6, x[5:]]), known.y)
    assert shared_rows(known, other).tolist() == [False] * 5 + [True] * 15
    relabelled = known.with_values(x, (known.y + 1) % 4)
    assert not shared_rows(known, relabelled).any()


def test_zeros_dtypes_and_shapes() -> None:
    known = Data([[0.0, 1.0], [2.0, 3.0]], [0.5, 1.5])
    assert shared_rows(known, known.with_values(torch.tensor([[-0.0, 1.0], [2.0, 4.0]]), known.y)).tolist() == [
        True,
        False,
    ]
    assert bool(shared_rows(known, known.to(dtype=torch.float64)).all())
    assert not shared_rows(known, Data([[0.0], [2.0]], [0.5, 1.5])).any()
