"""Rows of `Data`: subsets, splits and batches."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from files import refused
from novacula.data.data import Data


def table(n: int = 7, d: int = 3) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, d))


class TestRows:
    data = Data(
        torch.arange(30.0).reshape(10, 3), torch.arange(10) % 3, columns=["a", "b", "c"], classes=["x", "y", "z"]
    )

    def test_frozen(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            self.data.x = torch.zeros(1)  # type: ignore[misc]
        assert self.data != Data(self.data.x, self.data.y)
        assert len(self.data) == self.data.n == 10
        assert (
            repr(self.data)
            == f"Data('data', n=10, x=(3,) float32, classification in 3 classes, {self.data.fingerprint})"
        )

    @pytest.mark.parametrize(
        "index",
        [
            [4, 1, 7],
            torch.tensor([4, 1, 7]),
            np.array([4, 1, 7]),
            [-6, 1, -3],
            torch.tensor([4, 1, 7], dtype=torch.int32),
        ],
    )
    def test_subset_by_rows(self, index: Any) -> None:
        part = self.data.subset(index)
        assert part.x[:, 0].tolist() == [12.0, 3.0, 21.0]
        assert part.y.tolist() == [1, 1, 1]
        assert (part.classes, part.columns, part.name) == (("x", "y", "z"), ("a", "b", "c"), "data")

    def test_subset_by_mask_and_slice(self) -> None:
        mask = torch.zeros(10, dtype=torch.bool)
        mask[[2, 9]] = True
        assert self.data.subset(mask).x[:, 0].tolist() == [6.0, 27.0]
        assert self.data.subset(slice(1, 9, 4)).x[:, 0].tolist() == [3.0, 15.0]
        assert self.data.subset([5]).n == 1

    @pytest.mark.parametrize(
        "index, message",
        [
            ([], "at least one row"),
            (slice(3, 3), "at least one row"),
            ([10], "rows in 0..9; got row 10"),
            ([-11], "row -11"),
            ([0.5], "row numbers or a mask"),
            ([[1]], "row numbers or a mask"),
            ([True, False], "a mask of length 10; got length 2"),
        ],
    )
    def test_subset_errors(self, index: Any, message: str) -> None:
        with refused(message):
            self.data.subset(index)

    @given(st.integers(2, 40), st.data(), st.integers(0, 2**31))
    @settings(max_examples=30, deadline=None)
    def test_split_is_a_partition(self, n: int, draw: st.DataObject, seed: int) -> None:
        k = draw.draw(st.integers(1, n - 1))
        data = Data(torch.arange(2 * n).reshape(n, 2), torch.arange(n) % 2)
        a, b = data.split(k, seed)
        again = data.split(k, seed)[0]
        assert a.n == k
        assert sorted([*a.x[:, 0].tolist(), *b.x[:, 0].tolist()]) == [2.0 * i for i in range(n)]
        assert torch.equal(a.x, again.x)

    def test_split_depends_on_the_seed_and_not_on_the_global_generator(self) -> None:
        torch.manual_seed(3)
        state = torch.get_rng_state()
        first, second = (self.data.split(0.5, seed)[0].x[:, 0].tolist() for seed in (0, 1))
        assert first != second
        assert torch.equal(torch.get_rng_state(), state)

    def test_share_is_rounded_and_leaves_a_row(self) -> None:
        assert self.data.split(0.26)[0].n == 3
        assert self.data.split(0.01)[0].n == 1
        assert self.data.split(0.99)[1].n == 1

    @given(st.lists(st.integers(0, 4), min_size=4, max_size=60), st.floats(0.05, 0.95), st.integers(0, 99))
    @settings(max_examples=30, deadline=None)
    @pytest.mark.filterwarnings("ignore::novacula.NovaculaWarning")
    def test_stratified_split_keeps_proportions(self, labels: list[int], share: float, seed: int) -> None:
        data = Data(torch.arange(len(labels)).reshape(-1, 1), labels, task="classification")
        a, b = data.split(share, seed, stratify=True)
        assert a.n == data.split(share, seed)[0].n
        assert sorted([*a.x[:, 0].tolist(), *b.x[:, 0].tolist()]) == list(range(len(labels)))
        for label in set(data.y.tolist()):
            exact = int((data.y == label).sum()) * a.n / data.n
            assert math.floor(exact) <= int((a.y == label).sum()) <= math.floor(exact) + 1

    @pytest.mark.parametrize("train", [0, 10, -1, 0.0, 1.0, 1.5, math.nan])
    def test_split_errors(self, train: float) -> None:
        with refused("leave at least one row to each part"):
            self.data.split(train)

    def test_only_classes_are_stratified(self) -> None:
        with refused("class labels to stratify by"):
            Data(table(4), table(4, 1)).split(2, stratify=True)

    @given(st.integers(2, 50), st.integers(1, 60), st.integers(0, 2**40), st.integers(0, 1000))
    @settings(max_examples=30, deadline=None)
    def test_batches_cover_each_row_once_and_repeat(self, n: int, size: int, seed: int, epoch: int) -> None:
        data = Data(torch.arange(3 * n).reshape(n, 3), torch.arange(n))
        first, second = (list(data.batches(size, seed, epoch)) for _ in range(2))
        assert all(torch.equal(a, b) for p, q in zip(first, second, strict=True) for a, b in zip(p, q, strict=True))
        index = torch.cat([i for _, _, i in first])
        assert sorted(index.tolist()) == list(range(n))
        assert all(torch.equal(x, data.x[i]) and torch.equal(y, data.y[i]) for x, y, i in first)
        assert [len(x) for x, _, _ in first] == [size] * (n // size) + ([n % size] if n % size else [])

    def test_batches_differ_between_epochs_and_seeds(self) -> None:
        orders = [torch.cat([i for *_, i in self.data.batches(4, s, e)]).tolist() for s, e in ((0, 0), (0, 1), (1, 0))]
        assert len({tuple(o) for o in orders}) == 3
        with refused("batch_size as a whole number of 1 or more"):
            next(self.data.batches(0, 0, 0))

    def test_to(self) -> None:
        wide = self.data.to(dtype=torch.float64)
        assert (wide.x.dtype, wide.y.dtype) == (torch.float64, torch.int64)
        assert Data(table(), table(7, 2)).to(dtype=torch.float64, device="cpu").y.dtype == torch.float64
