"""The report: one self-contained HTML page from saved results alone. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path

from novacula.core.checks.numbers import as_path
from novacula.core.storage.run import ADVICE
from novacula.reporting.recipes import export

__all__ = ["export", "report"]


def report(folder: str | Path) -> Path:
    """Write ``report.html`` into a run folder (see `novacula.reporting.page.report`).

    Args:
        folder: A run folder, or one of `novacula augment`.

    Returns:
        The page's path.
    """
    # Matplotlib and jinja2 only when a report is wanted.
    if (as_path(folder, "a run folder") / ADVICE).is_file():
        from novacula.reporting.advice.page import report as write_advice

        return write_advice(folder)
    from novacula.reporting.page import report as write

    return write(folder)
