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
import json
import re
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.damaged.beside import beside
from benchmarks.damaged.mutations import MUTATIONS
from benchmarks.damaged.readers import readers
from benchmarks.damaged.runs import runs
from benchmarks.damaged.subject import Subject
from novacula.core.errors import InputError, NovaculaWarning

SECONDS = 10
ROOM = 2**30
FAULTS = ("wrong", "raw", "slow")
RESULTS = Path(__file__).parent / "results" / "fuzz.json"


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
        result, text = "raw", re.sub(r'File ".*/', 'File "', traceback.format_exc(limit=-4))  # of any machine
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
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


def everything(folder: Path) -> list[Subject]:
    """All that can be damaged, made anew in a folder."""
    return [*readers(folder / "readers"), *runs(folder / "runs"), *beside(folder / "beside")]


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
            subjects = everything(folder)
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
