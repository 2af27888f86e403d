"""Files that declare more than they hold, that never end, or that are none: refused in words, in bounded memory."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import resource
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from novacula.core.errors import InputError
from novacula.data.load import load
from novacula.data.sources import bounded
from novacula.prediction.decisions.costs import load_costs

HEAD = b"PK\x01\x02\x14\x03\x14\0\0\0"  # how an entry of an archive's directory starts: its last two bytes are flags
LOCKED = HEAD[:-2] + b"\1\0"
CSV = "a,b,y\n1,2,0.5\n3,4,1.5\n5,6,2.5\n"


def npy(header: str, values: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + values


def shaped(shape: str, descr: str = "<f8") -> bytes:
    return npy(f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n", b"\0" * 64)


def archive(member: bytes, how: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as made:
        made.writestr("x.npy", member)
        made.writestr("y.npy", member)
    return file.getvalue()


def idx(*shape: int, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + b"".join(struct.pack(">i", n) for n in shape) + b"\0" * 64


def bomb() -> bytes:
    # A gigabyte of zeros, and a little more, in a megabyte.
    made, piece = io.BytesIO(), b"\0" * 2**24
    with gzip.GzipFile(fileobj=made, mode="wb", mtime=0) as file:
        for _ in range(68):
            file.write(piece)
    return made.getvalue()


BAD: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a shape of terabytes": ("x.npy", lambda: shaped("(1000000000000, 3)"), "promises 24,000,000,000,000"),
    "a shape beyond 64 bits": ("x.npy", lambda: shaped(f"({2**70}, {2**70})"), "promises"),
    "a shape below 0": ("x.npy", lambda: shaped("(-1, -8)"), "a header with shape"),
    "a shape that is none": ("x.npy", lambda: shaped("'8'"), "readable NumPy file"),
    "values of no width": ("x.npy", lambda: shaped("(1000000000000,)", "|V0"), "0 bytes a value"),
    "a type that is none": ("x.npy", lambda: shaped("(8,)", "<q9"), "readable NumPy file"),
    "a header that is no dictionary": ("x.npy", lambda: npy("[" * 9000), "readable NumPy file"),
    "a header that is cut short": ("x.npy", lambda: npy("{'descr")[:9], "readable NumPy file"),
    "a version to come": ("x.npy", lambda: npy("{}", version=b"\x09\x00"), "version (9, 0)"),
    "dates without a unit": ("x.npy", lambda: shaped("(8,)", "<M8"), "dates and durations with a unit"),
    "an archive of terabytes": ("x.npz", lambda: archive(shaped("(1000000000000, 3)")), "promises"),
    "dates without a unit in an archive": ("x.npz", lambda: archive(shaped("(8,)", "<M8")), "with a unit"),
    "an encrypted archive": (
        "x.npz",
        lambda: archive(shaped("(8,)")).replace(HEAD, LOCKED),
        "encrypted",
    ),
    "images of gigabytes": ("images-idx3-ubyte", lambda: idx(2**30, 28, 28), "64 bytes of values where"),
    "images of fewer than none": ("images-idx3-ubyte", lambda: idx(-8, -8), "a header with shape"),
    "images of 200 axes": ("images-idx3-ubyte", lambda: idx(*[1] * 200), "of 200 axes"),
    "a gzip bomb of text": ("x.csv.gz", bomb, "expands to at most"),
    "a gzip bomb of images": ("images-idx3-ubyte.gz", bomb, "expands to at most"),
    "gzip that is cut short": ("x.csv.gz", lambda: gzip.compress(CSV.encode())[:-9], "a whole gzip file"),
    "text in Latin 1": ("x.csv", lambda: CSV.replace("3", "\xe9").encode("latin1"), "byte 0xe9 in line 3"),
    "a number of 400 digits": ("x.csv", lambda: CSV.replace("3", "9" * 400).encode(), "column"),
    "a number of 5000 digits": ("x.csv", lambda: CSV.replace("3", "9" * 5000).encode(), "column"),
    "a null byte": ("x.csv", lambda: CSV.replace("3", "\0").encode(), "x.csv"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_words_and_in_little_time_and_memory(name: str, tmp_path: Path) -> None:
    file, content, said = BAD[name]
    (tmp_path / file).write_bytes(content())
    (tmp_path / "labels-idx1-ubyte").write_bytes(idx(64))
    began, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as caught:
        load(tmp_path / file, target="y" if "csv" in file else None)
    assert said in str(caught.value)
    assert file in str(caught.value)
    assert time.process_time() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 2**20  # kilobytes


def test_a_bomb_in_an_archive_is_refused_by_its_size(tmp_path: Path) -> None:
    a = np.zeros((2**25 + 1, 1))
    np.savez_compressed(tmp_path / "x.npz", x=a, y=np.zeros(1))
    with pytest.raises(InputError, match="expands to at most 268,435,456 bytes"):
        load(tmp_path / "x.npz")


def test_what_shrinks_well_is_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((2000, 100)), y=np.arange(2000) % 2)
    assert load(tmp_path / "x.npz").n == 2000


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    for name in ("x.csv", "x.npz", "x.npy", "x.parquet", "x.png"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(InputError, match="a regular file or a folder"):
            load(tmp_path / name)


def test_an_image_that_is_another_format_or_a_bomb_is_refused(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for folder in "ab":
        (tmp_path / folder).mkdir()
        image.new("1", (9000, 9000)).save(tmp_path / folder / "0.png")
    with pytest.raises(InputError, match=r"at most 67,108,864 pixels; got 9000 x 9000"):
        load(tmp_path)
    (tmp_path / "a" / "0.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(InputError, match="an image that can be read"):
        load(tmp_path)


def test_wide_tables_take_time_in_proportion(tmp_path: Path) -> None:
    seconds = []
    for width in (10_000, 40_000):
        rows = [",".join(f"c{i}" for i in range(width))]
        rows += [",".join(str((i * r) % 7 + 0.5) for i in range(width)) for r in range(1, 5)]
        (tmp_path / "wide.csv").write_text("\n".join(rows))
        began = time.process_time()
        assert load(tmp_path / "wide.csv", target="c0", task="regression").x_shape == (width - 1,)
        seconds.append(time.process_time() - began)
    # In proportion it is 4 times; with the square of the width, 16. A slow machine slows both.
    assert seconds[1] < 8 * seconds[0] + 0.5


def test_lzma_is_no_excuse(tmp_path: Path) -> None:
    content = bytearray(archive(np.lib.format.magic(1, 0) + b"\0" * 4000, zipfile.ZIP_LZMA))
    content[60:80] = lzma.compress(b"other")[:20]
    (tmp_path / "x.npz").write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"x\.npz"):
        load(tmp_path / "x.npz")


def test_the_bound_is_by_size_where_the_file_is_large(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\0" * 1000)
    assert bounded.room(path) == bounded.LEAST
    with path.open("wb") as file:
        file.truncate(bounded.LEAST)
    assert bounded.room(path) == bounded.RATIO * bounded.LEAST


def test_a_pipe_of_costs_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "costs.csv")
    with pytest.raises(InputError, match="no regular file"):
        load_costs(tmp_path / "costs.csv", 2)
