"""The page: one self-contained HTML page from a run folder, without torch, the network or the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from novacula.core.storage.atomic import write_text
from novacula.core.storage.run import REPORT, Run
from novacula.reporting import glyphs, posterior
from novacula.reporting.figures import montage, precision, training
from novacula.reporting.figures.base import Picture
from novacula.reporting.pictures import added, chosen, one_answer, predictions, present, sampler
from novacula.reporting.provenance import provenance
from novacula.reporting.verdict import intervals, verdict
from novacula.reporting.words import metrics
from novacula.reporting.words.extents import in_words, meaning
from novacula.reporting.words.methods import averaged
from novacula.reporting.words.next_step import extents
from novacula.reporting.words.numbers import MISSING, count, duration, number, significant


@dataclass(frozen=True)
class ExtentView:
    """A learned extent as the page shows it."""

    label: str  # its name
    text: str  # its value in words
    spread: str  # how much it moved in the last third of the epochs it was learned in; empty where not known
    needed: bool  # whether it is more than the jitter of learning
    svg: Markup  # its drawing


def report(folder: str | Path) -> Path:
    """Write ``report.html`` into a run folder, from its saved results alone.

    The page needs no script, font, image or style from elsewhere, and the same results give the same bytes.

    Returns:
        The page's path.

    Raises:
        InputError: If the folder holds no finished run, or cannot be written.
    """
    run = Run.read(folder)
    path = run.folder / REPORT
    write_text(path, render(run))
    return path


def render(run: Run) -> str:
    """The page of a run."""
    record, history = run.record, run.history
    precisions = (record.get("prior") or {}).get("precision") or {}
    return filled(
        "report.html.j2",
        title=_title(record),
        subtitle=_subtitle(record),
        verdict=verdict(record, history, run.arrays),
        moved=bool(intervals(record)),
        extents=extent_views(record),
        montage=present(_montage(run)),
        folds_first=bool(run.record.get("verdicts")),
        training=[
            *present(training.evidence(history), training.loss(history)),
            *training.extents(history, record),
            *added(run, "training"),
        ],
        precision=present(precision.precision(precisions)),
        precisions=[(name, significant(value), _deviation(value)) for name, value in precisions.items()],
        posterior=posterior.view(record, run.arrays),
        sampler=[*sampler(run), *added(run, "posterior")],
        predictions=[*predictions(run), *added(run, "predictions")],
        metrics=metrics.rows(record.get("test"), record.get("map_test"), n=record["data"].get("n_test") or 0),
        n_test=count(record["data"].get("n_test") or 0, "test example"),
        one_column=one_answer(record),
        was_chosen=chosen(record),
        has_point=chosen(record) or record.get("map_test") is not None,
        averaged=averaged(record),
        reason=str((record.get("predictive") or {}).get("reason") or "").rstrip("."),
        scores=_scores(record),
        warnings=_warnings(record),
        parts=[(k.replace("_", " "), number(v, 1)) for k, v in (record["evidence"].get("parts") or {}).items()],
        provenance=provenance(record),
    )


def filled(template: str, **values: Any) -> str:
    """A page from its template, in the house's style."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("novacula.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    css = resources.files("novacula.reporting").joinpath("templates/report.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(css=Markup(css), **values)


def extent_views(record: Mapping[str, Any]) -> list[ExtentView]:
    """The learned extents as the page shows them."""
    known = intervals(record)
    views: list[ExtentView] = []
    for name, value in extents(record).items():
        entry = meaning(name, record)
        drawn = Markup(glyphs.glyph(name, value, entry))
        views.append(
            ExtentView(entry.label, in_words(entry, value), known.get(name, ""), not entry.negligible(value), drawn)
        )
    return views


def _montage(run: Run) -> Picture | None:
    original, transformed = run.arrays.get("montage/original"), run.arrays.get("montage/transformed")
    return None if original is None or transformed is None else montage.montage(original, transformed)


def _title(record: Mapping[str, Any]) -> str:
    return str(record["data"].get("name") or "Untitled data")


def _subtitle(record: Mapping[str, Any]) -> str:
    data = record["data"]
    parts = [count(data.get("n_train") or 0, "training example")]
    parts += [count(data["n_test"], "test example")] if data.get("n_test") else ["no test data"]
    parts += [f"{record['weights']:,} weights"]
    perturbed = (record.get("settings") or {}).get("perturb") or []
    parts += [f"perturbed by {', '.join(map(str, perturbed))}"] if perturbed else []
    parts += [f"learned in {duration(record['seconds'].get('total'))}"] if record["seconds"].get("total") else []
    return " · ".join(parts)


def _warnings(record: Mapping[str, Any]) -> list[str]:
    # Those of the posterior stand beside its diagnostics, and only there.
    listed = [*(record.get("warnings") or []), *(record["evidence"].get("warnings") or [])]
    elsewhere = set(posterior.warnings(record))
    return [text for text in dict.fromkeys(listed) if text not in elsewhere]


def _deviation(value: float | None) -> str:
    return MISSING if not value or value <= 0 else significant(value**-0.5)


def _scores(record: Mapping[str, Any]) -> list[tuple[str, str, str, bool]]:
    # Structure, temperature, log loss ± error, and whether it was chosen.
    chosen = record.get("predictive") or {}
    found: list[tuple[str, str, str, bool]] = []
    for s in chosen.get("scores") or []:
        error = s.get("stderr")
        loss = number(s.get("nll"), 4) + (f"\u00a0±\u00a0{number(error, 4)}" if error else "")
        picked = all(s.get(k, 1) == chosen.get(k, 1) for k in ("structure", "temperature", "calibration"))
        labels = "" if (t := s.get("calibration", 1)) == 1 else f", labels at temperature {significant(t)}"
        temperature = significant(s.get("temperature")) if s.get("temperature") else MISSING
        found.append((str(s.get("structure")).replace("_", " ") + labels, temperature, loss, picked))
    return found
