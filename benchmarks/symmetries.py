"""What the finder of symmetries finds in networks as people write them.

    python -m benchmarks.symmetries              # all; two CPU minutes
    python -m benchmarks.symmetries swin llama   # some
    python -m benchmarks.symmetries --large      # a vision transformer of 86 million weights
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
from torch import nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.core.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "symmetries.json"
sys.path.insert(0, str(ROOT / "tests"))

Row = dict[str, Any]


class Vision(nn.Module):
    """A vision transformer of the size B/16: 12 layers of 768 with 12 heads, patches of 16, images of 224."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 768, 16, 16)
        self.token, self.place = nn.Parameter(torch.zeros(1, 1, 768)), nn.Parameter(0.02 * torch.randn(1, 197, 768))
        layer = nn.TransformerEncoderLayer(768, 12, 3072, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 12, nn.LayerNorm(768), enable_nested_tensor=False)
        self.head = nn.Linear(768, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        h = self.patches(x).flatten(2).mT
        h = torch.cat([self.token.expand(len(h), -1, -1), h], 1) + self.place
        return self.head(self.layers(h)[:, 0])


def run(module: nn.Module, x: torch.Tensor) -> Row:
    """One network."""
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
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"networks": {}}
    rows = record["networks"]
    if options.large:
        record["large"] = run(Vision(), torch.randn(1, 3, 224, 224))
        write(RESULTS, {**record, "environment": environment()})
        print({k: v for k, v in record["large"].items() if k != "frozen"})
    for name in [] if options.summary or options.large else options.names or list(ALL):
        rows[name] = run(ALL[name].make(), ALL[name].inputs(3, 1).flatten(0, 1))
        said = {k: v for k, v in rows[name].items() if k != "frozen"}
        print(name, said, *list(rows[name].get("frozen", {}).items())[:4], flush=True)
        rows = {n: rows[n] for n in ALL if n in rows}
        write(RESULTS, {**record, "networks": rows, "environment": environment()})
    print(summary(rows, FAMILIES))


if __name__ == "__main__":
    main()
