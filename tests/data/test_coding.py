"""Words and missing entries of tables: every source alike, learned from training rows alone, kept for new rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import novacula as nv
from files import refused
from novacula.data.load import load_splits
from novacula.data.meaning.coding import Coding
from novacula.data.meaning.known import frame_of, known
from novacula.data.new import load_new
from novacula.data.raw import Like

G = np.random.default_rng(0)
WARD, AGE = ["a", "b", None, "a"] * 6, [30.0, None, 50.0, 70.0] * 6
FRAME = pd.DataFrame({"age": AGE, "ward": WARD, "dose": np.arange(24) / 3, "y": np.arange(24) / 7})
NAMES = ("age", "age=(missing)", "ward=a", "ward=b", "ward=(other)", "ward=(missing)", "dose")


def stored(frame: Any, folder: Path, kind: str, missing: str = "") -> Any:
    path = folder / f"a.{kind}"
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "csv":
        frame.to_csv(path, index=False, na_rep=missing)
    elif kind == "tsv":
        frame.to_csv(path, index=False, sep="\t", na_rep=missing)
    else:
        dtypes = [(str(c), "U8" if c == "ward" else float) for c in frame.columns]
        np.save(path, np.array(list(frame.itertuples(index=False, name=None)), dtype=dtypes))
    return path


def like(data: nv.Data, *targets: str) -> Like:
    return Like(data.x_shape, data.task, data.classes, data.columns, targets, dtype=data.x.dtype, coding=data.coding)


class TestMissing:
    @pytest.mark.parametrize("missing", ["", "NA", "NaN", "?", "null", "n/a", "#N/A"])
    def test_every_spelling(self, tmp_path: Path, missing: str) -> None:
        data = nv.load(stored(FRAME, tmp_path, "csv", missing))
        assert data.columns == NAMES
        assert data.x[:4, :6].tolist() == [
            [30, 0, 1, 0, 0, 0],
            [50, 1, 0, 1, 0, 0],  # the median of 30, 50 and 70
            [50, 0, 1, 0, 0, 1],  # the most frequent word
            [70, 0, 1, 0, 0, 0],
        ]

    @pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
    def test_every_source_alike(self, tmp_path: Path, kind: str) -> None:
        data = nv.load(stored(FRAME, tmp_path, kind))
        frame = nv.Data(FRAME.drop(columns="y"), FRAME["y"])
        assert data.columns == frame.columns == NAMES
        assert torch.equal(data.x, frame.x)
        assert data.coding == frame.coding
        again = load_new(stored(FRAME, tmp_path, kind), like(data, "y"))
        assert torch.equal(again.x, data.x)

    @pytest.mark.parametrize(
        "column",
        [
            pd.array([1, None, 3, 8], dtype="Int64"),
            pd.array([1.0, None, 3.0, 8.0], dtype="Float64"),
            pd.Series([1, None, 3, 8], dtype=object),
            pd.Series([1, None, 3, 8], dtype="float32"),
            pd.Series([1, None, 3, 8], dtype="double[pyarrow]"),
            pd.to_datetime(["1970-01-02", None, "1970-01-04", "1970-01-09"]),
        ],
    )
    def test_every_kind_of_numbers_in_a_frame(self, column: Any) -> None:
        data = nv.Data(pd.DataFrame({"a": column}), [0.0, 1.0, 2.0, 4.0])
        assert data.x.tolist() == [[1, 0], [3, 1], [3, 0], [8, 0]]

    @pytest.mark.parametrize(
        "column",
        [
            pd.Series(["u", None, "v", "v"]),
            pd.Series(["u", None, "v", "v"], dtype="category"),
            pd.array(["u", None, "v", "v"], dtype="string"),
            np.array(["u", None, "v", "v"], dtype=object),
        ],
    )
    def test_every_kind_of_words_in_a_frame(self, column: Any) -> None:
        data = nv.Data(pd.DataFrame({"a": column}), [0.0, 1.0, 2.0, 4.0])
        assert data.columns == ("a=u", "a=v", "a=(other)", "a=(missing)")
        assert data.x.tolist() == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 1, 0, 0], [0, 1, 0, 0]]

    def test_matrices_of_archives(self, tmp_path: Path) -> None:
        x = np.array([[1.0, np.nan], [2, 4], [3, 8]])
        np.savez(tmp_path / "a.npz", x=x, y=[0.5, 1, 2], x_test=[[np.nan, np.nan]] * 2, y_test=[1.0, 2])
        splits = load_splits(tmp_path / "a.npz")
        assert splits.test is not None
        assert splits.train.x.tolist() == [[1, 6, 1], [2, 4, 0], [3, 8, 0]]
        found = load_new(tmp_path / "a.npz", like(splits.train))
        assert found.x.tolist() == [[2, 6, 1]] * 2
        assert torch.equal(found.x, splits.test.x)

    def test_rows_without_a_target_are_left_out(self, tmp_path: Path) -> None:
        frame = FRAME.assign(y=[None if i % 5 == 2 else i % 3 for i in range(24)])
        for kind in ("csv", "parquet"):
            splits = load_splits(stored(frame, tmp_path, kind))
            assert splits.train.task == "classification"  # whole numbers, though a frame had to make them floats
            assert splits.rows is not None
            assert splits.rows.tolist() == [i for i in range(24) if i % 5 != 2]
            assert splits.train.y.tolist() == [i % 3 for i in range(24) if i % 5 != 2]
            assert "5 of 24 rows left out: they have no target" in splits.train.meaning

    def test_columns_that_are_all_missing_are_left_out(self, tmp_path: Path) -> None:
        for kind in ("csv", "parquet"):
            data = nv.load(stored(FRAME.assign(empty=[None] * 24)[["empty", "dose", "y"]], tmp_path, kind))
            assert data.columns == ("dose",)
            assert "column 'empty' left out: all its values are missing" in data.meaning


class TestTrainingRows:
    def test_a_split_learns_from_its_first_part_alone(self) -> None:
        """Whatever is in the other rows, the first part is the same; and both are as if it alone had been read."""
        frame = FRAME.drop(columns="y")
        data = nv.Data(frame, FRAME["y"], dtype=torch.float64)
        train, test = data.split(0.6, seed=3)
        rows = nv.Data(np.arange(24.0)[:, None], FRAME["y"]).split(0.6, seed=3)
        first, rest = (r.x[:, 0].long().tolist() for r in rows)
        alone = nv.Data(frame.iloc[first], FRAME["y"].iloc[first], dtype=torch.float64)
        assert torch.equal(train.x, alone.x)
        assert train.coding == alone.coding
        later = nv.Data(frame.iloc[rest], FRAME["y"].iloc[rest], coding=alone.coding, dtype=torch.float64)
        assert torch.equal(test.x, later.x)
        other = frame.copy()
        other.iloc[rest, 0] = 1e6
        assert torch.equal(nv.Data(other, FRAME["y"], dtype=torch.float64).split(0.6, seed=3)[0].x, train.x)

    def test_words_of_the_other_part_count_as_other(self) -> None:
        frame = pd.DataFrame({"k": ["a"] * 12 + ["b"] * 12})
        data = nv.Data(frame, np.arange(24.0))
        y = data.y
        first, rest = data.subset(range(12)), data.subset(range(12, 24))
        coding = data.coding.relearn(first.x)  # type: ignore[union-attr]
        assert coding.columns[0].rare == ("b",)
        assert coding.reapply(rest.x).tolist() == [[0, 0, 1]] * 12
        assert coding.reapply(first.x).tolist() == [[1, 0, 0]] * 12
        assert len(y) == 24

    def test_words_that_occur_once_stand_for_new_ones(self, tmp_path: Path) -> None:
        words = ["a"] * 10 + ["b"] * 8 + ["once", "twice", "twice"]
        data = nv.Data(pd.DataFrame({"k": words}), np.arange(21.0))
        assert data.columns == ("k=a", "k=b", "k=twice", "k=(other)")
        assert data.x[:, 3].nonzero()[:, 0].tolist() == [18]
        assert any("1 row with words that occur once count" in text for text in data.meaning)
        new = pd.DataFrame({"k": ["once", "never", "b"]})
        new.to_csv(tmp_path / "new.csv", index=False)
        found = load_new(tmp_path / "new.csv", like(data))
        assert found.x.tolist() == [[0, 0, 0, 1], [0, 0, 0, 1], [0, 1, 0, 0]]

    @pytest.mark.parametrize("seed", range(20))
    def test_relearning_is_learning(self, seed: int) -> None:
        """Of any table: learned anew from encoded rows, a coding encodes as one that has seen these rows alone."""
        g = np.random.default_rng(seed)
        n = int(g.integers(25, 60))
        words = np.where(
            g.random(n) < 0.2, np.array(None), g.choice(["a", "b", "c", "d", "e"], n, p=[0.5, 0.3, 0.1, 0.06, 0.04])
        )
        frame = pd.DataFrame({"w": words, "v": np.where(g.random(n) < 0.3, np.nan, g.integers(0, 9, n))})
        data = nv.Data(frame, np.arange(float(n)), dtype=torch.float64)
        rows = np.sort(g.permutation(n)[: n - 4])
        table = frame_of(frame.iloc[rows])
        assert data.coding is not None
        assert table is not None
        anew, alone = data.coding.relearn(data.x[rows]), Coding.learn(table)
        # The same columns in the sense of names; a column that the rows alone do not need is constant.
        x = dict(zip(anew.names, anew.reapply(data.x[rows]).T.tolist(), strict=True))
        for name, column in zip(alone.names, alone.encode(table).T.tolist(), strict=True):
            assert x.pop(name) == column
        assert all(len(set(column)) == 1 for column in x.values())


def test_what_is_kept_reads_back() -> None:
    coding = nv.Data(FRAME.drop(columns="y"), FRAME["y"]).coding
    assert coding is not None
    assert Coding.of_dict(coding.to_dict()) == coding
    with refused("how a run's columns became inputs"):
        Coding.of_dict([{"name": "a"}])


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (pd.DataFrame({"age": ["old"], "ward": ["a"], "dose": [1.0]}), "got 'old' in column 'age'"),
        (pd.DataFrame({"age": [1.0], "dose": [1.0]}), "a column 'ward'"),
    ],
)
def test_new_rows_of_another_kind_are_refused(tmp_path: Path, new: pd.DataFrame, message: str) -> None:
    data = nv.Data(FRAME.drop(columns="y"), FRAME["y"])
    new.to_csv(tmp_path / "new.csv", index=False)
    with refused(message):
        load_new(tmp_path / "new.csv", like(data))


def test_all_columns_that_look_like_identifiers_are_named_at_once(tmp_path: Path) -> None:
    frame = pd.DataFrame({"name": [f"n{i}" for i in range(30)], "ticket": [f"t{i}" for i in range(30)], "y": range(30)})
    with refused("30 in column 'name'"):
        nv.load(stored(frame, tmp_path, "csv"))
    with refused("--drop name --drop ticket"):
        nv.load(stored(frame, tmp_path, "csv"))


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        (np.array([1, None, 2], object), "i"),
        (np.array([1.5, None], object), "f"),
        (np.array([True, None], object), "b"),
        (np.array(["a", None], object), "U"),
        (np.array([None, None], object), "f"),
        (np.array([b"a", b"b"]), "U"),
        (np.ma.masked_equal([1, 2, 3], 2), "i"),
    ],
)
def test_columns_keep_their_kind(values: Any, kinds: str) -> None:
    assert known(values).dtype.kind == kinds


@pytest.mark.parametrize("values", [[1, "a"], [(1, 2), (3, 4)], [b"1", b"2"]])
def test_columns_of_no_kind_are_refused(values: list[Any]) -> None:
    column = np.empty(len(values), object)
    column[:] = values
    with refused("columns of numbers or words"):
        known(column, where="here")


class TestMeaning:
    def test_what_was_decided(self, tmp_path: Path) -> None:
        frame = FRAME.assign(**{"Unnamed: 0": range(24), "kind": ["u", "v", "w"] * 8})[
            ["Unnamed: 0", "age", "ward", "dose", "kind"]
        ]
        with pytest.warns(nv.NovaculaWarning, match="counts the rows"):
            data = nv.load(stored(frame, tmp_path, "csv"), "kind", drop=["dose"])
        assert data.meaning == (
            "target kind: 3 classes (u, v, w)",
            "inputs: 2 columns, as 6 numbers",
            "column 'Unnamed: 0' left out: it counts the rows",
            "column 'dose' left out, as asked",
            "1 column of words one-hot (ward)",
            "12 missing values in 2 columns filled by the median or most frequent word (age: 50, ward: a), "
            "and marked in a column beside",
        )
        assert "12 missing values in 2 columns" in repr(data)

    @pytest.mark.parametrize(
        ("x", "y", "said"),
        [
            ((6, 3), [0.5, 1, 2, 3, 4, 5], ("labels: numbers", "inputs: 3 columns")),
            (
                (6, 1, 4, 4),
                [0, 1, 2] * 2,
                ("labels: 3 classes", "inputs: images (channels × height × width) of 1 × 4 × 4"),
            ),
            ((6, 2, 9), ["u", "v"] * 3, ("labels: 2 classes (u, v)", "inputs: signals (channels × length) of 2 × 9")),
        ],
    )
    def test_arrays(self, x: tuple[int, ...], y: Any, said: tuple[str, ...]) -> None:
        assert nv.Data(G.random(x), y).meaning == said

    def test_labels_and_ids(self) -> None:
        several = nv.Data(G.random((3, 2)), [[0, 1], [1, 1], [0, 0]])
        assert several.meaning[0] == "labels: 2 yes/no labels"
        ids = nv.Data(np.ones((6, 3), int), [0, 1] * 3, tokens=True)
        assert ids.meaning[1] == "inputs: token ids of shape 3"
