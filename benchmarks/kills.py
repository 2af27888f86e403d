"""Kill commands at random, let them go on, and hold what they leave against a run that nobody touched.

    python -m benchmarks.kills --trials 8 --seed 0

A trial starts a command in a folder of its own and ends it up to four times: by SIGKILL or SIGINT, at a random moment
of its time or just before a random change that it makes to its folder (a file renamed into its place, removed, a folder
made).
Each time it is started again, with ``--resume`` where there is something to resume. In the end there must be

- the same bytes as of the whole run, but for the times that are written down,
- nothing else: no ``.tmp``, no lock, no checkpoint,
- and at every moment an older run, where there was one, or the new one in its place.

Networks are small: a trial takes seconds. Processes are forked from one that has imported torch.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from novacula.core.storage.run import ADVICE, CHECKPOINT, CHECKPOINT_SEARCH, COMMAND, NETWORKS, PLAN, RECORD, Run

RESULTS = Path(__file__).parent / "results" / "kills.json"
POSTERIORS = {
    "ensemble": "ensemble:members=2", "swag": "swag", "multi-swag": "multi-swag:members=2", "dropout": "dropout",
    "mean-field": "mean-field", "ivon": "ivon", "sgld": "sgld:keep=10", "csgld": "csgld:keep=10",
    "sghmc": "sghmc:keep=10", "hmc": "hmc:keep=10", "nuts": "nuts:keep=10", "smc": "smc:particles=20",
}  # fmt: skip
STEPS = {"smc": "12", "hmc": "24", "nuts": "24"}
KILLS = 4  # in a trial
PATIENCE = 120  # seconds of the wall clock
NET = """
import math
from torch import nn

def net(x_shape, outputs):
    size = math.prod(x_shape)
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 4), nn.Tanh(), nn.Dropout(0.1), nn.Linear(4, outputs))
"""


@dataclass(frozen=True)
class Case:
    """A command, as it is started first, and how what it leaves is read.

    Args:
        name: Its name in the result.
        words: The command's words, less the folder.
        again: Words to add where there is nothing to resume; the others add ``--resume``.
        older: Whether an older run stands in the folder.
    """

    name: str
    words: tuple[str, ...]
    again: tuple[str, ...] = ()
    older: bool = False

    @property
    def verb(self) -> str:
        """The command."""
        return self.words[0]

    def command(self, folder: Path, *, killed: bool) -> list[str]:
        """What is started in the state that the folder is in."""
        place = (
            [str(folder)] if self.verb == CROSS else ["--out" if self.verb == "calibrate" else "--output", str(folder)]
        )
        left = (CHECKPOINT, CHECKPOINT_SEARCH) if self.verb == "learn" else (f"{NETWORKS}/{PLAN}",)
        done = (folder / RECORD).is_file() or (folder / ADVICE).is_file()  # perhaps without its report
        begun = (folder / COMMAND).is_file() and (not done or any((folder / name).is_file() for name in left))
        resumed = killed and (begun or (done and not self.older))
        more = ["--resume"] if resumed else ["--overwrite"] if self.older else list(self.again) if killed else []
        return [*self.words, *place, *more]


CROSS = "cross-fit"


def cases(data: Path) -> list[Case]:
    """The commands, on small files that are written first."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(48, 3)).astype(np.float32), rng.integers(0, 2, 48)
    np.savez(data / "table.npz", x=x + y[:, None], y=y)
    noise = 0.1 * rng.normal(size=48).astype(np.float32)
    np.savez(data / "numbers.npz", x=x, y=x @ np.array([1, -2, 0.5], np.float32) + noise)
    images = rng.random((60, 1, 6, 6), dtype=np.float32)
    np.savez(data / "images.npz", x=images, y=(images[:, 0, :3].mean((1, 2)) > 0.5).astype(np.int64))
    (data / "net.py").write_text(NET)
    table, images_, net = str(data / "table.npz"), str(data / "images.npz"), ["--net", f"{data / 'net.py'}:net"]
    short = ["--epochs", "2", "--quiet"]
    learn = ("learn", table, *net, *short)
    calibrate = ("calibrate", f"{data / 'net.py'}:net", table, "--epochs", "3", "--folds", "3", "--quiet")
    found = [
        Case("learn", learn),
        Case("learn over an older run", learn, older=True),
        Case("learn numbers", ("learn", str(data / "numbers.npz"), "--net", "linear", *short)),
        Case("learn images", ("learn", images_, *net, "--invariance", "rotation", *short)),
        Case("augment", ("augment", images_, *net, "--only", "flip", "--steps", "6", "--workers", "1", "--quiet")),
        Case("calibrate", calibrate, ("--overwrite",)),
        Case("calibrate over an older one", calibrate, older=True),
        Case(CROSS, (CROSS, table)),
    ]
    for name, posterior in POSTERIORS.items():
        words = (*learn, "--folds", "0", "--posterior", posterior, "--posterior-steps", STEPS.get(name, "60"))
        found.append(Case(f"learn, {name}", words))
    return found


# ---------------------------------------------------------------------- processes


def start(words: list[str], log: Path, before: Callable[[], None]) -> int:
    """Run a command in a process of its own; its number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with open(log, "ab", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before()
        code = _run(words)
    except KeyboardInterrupt:  # outside of a command: Python's own answer to it
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(words: list[str]) -> int:
    if words[0] == CROSS:
        _cross_fit(*words[1:3])
        return 0
    from novacula.cli import main

    sys.argv = ["novacula", *words]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _cross_fit(data: str, folder: str, *_: str) -> None:
    # It keeps nothing on disk: what it gives is written here, at the end.
    import novacula as nv
    from novacula.core.storage.atomic import write_bytes

    Path(folder).mkdir(exist_ok=True)
    for leftover in Path(folder).glob(".*.tmp"):  # as commands do
        leftover.unlink()
    target = nv.Target(nv.networks.make("linear", (3,), 2), likelihood=nv.Categorical())
    found = nv.cross_fit(target, nv.load(data), folds=3, steps=40, seed=0)
    write_bytes(Path(folder) / "outputs.bin", found.outputs.numpy().tobytes())


def watch(folder: Path, reached: Callable[[int, str], None]) -> Callable[[], None]:
    """Have every change to a folder counted, before it is made."""

    def install() -> None:
        count = 0

        def counted(name: str, made: Callable[..., Any]) -> Callable[..., Any]:
            def call(path: Any, *args: Any, **options: Any) -> Any:
                nonlocal count
                if str(path).startswith(str(folder)):
                    count += 1
                    reached(count, f"{name} {Path(path).name}")
                return made(path, *args, **options)

            return call

        for name in ("replace", "unlink", "mkdir", "rmdir"):
            setattr(os, name, counted(name, getattr(os, name)))

    return install


def ended(child: int) -> int:
    """The exit code of a process, by which it may have been stopped; one that does not end is a failure."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -999


# ---------------------------------------------------------------------- what is left


def left(folder: Path) -> dict[str, bytes]:
    """What a command has left, less the times; a report and a program stand for themselves by being there."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        content = path.read_bytes()
        if path.suffix == ".json":
            content = json.dumps(_timeless(json.loads(content)), sort_keys=True).encode()
        found[name] = b"" if path.suffix in {".html", ".pt2"} or name == "manifest.json" else content
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        timed = {"seconds", "took", "output_dir", "checksum", "step_seconds", "date", "workers"}
        return {k: _timeless(v) for k, v in value.items() if k not in timed}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


@dataclass
class Whole:
    """A run that nobody touched."""

    files: dict[str, bytes]
    seconds: float
    points: list[str]


def whole(case: Case, folder: Path) -> Whole:
    """Run a command to its end, and note its changes to the folder."""
    marks, log = folder.with_suffix(".marks"), folder.with_suffix(".log")

    def reached(count: int, what: str) -> None:
        with open(marks, "a") as file:
            file.write(what + "\n")

    began = time.monotonic()
    code = ended(start(case.command(folder, killed=False), log, watch(folder, reached)))
    if code != 0:
        raise RuntimeError(f"{case.name}: {code}\n{log.read_text()}")
    return Whole(left(folder), time.monotonic() - began, marks.read_text().splitlines())


def trial(case: Case, known: Whole, older: Path | None, folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Kill a command some times, let it end, and look."""
    kills: list[dict[str, Any]] = []
    faults: list[str] = []
    log = folder.with_suffix(".log")
    if older is not None:
        shutil.copytree(older, folder)
    killed = False
    for _ in range(KILLS):
        sign = signal.SIGKILL if rng.random() < 0.5 else signal.SIGINT
        at = int(rng.integers(1, len(known.points) + 1)) if rng.random() < 0.5 else None
        moment = float(rng.uniform(0, known.seconds))

        def reached(count: int, what: str, at: int | None = at, sign: signal.Signals = sign) -> None:
            if count == at:
                os.kill(os.getpid(), sign)

        child = start(case.command(folder, killed=killed), log, watch(folder, reached))
        if at is None:
            time.sleep(moment)
            os.kill(child, sign)  # one that has ended is still there to be waited for
        code = ended(child)
        wanted = {-signal.SIGKILL} if sign == signal.SIGKILL else {130, -signal.SIGINT}
        if code == 0:
            break  # it was done before
        killed = True
        kills.append({"signal": sign.name, "at": known.points[at - 1] if at else round(moment, 3), "code": code})
        if code not in wanted:
            faults.append(f"exit code {code} after {sign.name}")
        if sign == signal.SIGINT and (stray := [p.name for p in folder.rglob("*.tmp")]):
            faults.append(f"left {stray} after an interrupt")
        if older is not None:
            faults += _lost(case, folder)
    if (code := ended(start(case.command(folder, killed=killed), log, lambda: None)) if killed else 0) != 0:
        faults.append(f"exit code {code} in the end: {log.read_text()[-600:]}")
    found = left(folder) if folder.is_dir() else {}
    differ = sorted(k for k in {*found, *known.files} if found.get(k) != known.files.get(k))
    if differ:
        faults.append(f"differs: {', '.join(differ)}")
    return {"kills": kills, "faults": faults}


def _lost(case: Case, folder: Path) -> list[str]:
    try:
        if case.verb == "calibrate":
            from novacula.study.calibrating.loading import load_calibrated

            load_calibrated(folder)
            return []
        run = Run.read(folder)
        return [] if run.weights and (folder / RECORD).is_file() else ["the older run has no weights"]
    except Exception as error:
        return [f"the older run cannot be read: {error}"]


def kill(case: Case, data: Path, trials: int, seed: int) -> list[dict[str, Any]]:
    """All trials of a command."""
    import zlib

    place = data / case.name.replace(" ", "-").replace(",", "")
    place.mkdir()
    known, older = whole(case, place / "whole"), None
    if case.older:
        older = place / "older"
        others = Case(case.name, (*case.words, "--seed", "7"))
        whole(others, older)
    made = []
    for k in range(trials):
        rng = np.random.default_rng([seed, k, zlib.crc32(case.name.encode())])
        made.append(trial(case, known, older, place / f"t{k}", rng))
    return made


def main() -> None:
    """Kill, and write down what came of it."""
    from benchmarks.common import environment, write

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8, help="of each command, each with up to four kills")
    parser.add_argument("--only", default="", help="commands whose name holds this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    import novacula.study  # noqa: F401  (once, for all)

    folder, before = Path(tempfile.mkdtemp()), os.times()
    # Other commands keep what was recorded of them.
    known = json.loads(options.out.read_text())["commands"] if options.out.is_file() else {}
    try:
        for case in (c for c in cases(folder) if options.only in c.name):
            made = kill(case, folder, options.trials, options.seed)
            after = os.times()
            used = after.children_user + after.children_system - before.children_user - before.children_system
            known[case.name], before = {**summary(made), "cpu_seconds": round(used, 1), "seed": options.seed}, after
            print(f"{case.name:30} {json.dumps(known[case.name])[:600]}", flush=True)
            write(options.out, {"commands": known, "environment": environment(), **total(known)})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(total(known))


def summary(made: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over the trials of a command, and its faults."""
    kills = [k for t in made for k in t["kills"]]
    counts = Counter([k["signal"] for k in kills])
    counts.update("at a change" if isinstance(k["at"], str) else "at a moment" for k in kills)
    faults = [{"trial": i, **t} for i, t in enumerate(made) if t["faults"]]
    return {"trials": len(made), "kills": len(kills), **counts, "faults": faults}


def total(known: dict[str, Any]) -> dict[str, Any]:
    """Sums over the commands."""
    names = ("trials", "kills", "SIGKILL", "SIGINT", "at a change", "at a moment", "cpu_seconds")
    sums = {name: round(sum(row.get(name, 0) for row in known.values()), 1) for name in names}
    return {**sums, "faults": sum(len(row["faults"]) for row in known.values())}


if __name__ == "__main__":
    main()
