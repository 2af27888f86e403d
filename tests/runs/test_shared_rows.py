"""Test rows that a run has learned from are told of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import novacula as nv
from novacula.core.rng import generator
from novacula.runs.saving import describe


@pytest.mark.parametrize(("copies", "said"), [(6, True), (1, False), (0, False)])
def test_copies_among_the_test_rows_are_told_of(copies: int, said: bool) -> None:
    x = torch.randn(60, 2, generator=generator(0))
    y = x.sum(1, keepdim=True)
    fit = nv.learn(nv.Target(nn.Linear(2, 1), likelihood=nv.Normal()), nv.Data(x[:40], y[:40]), epochs=1, folds=0)
    rows = torch.cat([torch.arange(copies), torch.arange(40, 60)])
    record, _ = describe(fit, nv.Data(x[rows], y[rows]))
    told = [w for w in record["warnings"] if "are training rows too" in w]
    assert told == [w for w in told if w.startswith(f"{copies} of {20 + copies} test rows")]
    assert bool(told) == said
