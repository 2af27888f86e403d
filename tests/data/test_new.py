"""Data to predict: every kind of source with and without labels, matched to what a run remembers."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from files import refused
from novacula.data.load import load
from novacula.data.new import load_new, read_groups
from novacula.data.raw import Like

X = np.random.default_rng(0).normal(size=(4, 3)).round(4)
IMAGES = np.random.default_rng(1).integers(0, 256, (4, 5, 7), dtype=np.uint8)
TABLE = Like((3,), "regression", columns=("a", "b", "c"), targets=("y",))
PLAIN = Like((3,), "classification")
GREY = Like((1, 5, 7), "classification", classes=("cat", "dog"))
CSV = "a,b,c,y\n" + "\n".join(",".join(map(str, row)) + f",{i}" for i, row in enumerate(X)) + "\n"


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def same(x: torch.Tensor, wanted: np.ndarray) -> bool:
    return torch.equal(x, torch.tensor(wanted, dtype=torch.float32))


class TestTables:
    def test_with_and_without_labels(self, tmp_path: Path) -> None:
        whole = load_new(text(tmp_path / "a.csv", CSV), TABLE)
        assert same(whole.x, X)
        assert whole.y is not None
        assert whole.y.tolist() == [[0.0], [1.0], [2.0], [3.0]]
        assert torch.equal(whole.x, load(tmp_path / "a.csv", "y").x)
        assert load_new(tmp_path / "a.csv", TABLE, labels=False).y is None
        bare = "\n".join(line.rsplit(",", 1)[0] for line in CSV.splitlines())
        path = tmp_path / "b.csv.gz"
        path.write_bytes(gzip.compress(bare.encode()))
        found = load_new(path, TABLE)
        assert found.y is None
        assert torch.equal(found.x, whole.x)
        assert (found.name, found.rows.tolist(), found.n) == ("b", [0, 1, 2, 3], 4)

    def test_one_row_is_enough(self, tmp_path: Path) -> None:
        found = load_new(text(tmp_path / "a.csv", "c,a,b,y\n3,1,2,7\n"), TABLE)
        assert found.x.tolist() == [[1, 2, 3]]
        assert found.y is not None
        assert found.y.tolist() == [[7]]

    def test_parquet(self, tmp_path: Path) -> None:
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"c": X[:, 2], "when": ["x", None, "y", "z"], "a": X[:, 0], "b": X[:, 1]})
        frame.to_parquet(tmp_path / "a.parquet")
        assert same(load_new(tmp_path / "a.parquet", TABLE).x, X)
        frame.assign(y=[1.0, None, 3.0, 4.0]).to_parquet(tmp_path / "b.parquet")
        found = load_new(tmp_path / "b.parquet", TABLE)
        assert found.y is None
        assert "1 of 4 labels are missing" in found.notes[0]

    def test_structured_arrays(self, tmp_path: Path) -> None:
        table = np.zeros(4, dtype=[("b", float), ("c", float), ("a", float)])
        for i, name in enumerate("abc"):
            table[name] = X[:, i]
        np.save(tmp_path / "a.npy", table)
        assert same(load_new(tmp_path / "a.npy", TABLE).x, X)

    def test_without_a_header_positions_count(self, tmp_path: Path) -> None:
        path = text(tmp_path / "a.csv", "".join(f"{a},{i % 2},{b},{c}\n" for i, (a, b, c) in enumerate(X)))
        data = load(path, 1)
        like = Like((3,), "classification", columns=data.columns, targets=("1",))
        found = load_new(path, like)
        assert torch.equal(found.x, data.x)
        assert found.y is not None
        assert torch.equal(found.y, data.y)
        bare = text(tmp_path / "b.csv", "".join(f"{a},{b},{c}\n" for a, b, c in X))
        assert torch.equal(load_new(bare, like).x, data.x)
        np.save(tmp_path / "c.npy", X)
        assert torch.equal(load_new(tmp_path / "c.npy", like).x, data.x)
        assert torch.equal(load_new(tmp_path / "c.npy", PLAIN).x, data.x)
        for content, got in (("1,2\n3,4\n", "2 in"), (CSV, "which has a header")):
            with refused(got):
                load_new(text(tmp_path / "d.csv", content), like)
        with refused("a header with the run's columns a, b, c"):
            load_new(bare, TABLE)

    def test_words_become_the_columns_of_the_training_data(self, tmp_path: Path) -> None:
        content = "colour,size,y\nred,1,0.5\nblue,2,0.5\ngreen,3,1.5\nred,4,2\n"
        data = load(text(tmp_path / "a.csv", content), "y")
        like = Like(data.x_shape, data.task, columns=data.columns, targets=("y",), coding=data.coding)
        # One value alone, in another order of columns: the same indicator columns.
        found = load_new(text(tmp_path / "b.csv", "size,colour\n9,green\n8,green\n"), like)
        assert found.x.tolist() == [[0, 1, 0, 0, 9], [0, 1, 0, 0, 8]]
        found = load_new(text(tmp_path / "c.csv", "size,colour\n9,green\n8,pink\n"), like)
        assert found.x.tolist() == [[0, 1, 0, 0, 9], [0, 0, 0, 1, 8]]
        assert found.notes == ("column 'colour': 1 row with other words than in training ('pink')",)
        with refused("a column 'colour'"):
            load_new(text(tmp_path / "d.csv", "size,color\n9,green\n"), like)

    def test_groups(self, tmp_path: Path) -> None:
        path = text(
            tmp_path / "a.csv", "a,b,c,ward\n" + "".join(f"{a},{b},{c},w{i // 2}\n" for i, (a, b, c) in enumerate(X))
        )
        assert load_new(path, TABLE, groups="ward").groups == ["w0", "w0", "w1", "w1"]
        assert read_groups(path, "ward", TABLE) == ["w0", "w0", "w1", "w1"]
        np.savez(tmp_path / "a.npz", x=X, ward=[1, 2, 3, 4])
        assert load_new(tmp_path / "a.npz", PLAIN, groups="ward").groups == [1, 2, 3, 4]
        np.savez(tmp_path / "b.npz", x=X, ward=[1, 2, 3])
        with refused("4 entries, as in x"):
            load_new(tmp_path / "b.npz", PLAIN, groups="ward")
        with refused("a table with a column 'ward'"):
            load_new("digits", Like((1, 8, 8), "classification"), groups="ward")

    def test_what_is_of_another_kind_is_refused(self, tmp_path: Path) -> None:
        path = text(tmp_path / "a.csv", CSV)
        with refused("inputs of shape (1, 5, 7), as in the run; got the table"):
            load_new(path, GREY)
        with refused("a column 'ward'"):
            load_new(path, TABLE, groups="ward")
        with refused("numbers, as in the run; got 'tall' in column 'b' of"):
            load_new(text(tmp_path / "b.csv", "a,b,c\n1,tall,2\n3,low,4\n"), TABLE)
        with refused("labels as numbers, as in the run; got 'hot' in row 0 of"):
            load_new(text(tmp_path / "c.csv", "a,b,c,y\n1,2,3,hot\n4,5,6,cold\n"), TABLE)


class TestArrays:
    def test_names_of_columns_give_their_order(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=X[:, [2, 0, 1]], columns=np.array(["c", "a", "b"]))
        assert same(load_new(tmp_path / "a.npz", TABLE).x, X)
        np.savez(tmp_path / "b.npz", x=X, columns=np.array(["c", "a", "d"]))
        with refused("none called 'b'"):
            load_new(tmp_path / "b.npz", TABLE)
        np.savez(tmp_path / "c.npz", features=X)
        assert same(load_new(tmp_path / "c.npz", TABLE).x, X)

    def test_labels_by_their_name(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=X, y=[0, 0, 0, 0], age=[1, 2, 3, 4])
        like = Like((3,), "regression", targets=("age",))
        found = load_new(tmp_path / "a.npz", like)
        assert found.y is not None
        assert found.y[:, 0].tolist() == [1, 2, 3, 4]
        with refused("4 entries, as in x"):
            load_new((np.savez(tmp_path / "b.npz", x=X, y=[1]), tmp_path / "b.npz")[1], PLAIN)

    def test_shapes_and_names_are_those_of_the_run(self, tmp_path: Path) -> None:
        def file(**arrays: Any) -> Path:
            np.savez(tmp_path / "a.npz", **arrays)
            return tmp_path / "a.npz"

        with refused("3 columns, as in the run; got 2 columns in"):
            load_new(file(x=X[:, :2]), PLAIN)
        with refused("inputs of shape (1, 5, 7), as in the run; got shape (3,) in"):
            load_new(file(x=X), GREY)
        with refused(f"NaN in row 2, column 1, in {tmp_path}"):
            load_new(file(x=np.where(X[2, 1] == X, np.nan, X)), PLAIN)
        assert same(load_new(file(x=IMAGES / 255), GREY).x, IMAGES[:, None] / 255)  # grey, without an axis of channels
        named = Like((3,), "classification", classes=("cat", "dog"))
        with refused("labels among ['cat', 'dog']; got 'cow' in row 1, in"):
            load_new(file(x=X, y=np.array(["cat", "cow", "dog", "dog"])), named)
        with refused("an array 'ward'; got"):
            load_new(file(x=X), PLAIN, groups="ward")

    def test_files_that_are_damaged_or_hold_nothing(self, tmp_path: Path) -> None:
        for suffix in (".npz", ".npy"):
            path = tmp_path / f"a{suffix}"
            path.write_bytes(b"PK\x03\x04 nonsense")
            with refused("a readable NumPy file"):
                load_new(path, PLAIN)
        np.savez(tmp_path / "b.npz", weights=X)
        with refused("an array of inputs"):
            load_new(tmp_path / "b.npz", PLAIN)
        with refused("a file of a known kind"):
            load_new(text(tmp_path / "a.doc", "x"), PLAIN)
        with refused("a file or folder that exists"):
            load_new(tmp_path / "c.npz", PLAIN)

    def test_tokens_and_dtypes(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=[[1, 2, 3]])
        assert load_new(tmp_path / "a.npz", Like((3,), "classification", tokens=True)).x.dtype == torch.int64
        wide = Like((3,), "classification", dtype=torch.float64)
        assert load_new(tmp_path / "a.npz", wide).x.dtype == torch.float64
        digits = load_new("digits", Like((1, 8, 8), "classification", dtype=torch.float64))
        assert (digits.x.dtype, digits.n) == (torch.float64, 1797)


def idx(path: Path, values: np.ndarray) -> None:
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}i", *values.shape) + values.tobytes())


class TestImages:
    def test_idx_with_and_without_labels(self, tmp_path: Path) -> None:
        idx(tmp_path / "t10k-images-idx3-ubyte", IMAGES)
        wanted = torch.tensor(IMAGES[:, None] / 255, dtype=torch.float32)
        for source in (tmp_path, tmp_path / "t10k-images-idx3-ubyte"):
            found = load_new(source, GREY)
            assert found.y is None
            torch.testing.assert_close(found.x, wanted)
        idx(tmp_path / "t10k-labels-idx1-ubyte", np.array([0, 1, 1, 0], dtype=np.uint8))
        idx(tmp_path / "train-images-idx3-ubyte", IMAGES[:2])
        found = load_new(tmp_path, GREY)
        assert found.y is not None
        assert found.y.tolist() == [0, 1, 1, 0]
        assert "test part: its 4 rows are read" in found.notes[0]
        assert load_new(tmp_path, GREY, labels=False).y is None
        idx(tmp_path / "t10k-rotated-images-idx3-ubyte", IMAGES)
        with refused("one IDX file of test images"):
            load_new(tmp_path, GREY)

    def test_folders_of_classes_flat_ones_and_parts(self, tmp_path: Path) -> None:
        pillow = pytest.importorskip("PIL.Image")
        for part in ("train", "test"):
            for i, kind in enumerate(["dog", "cat"]):
                (tmp_path / "parts" / part / kind).mkdir(parents=True)
                pillow.fromarray(IMAGES[i]).save(tmp_path / "parts" / part / kind / "a.png")
        found = load_new(tmp_path / "parts", GREY)
        assert found.names == ("cat/a.png", "dog/a.png")
        assert found.y is not None
        assert found.y.tolist() == [0, 1]
        assert "test part: its 2 images are read" in found.notes[0]
        assert torch.equal(found.x[0, 0], torch.tensor(IMAGES[1] / 255, dtype=torch.float32))
        (tmp_path / "odd" / "bird").mkdir(parents=True)
        pillow.fromarray(IMAGES[2]).save(tmp_path / "odd" / "bird" / "a.png")
        found = load_new(tmp_path / "odd", GREY)
        assert found.y is None
        assert "'bird' is none of the classes" in found.notes[0]
        assert load_new(tmp_path / "odd", GREY, labels=False).notes == ()
        with refused("a table with a column 'ward' of groups"):
            load_new(tmp_path / "odd", GREY, groups="ward")
        (tmp_path / "none").mkdir()
        with refused("images; got none in"):
            load_new(tmp_path / "none", GREY)
        colour = load_new(tmp_path / "odd", Like((3, 5, 7), "classification"))
        assert colour.x.shape == (1, 3, 5, 7)
