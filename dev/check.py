"""Check what changed: style, types, layers, and the tests of the folders that mirror the changed files.

    python dev/check.py [BASE]

BASE is a commit to compare with: by default where the branch left main, and on main itself the last commit. Files that
are not committed yet count as changed.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent  # not resolved: the environment's own tools


def main(arguments: Sequence[str]) -> int:
    """Run everything, and say at the end what failed."""
    tests = tests_of(changed(arguments[0] if arguments else base()))
    commands = [
        [str(BIN / "ruff"), "check", "."],
        [str(BIN / "ruff"), "format", "--check", "."],
        [str(BIN / "pyright"), "--pythonpath", sys.executable],
        [str(BIN / "lint-imports")],
    ]
    if tests:
        commands.append([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests])
    failed = [name_of(c) for c in commands if not passes(c)]
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nall is well")
    return 1 if failed else 0


def base() -> str:
    """The commit where the branch left main, or HEAD where there is no main."""
    found = subprocess.run(["git", "merge-base", "main", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else "HEAD"


def changed(since: str) -> list[Path]:
    """Files that differ from a commit or are new, from the root."""
    names = [git("diff", "--name-only", since), git("ls-files", "--others", "--exclude-standard")]
    return sorted({Path(line) for text in names for line in text.splitlines()})


def tests_of(files: Iterable[Path]) -> list[str]:
    """The tests to run, from the root; none where no file has any."""
    wanted = {found for file in files for found in mirror(file)}
    whole = {p for p in wanted if p.suffix != ".py"}
    kept = {p for p in wanted if (ROOT / p).exists() and not (whole & set(p.parents))}
    house = Path("tests/test_house.py")
    return [str(p) for p in sorted(kept | ({house} if (ROOT / house).exists() else set()))]


def mirror(file: Path) -> list[Path]:
    """The tests of one file: those of its package's folder, itself where it is a test, or those of the pages."""
    match file.parts:
        case ("src", "novacula", package, _, *_):
            return [Path("tests", package)]
        case ("src", "novacula", _):
            return [Path("tests/test_top_level.py")]
        case ("tests", *_, name) if name.startswith("test_"):
            return [file]
        case ("docs" | "README.md", *_):
            return [Path("tests/test_docs.py")]
    return []


def passes(command: Sequence[str]) -> bool:
    """Whether a command succeeds, what it says being shown."""
    print(f"\n== {shlex.join([Path(command[0]).name, *command[1:]])}", flush=True)
    return subprocess.run(command, cwd=ROOT).returncode == 0


def name_of(command: Sequence[str]) -> str:
    """What people call a command."""
    return "tests" if "pytest" in command else Path(command[0]).name


def git(*arguments: str) -> str:
    """What git answers; it says itself what is wrong."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
