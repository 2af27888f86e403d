"""The largest memory that a piece of work held, measured in a process of its own.

The high-water mark is the process's own (``VmHWM``); ``ru_maxrss`` is used only where ``/proc`` is absent, since
a child process starts with its parent's mark there.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

MIB = 2**20


def peak() -> int:
    """The largest resident memory of this process so far, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if sys.platform == "darwin" else used * 1024
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def in_subprocess(module: str, *arguments: object, threads: int) -> dict[str, Any]:
    """Run ``python -m module arguments`` and read the JSON object on the last line it prints."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    return json.loads(done.stdout.splitlines()[-1])
