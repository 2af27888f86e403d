"""What every benchmark writes down: the machine, the versions, the command."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

Run: TypeAlias = Callable[[str, str, int], dict[str, Any]]
_RAW = argparse.RawDescriptionHelpFormatter


def environment() -> dict[str, Any]:
    """Where and how the numbers were made."""
    return {
        # Paths of this machine tell others nothing.
        "command": " ".join(["python -m", _module(), *(Path(a).name if a[:1] == "/" else a for a in sys.argv[1:])]),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "load": round(os.getloadavg()[0], 1),
    }


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


def runs(folder: Path, cases: Sequence[str], arms: Sequence[str], run: Run, table: Callable[[], str]) -> None:
    """The command line of a grid of cases, arms and seeds, with one file a run; those that are there are kept."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__, formatter_class=_RAW)
    parser.add_argument("--case", choices=cases, default=cases[0])
    parser.add_argument("--arm", choices=arms, default=arms[-1])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    wanted = [(options.case, options.arm, options.seed)]
    if options.all:
        wanted = [(case, arm, seed) for seed in range(options.seeds) for case in cases for arm in arms]
    for case, arm, seed in [] if options.summary else wanted:
        path = folder / f"{case}-{arm}-{seed}.json"
        if not path.exists():
            write(path, run(case, arm, seed))
    if options.summary:
        print(table())


def _module() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else Path(sys.argv[0]).name


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
