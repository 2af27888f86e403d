"""``novacula functions probes``, behind its options: tasks with a known rule for all kinds of networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from novacula.cli.console import out, present
from novacula.cli.functions.options import ProbesOptions
from novacula.cli.progress import Progress, computing
from novacula.core.errors import InputError
from novacula.reporting.words.numbers import percent

_SETTINGS = ("bits", "width", "draws", "particles", "members", "steps", "seed")


def probes(options: ProbesOptions) -> None:
    """Run ``novacula functions probes``."""
    with computing(options) as progress:
        content = _run(options, progress)
    present(content, _show, json=options.json)


def _run(options: ProbesOptions, progress: Progress) -> dict[str, Any]:
    from novacula.core.storage.atomic import write_json
    from novacula.evidence import Splitting
    from novacula.functions.probes import NETWORKS, SPLITS, TASKS
    from novacula.study.probes import Effort, Probed
    from novacula.study.probes import probes as find

    settings = {k: getattr(options, k) for k in _SETTINGS}
    spent = {k: v for k, v in settings.items() if k not in ("particles", "seed")}
    effort = Effort(**spent, splitting=Splitting(options.particles, attempts=1, steps=100))
    asked = (options.task or tuple(TASKS), options.net or tuple(NETWORKS), options.split or SPLITS)
    kept = _kept(options.keep, settings)
    rows: dict[tuple[str, str, str], dict[str, Any]] = {(r["task"], r["network"], r["split"]): r for r in kept}
    progress.begin("combination", "done")

    def told(found: list[Probed], total: int) -> None:
        last = found[-1]
        rows[last.task, last.network, last.split] = last.to_dict()
        if options.keep is not None:
            write_json(options.keep, {"settings": settings, "rows": list(rows.values())})
        progress(len(found), total, {})

    found = find(*asked, effort=effort, seed=options.seed, done=[Probed.of(r) for r in kept], told=told)
    return {"command": "functions probes", **settings, "rows": [p.to_dict() for p in found]}


def _kept(path: Path | None, settings: dict[str, Any]) -> list[dict[str, Any]]:
    if path is None or not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known, rows = content["settings"], content["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("a file that --keep wrote", f"{path}: {error}", "--keep another file") from error
    if known != settings:
        raise InputError("rows of the same settings", f"{path}, of {known}", "--keep another file")
    return rows


def _show(content: dict[str, Any]) -> None:
    table = Table("task", "network", "split", "log10 P(fit)", "trained fit", "random: others right, rule", box=None)
    table.add_column("trained: others right, rule")
    for row in content["rows"]:
        fit = row["log10"]
        below = "<" if row["kind"] == "upper bound" else ""
        value = "" if fit is None else f"{below}{fit[0]:.2f} ± {fit[2] - fit[0]:.2f}"
        pairs = [
            " ".join("–" if v is None else percent(v[0]) for v in (row[f"{who}_right"], row[f"{who}_rule"]))
            for who in ("random", "trained")
        ]
        fitted = "" if row["fitted"] is None else percent(row["fitted"][0])
        table.add_row(row["task"], row["network"], row["split"], value, fitted, *pairs)
    console = out()
    console.print(table)
    for row in content["rows"]:
        for text in row["said"]:
            named = f"{row['task']}, {row['network']}, {row['split']}: {text}"
            console.print(Text(named, style="yellow"), soft_wrap=True)
