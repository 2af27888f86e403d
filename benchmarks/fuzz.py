"""Damage files at random, and see whether anything but a clear answer comes of it.

    python -m benchmarks.fuzz --cases 20000 --seed 0

Every case takes a small file that is read well, or a run folder, changes it once (a bit flipped, the end cut off, a
piece removed, doubled or put elsewhere, a JSON key dropped or its value changed, the file lost) and reads it again.

| outcome | means |
| --- | --- |
| equal | the result is that of the whole file |
| marked | another result, with a warning that says what is unchecked |
| refused | an error of the library's own, an `InputError` |
| changed | other data: formats without checksums cannot tell a changed digit from a digit |
| **wrong** | other numbers from a damaged run, and nothing that says so |
| **raw** | any other exception |
| **slow** | more than 10 CPU-seconds |

The last three must not happen. Memory is bounded to 1 GiB beyond what the process has at the start; what would take
more raises a MemoryError, and is raw.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import novacula as nv
from novacula.core.errors import InputError, NovaculaWarning

SECONDS = 10
ROOM = 2**30
FAULTS = ("wrong", "raw", "slow")
RESULTS = Path(__file__).parent / "results" / "fuzz.json"


@dataclass(frozen=True)
class Subject:
    """What is damaged, and how it is read.

    Args:
        name: Its name in the result.
        path: The file that is damaged.
        read: What is read of it, as bytes that tell two results apart.
        sealed: Whether the format has checksums, so that other numbers are a fault.
    """

    name: str
    path: Path
    read: Callable[[], bytes]
    sealed: bool


# ---------------------------------------------------------------------- mutations


def _flip(raw: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(raw)
    for place in rng.integers(0, max(1, len(raw)), rng.integers(1, 4)):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _truncate(raw: bytes, rng: np.random.Generator) -> bytes:
    return raw[: int(rng.integers(0, len(raw)))]


def _piece(raw: bytes, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(0, len(raw)))
    return start, min(len(raw), start + int(rng.integers(1, 65)))


def _delete(raw: bytes, rng: np.random.Generator) -> bytes:
    start, end = _piece(raw, rng)
    return raw[:start] + raw[end:]


def _duplicate(raw: bytes, rng: np.random.Generator) -> bytes:
    start, end = _piece(raw, rng)
    return raw[:end] + raw[start:end] + raw[end:]


def _splice(raw: bytes, rng: np.random.Generator) -> bytes:
    start, end = _piece(raw, rng)
    at = int(rng.integers(0, len(raw)))
    return raw[:at] + raw[start:end] + raw[at + end - start :]


def _overwrite(raw: bytes, rng: np.random.Generator) -> bytes:
    # Bytes that mean much: ends of ranges, quotes, digits, escapes.
    words = [
        b"\xff" * 4,
        b"\0" * 8,
        b"\x7f\xff\xff\xff",
        b"9" * 400,
        b"nan",
        b"1e999",
        b'"',
        b"\x1b[2J",
        "\u202e".encode(),
    ]
    word, at = words[int(rng.integers(len(words)))], int(rng.integers(0, len(raw)))
    return raw[:at] + word + raw[at + len(word) * int(rng.integers(2)) :]


def _json(raw: bytes, rng: np.random.Generator) -> bytes:
    # Drop an entry of a JSON object, or give it a value of another kind.
    try:
        whole = json.loads(raw)
    except ValueError:
        return _flip(raw, rng)
    places: list[tuple[dict[str, Any], str]] = []

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            places.extend((value, key) for key in value)
            for item in value.values():
                visit(item)
        elif isinstance(value, list):
            for item in value:
                visit(item)

    visit(whole)
    if not places:
        return _flip(raw, rng)
    owner, key = places[int(rng.integers(len(places)))]
    values = [None, -1, 1e308, "", [], {}, "x" * 100, True, [[1]], 10**30]
    which = int(rng.integers(-len(values), len(values)))
    if which < 0:
        del owner[key]
    else:
        owner[key] = values[which]
    return json.dumps(whole).encode()


MUTATIONS: dict[str, Callable[[bytes, np.random.Generator], bytes | None]] = {
    "flip": _flip,
    "truncate": _truncate,
    "delete": _delete,
    "duplicate": _duplicate,
    "splice": _splice,
    "overwrite": _overwrite,
    "json": _json,
    "lose": lambda raw, rng: None,
}

# ---------------------------------------------------------------------- subjects


def readers(folder: Path) -> list[Subject]:
    """A small file of each kind that is read."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)).round(3), rng.integers(0, 3, 30)
    images = rng.integers(0, 256, (12, 6, 5), dtype=np.uint8)
    rows = [f"{a},{b},{c},{'red' if d else 'blue'},{d}" for (a, b, c), d in zip(x, y, strict=True)]
    text = "\n".join(["a,b,c,colour,y", *rows]) + "\n"
    (folder / "t.csv").write_text(text)
    (folder / "t.tsv").write_text(text.replace(",", "\t"))
    (folder / "z.csv.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    np.savez(folder / "p.npz", x=x, y=y)
    np.savez_compressed(folder / "c.npz", x=x, y=y)
    np.save(folder / "x.npy", np.column_stack([x, y]))
    for name, a in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", (y[:12]).astype(np.uint8))):
        head = bytes([0, 0, 8, a.ndim]) + b"".join(n.to_bytes(4, "big") for n in a.shape)
        for where in ("idx", "gz"):
            (folder / where).mkdir(exist_ok=True)
        (folder / "idx" / f"train-{name}").write_bytes(head + a.tobytes())
        (folder / "gz" / f"train-{name}.gz").write_bytes(gzip.compress(head + a.tobytes(), mtime=0))
    found = {
        "csv": ("t.csv", "t.csv", "y"),
        "tsv": ("t.tsv", "t.tsv", "y"),
        "csv.gz": ("z.csv.gz", "z.csv.gz", "y"),
        "npz": ("p.npz", "p.npz", None),
        "npz compressed": ("c.npz", "c.npz", None),
        "npy": ("x.npy", "x.npy", 3),
        "idx": ("idx/train-images-idx3-ubyte", "idx", None),
        "idx labels": ("idx/train-labels-idx1-ubyte", "idx", None),
        "idx.gz": ("gz/train-images-idx3-ubyte.gz", "gz", None),
    }
    try:
        from PIL import Image

        for name in "ab":
            (folder / "png" / name).mkdir(parents=True)
            for i in range(2):
                Image.fromarray(images[i]).save(folder / "png" / name / f"{i}.png")
                Image.fromarray(images[i]).save(folder / "png" / name / f"{i + 2}.png")
        found["png"] = ("png/a/0.png", "png", None)
        (folder / "jpg" / "a").mkdir(parents=True)
        (folder / "jpg" / "b").mkdir(parents=True)
        for kind in ("jpg", "gif", "tif", "bmp", "webp"):
            for name in "ab":
                (folder / kind / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(images[0]).save(folder / kind / name / f"0.{kind}")
            found[kind] = (f"{kind}/a/0.{kind}", kind, None)
    except ImportError:
        pass
    try:
        import pyarrow
        import pyarrow.parquet

        columns = {k: list(v) for k, v in zip("abcy", [*x.T, y], strict=True)}
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / "t.parquet")
        found["parquet"] = ("t.parquet", "t.parquet", "y")
    except ImportError:
        pass

    def load(path: Path, target: Any) -> bytes:
        data = nv.load(str(path), target=target)
        return f"{data.fingerprint} {data.classes} {data.columns}".encode()

    made = []
    for name, (file, source, target) in found.items():
        where = folder / source
        made.append(Subject(name, folder / file, lambda where=where, target=target: load(where, target), False))
    return made


def runs(folder: Path) -> list[Subject]:
    """Run folders, file by file: of measurements, and of classes with a stored posterior."""
    from novacula.cli.summary import summary
    from novacula.core.storage.run import MANIFEST, RECORD, Run
    from novacula.data.standardise import Standardiser
    from novacula.runs.loading import load_run

    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 2)).astype(np.float32)
    made = []
    for name in ("measurements", "draws"):
        path = folder / name
        if name == "measurements":
            y = (3 * x[:, :1] - x[:, 1:] + 5).astype(np.float32)
            own = nv.Data(*_tensors(x, y))
            data = Standardiser.fit(own).apply(own)
        else:
            data = nv.Data(*_tensors(x, (x.sum(1) > 0).astype(np.int64)))

        def target(data: Any = data, outputs: int = 1 if name == "measurements" else 2) -> Any:
            own = nv.likelihoods.Normal() if outputs == 1 else nv.likelihoods.Categorical()
            return nv.Target(nv.networks.make("linear", data.x_shape, outputs), likelihood=own)

        fit = nv.learn(target(), data, epochs=2, seed=0)
        if name == "draws":
            fit = fit.with_posterior("ensemble:members=3", steps=5)
        fit.save(path, test=data.subset(range(10)))
        new = _tensors(x[:5], x[:5])[0]

        def read(path: Path = path, make: Any = target, data: Any = data, new: Any = new) -> bytes:
            run = Run.read(path)
            summary(run.record)
            shown = json.dumps({**run.record, "schema": None}, sort_keys=True).encode()
            saved = load_run(path, target=make(), data=data)
            p = saved.predict(new)
            spread = p.variance().numpy().tobytes() if data.task == "regression" else b""
            arrays = b"".join(k.encode() + a.tobytes() for k, a in sorted(run.arrays.items()))
            history = json.dumps(run.history).encode()
            return shown + history + arrays + p.mean().numpy().tobytes() + spread

        made += [Subject(f"run/{name}/{file.name}", file, read, True) for file in sorted(path.iterdir())]
        # As a version without checksums wrote it.
        old = folder / f"{name} of schema 1"
        shutil.copytree(path, old, ignore=shutil.ignore_patterns(MANIFEST))
        record = json.loads((old / RECORD).read_text())
        (old / RECORD).write_text(json.dumps({**record, "schema": 1}))
        made += [
            Subject(f"run of schema 1/{name}/{file.name}", file, partial(read, old), True)
            for file in sorted(old.iterdir())
        ]
        if name == "draws":
            made.append(_checkpoint(folder / "checkpoint.safetensors", fit.params))
            made.append(_options(folder / "command.json"))
    return made


def _checkpoint(path: Path, state: Any) -> Subject:
    from novacula.inference.checkpoint import load_checkpoint, save_checkpoint

    save_checkpoint(path, state, step=3, history=[{"epoch": 1.0, "loss": 0.5}], done=False, run_key="key")

    def read() -> bytes:
        found, *rest = load_checkpoint(path, state, run_key="key")
        return b"".join(k.encode() + w.numpy().tobytes() for k, w in sorted(found.items())) + repr(rest).encode()

    return Subject("checkpoint.safetensors", path, read, True)


def _options(path: Path) -> Subject:
    from novacula.cli.options import Options

    Options.of(data="digits", epochs=30, perturb=("rotate=180",)).save(path)
    return Subject("command.json", path, lambda: repr(Options.load(path)).encode(), True)


def _tensors(*arrays: np.ndarray) -> list[Any]:
    import torch

    return [torch.from_numpy(a) for a in arrays]


# ---------------------------------------------------------------------- cases


def outcome(subject: Subject, wanted: bytes) -> tuple[str, str]:
    """How a damaged file is read: one of the outcomes, and what was said."""
    began = time.process_time()
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            signal.alarm(6 * SECONDS)  # of the wall clock: a read that waits takes no CPU time
            found = subject.read()
    except InputError as error:
        result, text = "refused", str(error)
    except Exception:
        result, text = "raw", traceback.format_exc(limit=-4)
    else:
        marked = [str(w.message) for w in said if issubclass(w.category, NovaculaWarning)]
        text = marked[0] if marked else ""
        result = "equal" if found == wanted else "marked" if marked else "wrong" if subject.sealed else "changed"
    finally:
        signal.alarm(0)
    if time.process_time() - began > SECONDS:
        return "slow", f"{time.process_time() - began:.1f} CPU-s; {result}: {text}"
    return result, text


def fuzz(subjects: list[Subject], cases: int, seed: int) -> tuple[Counter[tuple[str, str]], list[dict[str, Any]]]:
    """Cases, subject after subject: counts by subject and outcome, and every fault with how to make it again."""
    counts: Counter[tuple[str, str]] = Counter()
    faults: list[dict[str, Any]] = []
    wanted = {s.name: (s.path.read_bytes(), s.read()) for s in subjects}
    for case in range(cases):
        subject = subjects[case % len(subjects)]
        raw, whole = wanted[subject.name]
        rng = np.random.default_rng([seed, case])
        names = [n for n in MUTATIONS if n != "json" or subject.path.suffix == ".json"]
        how = names[int(rng.integers(len(names)))]
        changed = MUTATIONS[how](raw, rng)
        subject.path.unlink()
        if changed is not None:
            subject.path.write_bytes(changed)
        try:
            result, said = outcome(subject, whole)
        finally:
            subject.path.write_bytes(raw)
        counts[subject.name, result] += 1
        if result in FAULTS:
            faults.append({"case": case, "subject": subject.name, "mutation": how, "outcome": result, "said": said})
    return counts, faults


def _bound_memory() -> None:
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))


def _stop(*_: object) -> None:
    raise TimeoutError("no answer")


def main() -> None:
    """Run the cases and write the counts."""
    from benchmarks.common import environment, write

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, _stop)
    folder = Path(tempfile.mkdtemp())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            subjects = [*readers(folder / "readers"), *runs(folder / "runs")]
            for subject in subjects:
                subject.read()  # what is imported now is not counted as a case's memory
        _bound_memory()
        began = time.process_time()
        counts, faults = fuzz(subjects, options.cases, options.seed)
        took = time.process_time() - began
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    outcomes: Counter[str] = Counter()
    table: dict[str, dict[str, int]] = {}
    for (name, result), n in sorted(counts.items()):
        outcomes[result] += n
        table.setdefault(name, {})[result] = n
    for name, row in table.items():
        print(f"{name:40} {row}")
    for fault in faults[:10]:
        print(json.dumps(fault, indent=1))
    print(f"{dict(outcomes)} in {took:.0f} CPU-s; {len(faults)} faults")
    content = {
        "cases": options.cases,
        "seed": options.seed,
        "outcomes": dict(outcomes),
        "subjects": table,
        "faults": faults,
        "cpu_seconds": round(took, 1),
        "environment": environment(),
    }
    write(options.out, content)


if __name__ == "__main__":
    main()
