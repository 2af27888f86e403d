"""What all figures share: the palette, the canvas, and the way from matplotlib to an inline SVG that fits the page.

Figures are drawn in the light palette. On the way out every palette colour becomes a CSS variable with that colour as
its fallback, so one drawing serves light and dark pages. Text stays text, in the page's own font, and identifiers are
prefixed by the figure's name, since all figures share one document. No date, no random identifier: the same results
give the same bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from novacula.core.storage.atomic import write_text
from novacula.reporting.words.numbers import significant

INK, MUTED, RULE, PAPER = "#1d1c1a", "#66625b", "#dcd8cf", "#fbfaf8"
ACCENT, SECOND, FAINT = "#21618c", "#b0532a", "#cfe0ec"
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    PAPER: "paper",
    ACCENT: "accent",
    SECOND: "second",
    FAINT: "faint",
}
# Rasters cannot follow the page's theme; this tone reads on both.
RASTER = "#3f86b5"
MANY_MARKS = 1_000
"""Above this many marks a figure's points are drawn as a raster."""

WIDTH = 420
"""The width of a figure in CSS pixels: one column of the page, or a phone."""

_STYLE = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "axes.labelsize": 11.5,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "xtick.labelsize": 11.5,
    "ytick.labelsize": 11.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "axes.unicode_minus": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "novacula",
    "svg.image_inline": True,
    "path.simplify": True,
}


@dataclass(frozen=True)
class Picture:
    """A finished figure."""

    name: str  # its identifier in the page
    title: str  # its heading
    svg: str  # the drawing, as an inline ``<svg>`` element
    alt: str  # what it shows, for those who cannot see it
    caption: str  # how to read it
    wide: bool = False  # whether it needs the page's full width

    def save(self, path: Path) -> str:
        """Write the drawing as a file of its own, on paper and in the page's kind of font; the path as text."""
        # Outside of a page there is nothing to set a variable, and most programs but browsers know none.
        drawn = re.sub(r"var\(--[\w-]+, (#\w+)\)", r"\1", self.svg)
        head = f'<svg xmlns="http://www.w3.org/2000/svg" style="background: {PAPER}; font-family: sans-serif" '
        write_text(path, drawn.replace("<svg ", head, 1))
        return str(path)


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's defaults with the house style on top, whatever the user's own settings are."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


def canvas(height: float, width: float = WIDTH) -> Figure:
    """An empty figure measured in CSS pixels, without pyplot and its global state."""
    return Figure(figsize=(width / 72, height / 72), dpi=72)


def panel(
    figure: Figure, *, left: float = 48, right: float = 12, bottom: float = 40, top: float = 12, **options: object
) -> Axes:
    """Axes with margins in CSS pixels."""
    width, height = figure.get_size_inches() * 72
    box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    return figure.add_axes(box, **options)  # type: ignore[arg-type]


@contextmanager
def drawing(height: float, width: float = WIDTH, **margins: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure in the house style with a single panel, whose margins are those of `panel`."""
    with style():
        figure = canvas(height, width)
        yield figure, panel(figure, **margins)


def svg(figure: Figure, name: str, alt: str) -> str:
    """Turn a figure into an inline ``<svg>`` element."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", dpi=216, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    # Rules for every element would reach the whole page; the page's own style has them, for figures alone.
    text = re.sub(r"<defs>\s*<style\b.*?</style>\s*</defs>\s*", "", text, flags=re.DOTALL)
    text = text.replace("xlink:href", "href")
    used = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    text = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r"font: ([^;\"']*?px)[^;\"]*", r"font-size: \1", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable}, {colour})")
    width, height = (round(v * 72) for v in figure.get_size_inches())
    head = f'<svg role="img" aria-label="{_attribute(alt)}" width="{width}" height="{height}"'
    text = re.sub(r'<svg\b[^>]*?(viewBox="[^"]*")[^>]*>', rf"{head} \1>", text, count=1)
    return text.strip() + "\n"


def quiet(axes: Axes, title: str = "", *, grid: bool = True) -> None:
    """Take away what a figure can be read without: the left spine and tick marks."""
    if grid:
        axes.grid(axis="y")
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_zorder(5)  # over what stands on it
    axes.tick_params(length=0, which="both")
    axes.tick_params(axis="x", pad=7)  # so that the zeros of both axes stay apart
    if title:
        axes.set_title(title, color=MUTED, pad=8)


def bars(
    axes: Axes, x: np.ndarray, low: np.ndarray, high: np.ndarray, colour: object, *, width: float, alpha: float
) -> None:
    """Vertical lines, as a single path: a tenth of the size of separate ones; x ``(n,)``."""
    gap = np.full(len(x), math.nan)
    across, up = np.stack([x, x, gap], 1).ravel(), np.stack([low, high, gap], 1).ravel()
    (line,) = axes.plot(across, up, color=colour, linewidth=width, alpha=alpha, solid_capstyle="butt")  # type: ignore[arg-type]
    line.get_path().should_simplify = False  # it would drop what it takes for a detour


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Where to label a logarithmic axis: whole decades where there are three or more, else 1-2-5 steps.

    Returns:
        Values, not logarithms.

    Example:
        >>> log_ticks(-0.2, 3.1), log_ticks(0.0, 1.0)
        ([1.0, 10.0, 100.0, 1000.0], [1.0, 2.0, 5.0, 10.0])
    """
    decades = [10.0**e for e in range(math.ceil(low), math.floor(high) + 1)]
    fine = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
    ticks = decades if len(decades) >= 3 else [t for t in fine if low <= math.log10(t) <= high]
    while len(ticks) > most:
        ticks = ticks[::2]
    return ticks


def tick_texts(ticks: list[float]) -> list[str]:
    """Labels of ticks, as plain numbers."""
    return [significant(t, 2) for t in ticks]


def direct_labels(axes: Axes, ends: list[tuple[float, str, str]], *, x: float, gap: float) -> None:
    """Write labels beside the ends of lines, moved apart so that none overlap."""
    placed = spread([y for y, _, _ in ends], gap)
    floor = axes.get_ylim()[0]
    for i in sorted(range(len(placed)), key=placed.__getitem__):
        placed[i] = max(placed[i], floor)
        floor = placed[i] + gap
    for (_, label, colour), y in zip(ends, placed, strict=True):
        axes.annotate(
            label, (x, y), (6, 0), textcoords="offset points", va="center", color=colour, annotation_clip=False
        )


def spread(heights: list[float], gap: float) -> list[float]:
    """Move numbers apart until neighbours are at least ``gap`` apart, each cluster keeping its centre.

    Returns:
        New numbers, in the order of the old.

    Example:
        >>> spread([0.0, 0.0, 5.0], 1.0)
        [-0.5, 0.5, 5.0]
    """
    clusters: list[tuple[float, list[int]]] = []  # centre, members from low to high
    for i in sorted(range(len(heights)), key=lambda k: (heights[k], k)):
        centre, members = heights[i], [i]
        while (
            clusters and centre - gap * (len(members) - 1) / 2 < clusters[-1][0] + gap * (len(clusters[-1][1]) + 1) / 2
        ):
            lower = clusters.pop()
            n = len(lower[1]) + len(members)
            centre = (lower[0] * len(lower[1]) + centre * len(members)) / n
            members = lower[1] + members
        clusters.append((centre, members))
    placed = [0.0] * len(heights)
    for centre, members in clusters:
        for rank, i in enumerate(members):
            placed[i] = centre + gap * (rank - (len(members) - 1) / 2)
    return placed


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
