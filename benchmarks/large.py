"""What large data take: the memory and time of reading them, and of a short `novacula learn`.

    python -m benchmarks.large --all                         # results/large.json, one case after another; resumes
    python -m benchmarks.large --case images --rows 50000

Data are made in a temporary folder: JPEG images of 64 × 64 pixels in ten folders of classes (waves of a class's
frequency and colour, with noise; a tenth of the labels at random), or a table of 20 columns of numbers and one of
words, a twentieth of whose numbers are missing, as csv or Parquet. Each measurement is made in a process of its own.
Memory is the process's high-water mark above the mark after its imports (VmHWM, which counts pages of mapped files
too); time is CPU time of all its threads.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import environment, write
from benchmarks.peak import MIB, in_subprocess, peak

RESULTS = Path(__file__).parent / "results" / "large.json"
SIDE, CLASSES, COLUMNS, BLOCK = 64, 10, 20, 100_000
CASES = [("images", 50_000), *((kind, n) for n in (100_000, 1_000_000) for kind in ("csv", "parquet"))]
TABLE = ("read", "learn auto")
EPOCHS = {"images": 1, "csv": 2, "parquet": 2}
WORKS = {
    "images": ("read", "learn linear", "learn auto"),
    "csv": ("read", "learn auto"),
    "parquet": ("read", "learn auto"),
}


def images(folder: Path, n: int) -> Path:
    """Photographs of nothing: classes differ in frequency and colour."""
    from PIL import Image

    g = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    for i in range(n):
        k = i % CLASSES
        angle, phase = g.uniform(0, np.pi), g.uniform(0, 2 * np.pi)
        wave = np.sin(2 * np.pi * (1 + k / 2) * (x * np.cos(angle) + y * np.sin(angle)) + phase)
        colour = 0.5 + 0.3 * np.cos(2 * np.pi * (k / CLASSES + np.arange(3) / 3))
        picture = 255 * (colour * (0.7 + 0.3 * wave[..., None])) + g.normal(0, 12, (SIDE, SIDE, 3))
        label = k if g.random() < 0.9 else int(g.integers(CLASSES))  # a tenth of the labels is left to chance
        path = folder / f"class{label}" / f"{i:06}.jpg"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path, quality=85)
    return folder


def block(start: int, n: int) -> dict[str, Any]:
    """Some rows of the table."""
    g = np.random.default_rng(start)
    x = g.normal(size=(n, COLUMNS)).round(4)
    word = g.choice(["north", "south", "west"], n)
    y = np.tanh(x[:, :5]).sum(1) + (word == "west") + g.normal(0, 0.3, n)
    x[g.random(x.shape) < 0.05] = np.nan
    return {**{f"x{j}": x[:, j] for j in range(COLUMNS)}, "site": word, "y": y.round(4)}


def table(folder: Path, n: int, kind: str) -> Path:
    """A table in blocks, so that making it takes no memory either."""
    path = folder / f"table.{kind}"
    if kind == "parquet":
        import pyarrow
        import pyarrow.parquet

        writer = None
        for start in range(0, n, BLOCK):
            part = pyarrow.table(block(start, min(BLOCK, n - start)))
            writer = writer or pyarrow.parquet.ParquetWriter(path, part.schema)
            writer.write_table(part)
        assert writer is not None
        writer.close()
        return path
    with path.open("w") as file:
        for start in range(0, n, BLOCK):
            found = block(start, min(BLOCK, n - start))
            if start == 0:
                file.write(",".join(found) + "\n")
            rows = zip(*(v.tolist() for v in found.values()), strict=True)
            file.writelines(",".join("" if v != v else str(v) for v in row) + "\n" for row in rows)
    return path


MAKE: dict[str, Callable[[Path, int], Path]] = {
    "images": images,
    "csv": lambda folder, n: table(folder, n, "csv"),
    "parquet": lambda folder, n: table(folder, n, "parquet"),
}


def measured(work: str, path: str, epochs: int) -> dict[str, Any]:
    """Read, or learn a network for some epochs without folds; meant for a fresh process."""
    from novacula.cli.app import app
    from novacula.data.load import load

    before, began = peak(), time.process_time()
    found: dict[str, Any] = {}
    verb, _, net = work.partition(" ")
    if verb == "read":
        data = load(path)
        found = {"n": data.n, "fingerprint": data.fingerprint, "lazy": type(data.x).__name__ == "LazyRows"}
        if Path(path).is_dir():
            next(data.batches(128, 0, 0))
    else:
        said = io.StringIO()
        options = [
            "--net",
            net,
            "--epochs",
            str(epochs),
            "--folds",
            "0",
            "--invariance",
            "none",
            "--no-report",
            "--quiet",
            "--json",
        ]
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(said):
            app(["learn", path, *options, "--output", f"{folder}/run"], standalone_mode=False)
        record = json.loads(said.getvalue().splitlines()[-1])
        found = {k: record["test"].get(k) for k in ("accuracy", "nll", "rmse") if k in record["test"]}
        found |= {"weights": record["weights"], "estimator": record["evidence"]["estimator"]}
    return {**found, "mib": (peak() - before) / MIB, "cpu_seconds": time.process_time() - began}


def case(kind: str, n: int, threads: int) -> dict[str, Any]:
    """Make the data, and measure all works."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        path = MAKE[kind](Path(folder), n)
        files = [p for p in (path.rglob("*") if path.is_dir() else [path]) if p.is_file()]
        size = sum(p.stat().st_size for p in files)
        made = {"made_cpu_seconds": time.process_time() - began, "bytes": size, "epochs": EPOCHS[kind]}
        for work in WORKS.get(kind, TABLE):
            made[work] = in_subprocess(
                "benchmarks.large", "--work", work, "--path", path, "--epochs", EPOCHS[kind], "--threads", threads,
                threads=threads,
            )  # fmt: skip
            print(kind, f"{n:,}", work, json.dumps(made[work]), flush=True)
    return made


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--case", choices=sorted(MAKE))
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.work:
        print(json.dumps(measured(options.work, options.path, options.epochs)))
        return
    if not options.all and not options.case:
        parser.error("--all or --case")
    found: dict[str, Any] = json.loads(RESULTS.read_text())["cases"] if RESULTS.is_file() else {}
    for kind, n in CASES if options.all else [(options.case, options.rows)]:
        if (name := f"{kind} {n}") not in found:
            found[name] = {**case(kind, n, options.threads), "environment": environment()}
            write(RESULTS, {"cases": found})


if __name__ == "__main__":
    main()
