"""Samples that go on from earlier ones, are kept, summed up, and priced beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.functions import Coins, FunctionSample, cost, cube, lz_bits, sample, summary
from novacula.functions.sample import BLOCK

NET = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1))


def test_a_sample_in_parts_is_the_sample_in_one_go(tmp_path: Path) -> None:
    n = 2 * BLOCK + 100
    whole = sample(NET, cube(3), n, prior=nv.FanIn(), seed=3)
    first = sample(NET, cube(3), BLOCK, prior=nv.FanIn(), seed=3)
    first.save(tmp_path / "kept.npz", {"seed": 3})
    kept, settings = FunctionSample.load(tmp_path / "kept.npz")
    assert settings == {"seed": 3}
    again = sample(NET, cube(3), n, prior=nv.FanIn(), seed=3, start=kept)
    np.testing.assert_array_equal(again.counts, whole.counts)
    np.testing.assert_array_equal(again.keys, whole.keys)
    assert (again.n, again.tied) == (whole.n, whole.tied)
    assert again.counts.sum() == n


def test_what_does_not_go_on_is_refused(tmp_path: Path) -> None:
    odd = sample(Coins(), cube(2), 100)
    with pytest.raises(InputError, match="multiple of"):
        sample(Coins(), cube(2), 1_000, start=odd)
    whole = sample(Coins(), cube(2), BLOCK)
    with pytest.raises(InputError, match="below n"):
        sample(Coins(), cube(2), BLOCK, start=whole)
    with pytest.raises(InputError, match="on 8 inputs"):
        sample(Coins(), cube(3), 2 * BLOCK, start=whole)
    (tmp_path / "no.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"FunctionSample\.save"):
        FunctionSample.load(tmp_path / "no.npz")


def test_a_summary_lists_the_first_with_their_complexities() -> None:
    found = sample(NET, cube(3), 5_000, prior=nv.FanIn(), seed=0)
    said = summary(found, 3)
    assert [row["count"] for row in said["top"]] == found.counts[:3].tolist()
    assert [row["lz_bits"] for row in said["top"]] == lz_bits(found.labels)[:3].tolist()
    assert said["bound"]["slope"] < 0
    # Two draws of coins on 128 inputs are no function drawn often.
    assert summary(sample(Coins(), cube(7), 50, seed=1))["bound"] is None


def test_costs_grow_with_the_draws() -> None:
    few, many = cost(NET, cube(3), 1_000), cost(NET, cube(3), 10**9)
    assert 0 < few.seconds < many.seconds
    assert many.bytes == cost(NET, cube(3), 10**8).bytes  # both fill the table
    assert cost(NET, cube(3), 0) == (0.0, 0)
