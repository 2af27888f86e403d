"""Units, groups of digits and dates as people write them, and units that new rows must share."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import novacula as nv
from novacula.data.load import load_splits
from novacula.data.meaning.coding import Coding
from novacula.data.new import load_new
from novacula.data.raw import Like

DAY = date(1970, 1, 1)


def table(path: Path, cells: list[str], name: str = "a.csv") -> Path:
    """A file of these cells, twice over, and a target."""
    rows = [f'"{cell}",{i % 5}.25' for i, cell in enumerate(cells * 2)]
    (path / name).write_text("\n".join(["a,y", *rows]) + "\n")
    return path / name


@pytest.mark.parametrize(
    ("cell", "unit"),
    [
        ("{v} kg/m3", "kg/m3"),
        ("{v}kg/m^3", "kg/m^3"),
        ("{v} kg m-3", "kg m-3"),
        ("{v} m/s²", "m/s²"),
        ("{v} s-1", "s-1"),
        ("{v} W/(m2·K)", "W/(m2·K)"),
        ("{v} ppm CO2", "ppm CO2"),
        ("{v}e3 Pa", "Pa"),
        ("USD {v}", "USD"),
        ("{v} µg/m³", "µg/m³"),
    ],
)
def test_units_of_powers_and_quotients(tmp_path: Path, cell: str, unit: str) -> None:
    values = [12.5, 7.25, 9.0]
    data = nv.load(table(tmp_path, [cell.format(v=v) for v in values]))
    assert data.columns == ("a",)
    assert data.x[:3, 0].tolist() == [v * (1000 if "e3" in cell else 1) for v in values]
    assert f"numbers with a unit: a ({unit})" in data.meaning


@pytest.mark.parametrize("cells", [["3a4", "5a4"], ["3/B2", "4/B2"], ["5 h 30 min", "6 h 20 min"], ["A 1", "A 2"]])
def test_codes_are_words(tmp_path: Path, cells: list[str]) -> None:
    assert len(nv.load(table(tmp_path, cells)).columns) == 3


@pytest.mark.parametrize("apart", ["'", "’", " ", "\u00a0"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_groups_of_digits(tmp_path: Path, apart: str, delimiter: str) -> None:
    values = [1234.5, 999.0, 1234567.25]
    point = "," if delimiter == ";" else "."
    cells = [f"{v:,.2f}".replace(".", "|").replace(",", apart).replace("|", point) for v in values]
    (tmp_path / "a.csv").write_text("".join(["a", delimiter, "y\n", *(f"{c}{delimiter}{c}\n" for c in cells * 2)]))
    data = nv.load(tmp_path / "a.csv")
    assert data.columns == ("a",)
    assert data.x[:3, 0].tolist() == values


@pytest.mark.parametrize(
    "form", ["{d:%Y/%m/%d}", "{d.month}/{d.day}/{d.year}", "{d:%d/%m/%Y}", "{d:%d-%b-%Y}", "{d:%B} {d.day}, {d:%Y}"]
)
def test_dates_as_people_write_them(tmp_path: Path, form: str) -> None:
    days = [DAY + timedelta(days=40 * i + 3) for i in range(400, 412)]
    data = nv.load(table(tmp_path, [form.format(d=day) for day in days]))
    assert data.x[:12, 0].tolist() == [(day - DAY).days for day in days]


def test_dates_that_may_be_either_are_no_dates(tmp_path: Path) -> None:
    assert len(nv.load(table(tmp_path, ["1/2/2024", "3/4/2024"])).columns) == 3


def test_whole_numbers_with_a_unit_are_measured(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,y\n" + "".join(f"{i * 0.5},{i % 7}%\n" for i in range(60)))
    data = nv.load(tmp_path / "a.csv")
    assert data.task == "regression"
    assert data.y[:3, 0].tolist() == [0.0, 1.0, 2.0]


class TestNewRows:
    """Numbers of another unit are other numbers."""

    @pytest.mark.parametrize(
        ("cells", "message"),
        [
            (["1200 g", "900 g"], "numbers in kg, as in the run; got numbers in g in column 'a'"),
            (["1.2", "0.9"], "numbers in kg, as in the run; got numbers without a unit in column 'a'"),
            (["2024-01-31", "2024-02-01"], "numbers in kg, as in the run; got numbers in days since 1970"),
            (["heavy", "light"], "numbers in kg, as in the run; got 'heavy' in column 'a'"),
        ],
    )
    def test_another_unit_is_refused(self, tmp_path: Path, cells: list[str], message: str) -> None:
        like = self.like(table(tmp_path, ["1.2 kg", "0.5 kg", "7 kg"]))
        assert load_new(table(tmp_path, ["7 kg", "1 kg"], "same.csv"), like).x[:2, 0].tolist() == [7.0, 1.0]
        with pytest.raises(nv.InputError, match=message):
            load_new(table(tmp_path, cells, "other.csv"), like)

    def test_numbers_are_no_dates(self, tmp_path: Path) -> None:
        like = self.like(table(tmp_path, ["2024-01-31", "2024-02-01"]))
        with pytest.raises(nv.InputError, match="dates, or days since 1970, as in the run; got numbers without a unit"):
            load_new(table(tmp_path, ["2024", "2025"], "years.csv"), like)

    def test_runs_of_before_know_none(self, tmp_path: Path) -> None:
        like = self.like(table(tmp_path, ["1.2 kg", "0.5 kg"]))
        assert like.coding is not None
        saved = [{k: v for k, v in entry.items() if k != "unit"} for entry in like.coding.to_dict()]
        older = Like(like.shape, like.task, columns=like.columns, targets=("y",), coding=Coding.of_dict(saved))
        assert load_new(table(tmp_path, ["1200 g", "900 g"], "other.csv"), older).x[:2, 0].tolist() == [1200.0, 900.0]

    def like(self, path: Path) -> Like:
        """What rows like those of a file are."""
        train = load_splits(path).train
        return Like(train.x_shape, train.task, columns=train.columns, targets=("y",), coding=train.coding)


class TestCategories:
    """Numbers that their owner calls categories."""

    frame = pd.DataFrame({"zone": pd.Categorical([30, 10, 20] * 10), "size": np.arange(30) * 0.5})
    wanted = ("zone=10", "zone=20", "zone=30", "zone=(other)", "size")

    def test_they_are_words(self) -> None:
        assert nv.Data(self.frame, np.arange(30) * 0.25).columns == self.wanted

    def test_no_word_takes_the_name_of_a_column(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("ward,ward=a,y\n" + "".join(f"{'ab'[i % 2]},{i}.5,{i}.25\n" for i in range(30)))
        with pytest.raises(nv.InputError, match="columns with different names; got 'ward=a' as a column of"):
            nv.load(tmp_path / "a.csv")
