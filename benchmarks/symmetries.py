"""What the finder of symmetries finds in networks as people write them.

    python -m benchmarks.symmetries              # all; two CPU minutes
    python -m benchmarks.symmetries swin llama   # some
    python -m benchmarks.symmetries --summary

Every network of ``tests/menagerie``: coverage (the share of weights that a group moves, of
those with an axis inside the network), the share of all its weights that moves, the relative change of outputs under a
random element of all groups at random weights in double precision (another seed than that of the search), groups by
kind, what is frozen with its reason, and the CPU seconds of the search. One JSON file in ``results/symmetries.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch

import novacula as nv
from benchmarks.common import environment, write
from novacula.core.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "symmetries.json"
sys.path.insert(0, str(ROOT / "tests"))

Row = dict[str, Any]


def run(case: Any) -> Row:
    """One network."""
    module, x = case.make(), case.inputs(3, 1).flatten(0, 1)
    weights = sum(w.numel() for w in module.parameters())
    began = time.process_time()
    try:
        found = nv.paths.symmetries(module, x)
    except InputError as error:
        return {"weights": weights, "refused": str(error).splitlines()[0]}
    spent = time.process_time() - began
    moves = {name for g in found.groups for name in [*(n for n, _ in g.weights), *(n for n, _ in g.absorbed)]}
    sizes = {name: w.numel() for name, w in module.named_parameters()}
    return {
        "weights": weights,
        "coverage": found.coverage,
        "moved": sum(n for name, n in sizes.items() if name in moves) / weights,
        "error": found.verify(3),
        "groups": dict(Counter(g.kind for g in found.groups)),
        "frozen": dict(found.frozen),
        "cpu_seconds": round(spent, 2),
    }


def summary(rows: dict[str, Row], families: dict[str, Any]) -> str:
    """Tables in Markdown: by family, and what is not covered."""
    lines = ["| family | networks | covered | in part | not | refused | largest error | CPU-s, median and largest |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for name, family in families.items():
        own = [rows[c.name] for c in family if c.name in rows]
        read = [r for r in own if "refused" not in r]
        if not read:
            continue
        share = [r["coverage"] for r in read]
        times = sorted(r["cpu_seconds"] for r in read)
        cells = [len(own), sum(c == 1 for c in share), sum(0 < c < 1 for c in share), sum(c == 0 for c in share)]
        error = max(r["error"] for r in read)
        last = f"{len(own) - len(read)} | {error:.0e} | {times[len(times) // 2]:.1f}, {times[-1]:.1f}"
        lines.append(f"| {name} | {' | '.join(map(str, cells))} | {last} |")
    lines += ["", "| network | coverage | what stays, and why |", "| --- | ---: | --- |"]
    for name, row in rows.items():
        if "refused" in row:
            lines.append(f"| {name} | refused | {row['refused'][:160]} |")
        elif row["coverage"] < 1:
            reasons = "; ".join(f"{k}: {v}" for k, v in list(row["frozen"].items())[:3])
            lines.append(f"| {name} | {row['coverage']:.2f} | {reasons} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    from menagerie.families import ALL, FAMILIES  # pyright: ignore[reportMissingImports]

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = json.loads(RESULTS.read_text())["networks"] if RESULTS.exists() else {}
    for name in [] if options.summary else options.names or list(ALL):
        rows[name] = run(ALL[name])
        said = {k: v for k, v in rows[name].items() if k != "frozen"}
        print(name, said, *list(rows[name].get("frozen", {}).items())[:4], flush=True)
        rows = {n: rows[n] for n in ALL if n in rows}
        write(RESULTS, {"networks": rows, "environment": environment()})
    print(summary(rows, FAMILIES))


if __name__ == "__main__":
    main()
