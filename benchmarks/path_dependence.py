"""How much trained networks depend on the path of their training, and what the report costs.

    python -m benchmarks.path_dependence                       # about five minutes on one core
    python -m benchmarks.path_dependence --only digits-mlp
    python -m benchmarks.path_dependence --summary

Eight runs of the built-in perceptron and of the built-in convolutional network on scikit-learn's digits, with seeds of
their own, and crossed layouts of three first weights with three orders; eight runs of the convolutional network on
`mnist10k.npz` in $NOVACULA_DATA (5 epochs, 2,000 test images). Training by `novacula.MAP` with its default prior. One
JSON file in ``results/path_dependence.json``, with CPU seconds of training and of the report.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import novacula as nv
from benchmarks.common import environment, write
from novacula.study.path_dependence.crossed import Recipe

RESULTS = Path(__file__).parent / "results" / "path_dependence.json"
CASES = {
    "digits-mlp": ("digits", "mlp", {"weights": 8}, 20),
    "digits-cnn": ("digits", "cnn", {"weights": 8}, 20),
    "digits-mlp-3x3": ("digits", "mlp", {"weights": 3, "order": 3}, 20),
    "digits-cnn-3x3": ("digits", "cnn", {"weights": 3, "order": 3}, 20),
    "mnist-cnn": ("mnist10k.npz", "cnn", {"weights": 8}, 5),
}


def run(name: str) -> dict[str, Any]:
    """One report."""
    path, net, levels, epochs = CASES[name]
    if path == "digits":
        train, test = nv.load("digits").split(1400, seed=0)
    else:
        train, test = nv.load(Path(os.environ["NOVACULA_DATA"]) / path).split(8000, seed=0)
    target = nv.Target(nv.networks.make(net, train.x_shape, 10))
    began = time.process_time()
    made = nv.study.crossed_runs(Recipe(net, target, train, epochs, 50 if path == "digits" else 125, 0.01), levels)
    trained = time.process_time()
    causes = made.causes if len(levels) > 1 else None
    found = nv.study.path_dependence(made.runs, target, test, train=train, causes=causes)
    record = found.to_dict()
    kept = {k: record[k] for k in ("matters", "measured", "components", "similarity", "n", "warnings")}
    seconds = {"training": trained - began, "report": time.process_time() - trained}
    return {"case": name, "cpu_seconds": seconds, "words": list(found.words), **kept}


def summary(cases: list[dict[str, Any]]) -> str:
    """The tables, in Markdown."""

    def cell(part: dict[str, Any] | None, scale: float = 1.0) -> str:
        if part is None:
            return "–"
        ends = [f"{scale * v:.2g}" for v in part["interval"] or ()]
        return f"{scale * part['value']:.2g}" + (f" ({' to '.join(ends)})" if ends else "")

    shares = ("error", "disagreement", "outside/corrupted", "outside/shuffled")
    others = ("share", "similarity", "attack/share", "barrier/as trained", "barrier/matched")
    lines = [
        f"| case | {', % | '.join(shares)}, % | {' | '.join(others)} | training, report: CPU-s |",
        f"| --- |{' ---: |' * 10}",
    ]
    for case in cases:
        found = case["measured"]
        cells = [cell(found[k], 100) for k in shares] + [cell(found.get(k)) for k in others]
        spent = "{training:.0f}, {report:.0f}".format(**case["cpu_seconds"])
        lines.append(f"| {case['case']} | {' | '.join(cells)} | {spent} |")
    causes = ("weights", "order", "together")
    lines += ["", "| case | first weights | order | together |", "| --- | ---: | ---: | ---: |"]
    for case in (c for c in cases if c["components"]):
        lines.append(f"| {case['case']} | {' | '.join(cell(case['components'][k]) for k in causes)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=list(CASES))
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", nv.NovaculaWarning)
    cases = json.loads(RESULTS.read_text())["cases"] if RESULTS.exists() else []
    for name in [] if options.summary else [options.only] if options.only else list(CASES):
        if not any(c["case"] == name for c in cases):
            cases.append(run(name))
            write(RESULTS, {"cases": cases, "environment": environment()})
            print(json.dumps(cases[-1]), flush=True)
    print(summary(cases))


if __name__ == "__main__":
    main()
