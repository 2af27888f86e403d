"""CSV, Parquet, IDX files and image folders: round trips, and the message for everything that can be wrong."""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import novacula as nv
from files import COLOUR, CSV, IMAGES, LABELS, refused, same
from novacula.data.data import Data
from novacula.data.load import load, load_splits

G = np.random.default_rng(0)


class TestCsv:
    def write(self, folder: Path, text: str, name: str = "a.csv") -> Path:
        path = folder / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    def expected(self) -> Data:
        return Data([[1, 0.5, 0, 1, 0], [2, -1e-3, 1, 0, 0], [3, 2, 0, 1, 0]], [10.5, 11, 12.25])

    @pytest.mark.parametrize("pandas", [True, False])
    @pytest.mark.parametrize("name, delimiter", [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t"), ("a.csv.gz", ",")])
    def test_delimiters(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pandas: bool, name: str, delimiter: str
    ) -> None:
        if not pandas:
            monkeypatch.setitem(sys.modules, "pandas", None)
            monkeypatch.setitem(sys.modules, "pyarrow", None)
        data = load(self.write(tmp_path, CSV.replace(",", delimiter), name))
        assert same(data, self.expected())
        assert (data.columns, data.name) == (("a", "b", "colour=blue", "colour=red", "colour=(other)"), "a")

    @pytest.mark.parametrize(
        "text", ["\ufeff" + CSV, CSV.replace("\n", "\r\n"), "\n" + CSV + "\n\n", CSV.replace(",", " , "), CSV[:-1]]
    )
    def test_white_space(self, tmp_path: Path, text: str) -> None:
        assert same(load(self.write(tmp_path, text)), self.expected())

    def test_quotes(self, tmp_path: Path) -> None:
        data = load(self.write(tmp_path, 'x,"the, target"\n1,"a, b"\n2,"say ""c"""\n'), "the, target")
        assert data.classes == ("a, b", 'say "c"')

    @given(
        st.lists(st.tuples(st.floats(width=64, allow_nan=False, allow_infinity=False), st.integers(0, 5)), min_size=2)
    )
    @settings(max_examples=30, deadline=None)
    def test_floats_survive_exactly(
        self, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, int]]
    ) -> None:
        path = tmp_path_factory.mktemp("csv") / "a.csv"
        path.write_text("x,y\n" + "".join(f"{x!r},{y}\n" for x, y in rows))
        data = load(path, dtype=torch.float64, task="regression")
        assert data.x[:, 0].tolist() == [x for x, _ in rows]
        assert data.y.ravel().tolist() == [y for _, y in rows]

    @pytest.mark.parametrize("seed", range(12))
    def test_blocks_do_not_matter(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
        """Columns of every kind, taken apart three rows or all at once; and the same refusals."""
        g = np.random.default_rng(seed)
        kinds = [
            ["1", "2", "-3"],
            ["1", "2.5", "1e3"],
            ["a", "b c", "d"],
            ["true", "False"],
            ["2024-01-31", "1.2.2024"],
        ]
        kinds += [['"1,250"', "900"], ['"0,5"', "2"], ["1", "x"], ["9223372036854775808", "1"], ["2024-01-31", "7"]]
        columns = [g.choice([*kinds[k], *g.choice(["", "NA", kinds[k][0]], 2)], 11) for k in g.integers(0, 10, 3)]
        text = "a,b,c,y\n" + "".join(f"{','.join(row)},{i / 7}\n" for i, row in enumerate(zip(*columns, strict=True)))
        path = self.write(tmp_path, text)

        def found() -> Any:
            try:
                data = load(path)
            except nv.InputError as error:
                return str(error)
            return data.columns, data.x.tolist(), data.meaning

        whole = found()
        monkeypatch.setattr("novacula.data.sources.tables._BLOCK", 3)
        assert found() == whole

    def test_agrees_with_pandas(self, tmp_path: Path) -> None:
        """The same numbers as pandas' own exact reader."""
        text = "a,b,t\n" + "".join(
            f"{a!r},{b},{a * b!r}\n" for a, b in zip(G.normal(size=50), G.integers(0, 9, 50), strict=True)
        )
        path = self.write(tmp_path, text.replace("np.float64(", "").replace(")", ""))
        frame = pd.read_csv(path, dtype=str).astype(float)
        assert same(load(path, "t"), Data(frame[["a", "b"]], frame["t"]))

    def test_targets(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, "a,b,c\n1,2,x\n3,5,z\n7,8,x\n")
        assert load(path, "c").y.tolist() == load(path, -1).y.tolist() == load(path, "2").y.tolist() == [0, 1, 0]
        assert load(path, "b", task="regression").y.tolist() == [[2.0], [5.0], [8.0]]
        assert load(path, ["a", "b"]).y.tolist() == [[1.0, 2.0], [3.0, 5.0], [7.0, 8.0]]
        assert load(path, ["a", "b"]).columns == ("c=x", "c=z", "c=(other)")

    def test_booleans_and_headless_files(self, tmp_path: Path) -> None:
        data = load(self.write(tmp_path, "flag,y\nTrue,0\nfalse,1\nTRUE,0\n"))
        assert data.x.tolist() == [[1.0], [0.0], [1.0]]
        data = load(self.write(tmp_path, "5.1,3,setosa\n4.9,4,other\n"), -1)
        assert (data.x.tolist(), data.columns, data.classes) == (
            [[5.0999999046325684, 3.0], [4.900000095367432, 4.0]],
            ("0", "1"),
            ("other", "setosa"),
        )
        assert load(self.write(tmp_path, "1,2\n3,4\n5,6\n"), 0).n == 3

    @pytest.mark.parametrize(
        "text, target, message",
        [
            ("", None, "which is empty"),
            ("\n \n", None, "which is empty"),
            ("a,y\n", None, "a header and no rows"),
            ("a,y\n1,2\n", None, "at least two rows; got one row, in"),
            ("a,y\n,2\nNA,4\n", None, "only the target ['y']"),
            ("a,y\n1,\n3,NA\n", None, "rows with a target; got none"),
            ("a,y\n1,2\n3,4,5\n", None, "2 entries in every row, as in the header; got 3 in line 3"),
            ("a,y\n1,2\n3\n", None, "got 1 in line 3"),
            ("a,a,y\n1,2,3\n4,5,6\n", None, "'a' twice in"),
            ("a,y\n1,2\n3x,4\n5,6\n", None, "'3x' in row 1 (line 3), column 'a'"),
            ("a,y\n1_0,2\n3,4\n5,6\n", None, "'1_0' in row 0"),
            ("a,y\ninf,2\n3,4\n", None, "infinity in row 0, column 0 ('a')"),
            ("a,b\n1,2\n3,4\n", None, "with columns a, b. Try: target='b', for instance (of a command: --target 'b')"),
            ("y,label\n1,2\n3,4\n", None, "of which ['y', 'label'] are usual names"),
            ("strength,b\n1,2\n3,4\n", "strenght", "target='strength'"),
            ("Strength,b\n1,2\n3,4\n", "strength", "target='Strength'"),
            ("a,b\n1,2\n3,4\n", "zzz", "one of a, b"),
            ("a,b\n1,2\n3,4\n", 2, "a column index below 2"),
            ("a,b\n1,2\n3,4\n", [], "one target column or several"),
            ("a,b\n1,2\n3,4\n", ["a", "a"], "several different ones"),
            ("a,b,c\n1,u,0\n3,v,1\n", ["a", "b"], "text in column 'b'"),
            ("a,b\n1,2\n3,4\n", ["a", "b"], "at least one input column"),
            ("y\n1\n2\n", None, "one column, 'y'"),
            ("name,y\n" + "".join(f"n{i},1\n" for i in range(21)), None, "21 in column 'name'"),
        ],
    )
    def test_errors(self, tmp_path: Path, text: str, target: Any, message: str) -> None:
        with refused(message):
            load(self.write(tmp_path, text), target)

    def test_not_text(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_bytes(b"a,y\n\xff\xfe,1\n2,3\n")
        with refused("UTF-8 text"):
            load(tmp_path / "a.csv")
        (tmp_path / "a.csv.gz").write_bytes(b"plain")
        with refused("a whole gzip file"):
            load(tmp_path / "a.csv.gz")


class TestParquet:
    frame = pd.DataFrame({"a": [1.5, 2.5, 4.5], "k": ["v", "u", "v"], "f": [True, False, True], "t": [2, 0, 1]})

    def test_same_as_csv_with_either_reader(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.frame.to_parquet(tmp_path / "a.parquet")
        self.frame.to_csv(tmp_path / "a.csv", index=False)
        data = load(tmp_path / "a.parquet", "t")
        assert same(data, load(tmp_path / "a.csv", "t"))
        assert data.columns == ("a", "k=u", "k=v", "k=(other)", "f")
        real = __import__("importlib").import_module
        monkeypatch.setattr(
            "importlib.import_module", lambda name: fail(name) if name == "pyarrow.parquet" else real(name)
        )
        assert same(load(tmp_path / "a.parquet", "t"), data)

    def test_no_reader(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a.parquet").write_bytes(b"")
        monkeypatch.setattr("importlib.import_module", fail)
        with refused("pip install 'novacula[tables]'"):
            load(tmp_path / "a.parquet")

    def test_a_reader_without_its_engine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.frame.to_parquet(tmp_path / "a.parquet")

        def engine(path: Path) -> Any:
            raise ImportError("Unable to find a usable engine")

        def only_pandas(name: str) -> Any:
            return fail(name) if name == "pyarrow.parquet" else SimpleNamespace(read_parquet=engine)

        monkeypatch.setattr("importlib.import_module", only_pandas)
        with refused("pip install 'novacula[tables]'"):
            load(tmp_path / "a.parquet")

    def test_errors(self, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        path.write_bytes(b"PAR1 nonsense")
        with refused("a readable Parquet file"):
            load(path)
        self.frame.assign(k=[b"1", b"2", b"3"]).to_parquet(path)
        with refused("bytes b'1' in row 0, column 'k' of"):
            load(path, "t")


def fail(name: str) -> Any:
    raise ImportError(name)


def write_idx(path: Path, a: np.ndarray, code: int = 0x08) -> None:
    raw = struct.pack(">BBBB", 0, 0, code, a.ndim) + struct.pack(f">{a.ndim}i", *a.shape) + a.tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


class TestIdx:
    @pytest.mark.parametrize("gz", ["", ".gz"])
    @pytest.mark.parametrize("style", ["-idx{}-ubyte", ".idx{}-ubyte"])
    def test_folder_and_file(self, tmp_path: Path, gz: str, style: str) -> None:
        for part, n in (("train", 6), ("t10k", 4)):
            write_idx(tmp_path / f"{part}-images{style.format(3)}{gz}", IMAGES[:n])
            write_idx(tmp_path / f"{part}-labels{style.format(1)}{gz}", LABELS[:n].astype(np.uint8))
        splits = load_splits(tmp_path)
        assert same(splits.train, Data(IMAGES[:, None], LABELS))
        assert splits.test is not None
        assert same(splits.test, Data(IMAGES[:4, None], LABELS[:4]))
        with refused("a file with published splits"):
            load_splits(tmp_path, split=0)
        assert same(load(tmp_path / f"t10k-images{style.format(3)}{gz}"), splits.test)
        assert load(tmp_path).name == tmp_path.name

    def test_both_plain_and_gzipped(self, tmp_path: Path) -> None:
        for gz in ("", ".gz"):
            write_idx(tmp_path / f"train-images-idx3-ubyte{gz}", IMAGES)
        write_idx(tmp_path / "train-labels-idx1-ubyte.gz", LABELS.astype(np.uint8))
        assert load(tmp_path).n == 6

    @pytest.mark.parametrize("code, dtype", [(0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")])
    def test_types(self, tmp_path: Path, code: int, dtype: str) -> None:
        x = (np.arange(24).reshape(2, 3, 4) - 5).astype(dtype)
        write_idx(tmp_path / "images.idx3", x, code)
        write_idx(tmp_path / "labels.idx1", np.array([0, 1], dtype=np.uint8))
        assert torch.equal(load(tmp_path).x, torch.arange(24.0).reshape(2, 1, 3, 4) - 5)

    def test_errors(self, tmp_path: Path) -> None:
        images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
        write_idx(images, IMAGES)
        with refused("labels in train-labels-idx1-ubyte or"):
            load(tmp_path)
        write_idx(labels, LABELS.astype(np.uint8))
        with refused("pass the file whose name contains 'images'"):
            load(labels)
        images.write_bytes(images.read_bytes()[:-3])
        with refused("207 bytes of values where its header promises 210 for shape (6, 5, 7)"):
            load(tmp_path)
        images.write_bytes(b"\0\0\x07\x03")
        with refused("no IDX header"):
            load(tmp_path)
        images.write_bytes(b"")
        with refused("no IDX header"):
            load(tmp_path)
        write_idx(images, IMAGES)
        write_idx(labels, IMAGES)
        with refused("labels with one axis; got 3 axes"):
            load(tmp_path)
        write_idx(tmp_path / "valid-images-idx3-ubyte", IMAGES)
        with refused("one IDX file of training images; got train-images-idx3-ubyte, valid-images-idx3-ubyte"):
            load(tmp_path)

    def test_damaged_gzip(self, tmp_path: Path) -> None:
        path = tmp_path / "train-images-idx3-ubyte.gz"
        write_idx(path, IMAGES)
        write_idx(tmp_path / "train-labels-idx1-ubyte", LABELS.astype(np.uint8))
        for content in (b"plain", path.read_bytes()[:-20]):
            path.write_bytes(content)
            with refused("a whole gzip file"):
                load(tmp_path)


class TestImageFolder:
    def write(self, folder: Path, pixels: np.ndarray = IMAGES, labels: Any = LABELS) -> None:
        for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            path = folder / "bca"[label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)

    @pytest.mark.parametrize("pixels", [IMAGES, COLOUR])
    def test_round_trip(self, tmp_path: Path, pixels: np.ndarray) -> None:
        self.write(tmp_path, pixels)
        (tmp_path / "a" / "notes.txt").write_text("not an image")
        (tmp_path / ".cache").mkdir()
        data = load(tmp_path)
        names = np.array(["bca"[k] for k in LABELS])
        order = np.argsort(names, kind="stable")
        expected = pixels[:, None] if pixels.ndim == 3 else np.moveaxis(pixels, -1, 1)
        assert same(data, Data(expected[order], names[order]))

    def test_parts(self, tmp_path: Path) -> None:
        self.write(tmp_path / "train")
        self.write(tmp_path / "test", IMAGES[:2], LABELS[:2])
        splits = load_splits(tmp_path)
        assert splits.test is not None
        assert (splits.train.n, splits.test.n, splits.test.classes) == (6, 2, ("a", "b", "c"))

    def test_test_part_may_lack_a_class_but_not_add_one(self, tmp_path: Path) -> None:
        self.write(tmp_path / "train")
        self.write(tmp_path / "test", IMAGES[:2], LABELS[:2])
        assert not (tmp_path / "test" / "c").exists()
        test = load_splits(tmp_path).test
        assert test is not None
        assert test.y.tolist() == [0, 1]
        (tmp_path / "test" / "z").mkdir()
        with refused("classes a, b, c; got folder"):
            load(tmp_path)

    def test_mixed_modes_become_colour(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        Image.fromarray(COLOUR[0]).save(tmp_path / "a" / "z.png")
        assert load(tmp_path).x_shape == (3, 5, 7)

    def test_errors(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with refused("one folder of images a class"):
            load(tmp_path)
        (tmp_path / "a").mkdir()
        with refused("images in every class folder; got none in"):
            load(tmp_path)
        self.write(tmp_path)
        Image.fromarray(IMAGES[0, :3]).save(tmp_path / "c" / "small.png")
        with refused("(7, 3) (width, height) in"):
            load(tmp_path)
        (tmp_path / "c" / "small.png").write_bytes(b"\x89PNG nonsense")
        with refused("an image that can be read; got"):
            load(tmp_path)
        Image.fromarray(IMAGES[0].astype(np.float32)).save(tmp_path / "c" / "small.tif")
        (tmp_path / "c" / "small.png").unlink()
        with refused("8 or 16 bits a channel; got mode F"):
            load(tmp_path)
        (tmp_path / "c" / "small.tif").unlink()
        with refused("the single image"):
            load(tmp_path / "a" / "5.png")
        monkeypatch.setattr("importlib.import_module", fail)
        with refused("pip install 'novacula[images]'"):
            load(tmp_path)


@pytest.mark.parametrize(
    ("before", "names", "rows", "said"),
    [
        ('# Yeh, 1998; see "the paper\n#\n\na,b,y\n', ("a", "b"), 4, "2 lines of comment"),
        ("# strengths of concrete\na,b,y\n", ("a", "b"), 4, "1 line of comment"),
        ("# made by hand\n# a, b, y\n", ("a", "b"), 4, "1 line of comment"),  # as numpy.savetxt writes names
        ("#,b,y\n", ("#", "b"), 4, ""),
        ("# 2024,1,2\n", ("0", "1"), 4, "1 line of comment"),
    ],
)
def test_lines_of_comment_before_a_table_are_left_out(
    tmp_path: Path, before: str, names: tuple[str, ...], rows: int, said: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_text(before + "1.5,2,3.25\n2.5,1,4.25\n0.5,7,9.5\n3.5,4,8.25\n")
    data = load(path, target="y" if "y\n" in before else "2")
    assert (data.columns, data.n, data.x[:, 1].tolist()) == (names, rows, [2, 1, 7, 4])
    assert any(said in line for line in data.meaning) if said else not any("comment" in line for line in data.meaning)


def test_lines_after_comments_keep_their_numbers_and_comments_alone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("# one\n# two\na,b\n1,2\n3\n")
    with pytest.raises(nv.InputError, match="1 in line 5"):
        load(path)
    path.write_text("# one\n# two\n")
    with pytest.raises(nv.InputError, match="which is empty"):
        load(path)


def test_dates_are_said_to_be_dates_and_what_a_random_test_part_cannot_tell(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    days = pd.date_range("2020-01-01", periods=6)
    frame = pd.DataFrame({"when": days, "a": [1.5, 2, 0, 1, 4, 3], "y": [0.5, 1, 2, 3, 5, 4]})
    frame.to_csv(path, index=False)
    for data in (load(path), nv.Data(frame[["when", "a"]], frame["y"])):
        assert data.x[:, 0].tolist() == [18262.0 + i for i in range(6)]
    assert any("dates in 'when' as days since 1970" in line for line in load(path).meaning)
    frame.drop(columns="when").to_csv(path, index=False)
    assert not any("dates" in line for line in load(path).meaning)
