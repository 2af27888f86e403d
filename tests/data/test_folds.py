"""Folds: balanced, stratified, the same for the same seed, and repeated inputs together."""

from __future__ import annotations

import warnings

import pytest
import torch

import novacula as nv
from novacula.data.folds import folds_of


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("n", "k"), [(7, 2), (20, 3), (101, 7), (6, 6)])
def test_sizes_differ_by_one_at_most(n: int, k: int) -> None:
    folds = folds_of(nv.Data(draw(n, 2), draw(n, 1, seed=1)), k, seed=3)
    sizes = folds.bincount(minlength=k)
    assert folds.shape == (n,)
    assert folds.dtype == torch.int64
    assert len(sizes) == k
    assert int(sizes.max() - sizes.min()) <= 1


def test_classes_and_folds_are_balanced_at_once() -> None:
    y = torch.tensor([0] * 41 + [1] * 13 + [2] * 7 + [3] * 3)[torch.randperm(64)]
    folds = folds_of(nv.Data(draw(64, 2), y), 3, seed=5)
    table = torch.zeros(4, 3, dtype=torch.long)
    for label, fold in zip(y.tolist(), folds.tolist(), strict=True):
        table[label, fold] += 1
    assert int((table.amax(1) - table.amin(1)).max()) <= 1
    assert sorted(table.sum(0).tolist()) == [21, 21, 22]


def test_the_seed_decides() -> None:
    data = nv.Data(draw(60, 2), torch.arange(60) % 3)
    assert torch.equal(folds_of(data, 3, 1), folds_of(data, 3, 1))
    assert not torch.equal(folds_of(data, 3, 1), folds_of(data, 3, 2))


def test_examples_with_the_same_inputs_stay_together() -> None:
    x = draw(30, 1, 2, 3)
    x[0, 0, 0, 0] = 0.0
    repeated = torch.cat([x, x[:9], x[:9], x[:1]])
    repeated[-1, 0, 0, 0] = -0.0  # the same number
    folds = folds_of(nv.Data(repeated, torch.arange(49) % 2), 4, seed=2)
    for i in range(9):
        assert len({int(folds[j]) for j in (i, 30 + i, 39 + i)}) == 1
    assert int(folds[48]) == int(folds[0])
    sizes = folds.bincount()
    assert int(sizes.max() - sizes.min()) <= 2


def test_repeated_inputs_with_different_labels_stay_together() -> None:
    x = torch.arange(12.0, dtype=torch.float64).repeat(2)[:, None]
    folds = folds_of(nv.Data(x, torch.tensor([0] * 12 + [1] * 12)), 3)
    assert torch.equal(folds[:12], folds[12:])
    assert folds.bincount().tolist() == [8, 8, 8]


def test_token_ids_are_inputs_too() -> None:
    x = torch.tensor([[1, 2], [3, 4], [1, 2], [5, 6]])
    folds = folds_of(nv.Data(x, torch.tensor([0.5, 1.5, 2.5, 3.5]), tokens=True), 2)
    assert folds[0] == folds[2]


@pytest.mark.parametrize(
    ("x", "k", "match"),
    [
        (draw(9, 2), 1, "folds as a whole number of 2 or more; got 1"),
        (draw(9, 2), 10, "at most 9 folds, one for each example; got 10. Try: use folds=3"),
        (draw(2, 2), 3, "got 3. Try: use folds=2"),
        (draw(2, 2).repeat(5, 1), 3, "at least 3 examples with different inputs; got 2"),
    ],
)
def test_impossible_folds_are_refused(x: torch.Tensor, k: int, match: str) -> None:
    with pytest.raises(nv.InputError, match=match):
        folds_of(nv.Data(x, torch.arange(len(x)) / 2.0), k)


def test_a_rare_class_is_named() -> None:
    data = nv.Data(draw(14, 2), ["cat"] * 6 + ["dog"] * 6 + ["emu"] * 2)
    with pytest.warns(nv.NovaculaWarning, match=r"class 'emu' has fewer examples \(2\) than there are folds \(3\)"):
        folds = folds_of(data, 3)
    assert len(set(folds[-2:].tolist())) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds_of(data, 2)
