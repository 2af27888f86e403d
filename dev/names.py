"""Write the table of public names, so that the API can be read without building the pages.

    python dev/names.py

writes ``docs/api/names.md`` from the docstrings: a line for each name at the top level, and for each name of a package.
``tests/test_docs.py`` holds it against them.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import novacula

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api" / "names.md"
_LONGEST = 150


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
    return 0


def page() -> str:
    """The page."""
    top = sorted(novacula.__all__)
    packages = [name for name in top if inspect.ismodule(getattr(novacula, name))]
    lines = [
        "# Names",
        "",
        "Written by `python dev/names.py` from the docstrings; `help(nv.learn)` tells the rest.",
        "",
    ]
    lines += [
        "`import novacula as nv` gives these names:",
        "",
        *table("nv", novacula, [n for n in top if n not in packages]),
    ]
    known = {id(getattr(novacula, name)) for name in top}
    for name in packages:
        package = importlib.import_module(f"novacula.{name}")
        others = [k for k in sorted(getattr(package, "__all__", ())) if id(getattr(package, k)) not in known]
        if others:
            lines += ["", f"## `nv.{name}`", "", summary(package), "", *table(f"nv.{name}", package, others)]
    return "\n".join([*lines, ""])


def table(prefix: str, holder: Any, names: list[str]) -> list[str]:
    """Names with their first sentence."""
    rows = [(name, getattr(holder, name)) for name in names]
    told = [f"| `{prefix}.{name}` | {summary(value)} |" for name, value in rows if documented(value)]
    return ["| name | what it is |", "| --- | --- |", *told]


def documented(value: Any) -> bool:
    """Whether the docstring is the object's own: constants have that of their type."""
    return inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value)


def summary(value: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    text = " ".join((inspect.getdoc(value) or "").strip().split("\n\n")[0].split()).replace("|", "\\|")
    text = text.replace("``", "`")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST].rsplit(' ', 1)[0]} …"


if __name__ == "__main__":
    raise SystemExit(main())
