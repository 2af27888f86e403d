"""A run's results as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from novacula.reporting.verdict import verdict
from novacula.reporting.words import against
from novacula.reporting.words.extents import in_words, meaning
from novacula.reporting.words.methods import chose_point
from novacula.reporting.words.metrics import rows
from novacula.reporting.words.next_step import extents
from novacula.reporting.words.numbers import count, duration, number, significant, with_error


def summary(record: Mapping[str, Any]) -> RenderableType:
    """Results in a few lines: the verdict, the extents, the evidence and the metrics."""
    said = verdict(record)
    parts: list[RenderableType] = [Padding(Text(said.advice, style="bold"), (1, 0, 0, 0))] if said.advice else []
    parts += [Padding(Text(said.learned), (1, 0)), _facts(record)]
    if record.get("test") or record.get("map_test"):
        parts.append(Padding(_metrics(record), (1, 0, 0, 0)))
    if record.get("against"):
        parts.append(Padding(_against(record), (1, 0, 0, 0)))
        parts.append(Padding(Text(" ".join(against.sentences(record))), (1, 0, 0, 0)))
    return Group(*parts)


def _facts(record: Mapping[str, Any]) -> Table:
    table = Table.grid(padding=(0, 3))
    data, evidence = record["data"], record["evidence"]
    sizes = f"{data.get('n_train') or 0:,} training, {count(data.get('n_test') or 0, 'test example')}"
    table.add_row("data", Text(f"{data.get('name')}: {sizes}"))
    table.add_row("", Text(f"fingerprint {data.get('fingerprint')}", style="dim"))
    for name, eta in extents(record).items():
        entry = meaning(name, record)
        table.add_row(entry.label, Text(in_words(entry, eta), style="dim" if entry.negligible(eta) else "cyan"))
    sigma = (record.get("noise") or {}).get("sigma")
    if sigma is not None:
        values = sigma if isinstance(sigma, list) else [sigma]
        table.add_row("noise", Text(", ".join(significant(v) for v in values)))
    if (record.get("predictive") or {}).get("structure"):
        table.add_row("predictive", Text(_predictive(record["predictive"])))
    for label, said in _posterior(record):
        table.add_row(label, Text(said))
    value = with_error(evidence.get("value"), evidence.get("stderr"))
    table.add_row("log evidence", Text(f"{value} nats, {number(evidence.get('per_example'))} an example"))
    table.add_row("", Text(f"{evidence.get('kind')}, {evidence.get('estimator')}", style="dim"))
    precisions = [v for v in ((record.get("prior") or {}).get("precision") or {}).values() if v]
    if precisions:
        ends = sorted({significant(min(precisions)), significant(max(precisions))}, key=len)
        text = ends[0] if len(ends) == 1 else f"{significant(min(precisions))} to {significant(max(precisions))}"
        table.add_row("prior precision", Text(text))
    table.add_row("weights", f"{record['weights']:,}")
    table.add_row("time", duration(record["seconds"].get("total")))
    return table


def _predictive(found: Mapping[str, Any]) -> str:
    # The predictive that was chosen.
    structure, calibration = str(found["structure"]), found.get("calibration", 1)
    labels = "" if calibration == 1 else f", labels at temperature {significant(calibration)}"
    points = {"point": "point estimate", "ensemble": f"ensemble of {found.get('members')} networks"}
    laplace = f"{structure.replace('_', ' ')} Laplace at temperature {significant(found.get('temperature'))}"
    return points.get(structure, laplace) + labels


def _posterior(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    # The posterior that was asked for, what its draws say of themselves, and what it makes of strange inputs.
    found, rows = record.get("posterior") or {}, list[tuple[str, str]]()
    if found:
        steps = f"{count(found.get('steps') or 0, 'step')}"
        chains = found.get("chains") or 1
        words = [str(found.get("name") or found.get("method"))]
        words.append(f"{count(chains, 'chain')} of {steps}" if chains > 1 else steps)
        draws, stored = found.get("draws") or 0, found.get("stored") or 0
        if draws:
            words.append(count(draws, "draw") + (f", {stored:,} of them kept" if 0 < stored < draws else ""))
        rows.append(("posterior", "; ".join(words)))
        d = found.get("diagnostics") or {}
        if d.get("max_rhat") is not None:
            shown = f"up to {number(d['max_rhat'])}, of {found.get('examined')}"
            rows.append(("R-hat", shown))
            rows.append(("effective draws", f"{significant(d.get('min_ess'))} or more"))
        if d.get("divergences"):
            rows.append(("divergences", f"{d['divergences']:,.0f}"))
    if strange := record.get("ood"):
        text = f"{strange['name']}: AUROC {number(strange['auroc'])}, FPR at 95 % {number(strange.get('fpr95'))}"
        rows.append(("out of distribution", text))
    return rows


def _metrics(record: Mapping[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("test")
    point = chose_point(record)
    chosen = "average over weights" if record.get("posterior") else "chosen predictive"
    columns = {"point": "point estimate"} if point else {"chosen": chosen, "point": "point estimate"}
    for title in columns.values():
        table.add_column(title, justify="right")
    for row in rows(record.get("test"), record.get("map_test")):
        cells = [
            Text(
                (row.chosen if which == "chosen" else row.point) + (" ✓" if row.winner == which else "  "),
                style="bold" if row.winner == which else "",
            )
            for which in columns
        ]
        table.add_row(row.label, *cells)
    return table


def _against(record: Mapping[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for i, title in enumerate(against.COLUMNS):
        table.add_column(title, justify="right" if i else "left")
    for row in against.table(record):
        table.add_row(*map(Text, row))
    return table
