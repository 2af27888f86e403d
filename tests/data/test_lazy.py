"""Rows that are read as needed: a tensor like any other, in bounded memory; each source gives what it holds."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

import novacula as nv
from files import refused
from novacula.data import lazy
from novacula.data.folds import folds_of
from novacula.data.lazy import LazyRows, row_keys
from novacula.data.load import load_splits
from novacula.data.new import load_new
from novacula.data.raw import Like
from novacula.data.standardise import Standardiser

G = np.random.default_rng(0)
STORED = G.normal(size=(40, 3, 4)).astype(np.float32)
PLAIN = torch.from_numpy(STORED)


class Held:
    """A source in memory that counts what is read."""

    workers = 2

    def __init__(self, a: np.ndarray) -> None:
        self.a, self.n = a, 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.a.shape

    def read(self, rows: np.ndarray) -> np.ndarray:
        self.n += len(rows)
        return self.a[rows]

    def digest(self) -> str:
        return "held"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is large: whatever is more than a few rows is read as needed."""
    monkeypatch.setattr(lazy, "LARGE", 0)
    monkeypatch.setattr(lazy, "AT_ONCE", 500)
    monkeypatch.setattr(lazy, "FEW", 4)


def rows_of(a: np.ndarray = STORED) -> LazyRows:
    return LazyRows(Held(a), torch.from_numpy)


INDICES: dict[str, Any] = {
    "an integer": 3,
    "a negative integer": -1,
    "a slice": slice(3, 9),
    "an open slice": slice(30, None),
    "steps": slice(None, None, 7),
    "nothing": slice(5, 5),
    "a list": [4, 2, 2, -1],
    "numbers": torch.tensor([5, 1, 39]),
    "a mask": torch.arange(40) % 9 == 0,
    "rows and features": (slice(0, 5), 1),
    "numbers and features": (torch.tensor([2, 7]), slice(None), 0),
    "a new axis": (None, slice(0, 2)),
    "an ellipsis": (..., 0),
    "a table of numbers": torch.tensor([[1, 2], [3, 4]]),
}


class TestTensor:
    @pytest.mark.usefixtures("small")
    @pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
    def test_every_index(self, index: Any) -> None:
        found = rows_of()[index]
        assert found.shape == PLAIN[index].shape
        assert torch.equal(found, PLAIN[index])

    FUNCTIONS: tuple[Callable[[Tensor], Any], ...] = (
        lambda x: x * 2,
        lambda x: 2 - x,
        lambda x: x.mean(0),
        lambda x: x.flatten(1) @ torch.ones(12, 2),
        lambda x: torch.cat([x, x]),
        lambda x: torch.stack(tuple(x)),
        lambda x: x.unsqueeze(1).expand(-1, 2, -1, -1),
        lambda x: x.double(),
        lambda x: x.to(torch.float64)[3:5],
        lambda x: torch.cat([part.sum(1) for part in x.split(7)]),
        lambda x: torch.func.vmap(lambda v: v.sum())(x),
        lambda x: torch.nn.functional.linear(x.flatten(1), torch.ones(2, 12)),
        lambda x: torch.as_tensor(x.numpy()),
        lambda x: torch.as_tensor(np.asarray(x)),
        lambda x: torch.as_tensor(x.tolist()),
        lambda x: torch.einsum("nij,i->nj", x, torch.arange(3.0)),
        lambda x: copy.deepcopy(x)[:9],
        lambda x: pickle.loads(pickle.dumps(x))[:9],
        lambda x: x.detach().contiguous().cpu()[:9],
        lambda x: torch.cat(list(x.ahead(torch.arange(40).split(9)) if isinstance(x, LazyRows) else [x])),
    )

    @pytest.mark.usefixtures("small")
    @pytest.mark.parametrize("function", FUNCTIONS)
    def test_every_function(self, function: Callable[[Tensor], Tensor]) -> None:
        found = function(rows_of())
        assert type(found) is Tensor
        assert torch.equal(found, function(PLAIN))

    def test_facts_need_no_reading(self) -> None:
        x = rows_of()
        source: Any = x.source
        read = source.n
        assert (x.shape, x.dtype, x.device, x.ndim, len(x), x.numel()) == (
            (40, 3, 4),
            torch.float32,
            torch.device("cpu"),
            3,
            40,
            480,
        )
        assert (x.is_floating_point(), x.requires_grad, isinstance(x, Tensor)) == (True, False, True)
        assert repr(x) == "LazyRows(shape=(40, 3, 4), dtype=torch.float32)"
        assert source.n == read

    @pytest.mark.usefixtures("small")
    def test_a_large_choice_is_read_as_needed_again(self) -> None:
        x = rows_of()
        source: Any = x.source
        read = source.n
        most = x[torch.arange(40) != 7]
        assert isinstance(most, LazyRows)
        assert source.n == read
        assert torch.equal(most[6:9], PLAIN[[6, 8, 9]])
        assert source.n == read + 3
        assert isinstance(most[::2], LazyRows)
        assert isinstance(x.mapped(lambda v: v + 1), LazyRows)
        assert torch.equal(x.mapped(lambda v: v + 1)[:2], PLAIN[:2] + 1)

    def test_gradients_reach_what_is_made_of_rows(self) -> None:
        w = torch.ones(3, requires_grad=True)
        torch.einsum("nij,i->", rows_of(), w).backward()
        assert w.grad is not None
        torch.testing.assert_close(w.grad, PLAIN.sum((0, 2)))

    def test_more_than_memory_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lazy, "WHOLE", 100)
        with refused("which mean wants in memory together"):
            rows_of().mean()

    def test_equal_rows(self) -> None:
        a = np.concatenate([STORED[:5], -0.0 * STORED[:1], STORED[:3], 0.0 * STORED[:1]])
        expected, found = row_keys(torch.from_numpy(a)), row_keys(rows_of(a))
        assert [[i == j for i in expected] for j in expected] == [[i == j for i in found] for j in found]
        data = nv.Data(rows_of(a), np.arange(10.0))
        plain = nv.Data(torch.from_numpy(a), np.arange(10.0))
        together = [(fold[:5] == fold[[6, 7, 8, 3, 4]])[:3].all() for fold in (folds_of(data, 3), folds_of(plain, 3))]
        assert all(together)


class Items(Dataset[tuple[Tensor, int]]):
    """A dataset of images, which may list its labels."""

    def __init__(self, *, listed: bool = False, random: bool = False) -> None:
        self.x = torch.from_numpy(G.integers(0, 256, (30, 3, 8, 8), dtype=np.uint8))
        self.random = random
        if listed:
            self.targets = [i % 3 for i in range(30)]

    def __len__(self) -> int:
        return 30

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.x[i] ^ (torch.randint(2, (3, 8, 8), dtype=torch.uint8) if self.random else 0), i % 3


def images(folder: Path) -> Path:
    for i in range(30):
        path = folder / "abc"[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return folder


def archive(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def npy(path: Path, x: np.ndarray, y: np.ndarray) -> Path:
    np.save(path / "x.npy", x)
    np.save(path / "y.npy", y)
    return path / "x.npy"


LABELS = np.arange(30) % 3
BYTES = G.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
SOURCES: dict[str, Callable[[Path], nv.Data]] = {
    "images": lambda p: nv.load(images(p)),
    "images at a size": lambda p: nv.load(images(p), size=5),
    "archive of bytes": lambda p: nv.load(archive(p / "a.npz", x=BYTES, y=LABELS)),
    "archive of grey images": lambda p: nv.load(archive(p / "a.npz", images=BYTES[..., 0], labels=LABELS)),
    "archive of floats": lambda p: nv.load(archive(p / "a.npz", x=STORED[:30], y=LABELS)),
    "archive of a table": lambda p: nv.load(archive(p / "a.npz", x=STORED[:30, 0].astype(float), y=LABELS)),
    "archive with a test part": lambda p: nv.load(
        archive(p / "a.npz", x_train=BYTES, y_train=LABELS, x_test=BYTES[:5], y_test=LABELS[:5])
    ),
    "npy": lambda p: nv.load(npy(p, BYTES, LABELS)),
    "dataset": lambda p: nv.Data.from_dataset(Items()),
    "dataset that lists its labels": lambda p: nv.Data.from_dataset(Items(listed=True)),
}


class TestSources:
    @pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
    def test_the_same_as_in_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], nv.Data]
    ) -> None:
        global G
        G = np.random.default_rng(1)
        plain = make(tmp_path)
        monkeypatch.setattr(lazy, "LARGE", 0)
        G = np.random.default_rng(1)
        data = make(tmp_path)
        assert isinstance(data.x, LazyRows)
        assert not isinstance(plain.x, LazyRows)
        assert (data.x_shape, data.x.dtype, data.task, data.classes) == (
            plain.x_shape,
            plain.x.dtype,
            plain.task,
            plain.classes,
        )
        assert torch.equal(data.x, plain.x)
        assert torch.equal(data.y, plain.y)
        for (x, y, index), (other, z, rows) in zip(data.batches(7, 3, 1), plain.batches(7, 3, 1), strict=True):
            assert type(x) is Tensor
            assert torch.equal(x, other)
            assert torch.equal(y, z)
            assert torch.equal(index, rows)
        first, rest = data.split(0.6, seed=2)
        assert torch.equal(first.x, plain.split(0.6, seed=2)[0].x)
        assert torch.equal(rest.x, plain.split(0.6, seed=2)[1].x)
        assert torch.equal(pickle.loads(pickle.dumps(data.x)), plain.x)

    @pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
    def test_the_fingerprint_tells_contents_and_rows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], nv.Data]
    ) -> None:
        global G
        monkeypatch.setattr(lazy, "LARGE", 0)
        G = np.random.default_rng(1)
        data = make(tmp_path / "a" if (tmp_path / "a").mkdir() is None else tmp_path)
        G = np.random.default_rng(1)
        again = make(tmp_path / "b" if (tmp_path / "b").mkdir() is None else tmp_path)
        assert data.fingerprint == again.fingerprint  # wherever the files lie
        assert data.subset(range(9)).fingerprint != data.subset(range(1, 10)).fingerprint
        assert data.subset(range(9)).fingerprint == again.subset(range(9)).fingerprint
        assert len(data.fingerprint) == 16

    @pytest.mark.usefixtures("small")
    def test_a_changed_file_changes_the_fingerprint(self, tmp_path: Path) -> None:
        before = nv.load(images(tmp_path)).fingerprint
        Image.fromarray(BYTES[0]).save(tmp_path / "a" / "0.png")
        assert nv.load(tmp_path).fingerprint != before

    @pytest.mark.usefixtures("small")
    def test_damage_is_met_by_name(self, tmp_path: Path) -> None:
        path = images(tmp_path) / "b" / "13.png"
        path.write_bytes(path.read_bytes()[:-40])
        with refused("13.png"):
            list(nv.load(tmp_path).batches(7, 0, 0))
        file = archive(tmp_path / "a.npz", x=BYTES, y=LABELS)
        data = nv.load(file)
        file.write_bytes(file.read_bytes()[:3_000])
        with refused("a file that stays as it was"):
            list(data.batches(7, 0, 0))

    @pytest.mark.usefixtures("small")
    def test_compressed_and_transposed_arrays_are_read_whole(self, tmp_path: Path) -> None:
        np.savez_compressed(tmp_path / "a.npz", x=BYTES, y=LABELS)
        assert not isinstance(nv.load(tmp_path / "a.npz").x, LazyRows)
        np.savez(tmp_path / "b.npz", x=np.asfortranarray(BYTES), y=LABELS)
        assert not isinstance(nv.load(tmp_path / "b.npz").x, LazyRows)

    @pytest.mark.usefixtures("small")
    def test_random_items_are_refused(self) -> None:
        with refused("items that are the same each time"):
            nv.Data.from_dataset(Items(random=True))

    @pytest.mark.usefixtures("small")
    def test_images_are_decoded_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        data = nv.load(images(tmp_path))
        list(data.batches(7, 0, 0))
        monkeypatch.setattr("novacula.data.sources.rows.decoded", lambda *a: pytest.fail("decoded again"))
        list(data.batches(7, 0, 1))

    @pytest.mark.usefixtures("small")
    def test_published_splits_and_new_data(self, tmp_path: Path) -> None:
        mask = np.arange(30) < 6
        file = archive(tmp_path / "a.npz", x=BYTES, y=LABELS, test_index=mask)
        splits = load_splits(file, split=0)
        assert splits.test is not None
        assert (splits.train.n, splits.test.n) == (24, 6)
        data = nv.load(file)
        found = load_new(file, Like(data.x_shape, data.task))
        assert isinstance(found.x, LazyRows)
        assert torch.equal(found.x, data.x)


@pytest.mark.usefixtures("small")
def test_standard_units_are_those_of_all_rows() -> None:
    table = G.normal(3, 5, (40, 6)).astype(np.float32)
    table[:, 2] = 7
    data, plain = (nv.Data(x, np.arange(40.0)) for x in (rows_of(table), torch.from_numpy(table)))
    found, expected = Standardiser.fit(data), Standardiser.fit(plain)
    torch.testing.assert_close(found.x_mean, expected.x_mean)
    torch.testing.assert_close(found.x_sd, expected.x_sd)
    assert found.constant == expected.constant
    assert isinstance(found.apply(data).x, LazyRows)
    torch.testing.assert_close(found.apply(data).x[:], expected.apply(plain).x)


@pytest.mark.usefixtures("small")
def test_learning_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained on rows that are read as needed, a network is what it is on rows in memory, number for number."""

    def learned(data: nv.Data) -> nv.LearnResult:
        target = nv.Target(nv.networks.make("linear", data.x_shape, 3, seed=0), likelihood=nv.Categorical())
        return nv.learn(target, data, epochs=2, folds=2, structures=("last_layer",), seed=1)

    images(tmp_path)
    needed = learned(nv.load(tmp_path))
    monkeypatch.setattr(lazy, "LARGE", 2**29)
    memory = learned(nv.load(tmp_path))
    assert isinstance(needed.data.x, LazyRows)
    for name, w in memory.params.items():
        torch.testing.assert_close(needed.params[name], w)
    assert float(needed.evidence) == pytest.approx(float(memory.evidence))
    assert needed.unseen is not None
    assert memory.unseen is not None
    assert needed.unseen.score() == pytest.approx(memory.unseen.score())
    found, expected = (nv.predict(f.posterior, f.data.x).mean() for f in (needed, memory))
    torch.testing.assert_close(found, expected)
