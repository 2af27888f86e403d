"""The guard of later moves: small runs of everything, recorded exactly, to show that code was moved and not changed.

    python -m benchmarks.guard --write benchmarks/results/guard.json
    python -m benchmarks.guard --against benchmarks/results/guard.json
    python -m benchmarks.guard --against benchmarks/results/guard.json --tolerance 1e-6
    python -m benchmarks.guard --against FILE --only "evidence/*" --except "curvature/kron/cnn=factors in another order"

The first line records, the second compares to the bit and names what differs (exit status 1), the third allows relative
differences. Exceptions are cases (patterns are allowed) that may differ, each with its reason; they are read from
``FILE`` with the suffix ``.exceptions.json``, ``{"CASE": "REASON"}``, too, and are always printed.

The cases, in `benchmarks.guard_cases`, use public names and the command line only, so that they run unchanged before
and after modules move. A float is recorded with all its digits; a tensor by shape, dtype, a hash of its bytes, its
norm, its first entries and four projections, by which a tolerance is judged. Text is not compared, and a NaN is equal
to a NaN.

Numbers are the same to the bit on one machine with one torch. Some sums are taken in the order of a set of names, so
the script starts itself again with ``PYTHONHASHSEED=0`` and one thread. The data set ``uci-concrete.npz`` is looked for
in the folder ``NOVACULA_DATA``; its cases are skipped where it is absent.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FIXED = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
SHOWN = 4
SMALL = 1e-3
"""With a tolerance, what is smaller is compared as if it were of this size."""
Facts = dict[str, Any]


def main() -> int:
    """Run the cases, then write or compare."""
    arguments = _arguments()
    if any(os.environ.get(k) != v for k, v in FIXED.items()):
        os.environ.update(FIXED)
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.guard", *sys.argv[1:]])
    import torch

    from benchmarks.guard_cases import CASES

    torch.set_num_threads(1)
    before = json.loads(arguments.against.read_text()) if arguments.against else None
    if before and (refusal := _refusal(before["environment"], arguments.tolerance)):
        print(refusal)
        return 2
    wanted = {k: v for k, v in CASES.items() if any(fnmatch.fnmatchcase(k, p) for p in arguments.only or ["*"])}
    if not wanted:
        print(f"no case is named {', '.join(arguments.only)}; there are: {', '.join(CASES)}")
        return 2
    began = time.perf_counter()
    facts, skipped, failed = run(wanted)
    print(f"{len(facts)} cases, {sum(map(len, facts.values()))} facts, {time.perf_counter() - began:.0f} s")
    for name, reason in skipped.items():
        print(f"skipped  {name}: {reason}")
    for name, text in failed.items():
        print(f"FAILED   {name}\n{text}")
    if before is not None:
        return judge(before["cases"], facts, failed, arguments, all_cases=set(CASES), skipped=set(skipped))
    if failed:
        return 1
    _write(arguments.write, facts)
    return 0


def run(cases: dict[str, Callable[[], Any]]) -> tuple[dict[str, Facts], dict[str, str], dict[str, str]]:
    """Run cases.

    Args:
        cases: By name.

    Returns:
        What they found, why some were skipped, and how some failed.
    """
    from benchmarks.guard_cases import Skip
    from benchmarks.guard_cases.record import facts_of

    facts: dict[str, Facts] = {}
    skipped: dict[str, str] = {}
    failed: dict[str, str] = {}
    for i, (name, case) in enumerate(cases.items(), 1):
        began = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                facts[name] = facts_of(case())
        except Skip as reason:
            skipped[name] = str(reason)
        except Exception:
            failed[name] = traceback.format_exc(limit=-4)
        print(f"[{i}/{len(cases)}] {name} {time.perf_counter() - began:.1f} s", file=sys.stderr)
    return facts, skipped, failed


# ---------------------------------------------------------------------- comparing


def judge(
    before: dict[str, Facts],
    after: dict[str, Facts],
    failed: dict[str, str],
    arguments: argparse.Namespace,
    *,
    all_cases: set[str],
    skipped: set[str],
) -> int:
    """Name what differs.

    Args:
        before: The recorded facts.
        after: The facts of today.
        failed: Cases that raised.
        arguments: The tolerance and the exceptions.
        all_cases: The names of all cases that there are.
        skipped: Cases that did not run.

    Returns:
        The exit status.
    """
    excepted = _exceptions(arguments)
    used: set[str] = set()
    wrong = 0
    gone = [] if arguments.only else sorted(set(before) - all_cases)
    for name in [*after, *failed, *gone]:
        reason = next((r for p, r in excepted.items() if fnmatch.fnmatchcase(name, p)), None)
        if name in failed or name in gone:
            found = ["it fails" if name in failed else "there is no such case any more"]
        elif name not in before:
            print(f"new      {name}: not in the record")
            continue
        else:
            found = list(differences(before[name], after[name], arguments.tolerance))
        if not found:
            continue
        wrong += reason is None
        used.add(name)
        print(f"{'DIFFERS ' if reason is None else 'excepted'} {name}" + (f": {reason}" if reason else ""))
        for line in found[:SHOWN]:
            print(f"    {line}")
        if len(found) > SHOWN:
            print(f"    … and {len(found) - SHOWN} more of {len(before.get(name, {}))}")
    for pattern, reason in excepted.items():
        if not any(fnmatch.fnmatchcase(name, pattern) for name in used):
            print(f"unneeded exception {pattern}: {reason}")
    same = len(set(after) & set(before)) - len(used & set(after))
    how = "to the bit" if arguments.tolerance is None else f"to {arguments.tolerance:g}"
    others = f"{wrong} differ, {len(used) - wrong} may differ, {len(skipped)} were skipped"
    print(f"{same} cases are the same {how}, {others}")
    return int(wrong > 0)


def differences(before: Facts, after: Facts, tolerance: float | None) -> Iterator[str]:
    """What differs in a case.

    Args:
        before: The recorded facts.
        after: The facts of today.
        tolerance: The relative tolerance; None for the same bits.

    Yields:
        One line a fact.
    """
    for key in before.keys() | after.keys() if before.keys() != after.keys() else ():
        if key not in after or key not in before:
            yield f"{key}: {'no longer there' if key in before else 'not in the record'}"
    for key in before:
        if key in after and (text := _difference(before[key], after[key], tolerance)):
            yield f"{key}: {text}"


def _difference(a: Any, b: Any, tolerance: float | None) -> str:
    if type(a) is not type(b):
        return f"{_short(a)} became {_short(b)}"
    if not isinstance(a, dict):
        near = tolerance is not None and isinstance(a, float) and abs(a - b) <= tolerance * max(abs(a), abs(b), SMALL)
        same = a == b or near
        return "" if same else f"{a} became {b}" + (f" (by {b - a:.2g})" if isinstance(a, float) else "")
    # With a tolerance, floats of another precision may be the same numbers.
    alike = tolerance is not None and "float" in a["dtype"] and "float" in b["dtype"]
    if (a["shape"], a.get("finite")) != (b["shape"], b.get("finite")) or (a["dtype"] != b["dtype"] and not alike):
        return f"{_short(a)} became {_short(b)}"
    if a["sha256"] == b["sha256"]:
        return ""
    if "norm" not in a:
        return "other whole numbers"
    root = math.sqrt(max(1, math.prod(a["shape"])))
    size = max(a["norm"], b["norm"], SMALL * root)
    pairs = [(x, y, size) for x, y in zip(a["projections"], b["projections"], strict=True)]
    pairs += [(x, y, max(abs(x), abs(y), size / root)) for x, y in zip(a["first"], b["first"], strict=True)]
    worst = max((abs(x - y) / scale for x, y, scale in pairs), default=0.0)
    if tolerance is not None and worst <= tolerance:
        return ""
    amount = f"about {worst:.2g}" if worst else "less than 1e-11"
    return f"tensor of shape {a['shape']} differs, by {amount} of its size"


def _short(fact: Any) -> str:
    return f"{fact['dtype']} {fact['shape']} ({fact.get('finite')} finite)" if isinstance(fact, dict) else repr(fact)


# ---------------------------------------------------------------------- files and options


def _refusal(before: dict[str, Any], tolerance: float | None) -> str:
    import torch

    from benchmarks.common import environment

    now = environment()
    if tolerance is None and before["torch"] != torch.__version__:
        return (
            f"expected torch {before['torch']}, with which the record was made, got {torch.__version__}: other "
            "versions round differently; record anew with --write, or compare with --tolerance 1e-6"
        )
    for name in ("threads", "processor", "numpy", "python"):
        if before[name] != now[name]:
            print(f"note: {name} was {before[name]} and is {now[name]}")
    return ""


def _exceptions(arguments: argparse.Namespace) -> dict[str, str]:
    beside = arguments.against.with_suffix(".exceptions.json")
    found: dict[str, str] = json.loads(beside.read_text()) if beside.exists() else {}
    for text in arguments.excepted or ():
        name, equals, reason = text.partition("=")
        if not equals or not reason.strip():
            raise SystemExit(f"expected --except NAME=REASON, got {text!r}")
        found[name] = reason.strip().strip('"')
    return found


def _write(path: Path, facts: dict[str, Facts]) -> None:
    # One fact a line, so that a version control shows what changed.
    from benchmarks.common import environment

    machine = {k: v for k, v in environment().items() if k != "load"}
    lines = []
    for name, found in facts.items():
        inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in found.items())
        lines.append(f" {json.dumps(name)}: {{\n{inner}\n }}")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f'{{"environment": {json.dumps(machine, sort_keys=True)},\n"cases": {{\n' + ",\n".join(lines) + "\n}}\n"
    path.write_text(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=(__doc__ or "").split("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path, metavar="FILE", help="record all cases")
    what.add_argument("--against", type=Path, metavar="FILE", help="compare with a record")
    parser.add_argument("--tolerance", type=float, help="relative tolerance; without it, bits must be the same")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="run these cases only; may repeat")
    parser.add_argument("--except", action="append", dest="excepted", metavar="NAME=REASON", help="may differ")
    found = parser.parse_args()
    if found.write and (found.only or found.excepted or found.tolerance is not None):
        parser.error("--write records all cases: leave out --only, --except and --tolerance")
    return found


if __name__ == "__main__":
    sys.exit(main())
