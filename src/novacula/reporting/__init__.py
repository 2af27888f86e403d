"""The report: one self-contained HTML page from saved results alone. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path

from novacula.reporting.recipes import export

__all__ = ["export", "report"]


def report(folder: str | Path) -> Path:
    """Write ``report.html`` into a run folder (see `novacula.reporting.page.report`).

    Args:
        folder: A run folder.

    Returns:
        The page's path.
    """
    from novacula.reporting.page import report as write  # matplotlib and jinja2 only when a report is wanted

    return write(folder)
