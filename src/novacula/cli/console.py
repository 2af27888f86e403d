"""Where the command line writes, and how it fails: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.storage.atomic import full_disk, is_full
from novacula.core.text import visible

FAILED = 2
INTERRUPTED = 130


class _Visible(Console):
    # Rich styles text by escape sequences of its own, which are added after this: what is in the text came from data.

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def err() -> Console:
    """A console on stderr."""
    return _Visible(stderr=True, highlight=False, soft_wrap=True)


def out() -> Console:
    """A console on stdout."""
    return _Visible(highlight=False)


def fail(error: InputError) -> None:
    """Say what was expected, what came and what to try."""
    console = err()
    console.print(Text.assemble(("error: ", "bold red"), f"expected {error.expected}"))
    console.print(Text(f"  got   {error.got}"))
    console.print(Text(f"  try   {error.hint}"))


@contextmanager
def errors_to_exit() -> Iterator[None]:
    """Turn an `InputError` or a full disk into exit code 2, an interrupt into 130; the others keep their traceback."""
    import typer

    try:
        yield
    except KeyboardInterrupt as interrupt:
        err().print(Text(f"interrupted{interrupt}"))
        raise typer.Exit(INTERRUPTED) from None
    except InputError as error:
        fail(error)
        raise typer.Exit(FAILED) from None
    except OSError as error:
        if not is_full(error):
            raise
        fail(full_disk(error))
        raise typer.Exit(FAILED) from None


@contextmanager
def warnings_to_stderr(said: list[str]) -> Iterator[None]:
    """Print reservations as they arise, one line each and none twice."""

    def show(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
        text = str(message)
        if not issubclass(category, NovaculaWarning):
            usual(message, category, *place, **more)  # type: ignore[arg-type]
        elif text not in said:
            said.append(text)
            warn(text)

    usual = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always", NovaculaWarning)
        warnings.showwarning = show
        yield


@contextmanager
def stdout_for_results(said: list[str] | None = None) -> Iterator[None]:
    """Let what runs inside, a network's file among it, print on stderr, and reservations too: stdout is for results."""
    with redirect_stdout(sys.stderr), warnings_to_stderr([] if said is None else said):
        yield


def warn(text: str) -> None:
    """Print one reservation."""
    err().print(Text.assemble(("warning: ", "yellow"), text))


def print_json(content: object) -> None:
    """Print one JSON object on stdout; what a terminal would obey is escaped, as JSON may."""
    print(visible(json.dumps(content, allow_nan=False, ensure_ascii=False)))


def present(content: dict[str, Any], show: Callable[[dict[str, Any]], None], *, json: bool) -> None:
    """Print what a verb found: as one JSON object, or for people."""
    if json:
        print_json(content)
    else:
        show(content)


def print_text(text: str, *, end: str = "\n") -> None:
    """Print a result on stdout: as it is to a program, and to a person without what a terminal would obey."""
    print(visible(text) if sys.stdout.isatty() else text, end=end)


def never_choke() -> None:
    """Replace characters that the terminal's encoding lacks, such as ±, instead of failing on them."""
    for stream in (sys.stdout, sys.stderr):
        if not (stream.encoding or "").lower().startswith("utf"):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
