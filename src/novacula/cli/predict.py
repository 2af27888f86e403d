"""``novacula predict``, behind its options: read run and data, predict, write a table, and say what it is worth."""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from novacula.cli.console import err, out, print_json, print_text, warn
from novacula.cli.options import PredictOptions
from novacula.cli.progress import computing
from novacula.core.errors import InputError
from novacula.core.storage.atomic import write_bytes, write_json, write_text
from novacula.core.storage.plain import plain
from novacula.core.storage.run import Run
from novacula.reporting.words.metrics import rows as metric_rows
from novacula.reporting.words.numbers import count, number, significant

if TYPE_CHECKING:
    from novacula.runs.loading import SavedRun
    from novacula.runs.table import Predictions, Rows

SUFFIXES = (".csv", ".tsv", ".parquet", ".json")
_SHOWN = 10  # rows and columns that a terminal shows
_DIGITS = 9  # of a float32, that tell it from all others


def predict(folder: Path, data: str, options: PredictOptions) -> None:
    """Run ``novacula predict``."""
    _check(options)
    Run.read(folder, parts=())  # before torch
    said: list[str] = []
    with computing(options, said) as progress:
        from novacula.core.device import device_of, find_device, on_device
        from novacula.runs.loading import load_run
        from novacula.runs.table import calibrated, read_rows, tabulate

        find_device(options.device)
        saved = load_run(folder)
        now = device_of(saved.target.params())
        saved = replace(saved, posterior=on_device(saved.posterior, options.device, now=now))
        rows = read_rows(saved, data, groups=options.groups)
        rule, n, promise = None, 0, ()
        if options.conformal is not None:
            rule, n, promise = calibrated(saved, options.conformal, _calibration(saved, options), rows)
        progress.begin("part", "writing")
        found = tabulate(
            saved, rows, costs=options.decide, abstain=options.abstain, rule=rule, calibration=n, progress=progress
        )
    content = _content(found, rows, folder, promise)
    path = None if options.out is None or str(options.out) == "-" else options.out
    if path is not None:
        write(path, found.columns, saved.classes, content)
    for text in found.notes:
        err().print(Text.assemble(("note: ", "cyan"), text))
    for text in found.warnings:
        if text not in said:
            warn(text)
    if options.json:
        shown = content if path is not None else {**content, "rows": records(found.columns)}
        print_json(plain(shown))
    elif options.out is not None and path is None:
        print_text(delimited(found.columns, saved.classes, ","), end="")
    else:
        _show(found, content, saved, path)


def write(path: Path, columns: dict[str, list[Any]], classes: Sequence[str], content: dict[str, Any]) -> None:
    """Write predictions; the file is there whole or not at all."""
    suffix = path.suffix.lower()
    if suffix == ".json":
        write_json(path, plain({**content, "rows": records(columns)}), indent=None)
    elif suffix == ".parquet":
        write_bytes(path, _parquet(columns))
    else:
        write_text(path, delimited(columns, classes, "\t" if suffix == ".tsv" else ","))


def delimited(columns: dict[str, list[Any]], classes: Sequence[str], delimiter: str) -> str:
    """Predictions as delimited text."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(v, classes) for v in row] for row in zip(*columns.values(), strict=True))
    return file.getvalue()


def records(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Predictions row by row."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _check(options: PredictOptions) -> None:
    # What can be known to be wrong before anything is read.
    path = options.out
    if path is not None and str(path) != "-":
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(
                f"--out with a suffix among {', '.join(SUFFIXES)}, or -", str(path), "--out predictions.csv"
            )
        if path.is_dir() or not path.parent.is_dir():
            got = "a folder" if path.is_dir() else f"{path.parent}, which does not exist"
            raise InputError("--out as a file in a folder that exists", f"{path}: {got}", "make the folder first")
        if path.suffix.lower() == ".parquet":
            _engine()
    if options.json and str(path) == "-":
        raise InputError("either --json or --out -", "both", "use one of them")
    if options.conformal is not None and not 0 < options.conformal < 1:
        raise InputError("--conformal between 0 and 1", f"{options.conformal:g}", "--conformal 0.1 for sets of 90 %")
    for option, value in (("--calibration", options.calibration), ("--groups", options.groups)):
        if value is not None and options.conformal is None:
            raise InputError(f"{option} with --conformal", "no --conformal", f"--conformal 0.1 {option} {value}")
    if options.abstain is not None and options.decide is None:
        raise InputError("--abstain with --decide", "no --decide", f"--decide costs.csv --abstain {options.abstain:g}")
    if options.abstain is not None and not 0 <= options.abstain < float("inf"):
        raise InputError("--abstain as a cost of 0 or more", f"{options.abstain}", "leave it out to forbid abstaining")


def _calibration(saved: SavedRun, options: PredictOptions) -> Rows:
    from novacula.runs.table import own_rows, read_rows

    if options.calibration is not None:
        return read_rows(saved, options.calibration, groups=options.groups)
    if not saved.run.record["data"].get("n_test"):
        raise InputError("test examples that the run set aside, to calibrate on", "none", "--calibration FILE")
    return own_rows(saved, groups=options.groups)


def _content(found: Predictions, rows: Rows, folder: Path, promise: tuple[str, ...]) -> dict[str, Any]:
    return {
        "run": str(folder),
        "data": rows.name,
        "n": found.n,
        "scores": found.scores,
        "decisions": found.decisions,
        "conformal": None if found.conformal is None else {**found.conformal, "promise": promise[0]},
        "notes": list(found.notes),
        "warnings": list(found.warnings),
    }


def _cell(value: Any, classes: Sequence[str]) -> Any:
    if isinstance(value, float):
        return f"{value:.{_DIGITS}g}" if value == value else ""
    if isinstance(value, list):
        from novacula.runs.table import listed

        return listed(value, classes)
    return value


def _engine() -> Any:
    for name in ("pyarrow", "pandas"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise InputError(
        "pyarrow or pandas to write Parquet", "neither", "pip install 'novacula[tables]', or --out FILE.csv"
    )


def _parquet(columns: dict[str, list[Any]]) -> bytes:
    engine, file = _engine(), io.BytesIO()
    if engine.__name__ == "pyarrow":
        importlib.import_module("pyarrow.parquet").write_table(engine.table(columns), file)
    else:
        engine.DataFrame(columns).to_parquet(file)
    return file.getvalue()


# ---------------------------------------------------------------------- for people


def _show(found: Predictions, content: dict[str, Any], saved: SavedRun, path: Path | None) -> None:
    console = out()
    if path is None:
        console.print(_first(found.columns, saved.classes))
        if found.n > _SHOWN:
            console.print(Text(f"… and {found.n - _SHOWN:,} more; --out FILE.csv for all of them", style="dim"))
    facts = Table.grid(padding=(0, 3))
    facts.add_row("predicted", f"{count(found.n, 'row')} of {content['data']}")
    for label, text in [*_decisions(found), *_conformal(found, content)]:
        facts.add_row(label, Text(text))
    console.print(facts)
    if found.scores:
        table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
        table.add_column("scores")
        table.add_column("", justify="right")
        for row in metric_rows(found.scores, None):
            table.add_row(row.label, row.chosen)
        console.print(table)
    if path is not None:
        console.print(Text(str(path), style="cyan"), soft_wrap=True)


def _decisions(found: Predictions) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in (found.decisions or {}).items():
        name = key.removeprefix("mean_expected").removeprefix("incurred").replace("_", " ", 1)
        if key.startswith("mean_expected"):
            rows.append((f"expected cost{name}", f"{significant(value)} a row"))
        elif key.startswith("incurred"):
            rows.append((f"incurred cost{name}", f"{significant(value)} a row"))
        elif value:
            rows.append(("abstained", f"{100 * value:.1f} %"))
    return rows


def _conformal(found: Predictions, content: dict[str, Any]) -> list[tuple[str, str]]:
    c = found.conformal
    if c is None:
        return []
    rows = [("conformal", content["conformal"]["promise"]), ("", f"calibrated on {count(c['calibration'], 'example')}")]
    rows += [(f"mean {k.replace('_', ' ', 1)}", significant(v)) for k, v in c.items() if k.startswith("width")]
    if "size" in c:
        rows.append(("mean size", f"{number(c['size'], 2)} labels"))
    if "coverage" in c:
        rows.append(("coverage", f"{number(c['coverage'])} of the labels of these rows"))
    return rows


def _first(columns: dict[str, list[Any]], classes: Sequence[str]) -> Table:
    # The first rows; of many probabilities only that of the predicted class.
    shown = dict(columns)
    probabilities = [k for k in columns if k.startswith("p_")]
    if "class" in columns and len(columns) > _SHOWN:
        best = [max(values) for values in zip(*(columns[k] for k in probabilities), strict=True)]
        shown = {k: v for k, v in columns.items() if k not in probabilities}
        names = list(shown)
        names.insert(names.index("class") + 1, "probability")
        shown = {k: best if k == "probability" else shown[k] for k in names}
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in shown:
        table.add_column(name, justify="right" if name != "class" else "left")
    for row in list(zip(*shown.values(), strict=True))[:_SHOWN]:
        table.add_row(*(significant(v, 4) if isinstance(v, float) else str(_cell(v, classes)) for v in row))
    return table
