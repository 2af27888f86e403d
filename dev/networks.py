"""Try every verb on every network of the menagerie, and keep what came of it for the page ``docs/networks.md``.

    python -m dev.networks                          # all; about six CPU minutes
    python -m dev.networks swin tcn                 # some networks
    python -m dev.networks --verbs=exact,learn      # some verbs
    python -m dev.networks --write                  # and keep the outcomes, and write the tables of the page

The exit code is 1 where a cell is wrong, or fails by an error that is not the library's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "networks.md"
sys.path.insert(0, str(ROOT / "tests"))


def main(arguments: Sequence[str]) -> int:
    """Print what is not right; the exit code."""
    from menagerie.families import ALL, verbs_of
    from menagerie.outcomes import RECORD, outcome, read, write
    from menagerie.page import page
    from menagerie.verbs import VERBS

    kept = read() if RECORD.exists() else {}
    wanted = [v for a in arguments if a.startswith("--verbs=") for v in a.removeprefix("--verbs=").split(",")]
    worst = 0
    for name in [a for a in arguments if not a.startswith("--")] or list(ALL):
        began = time.process_time()
        verbs = [verb for verb in verbs_of(name) if verb in (wanted or VERBS)]
        found = {verb: outcome(verb, ALL[name]) for verb in verbs}
        cells = kept.get(name, {}) | found
        kept[name] = {verb: cells[verb] for verb in verbs_of(name) if verb in cells}
        right = sum(o.kind == "right" for o in found.values())
        print(f"{name:28} {right:3} of {len(found)}  {time.process_time() - began:5.1f} s", flush=True)
        for verb, cell in found.items():
            if cell.kind in ("wrong", "raw"):
                worst = 1
                print(f"    {verb}: {cell.kind}: {cell.note[:300]}", flush=True)
        if "--write" in arguments:
            write({n: kept[n] for n in ALL if n in kept})
    if "--write" in arguments and kept.keys() >= ALL.keys():
        PAGE.write_text(page(read(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
