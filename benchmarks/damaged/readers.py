"""A small file of each kind that is read as data, whole or as needed, to learn from or to predict."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import novacula as nv
from benchmarks.damaged.subject import Subject
from novacula.data import lazy
from novacula.data.new import load_new
from novacula.data.raw import Like


@dataclass(frozen=True)
class _File:
    """A file in the folder, and how it is loaded."""

    name: str
    source: str = ""  # what is loaded, where that is not the file alone
    target: Any = None
    split: str | None = None
    needed: bool = False  # whether rows are read as needed


def readers(folder: Path) -> list[Subject]:
    """A small file of each kind that is read."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)).round(3), rng.integers(0, 3, 30)
    images = rng.integers(0, 256, (12, 6, 5), dtype=np.uint8)
    found = {**_tables(folder, x, y), **_arrays(folder, x, y), **_idx(folder, images, y[:12])}
    for more in (_images, _parquet):
        try:
            found |= more(folder, images if more is _images else x, y)
        except ImportError:  # an extra of the package that is not installed
            continue
    subjects = [
        Subject(name, folder / file.name, partial(_load, folder, file), False) for name, file in sorted(found.items())
    ]
    return [*subjects, *_new(folder)]


def _load(folder: Path, file: _File) -> bytes:
    split = None if file.split is None else str(folder / file.split)
    with _large(0 if file.needed else lazy.LARGE):
        data = nv.load(str(folder / (file.source or file.name)), target=file.target, split=split)
        rows = data.x[torch.arange(data.n)].numpy().tobytes() if file.needed else b""
    return f"{data.fingerprint} {data.classes} {data.columns}".encode() + rows


@contextmanager
def _large(size: int) -> Iterator[None]:
    # From which size on rows are read as needed.
    before, lazy.LARGE = lazy.LARGE, size
    try:
        yield
    finally:
        lazy.LARGE = before


def _tables(folder: Path, x: np.ndarray, y: np.ndarray) -> dict[str, _File]:
    rows = [f"{a},{b},{c},{'red' if d else 'blue'},{d}" for (a, b, c), d in zip(x, y, strict=True)]
    text = "\n".join(["a,b,c,colour,y", *rows]) + "\n"
    (folder / "t.csv").write_text(text)
    (folder / "t.tsv").write_text(text.replace(",", "\t"))
    (folder / "z.csv.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    (folder / "z.tsv.gz").write_bytes(gzip.compress(text.replace(",", "\t").encode(), mtime=0))
    # Decimal commas, dates, and values that are missing.
    lines = [
        f"{str(a).replace('.', ',')};2024-01-{i + 1:02d};{'' if i % 5 == 0 else i};{d}"
        for i, ((a, *_), d) in enumerate(zip(x.tolist(), y, strict=True))
    ]
    (folder / "odd.csv").write_text("\n".join(["a;day;age;y", *lines]) + "\n")
    return {
        "csv": _File("t.csv", target="y"),
        "csv of dates and gaps": _File("odd.csv", target="y"),
        "tsv": _File("t.tsv", target="y"),
        "csv.gz": _File("z.csv.gz", target="y"),
        "tsv.gz": _File("z.tsv.gz", target="y"),
    }


def _arrays(folder: Path, x: np.ndarray, y: np.ndarray) -> dict[str, _File]:
    np.savez(folder / "p.npz", x=x, y=y)
    np.savez_compressed(folder / "c.npz", x=x, y=y)
    np.savez(
        folder / "parts.npz", train_x=x[:20], train_y=y[:20], test_x=x[20:], test_y=y[20:], classes=list("rgb"),
        columns=["one", "two", "three"],
    )  # fmt: skip
    np.save(folder / "x.npy", np.column_stack([x, y]))
    return {
        "npz": _File("p.npz"),
        "npz compressed": _File("c.npz"),
        "npz in parts": _File("parts.npz"),
        "npz as needed": _File("p.npz", needed=True),
        "npz compressed as needed": _File("c.npz", needed=True),
        "npy": _File("x.npy", target=3),
        "npy as needed": _File("x.npy", target=3, needed=True),
    }


def _idx(folder: Path, images: np.ndarray, y: np.ndarray) -> dict[str, _File]:
    for name, a in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", y.astype(np.uint8))):
        head = bytes([0, 0, 8, a.ndim]) + b"".join(n.to_bytes(4, "big") for n in a.shape)
        for where in ("idx", "gz"):
            (folder / where).mkdir(exist_ok=True)
        (folder / "idx" / f"train-{name}").write_bytes(head + a.tobytes())
        (folder / "gz" / f"train-{name}.gz").write_bytes(gzip.compress(head + a.tobytes(), mtime=0))
    return {
        "idx": _File("idx/train-images-idx3-ubyte", "idx"),
        "idx labels": _File("idx/train-labels-idx1-ubyte", "idx"),
        "idx.gz": _File("gz/train-images-idx3-ubyte.gz", "gz"),
    }


def _images(folder: Path, images: np.ndarray, y: np.ndarray) -> dict[str, _File]:
    from PIL import Image

    coloured = Image.fromarray(np.stack([images[0], images[1], images[2], images[3] | 128], -1), "RGBA")
    grey = Image.fromarray(images[0])
    kinds: dict[str, tuple[str, Any]] = {kind: (kind, grey) for kind in ("jpg", "gif", "tif", "bmp", "webp", "pgm")}
    kinds["png"] = ("png", grey)
    kinds["png of four channels"] = ("png", coloured)
    kinds["png of a palette"] = ("png", coloured.convert("RGB").quantize(16))
    kinds["png of 16 bits"] = ("png", Image.fromarray(images[0].astype(np.uint16) * 257))
    kinds["jpg of colours"] = ("jpg", coloured.convert("RGB"))
    found = {}
    for name, (suffix, image) in kinds.items():
        for label in "ab":
            (folder / name / label).mkdir(parents=True)
            for i in range(4):
                image.save(folder / name / label / f"{i}.{suffix}")
        found[name] = _File(f"{name}/a/0.{suffix}", name)
    found["png as needed"] = _File("png/a/0.png", "png", needed=True)
    (folder / "list.txt").write_text("a/0.png\nb/0.png red\nb/1.png\n")
    (folder / "list.csv").write_text(
        "file,label,split\na/0.png,red,train\nb/0.png,blue,train\na/1.png,red,test\nb/1.png,blue,test\n"
    )
    found["list of files"] = _File("list.txt", "png", split="list.txt")
    found["list of files in csv"] = _File("list.csv", "png", split="list.csv")
    return found


def _parquet(folder: Path, x: np.ndarray, y: np.ndarray) -> dict[str, _File]:
    import pyarrow
    import pyarrow.parquet

    columns = {**{k: list(v) for k, v in zip("abc", x.T, strict=True)}, "word": ["u", "v", None] * 10, "y": list(y)}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "t.parquet")
    return {"parquet": _File("t.parquet", target="y")}


def _new(folder: Path) -> list[Subject]:
    # The same files as rows to predict.
    classes, columns = ("0", "1", "2"), ("a", "b", "c")
    table = Like((3,), "classification", classes, columns, ("y",), dtype=torch.float32)
    plain = Like((3,), "classification", classes, dtype=torch.float32)

    def load(path: Path, like: Like) -> bytes:
        found = load_new(path, like)
        y = b"" if found.y is None else found.y.numpy().tobytes()
        return found.x.numpy().tobytes() + y

    files: list[tuple[str, Like]] = [("t.csv", table), ("p.npz", plain), ("t.parquet", table)]
    made: list[Subject] = []
    for name, like in files:
        if (folder / name).is_file():
            read: Callable[[], bytes] = partial(load, folder / name, like)
            made.append(Subject(f"{name} to predict", folder / name, read, False))
    return made
