"""Profile a module, a script or a command of the environment: the 30 functions that took longest, with what they call.

python dev/profile.py benchmarks.guard --only PATTERN
python dev/profile.py novacula learn digits --epochs 1 --out runs/profiled
"""

from __future__ import annotations

import pstats
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

MOST = 30


def main(arguments: Sequence[str]) -> int:
    """Run under cProfile, then print its table; the exit code is the command's own."""
    if not arguments:
        print(__doc__)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "profile")
        # In a process of its own: here this file would be taken for Python's module of the same name.
        code = subprocess.run([sys.executable, "-m", "cProfile", "-o", str(out), *target(*arguments)]).returncode
        if out.exists():
            pstats.Stats(str(out)).sort_stats("cumulative").print_stats(MOST)
    return code


def target(name: str, *rest: str) -> list[str]:
    """What cProfile is told to run: a file, a command that lies beside Python, or a module."""
    command = Path(sys.executable).parent / name
    if name.endswith(".py"):
        return [name, *rest]
    return [str(command), *rest] if command.is_file() else ["-m", name, *rest]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
