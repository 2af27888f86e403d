"""What starting costs: CPU seconds of imports and of the help, each in a fresh process.

    python -m benchmarks.startup --repeats 7

``import novacula`` brings names alone, which are imported when they are first used; ``a first fit`` is what a script
needs before it learns: `Data`, `Target`, `learn`, `predict`. Medians and least values over processes that take turns,
so that a busy minute of the machine is shared by all. Byte code is cached, as after an installation.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import environment, write

RESULTS = Path(__file__).parent / "results" / "startup.json"
WAYS = {
    "python": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import novacula": ["-c", "import novacula"],
    "a first fit": ["-c", "import novacula as nv; nv.Data, nv.Target, nv.learn, nv.predict"],
    "novacula --help": ["-m", "novacula", "--help"],
    "novacula learn --help": ["-m", "novacula", "learn", "--help"],
}


def seconds(words: list[str], cache: str) -> float:
    """CPU seconds of a process and its children."""
    before = os.times()
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environ = {**kept, "PYTHONPYCACHEPREFIX": cache}
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, env=environ, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    """Measure, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    took: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as cache:
        for turn in range(options.repeats + 1):
            for name, words in WAYS.items():
                found = seconds(words, cache)
                if turn:  # the first one compiles
                    took[name].append(round(found, 3))
    table = {name: {"median": statistics.median(all_), "least": min(all_)} for name, all_ in took.items()}
    torch = table["import torch"]["median"]
    ratios = {name: round(row["median"] / torch, 3) for name, row in table.items()}
    for name, row in table.items():
        print(f"{name:24} {row['median']:6.2f} s  {row['least']:6.2f} s least  {ratios[name]:5.2f} of torch")
    write(options.out, {"cpu_seconds": table, "over_torch": ratios, "each": took, "environment": environment()})


if __name__ == "__main__":
    main()
