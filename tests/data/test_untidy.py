"""Files and labels as people's tools leave them: what is above a table, how numbers are typeset, what a word means."""

from __future__ import annotations

import warnings
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import novacula as nv
from novacula.data import lazy
from novacula.data.load import load_splits
from novacula.data.meaning.known import known
from novacula.data.new import load_new
from novacula.data.raw import Like
from novacula.target.given import as_target

ROWS = [(0.5, -1.25, 0), (1.5, 2.0, 1), (-3.0, 0.25, 0), (2.5, 1.0, 1), (0.0, 4.0, 1), (1.0, -2.0, 0)]


def _write(folder: Path, *lines: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _rows(delimiter: str) -> list[str]:
    return [delimiter.join(map(str, row)) for row in ROWS]


TOPS: dict[str, tuple[str, list[str]]] = {
    "remarks": (",", ["# made by a tool, version 3", "# units: mm, kg", "a,b,y"]),
    "remarks and empty lines": (",", ["# made by a tool", "", "#", "a,b,y"]),
    "Excel's line": (";", ["sep=;", "a;b;y"]),
    "Excel's line, quoted": ("|", ['"SEP=|"', "a|b|y"]),
    "bars": ("|", ["a|b|y"]),
    "tabs below a remark": ("\t", ["# a, b, c", "a\tb\ty"]),
}


@pytest.mark.parametrize("name", TOPS)
@pytest.mark.parametrize("suffix", [".csv", ".txt", ".data"])
def test_what_stands_above_a_table_is_no_part_of_it(tmp_path: Path, name: str, suffix: str) -> None:
    delimiter, top = TOPS[name]
    data = nv.load(_write(tmp_path, *top, *_rows(delimiter), name=f"t{suffix}"))
    assert data.columns == ("a", "b")
    assert data.x.tolist() == [[a, b] for a, b, _ in ROWS]
    assert data.y.tolist() == [y for *_, y in ROWS]


def test_a_header_may_begin_with_a_hash(tmp_path: Path) -> None:
    data = nv.load(_write(tmp_path, "# exported today", "#a,b,y", *_rows(",")))
    assert data.columns == ("a", "b")
    assert data.n == len(ROWS)


@pytest.mark.parametrize("text", ["sep=;", ",,", "# a\nsep=;\n\n;;"])
def test_nothing_but_delimiters_is_empty(tmp_path: Path, text: str) -> None:
    with pytest.raises(nv.InputError, match="which is empty"):
        nv.load(_write(tmp_path, text))


def test_errors_below_remarks_name_the_line_of_the_file(tmp_path: Path) -> None:
    path = _write(tmp_path, "# one", "# two", "a,b,y", *_rows(","), "3,word,1")
    with pytest.raises(nv.InputError, match=r"row 6 \(line 10\)"):
        nv.load(path)


def test_a_table_without_delimiters_is_said_to_be_one_column(tmp_path: Path) -> None:
    with pytest.raises(nv.InputError, match=r"one column, '0\.5/-1\.25/0'"):
        nv.load(_write(tmp_path, *_rows("/")))


@pytest.mark.parametrize("header", ["a   b  y", ""])
def test_spaces_alone_set_columns_apart(tmp_path: Path, header: str) -> None:
    rows = [f"  {i * 0.5:6.2f}   {i * i:4d}    {i % 7}.5 " for i in range(30)]
    data = nv.load(_write(tmp_path, *([header] if header else []), *rows, name="t.txt"), -1)
    assert data.columns == (("a", "b") if header else ("0", "1"))
    assert data.x.tolist() == [[i * 0.5, i * i] for i in range(30)]
    assert data.y[:, 0].tolist() == [i % 7 + 0.5 for i in range(30)]


@pytest.mark.parametrize(("name", "said"), [("{i}", "counts"), ("row {i}", "names")])
def test_a_header_without_the_rows_names_is_read_as_it_was_written(tmp_path: Path, name: str, said: str) -> None:
    rows = [f'"{name.format(i=i + 1)}"\t{i * 0.5}\t{i % 2}' for i in range(30)]
    path = _write(tmp_path, '"a"\t"y"', *rows)
    with pytest.warns(nv.NovaculaWarning, match=f"the column '' {said} the rows"):
        data = nv.load(path)
    assert data.columns == ("a",)
    assert data.x[:, 0].tolist() == [i * 0.5 for i in range(30)]
    assert f"column '' left out: it {said} the rows" in data.meaning


@pytest.mark.parametrize("header", ["a,b,y", "a,b,y,", ",a,b,y,"])
def test_delimiters_at_the_end_of_rows_are_no_columns(tmp_path: Path, header: str) -> None:
    first = "word," if header[0] == "," else ""
    data = nv.load(_write(tmp_path, header, *(f"{first}{i * 0.5},{i * i},{i % 2}," for i in range(30))))
    named = ("Unnamed: 0=word", "Unnamed: 0=(other)") if first else ()
    assert data.columns == (*named, "a", "b")
    assert data.x[:, -2:].tolist() == [[i * 0.5, i * i] for i in range(30)]


def test_numbers_as_they_are_typeset(tmp_path: Path) -> None:
    cells = [("−1.5", "1\u202f250"), ("2.5", "12\u00a0000"), ("−0.25", "7\u2009500"), ("+3", "900")]
    data = nv.load(_write(tmp_path, "a,b,y", *(f"{a},{b},{i % 2}" for i, (a, b) in enumerate(cells))))
    assert data.x.tolist() == [[-1.5, 1250], [2.5, 12000], [-0.25, 7500], [3, 900]]


def test_zeros_before_numbers_are_pointed_out(tmp_path: Path) -> None:
    lines = [f"0{1000 + i % 3},{i % 5},{i % 2}" for i in range(30)]
    path = _write(tmp_path, "zip,b,y", *lines)
    with pytest.warns(nv.NovaculaWarning, match=r"'zip' has numbers with zeros before them \('01000'\)"):
        assert nv.load(path).x.shape == (30, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # dates and decimals have such zeros too
        nv.load(_write(tmp_path, "a,b,y", *(f"0.{i},0,{i % 2}" for i in range(9)), name="u.csv"))


def test_none_is_a_word_among_words_and_missing_among_numbers(tmp_path: Path) -> None:
    words = ["None", "Mild", "Severe"]
    lines = [f"{'None' if i % 5 == 0 else i / 2},{words[i % 3]},{words[i % 3]}" for i in range(30)]
    with pytest.warns(nv.NovaculaWarning, match="copy of the target"):
        data = nv.load(_write(tmp_path, "a,b,y", *lines))
    assert data.n == 30
    assert data.classes == ("Mild", "None", "Severe")
    assert data.columns is not None
    assert data.columns[:2] == ("a", "a=(missing)")
    assert "b=None" in data.columns
    assert "b=(missing)" not in data.columns


def test_decimals_and_durations_are_numbers() -> None:
    assert known([Decimal("1.50"), None, Decimal("2")]).tolist() == [1.5, None, 2.0]
    hours = [timedelta(hours=6), None, timedelta(days=2)]
    assert known(hours).tolist() == [0.25, None, 2.0]
    assert known(np.array([360, "NaT", 2880], "m8[m]")).tolist() == [0.25, None, 2.0]
    with pytest.raises(nv.InputError, match="numbers or words"):
        known(np.array([1, 2], "m8[M]"))  # months have no length


# ---------------------------------------------------------------------- labels


def _named(tmp_path: Path) -> Path:
    x = np.random.default_rng(0).normal(size=(30, 2))
    y = np.arange(30) % 3 + 1
    few = y < 3
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x[few], y_test=y[few])
    return tmp_path / "d.npz"


@pytest.mark.filterwarnings("ignore::novacula.core.errors.NovaculaWarning")
def test_classes_from_one_mean_the_same_where_the_last_is_missing(tmp_path: Path) -> None:
    splits = load_splits(_named(tmp_path))
    assert splits.test is not None
    assert splits.train.classes == splits.test.classes == ("1", "2", "3")
    few = splits.train.y < 2
    assert splits.test.y.tolist() == splits.train.y[few].tolist()
    # And in new rows of a run.
    np.savez(tmp_path / "new.npz", x=splits.test.x.numpy(), y=splits.test.y.numpy() + 1)
    new = load_new(tmp_path / "new.npz", Like((2,), "classification", ("1", "2", "3")))
    assert new.y is not None
    assert new.y.tolist() == splits.test.y.tolist()


def test_labels_that_may_be_names_or_places_are_pointed_out() -> None:
    x = torch.randn(6, 2)
    with pytest.warns(nv.NovaculaWarning, match="places among the classes 1, 2, 3"):
        data = nv.Data(x, [1, 2, 1, 2, 1, 2], classes=["1", "2", "3"])
    assert data.y.tolist() == [1, 2, 1, 2, 1, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nv.Data(x, [0, 1, 2, 0, 1, 2], classes=["1", "2", "3"]).y.tolist() == [0, 1, 2, 0, 1, 2]
        assert nv.Data(x, ["1", "2"] * 3, classes=["1", "2", "3"]).y.tolist() == [0, 1] * 3


def test_a_column_of_zeros_and_ones_is_pointed_out() -> None:
    x, y = torch.randn(6, 2), torch.tensor([0.0, 1, 1, 0, 1, 0])
    column, net = nv.Data(x, y[:, None]), torch.nn.Linear(2, 1)
    with pytest.warns(nv.NovaculaWarning, match="in a column: taken as measurements; for classes pass task='class"):
        assert isinstance(as_target(net, column).likelihood, nv.Normal)
    assert column.task == "regression"
    as_target(nv.Target(net, likelihood=nv.Bernoulli()), column)  # whoever names a likelihood is not warned
    with pytest.warns(nv.NovaculaWarning, match="taken as classes"):
        assert nv.Data(x, y).task == "classification"


# ---------------------------------------------------------------------- datasets that fail


class Broken(Dataset[Any]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> Any:
        if i == 5:
            raise OSError("disk gone")
        return torch.zeros(2), i % 2


@pytest.mark.parametrize("large", [False, True])
def test_the_item_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    if large:
        monkeypatch.setattr(lazy, "LARGE", 1)
    with pytest.raises(nv.InputError, match="item 5 of the dataset; got OSError: disk gone") as error:
        nv.Data.from_dataset(Broken())
    assert isinstance(error.value.__cause__, OSError)
    with pytest.raises(nv.InputError, match="batch 1 of the dataset; got OSError: disk gone"):
        nv.Data.from_dataset(DataLoader(Broken(), batch_size=4))


# ---------------------------------------------------------------------- lists of images


def _images(folder: Path, n: int) -> None:
    from PIL import Image

    folder.mkdir()
    for i in range(n):
        Image.new("L", (4, 4), 10 * i).save(folder / f"{i}.png")


def test_lists_may_leave_suffixes_out_and_give_measurements(tmp_path: Path) -> None:
    _images(tmp_path / "f", 6)
    ages = _write(tmp_path, "id,label,split", *(f"{i},{20 + 1.5 * i},{'test' if i > 3 else 'train'}" for i in range(6)))
    splits = load_splits(tmp_path / "f", split=ages)
    assert splits.test is not None
    assert splits.train.task == splits.test.task == "regression"
    assert splits.train.y[:, 0].tolist() == [20, 21.5, 23, 24.5]
    assert splits.test.y[:, 0].tolist() == [26, 27.5]
    classes = _write(tmp_path, "id,label", *(f"{i},{i % 2}" for i in range(6)), name="c.csv")
    assert nv.load(tmp_path / "f", split=classes).classes == ("0", "1")


def test_a_folder_of_tables_names_them(tmp_path: Path) -> None:
    (tmp_path / "k").mkdir()
    for name in ("train.csv", "test.csv"):
        _write(tmp_path / "k", "a,b,y", *_rows(","), name=name)
    with pytest.raises(nv.InputError) as error:
        nv.load(tmp_path / "k")
    assert error.value.hint.startswith("pass the file itself")
