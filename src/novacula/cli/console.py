"""Where the command line writes, and how it fails: results on stdout, everything else on stderr."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from novacula.core.errors import InputError, NovaculaWarning

FAILED = 2
INTERRUPTED = 130


def err() -> Console:
    """A console on stderr."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def out() -> Console:
    """A console on stdout."""
    return Console(highlight=False)


def fail(error: InputError) -> None:
    """Say what was expected, what came and what to try."""
    console = err()
    console.print(Text.assemble(("error: ", "bold red"), f"expected {error.expected}"))
    console.print(Text(f"  got   {error.got}"))
    console.print(Text(f"  try   {error.hint}"))


@contextmanager
def errors_to_exit() -> Iterator[None]:
    """Turn an `InputError` into a message and exit code 2; other exceptions keep their traceback."""
    import typer

    try:
        yield
    except InputError as error:
        fail(error)
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


def warn(text: str) -> None:
    """Print one reservation."""
    err().print(Text.assemble(("warning: ", "yellow"), text))


def never_choke() -> None:
    """Replace characters that the terminal's encoding lacks, such as ±, instead of failing on them."""
    for stream in (sys.stdout, sys.stderr):
        if not (stream.encoding or "").lower().startswith("utf"):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
