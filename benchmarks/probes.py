"""Which tasks small networks of all kinds find natural: `nv.study.probes` on all words of four bits.

    python -m benchmarks.probes [splits]

Rows are written down as they come; the same command goes on after an interruption. All tasks are asked for on all
words, and four of them on the structured splits, with less effort than the defaults.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from benchmarks.common import environment, write
from novacula.evidence import Splitting
from novacula.functions.probes import TASKS
from novacula.study import Effort, Probed, probes

_FOUR = ("identity", "parity", "palindrome", "addition")
TASKS_OF = {"all": tuple(TASKS), "odd": _FOUR, "inside": _FOUR}
RESULT = Path(__file__).parent / "results" / "probes.json"


def main() -> None:
    """Probe, split by split."""
    torch.set_num_threads(1)
    effort = Effort(splitting=Splitting(particles=100, moves=4, attempts=1, steps=80), members=10, steps=600)
    kept = json.loads(RESULT.read_text()) if RESULT.exists() else {"cpu_seconds": 0.0, "rows": []}
    for split in sys.argv[1].split(",") if len(sys.argv) > 1 else TASKS_OF:
        others = [r for r in kept["rows"] if r["split"] != split]
        done = [Probed.of(r) for r in kept["rows"] if r["split"] == split]
        before, spent = time.process_time(), kept["cpu_seconds"]

        def told(
            found: list[Probed],
            total: int,
            others: list[dict[str, object]] = others,
            done: list[Probed] = done,
            spent: float = spent,
            before: float = before,
        ) -> None:
            kept["rows"] = others + [p.to_dict() for p in found] + [p.to_dict() for p in done[len(found) :]]
            kept["cpu_seconds"] = spent + time.process_time() - before
            write(RESULT, {"environment": environment(), "effort": repr(effort), **kept})
            if len(found) > len(done):
                print(len(found), total, found[-1], flush=True)

        probes(TASKS_OF[split], splits=(split,), effort=effort, done=done, told=told)


if __name__ == "__main__":
    main()
