"""``novacula prune``, behind its options: read the run and its data, prune, say what is given up."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.table import Table

from novacula.cli.console import out, print_json
from novacula.cli.options import PruneOptions
from novacula.cli.progress import computing
from novacula.core.errors import InputError
from novacula.core.storage.plain import plain
from novacula.core.storage.run import Run

if TYPE_CHECKING:
    from novacula.structure import Pruned
    from novacula.structure.groups import By

_USUAL = (0.8, 0.9, 0.95, 0.98)


def prune(folder: Path, options: PruneOptions) -> None:
    """Run ``novacula prune``."""
    Run.read(folder, parts=())  # before torch
    levels = [_share(text) for text in options.to] or list(_USUAL)
    with computing(options) as progress:
        from novacula.runs.loading import load_run, training_data
        from novacula.structure import prune as cut

        saved = load_run(folder)
        data = training_data(saved).train
        progress.say("pruning")
        found = cut(
            saved.posterior,
            data,
            to=levels,
            by=cast("By", options.by),
            folds=options.folds,
            epochs=options.epochs,
            seed=options.seed,
        )
        written = [] if options.out is None else _write(found, options.out)
    rows = found.table()
    if options.json:
        print_json({"run": str(folder), "by": options.by, "levels": plain(rows), "files": written})
        return
    _show(rows)


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError("--to as a share of the weights", repr(text), "--to 0.9") from None


def _write(found: Pruned, folder: Path) -> list[str]:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for level in found.levels:
        if level.criterion == "damage":
            files.append(folder / f"pruned-{level.asked:g}.safetensors")
            save_file({k: w.detach().cpu().contiguous() for k, w in level.params.items()}, files[-1])
    return [str(f) for f in files]


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("taken away", "by", "log evidence", "out-of-fold loss", "given up", "accuracy"):
        table.add_column(name, justify="left" if name == "by" else "right")
    for row in rows:
        gap = "" if math.isnan(row["loss_given_up"]) else f"{row['loss_given_up']:+.4f} ± {row['stderr']:.4f}"
        loss, accuracy = ("" if math.isnan(row[k]) else f"{row[k]:.4f}" for k in ("loss", "accuracy"))
        table.add_row(f"{row['sparsity']:.1%}", row["criterion"], f"{row['evidence']:.1f}", loss, gap, accuracy)
    out().print(table)
