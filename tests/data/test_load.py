"""NumPy files, the embedded digits and paths: round trips, published splits, and what can be wrong with a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from files import COLOUR, CSV, IMAGES, LABELS, X, refused, same, save
from novacula.core.errors import InputError
from novacula.data.data import Data
from novacula.data.load import load, load_splits

REAL = Path(os.environ.get("NOVACULA_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
needs_real = pytest.mark.skipif(not (REAL / "mnist10k.npz").is_file(), reason=f"no real data in {REAL} (NOVACULA_DATA)")


class TestNpz:
    @pytest.mark.parametrize(
        "x, y", [("x", "y"), ("X", "Y"), ("inputs", "targets"), ("features", "target"), ("data", "label")]
    )
    def test_names(self, tmp_path: Path, x: str, y: str) -> None:
        data = load(save(tmp_path / "set.npz", **{x: X, y: LABELS}))
        assert same(data, Data(X, LABELS))
        assert data.name == "set"

    def test_images(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
        assert same(load(path), Data(IMAGES[:, None], LABELS))
        assert load(save(tmp_path / "b.npz", images=IMAGES / 255, labels=LABELS)).x_shape == (1, 5, 7)
        assert load(save(tmp_path / "c.npz", x=IMAGES / 255, y=LABELS)).x_shape == (5, 7)  # a signal of five channels

    @pytest.mark.parametrize(
        "spelling", ["{}_images {}_labels", "x_{} y_{}", "X_{} y_{}", "{}_x {}_y", "images_{} labels_{}", "x{} y{}"]
    )
    def test_training_and_test_parts(self, tmp_path: Path, spelling: str) -> None:
        keys = {part: spelling.format(part, part).split() for part in ("train", "test")}
        arrays = dict(zip(keys["train"] + keys["test"], (COLOUR, LABELS, COLOUR[:4], LABELS[:4]), strict=True))
        splits = load_splits(save(tmp_path / "a.npz", **arrays, classes=np.array(["a", "b", "c"])))
        assert same(splits.train, Data(COLOUR, LABELS, classes="abc"))
        assert splits.test is not None
        assert same(splits.test, Data(COLOUR[:4], LABELS[:4], classes="abc"))

    def test_test_part_beside_plain_names(self, tmp_path: Path) -> None:
        splits = load_splits(save(tmp_path / "a.npz", x=X, y=LABELS, x_test=X[:2], y_test=LABELS[:2]))
        assert splits.train.n == 6
        assert splits.test is not None
        assert splits.test.n == 2

    def test_test_part_shares_the_task_and_the_classes(self, tmp_path: Path) -> None:
        """A test part alone would number its strings otherwise, or be taken for another task."""
        names = np.array(["b", "a", "c", "c", "a", "b"])
        path = save(tmp_path / "a.npz", x_train=X, y_train=names, x_test=X[:2], y_test=np.array(["c", "b"]))
        test = load_splits(path).test
        assert test is not None
        assert (test.classes, test.y.tolist()) == (("a", "b", "c"), [2, 1])
        many = save(
            tmp_path / "b.npz", x_train=np.zeros((150, 1)), y_train=np.arange(150), x_test=X[:2, :1], y_test=[1, 2]
        )
        parts = load_splits(many)
        assert parts.test is not None
        assert parts.train.task == parts.test.task == "regression"
        path = save(tmp_path / "c.npz", x_train=X, y_train=names, x_test=X[:2], y_test=np.array(["c", "z"]))
        with refused("labels among ['a', 'b', 'c']; got 'z' in row 1, in"):
            load(path)

    def test_published_splits(self, tmp_path: Path) -> None:
        masks = np.array([[1, 0, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], dtype=bool)
        path = save(tmp_path / "a.npz", x=X, y=X[:, 0], test_index=masks)
        assert load(path).n == 6
        assert load_splits(path).test is None
        for k in (0, 1):
            splits = load_splits(path, split=k)
            assert same(splits.train, Data(X[~masks[k]], X[~masks[k], 0]))
            assert splits.test is not None
            assert same(splits.test, Data(X[masks[k]], X[masks[k], 0]))
        with refused("a split from 0 to 1; got split=2"):
            load(path, split=2)
        with refused("an array test_index"):
            load(save(tmp_path / "b.npz", x=X, y=LABELS), split=0)
        with refused("a boolean mask of shape (splits, 6)"):
            load(save(tmp_path / "c.npz", x=X, y=LABELS, test_index=[0, 1]), split=0)
        with refused("which has a test part"):
            load(save(tmp_path / "d.npz", x=X, y=LABELS, x_test=X, y_test=LABELS), split=0)
        with refused("a file with published splits"):
            load("digits", split=0)

    def test_target_and_options(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.npz", x=X, age=LABELS, y=X, feature_names=np.array(["p", "q", "r"]))
        data = load(path, "age", name="people", task="regression", dtype=torch.float64)
        assert (data.name, data.columns, data.y.dtype, data.y.tolist()) == (
            "people",
            tuple("pqr"),
            torch.float64,
            [[v] for v in LABELS],
        )
        assert load(save(tmp_path / "b.npz", x=[[1, 2], [3, 4]], y=[0, 1]), tokens=True).x.dtype == torch.int64

    def test_names_of_something_else_are_dropped(self, tmp_path: Path) -> None:
        path = save(
            tmp_path / "a.npz", data=X, target=X[:, 0], target_names=np.array(["price"]), feature_names=np.array(["p"])
        )
        assert (load(path).classes, load(path).columns, load(path).task) == ((), (), "regression")

    @pytest.mark.parametrize(
        "arrays, message",
        [
            ({"foo": X, "y": LABELS}, "with foo, y"),
            ({"x": X}, "an array of labels called y, labels"),
            ({"x_train": X, "y_train": LABELS, "x_test": X}, "for the test part"),
            ({"images": IMAGES, "data": X, "y": LABELS}, "got images and data in"),
            ({"x": X, "targets": X, "labels": LABELS}, "one array of labels; got labels and targets"),
            ({"x": X, "y": LABELS[:3]}, "as many labels as inputs; got 6 in x and 3 in y"),
            ({"x": 3.0, "y": LABELS}, "a single value"),
            ({"x": np.where(IMAGES[2, 1, 3] == IMAGES, np.nan, 0.5), "y": LABELS}, "NaN in row "),
            ({"x_train": X, "y_train": LABELS, "x_test": X[:, :2], "y_test": LABELS}, "one shape; got (3,) and (2,)"),
            ({"x": np.array([[1, "a"]] * 2, dtype=object), "y": LABELS[:2]}, "pickled Python objects"),
        ],
    )
    def test_errors(self, tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
        with refused(message):
            load(save(tmp_path / "a.npz", **arrays))

    def test_the_first_usual_name_wins_where_it_is_there(self, tmp_path: Path) -> None:
        assert same(load(save(tmp_path / "a.npz", features=X[:, :2], x=X, y=LABELS, label=X)), Data(X, LABELS))

    def test_pickled_names_are_left_out(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.npz", x=X, y=LABELS, classes=np.array(["a", "b", "c"], dtype=object))
        assert same(load(path), Data(X, LABELS))

    def test_target_errors(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.npz", x=X, strength=LABELS)
        with refused("target='strength'"):
            load(path, "strenght")
        with refused("the name of the labels' array"):
            load(path, 0)

    @pytest.mark.parametrize("suffix", [".npz", ".npy"])
    @pytest.mark.parametrize("content", [b"", b"not numpy", b"\x93NUMPY\x01\x00v\x00", b"PK\x03\x04" + b"0" * 40])
    def test_damaged_files(self, tmp_path: Path, suffix: str, content: bytes) -> None:
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content)
        with refused("a readable NumPy file"):
            load(path)

    def test_truncated_archive(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.npz", x=X, y=LABELS)
        raw = bytearray(path.read_bytes())
        raw[200:260] = bytes(60)  # the contents of x, so that the checksum fails
        path.write_bytes(raw)
        with refused("a readable NumPy file"):
            load(path)

    def test_pickles_are_not_run(self, tmp_path: Path) -> None:
        import pickle

        class Bomb:
            def __reduce__(self) -> Any:
                return (Path.touch, (tmp_path / "run",))

        for name in ("a.npz", "a.npy"):
            (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
            with refused("pickled Python objects, which could run code"):
                load(tmp_path / name)
        assert not (tmp_path / "run").exists()

    def test_array_in_the_wrong_suit(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", X)
        (tmp_path / "a.npy").rename(tmp_path / "a.npz")
        with refused("a single array"):
            load(tmp_path / "a.npz")


class TestNpy:
    @pytest.mark.parametrize(
        "names", [("x", "y"), ("X_train", "y_train"), ("train-images", "train-labels"), ("my_data", "my_target")]
    )
    def test_companions(self, tmp_path: Path, names: tuple[str, str]) -> None:
        np.save(tmp_path / f"{names[0]}.npy", X)
        np.save(tmp_path / f"{names[1]}.npy", LABELS)
        assert same(load(tmp_path / f"{names[0]}.npy"), Data(X, LABELS))

    def test_matrix_and_structured_array(self, tmp_path: Path) -> None:
        np.save(tmp_path / "m.npy", X)
        assert same(load(tmp_path / "m.npy", -1), Data(X[:, :2], X[:, 2]))
        assert same(load(tmp_path / "m.npy", "1"), Data(X[:, [0, 2]], X[:, 1]))
        rows = np.array([(1.5, 2, b"u"), (2.5, 3, b"v"), (3.5, 5, b"u")], dtype=[("a", "f8"), ("y", "i4"), ("k", "S1")])
        np.save(tmp_path / "s.npy", rows)
        data = load(tmp_path / "s.npy")
        assert (data.columns, data.x.tolist()) == (
            ("a", "k=u", "k=v", "k=(other)"),
            [[1.5, 1, 0, 0], [2.5, 0, 1, 0], [3.5, 1, 0, 0]],
        )
        assert data.y.tolist() == [[2], [3], [5]]

    def test_errors(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", X)
        with refused("without a file of labels beside it"):
            load(tmp_path / "x.npy")
        np.save(tmp_path / "i.npy", IMAGES)
        with refused("a matrix in which to choose a target"):
            load(tmp_path / "i.npy", 0)
        np.save(tmp_path / "d.npy", np.zeros(3, dtype=[("a", "m8[M]"), ("y", "f8")]))
        with refused("timedelta64[M] in field 'a'"):
            load(tmp_path / "d.npy")


class TestPaths:
    def test_digits(self) -> None:
        from sklearn.datasets import load_digits

        bunch: Any = load_digits()
        data = load("digits")
        assert (data.name, data.n, data.x_shape, data.task) == ("digits", 1797, (1, 8, 8), "classification")
        np.testing.assert_array_equal(data.x[:, 0].numpy() * 16, bunch.images)
        assert data.y.tolist() == bunch.target.tolist()
        assert data.classes == tuple("0123456789")
        with refused("a matrix in which to choose a target"):
            load("digits", "y")

    def test_errors(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        save(tmp_path / "concrete.npz", x=X, y=LABELS)
        with refused("Try: concrete.npz"):
            load(tmp_path / "concret.npz")
        with refused("Try: digits"):
            load(tmp_path / "digit")
        with refused("check the path"):
            load(tmp_path / "no" / "such.csv")
        (tmp_path / "a.xyz").write_text("")
        with refused("suffix '.xyz'"):
            load(tmp_path / "a.xyz")
        with refused("a table for which to choose a target"):
            load(tmp_path, "y")

    def test_unreadable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "a.csv"
        path.write_text(CSV)

        def refuse(*_: Any, **__: Any) -> Any:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "open", refuse)  # the mode of a file means nothing to a test that runs as root
        with refused("Permission denied"):
            load(path)

    def test_home_is_expanded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        save(tmp_path / "a.npz", x=X, y=LABELS)
        assert load("~/a.npz").n == 6


@needs_real
class TestRealData:
    def test_mnist(self) -> None:
        data = load(REAL / "mnist10k.npz")
        assert (data.n, data.x_shape, data.task) == (10_000, (1, 28, 28), "classification")
        assert (float(data.x.min()), float(data.x.max())) == (0.0, 1.0)
        assert torch.bincount(data.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]

    def test_cifar(self) -> None:
        splits = load_splits(REAL / "cifar10-small.npz")
        assert splits.test is not None
        assert (splits.train.n, splits.test.n, splits.test.x_shape) == (10_000, 2_000, (3, 32, 32))
        assert splits.train.classes[:2] == ("airplane", "automobile")
        assert splits.train.classes == splits.test.classes

    @pytest.mark.parametrize(
        "name, n, d", [("concrete", 1030, 8), ("energy", 768, 8), ("kin8nm", 8192, 8), ("power-plant", 9568, 4)]
    )
    def test_uci(self, name: str, n: int, d: int) -> None:
        path = REAL / f"uci-{name}.npz"
        splits = load_splits(path, split=19)
        assert splits.test is not None
        mask = np.load(path)["test_index"][19]
        assert (splits.train.n, splits.test.n) == (int((~mask).sum()), int(mask.sum()))
        assert (load(path).n, load(path).x_shape, load(path).task) == (n, (d,), "regression")


def test_a_matrix_with_gaps_is_refused_with_the_way_that_fills_them(tmp_path: Path) -> None:
    x = np.arange(24.0).reshape(12, 2)
    x[3, 1] = np.nan
    y = np.arange(12.0) / 7
    with pytest.raises(InputError, match=r"np\.savez\('data\.npz', x=x, y=y\)\) nv\.load fills"):
        Data(x, y)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    found = load(tmp_path / "data.npz")
    others = np.delete(x[:, 1], 3)
    assert found.x[3].tolist() == [6.0, np.median(others), 1.0]
    with pytest.raises(InputError, match="drop these rows"):
        Data(y[:, None], x)
