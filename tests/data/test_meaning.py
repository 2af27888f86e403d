"""What labels, columns and rows mean: the guesses, what is said of them, and how they are overruled."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import novacula as nv
from novacula.data.load import load_splits
from novacula.data.new import load_new
from novacula.data.raw import Like
from novacula.data.sources.cells import Numbers, as_dates
from novacula.data.standardise import Standardiser

G = np.random.default_rng(0)


def labelled(y: Any, shape: tuple[int, ...] = (3,), **options: Any) -> nv.Data:
    return nv.Data(torch.rand(len(y), *shape, generator=torch.Generator().manual_seed(0)), y, **options)


class TestLabels:
    @pytest.mark.parametrize("numbers", [(1, 2, 3), (3, 4, 5), (100, 101, 102), (-1, 1), (0, 5, 10), (0, 100)])
    @pytest.mark.parametrize("shape", [(3,), (1, 4, 4)])
    def test_classes_are_renumbered_in_order_and_named(self, numbers: tuple[int, ...], shape: tuple[int, ...]) -> None:
        y = torch.tensor(numbers).repeat(6)
        with pytest.warns(nv.NovaculaWarning, match="numbered 0"):
            data = labelled(y, shape)
        assert data.classes == tuple(map(str, numbers))
        assert data.y.tolist() == list(range(len(numbers))) * 6
        assert nv.Categorical().outputs(data.y) == max(2, len(numbers))

    def test_other_data_follow_names(self) -> None:
        assert labelled([5, 3], classes=["3", "4", "5"]).y.tolist() == [2, 0]
        assert labelled([2, 0], classes=["3", "4", "5"]).y.tolist() == [2, 0]
        with pytest.raises(nv.InputError, match="label 7"):
            labelled([7, 3], classes=["3", "4", "5"])

    def test_a_gap_is_kept_and_said(self) -> None:
        with pytest.warns(nv.NovaculaWarning, match="classes 1 among 0..2"):
            data = labelled([0, 2, 0, 2, 2])
        assert data.y.tolist() == [0, 2, 0, 2, 2]
        assert data.classes == ()

    def test_a_test_part_is_numbered_as_the_training_part(self, tmp_path: Path) -> None:
        x = G.random((18, 3)).astype(np.float32)
        for first in (0, 3):
            path = tmp_path / f"{first}.npz"
            train = np.arange(18) % 3 + first
            np.savez(path, x_train=x, y_train=train, x_test=x[:2], y_test=np.array([2, 1]) + first)
            if first:
                with pytest.warns(nv.NovaculaWarning, match="numbered 0"):
                    splits = load_splits(path)
            else:
                splits = load_splits(path)
            assert splits.test is not None
            assert splits.test.y.tolist() == [2, 1]
            assert splits.test.classes == splits.train.classes

    @pytest.mark.parametrize(
        ("y", "task"),
        [
            (np.arange(90) * 1_000 + 50_000, "regression"),  # prices
            (np.arange(90) // 3 * 10_000 + 50_000, "regression"),  # rounded prices
            (np.arange(90) % 60 + 18, "regression"),  # ages
            (np.arange(90), "regression"),  # ranks
            (np.arange(90) % 3, "classification"),
            (np.arange(200) % 26, "classification"),  # letters
            ([0, 1, 2], "classification"),
            ([700, 350], "regression"),
        ],
    )
    def test_whole_numbers_are_classes_where_they_are_few_and_repeated(self, y: Any, task: str) -> None:
        assert labelled(y).task == task
        assert labelled(y, task="regression").task == "regression"

    def test_what_may_be_counts_is_pointed_out(self) -> None:
        # Of 100 rows 0..5 come 40, 30, 16, 8, 4, 2 times: the larger half makes 14 %.
        y = np.repeat(np.arange(6), [40, 30, 16, 8, 4, 2])
        with pytest.warns(nv.NovaculaWarning, match="from 0 to 5, large ones rare"):
            assert labelled(y).task == "classification"
        assert labelled(y, task="regression").task == "regression"
        assert labelled(y, task="classification").task == "classification"
        assert labelled(np.repeat(np.arange(6), [2, 4, 8, 16, 30, 40])).task == "classification"  # grades
        assert labelled(np.repeat(np.arange(4), [60, 30, 8, 2])).task == "classification"  # few rare classes

    def test_floats(self) -> None:
        zeros = np.arange(10) % 2
        with pytest.warns(nv.NovaculaWarning, match=r"0\.0 and 1\.0"):
            data = labelled(zeros.astype(float))
        assert (data.task, data.y.tolist()) == ("classification", zeros.tolist())
        assert labelled(zeros.astype(float), task="regression").task == "regression"
        assert labelled(zeros.astype(float)[:, None]).task == "regression"
        assert labelled((np.arange(30) % 3).astype(float)).task == "regression"  # counts, perhaps
        assert labelled(np.array([0.0, 1.0, 0.5, 1.0])).task == "regression"
        assert labelled(np.array([0.0, 1.0])).task == "regression"  # two rows tell nothing


class TestTables:
    def write(self, folder: Path, text: str, name: str = "a.csv") -> Path:
        (folder / name).write_text(text, encoding="utf-8")
        return folder / name

    @pytest.mark.parametrize("header", ["", "Unnamed: 0", "__index_level_0__"])
    @pytest.mark.parametrize("first", [0, 1])
    def test_an_exported_index_is_left_out(self, tmp_path: Path, header: str, first: int) -> None:
        rows = "".join(f"{i + first},{v:.3f},{v * 2:.3f}\n" for i, v in enumerate(G.normal(size=30)))
        with pytest.warns(nv.NovaculaWarning, match="counts the rows"):
            data = nv.load(self.write(tmp_path, f"{header},a,y\n{rows}"))
        assert data.columns == ("a",)

    @pytest.mark.parametrize("target", [1, "a", ["a"]])
    def test_columns_are_counted_before_any_is_left_out(self, tmp_path: Path, target: Any) -> None:
        rows = "".join(f"{i},{v:.3f},{i},{v + 1:.3f}\n" for i, v in enumerate(G.normal(size=30)))
        with pytest.warns(nv.NovaculaWarning) as said:
            splits = load_splits(self.write(tmp_path, f",a,b,c\n{rows}"), target)
        assert splits.targets == ("a",)
        assert splits.train.columns == ("b", "c")
        assert len(said) == 2  # the index, and b

    def test_a_target_that_counts_is_left_alone(self, tmp_path: Path) -> None:
        rows = "".join(f"{v:.3f},{i}\n" for i, v in enumerate(G.normal(size=30)))
        assert nv.load(self.write(tmp_path, f"a,y\n{rows}")).task == "regression"

    def test_an_identifier_is_said_and_measurements_are_not(self, tmp_path: Path) -> None:
        order = G.permutation(30)
        rows = "".join(f"{i},{v:.3f},{v * 2:.3f}\n" for i, v in zip(order, G.normal(size=30), strict=True))
        with pytest.warns(nv.NovaculaWarning, match="'patient_id' numbers the rows"):
            data = nv.load(self.write(tmp_path, f"patient_id,a,y\n{rows}"))
        assert data.columns == ("patient_id", "a")
        assert nv.load(self.write(tmp_path, f"height,a,y\n{rows}")).columns == ("height", "a")

    @pytest.mark.parametrize("delimiter", [";", "\t"])
    def test_a_decimal_comma(self, tmp_path: Path, delimiter: str) -> None:
        text = "dose;b;y\n0,5;1.234,5;-1,0\n1,0;12,25;2,5e3\n2;7;0,125\n".replace(";", delimiter)
        data = nv.load(self.write(tmp_path, text))
        assert data.columns == ("dose", "b")
        assert data.x.tolist() == [[0.5, 1234.5], [1.0, 12.25], [2.0, 7.0]]
        assert data.y.tolist() == [[-1.0], [2500.0], [0.125]]

    def test_quoted_numbers_in_a_file_of_commas(self, tmp_path: Path) -> None:
        data = nv.load(self.write(tmp_path, 'a,b,y\n"1,250","0,5",1.5\n"12,000","1,25",2.5\n900,2,3.5\n'))
        assert data.x.tolist() == [[1250.0, 0.5], [12000.0, 1.25], [900.0, 2.0]]

    def test_dates_keep_their_distances(self, tmp_path: Path) -> None:
        text = "when,y\n2024-01-31,1.5\n2024-02-01,2.5\n2025-01-31,3.5\n"
        x = nv.load(self.write(tmp_path, text)).x[:, 0]
        assert (x - x[0]).tolist() == [0, 1, 366]
        assert as_dates(["31.1.2024", "1.2.2024"]).tolist() == as_dates(["2024-01-31", "2024-02-01"]).tolist()  # type: ignore[union-attr]
        assert as_dates(["2024-01-31T06:00:00+00:00"])[0] % 1 == pytest.approx(0.25)  # type: ignore[index]
        assert as_dates(["2024-13-01"]) is None
        assert as_dates(["2024-01-31", "soon"]) is None

    def test_numbers(self) -> None:
        point, comma = Numbers(), Numbers(comma=True)
        assert (point("1,5"), comma("1,5"), comma("1.5"), comma("-1.000.000,25"), comma("7")) == (
            None,
            1.5,
            1.5,
            -1000000.25,
            7,
        )
        assert isinstance(comma("7"), int)
        assert comma("1,2,3") is None


class Numbered(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Items with noise of one library."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor([float(i), float(self.draw())]), torch.tensor(i % 2)


@pytest.mark.parametrize("draw", [np.random.rand, random.random, lambda: torch.rand(())])
def test_random_datasets_are_read_alike_and_leave_generators_alone(draw: Any) -> None:
    def read() -> nv.Data:
        with pytest.warns(nv.NovaculaWarning, match="at random"):
            return nv.Data.from_dataset(Numbered(draw))

    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    torch.manual_seed(7)
    expected = [float(np.random.rand()), random.random(), float(torch.rand(()))]  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    torch.manual_seed(7)
    assert read().fingerprint == read().fingerprint
    assert [float(np.random.rand()), random.random(), float(torch.rand(()))] == expected  # noqa: NPY002


class TestSamplers:
    x = torch.arange(40.0)[:, None].repeat(1, 3)
    y = (torch.arange(40) >= 36).long()
    pairs = TensorDataset(x, y)

    @pytest.mark.parametrize(
        "options",
        [
            {"batch_size": 8, "sampler": WeightedRandomSampler(torch.tensor([1.0, 9.0])[y], 40)},
            {"batch_size": 8, "sampler": RandomSampler(pairs, replacement=True)},
            {"batch_size": 8, "sampler": RandomSampler(pairs, num_samples=20)},
            {"batch_size": 16, "drop_last": True},
            {"batch_size": 16, "drop_last": True, "shuffle": True},
            {"batch_sampler": BatchSampler(WeightedRandomSampler(torch.ones(40), 80), 10, drop_last=False)},
            {"batch_sampler": [[0, 1], [1, 2]]},
        ],
    )
    def test_repeated_and_lost_rows_are_seen(self, options: dict[str, Any]) -> None:
        with pytest.warns(nv.NovaculaWarning, match="read once"):
            data = nv.Data.from_dataset(DataLoader(self.pairs, **options))
        assert sorted(data.x[:, 0].tolist()) == list(range(40))
        assert int(data.y.sum()) == 4

    @pytest.mark.parametrize(
        "loader",
        [
            DataLoader(pairs, 16),
            DataLoader(pairs, 16, shuffle=True),
            DataLoader(pairs, batch_sampler=BatchSampler(RandomSampler(pairs), 7, drop_last=False)),
        ],
    )
    def test_plain_loaders_are_read_as_they_are(self, loader: Any) -> None:
        assert sorted(nv.Data.from_dataset(loader).x[:, 0].tolist()) == list(range(40))

    def test_chosen_parts_are_respected(self) -> None:
        part = nv.Data.from_dataset(DataLoader(Subset(self.pairs, [3, 5, 38, 39]), 2))
        assert part.x[:, 0].tolist() == [3, 5, 38, 39]
        sampled = nv.Data.from_dataset(DataLoader(self.pairs, 2, sampler=SubsetRandomSampler([3, 5, 38, 39])))
        assert sorted(sampled.x[:, 0].tolist()) == [3, 5, 38, 39]
        with pytest.warns(nv.NovaculaWarning, match="drop_last"):
            whole = nv.Data.from_dataset(
                DataLoader(self.pairs, 3, sampler=SubsetRandomSampler([3, 5, 38, 39]), drop_last=True)
            )
        assert sorted(whole.x[:, 0].tolist()) == [3, 5, 38, 39]


def test_photographs_are_read_as_people_see_them(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[0] = 255
    for name, orientation in (("upright", 1), ("turned", 6)):
        (tmp_path / name).mkdir()
        for i in range(2):
            made = image.fromarray(picture)
            exif = made.getexif()
            exif[274] = orientation
            made.save(tmp_path / name / f"{i}.png", exif=exif)
    data = nv.load(tmp_path)
    turned, upright = data.x[0].movedim(0, -1).numpy(), data.x[-1].movedim(0, -1).numpy()
    np.testing.assert_array_equal(upright, picture / 255)
    np.testing.assert_array_equal(turned, np.rot90(picture, -1) / 255)


def test_standard_units_leave_renumbered_classes_alone() -> None:
    with pytest.warns(nv.NovaculaWarning, match="numbered 0"):
        data = labelled([3, 4, 5] * 5)
    assert Standardiser.fit(data).apply(data).classes == ("3", "4", "5")


def test_a_table_may_be_told_what_its_columns_are(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"{i % 3},{i},{a},{i % 2}\n" for i, a in enumerate(G.normal(size=30)))
    path.write_text(f"ward,id,a,y\n{rows}")
    for target in ("y", 3):
        data = nv.load(path, target, categorical=["ward"], drop=["id"], task="regression")
        assert data.columns == ("ward=0", "ward=1", "ward=2", "ward=(other)", "a")
        assert data.task == "regression"
    like = Like(data.x_shape, data.task, columns=data.columns, coding=data.coding)
    assert load_new(path, like).x.tolist() == data.x.tolist()
    with pytest.raises(nv.InputError, match=r"a column 'wrad'.*name 'ward', as the header has it"):
        nv.load(path, drop=["wrad"])
    with pytest.raises(nv.InputError, match=r"a column 'zzzz'.*columns ward, id, a, y.*name 'ward', for instance"):
        nv.load(path, drop=["zzzz"])
    with pytest.raises(nv.InputError, match="not dropped"):
        nv.load(path, drop=["y"])
    np.savez(tmp_path / "a.npz", x=G.normal(size=(6, 2)), y=np.arange(6) % 2)
    with pytest.raises(nv.InputError, match="columns to drop"):
        nv.load(tmp_path / "a.npz", drop=["a"])


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("{i}.5 %", "{i}.5"),
        ("{i}%", "{i}"),
        ("${i},250", "{i}250"),
        ("-{i} kg", "-{i}"),
        ("€ {i}.25", "{i}.25"),
        ("{i} m2", "{i}"),
        ("{i}.5cm3", "{i}.5"),
    ],
)
def test_numbers_of_one_unit_are_numbers(tmp_path: Path, cell: str, value: str) -> None:
    rows = [f'"{cell.format(i=i % 7 + 1)}",{i % 5}.25' for i in range(30)]
    (tmp_path / "a.csv").write_text("a,y\n" + "\n".join(rows) + "\n")
    data = nv.load(tmp_path / "a.csv")
    assert data.columns == ("a",)
    assert data.x[:, 0].tolist() == [float(value.format(i=i % 7 + 1)) for i in range(30)]


@pytest.mark.parametrize("cells", [("1 kg", "2 g"), ("3a4", "5a4"), ("A1", "A2"), ("1st", "2nd"), ("1-2 kg", "3-4 kg")])
def test_other_words_stay_words(tmp_path: Path, cells: tuple[str, str]) -> None:
    (tmp_path / "a.csv").write_text("a,y\n" + "".join(f"{cells[i % 2]},{i % 5}.25\n" for i in range(30)))
    assert nv.load(tmp_path / "a.csv").columns == (f"a={cells[0]}", f"a={cells[1]}", "a=(other)")


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (lambda i: f"{i * 0.5},{i * 0.5}", "is a copy of the target 'y'"),
        (lambda i: f"{-999 if i % 9 == 0 else i * 0.25},{i % 4}.5", "has -999 in 4 rows, far from all other values"),
        (lambda i: f"{i * 0.25},{('Yes', 'no', 'yes')[i % 3]}", "differ in capitals alone .'Yes', 'yes'."),
    ],
)
def test_what_columns_may_mean_besides_is_said(tmp_path: Path, row, text: str) -> None:
    (tmp_path / "a.csv").write_text("a,y\n" + "".join(f"{row(i)}\n" for i in range(32)))
    with pytest.warns(nv.NovaculaWarning, match=text) as said:
        nv.load(tmp_path / "a.csv")
    assert len(said) == 1


def test_codes_within_the_range_of_a_column_are_numbers(tmp_path: Path) -> None:
    rows = [f"{999 if i % 9 == 0 else i * 40},{i % 4}.5" for i in range(32)]
    (tmp_path / "a.csv").write_text("\n".join(["a,y", *rows]) + "\n")
    assert nv.load(tmp_path / "a.csv").n == 32


@pytest.mark.parametrize("cell", ["{i}.5", "{i} %", "2023-01-{i:02}", "{i},5"])
@pytest.mark.parametrize("word", ["-", "n.a.", "#DIV/0!"])
def test_words_for_no_value_are_missing_among_numbers(tmp_path: Path, cell: str, word: str) -> None:
    rows = [f"{word if i % 9 == 4 else cell.format(i=i % 20 + 1)};{i % 4}.5" for i in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(["a;y", *rows]) + "\n")
    data = nv.load(tmp_path / "a.csv")
    assert any("4 missing values in 1 column filled by the median" in text for text in data.meaning)
    assert len(data.columns) == 2


def test_they_are_words_among_words(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,y\n" + "".join(f"{'+-'[i % 2]},{i % 4}.5\n" for i in range(30)))
    assert nv.load(tmp_path / "a.csv").columns == ("a=+", "a=-", "a=(other)")
