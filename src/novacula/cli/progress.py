"""Progress of a run on stderr: a live display on a terminal, lines elsewhere, nothing when quiet.

Where lines go to a file or to another program, a training of more than forty epochs leaves about forty of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from novacula.cli.console import err, stdout_for_results
from novacula.cli.threads import set_threads
from novacula.reporting.words.extents import in_words, meaning
from novacula.reporting.words.numbers import duration, number
from novacula.runs.catalogue.models import Extent

_WIDTH, _LINES = 28, 40


@contextmanager
def computing(options: Any, said: list[str] | None = None) -> Iterator[Progress]:
    """What a verb computes inside: with the threads it was given, and progress and reservations on stderr."""
    with stdout_for_results(said), Progress(quiet=options.quiet) as progress:
        progress.say("loading")
        set_threads(options.threads)
        yield progress


class Progress:
    """A display that is told of every epoch."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self._console = console or err()
        self._quiet = quiet
        self._live: Live | None = None
        self._began = time.monotonic()
        self._first: int | None = None
        self._last: int | None = None
        self._what, self._after = "epoch", "scoring and choosing a predictive"

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=8, transient=True, redirect_stdout=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def begin(self, what: str = "epoch", after: str = "scoring and choosing a predictive") -> None:
        """Start the clock by which the time left is told."""
        self._began, self._first, self._last = time.monotonic(), None, None
        self._what, self._after = what, after

    def say(self, text: str) -> None:
        """Say what is being done now."""
        if self._live is not None:
            self._live.update(Text(f"{text} …", style="dim"))
        elif not self._quiet:
            self._console.print(Text(text))

    def decided(self, lines: Sequence[str]) -> None:
        """Say what the data were taken for; this stays on the screen."""
        if not self._quiet:
            for text in lines:
                self._console.print(fact(text))

    def __call__(self, done: int, total: int, record: Mapping[str, float]) -> None:
        """Show an epoch; the loop calls this."""
        if self._quiet:
            return
        before = self._last
        if before is not None and done <= before:
            before = None
            # Another training has begun, we do not know when: the clock starts with its first epoch.
            self._began, self._first = time.monotonic(), done + 1
        # The first epoch of all took all the time so far, also where a resumed run begins in the middle.
        self._first, self._last = done if self._first is None else self._first, done
        seen = done - self._first + 1
        left = self._after if done == total else ""
        if seen and done < total:
            left = duration((time.monotonic() - self._began) / seen * (total - done)) + " left"
        if self._live is not None:
            self._live.update(display(done, total, record, left, self._what))
        elif before is None or done == total or done * _LINES // total > before * _LINES // total:
            self._console.print(Text(line(done, total, record, left, self._what)))


def fact(text: str) -> Text:
    """One line of what data were taken for."""
    return Text.assemble(("data: ", "cyan"), text)


def line(done: int, total: int, record: Mapping[str, float], left: str, what: str = "epoch") -> str:
    """An epoch in one line."""
    width = len(str(total))
    words = [f"{what} {done:{width}}/{total}", *_scores(record)]
    extents = _extents(record)
    shown = [f"{e.label} {in_words(e, v)}" for e, v in extents if not e.negligible(v)]
    words += shown or (["no extent above its jitter"] if extents else [])
    return "  ".join(filter(None, [*words, left]))


def display(done: int, total: int, record: Mapping[str, float], left: str, what: str = "epoch") -> RenderableType:
    """An epoch as a live display."""
    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(f"{what} {done}/{total}"),
        ProgressBar(total, done, width=_WIDTH, complete_style="cyan", finished_style="cyan"),
        Text(left, style="dim"),
    )
    rows: list[RenderableType] = [head, *([Text("  ".join(_scores(record)))] if record else [])]
    extents = _extents(record)
    if extents:
        table = Table.grid(padding=(0, 2))
        for entry, value in extents:
            style = "dim" if entry.negligible(value) else "cyan"
            share = abs(value) / max(entry.natural, 1e-12)
            table.add_row(Text(entry.label), Text(bar(share), style=style), Text(in_words(entry, value), style=style))
        rows.append(table)
    return Group(*rows)


def bar(share: float, width: int = 24) -> str:
    """A thin bar.

    Returns:
        Text of that length.

    Example:
        >>> bar(0.5, 4), bar(0.35, 4)
        ('━━  ', '━╸  ')
    """
    full, half = divmod(round(2 * width * min(max(share, 0.0), 1.0)), 2)
    return ("━" * full + "╸" * half).ljust(width)


def _scores(record: Mapping[str, Any]) -> list[str]:
    # A sampler's loss is minus its log-density, which has more digits than one wants.
    loss = record.get("loss")
    found = [] if not record else [f"loss {number(loss) if loss is None or abs(loss) < 1_000 else number(loss, 0)}"]
    evidence = number(record.get("evidence"))
    return [*found, f"evidence {evidence} an example"] if evidence != number(None) else found


def _extents(record: Mapping[str, float]) -> list[tuple[Extent, float]]:
    named = [(meaning(k.removeprefix("extent/")), v) for k, v in record.items() if k.startswith("extent/")]
    return [(entry, v) for entry, v in named if entry.shown]
