"""Programs that take turns on one core, so that all are measured in the same conditions.

Each is a process of its own (ours and a peer's cannot share an environment) that reads a request a line and answers
with a line of JSON. While one works the others wait. What is measured is CPU time of the working process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

Request = dict[str, Any]


class Worker:
    """A program that answers requests."""

    def __init__(self, python: str, module: str, core: int, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [python, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def ask(self, request: Request) -> dict[str, Any]:
        """The answer to a request."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        """End the program."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve(answer: Callable[[Request], dict[str, Any]]) -> None:
    """Answer requests from standard input until it ends."""
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


def rate(work: Callable[[int], int], least: float) -> float:
    """Units of work a CPU second: ``work(n)`` does n rounds and returns the units; at least ``least`` seconds of it."""
    rounds, seconds, units = 1, 0.0, 0
    while seconds < least:
        began = time.process_time()
        units = work(rounds)
        seconds = time.process_time() - began
        rounds = max(rounds + 1, int(rounds * 1.2 * least / max(seconds, 1e-3))) if seconds < least else rounds
    return units / seconds


def summary(rates: Sequence[float]) -> dict[str, Any]:
    """The median, and what it was taken from."""
    return {"median": round(statistics.median(rates), 1), "each": [round(r, 1) for r in rates]}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """The median of the ratios of neighbouring turns, and their range."""
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {"median": round(statistics.median(each), 3), "range": [round(min(each), 3), round(max(each), 3)]}
