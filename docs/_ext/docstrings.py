"""Our docstrings are written to be read in a terminal; this turns them into what Sphinx understands.

- Markdown tables become tables.
- Indented formulas become literal blocks.
- Each reference under ``References:`` becomes an item of a list.
- A plural s may follow a name at once.

In signatures, the default of a field that a factory makes is shown as dots.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

_SECTION = re.compile(r"(Args|Attributes|Example|Examples|References|Returns|Raises|Yields|Note|Notes):$")
_RULE = re.compile(r"\|( *:?-+:? *\|)+$")
# A reference ends with its year, an identifier, or a remark in brackets.
_REFERENCE_END = re.compile(r"(\d{4}|arXiv:\S+|doi:\S+|\)|NeurIPS \d+|[A-Z]\S+ \d+(\(\d+\))?)\.$")

_PLURAL = re.compile(r"(?<!`)`([^`]+)`(?=s\b)")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the changes, before napoleon reads the sections.

    Args:
        app: The build.

    Returns:
        What Sphinx asks of an extension.
    """
    app.connect("autodoc-process-docstring", _process, priority=400)
    app.connect("autodoc-process-signature", _signature)
    return {"parallel_read_safe": True}


def _process(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    if what == "property":
        # An empty comment keeps napoleon from taking what stands before a colon for a type.
        lines[:0] = ["..", ""]
    lines[:] = [_PLURAL.sub(r"`\1`\ ", line) for line in _references(_literals(_tables(lines)))]


def _signature(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    return (None if signature is None else signature.replace("<factory>", "...")), returns


def _tables(lines: list[str]) -> list[str]:
    out: list[str] = []
    i = 0
    while i < len(lines):
        if lines[i].startswith("|") and i + 1 < len(lines) and _RULE.match(lines[i + 1]):
            end = i
            while end < len(lines) and lines[end].startswith("|"):
                end += 1
            rows = [_cells(line) for j, line in enumerate(lines[i:end]) if j != 1]
            out += ["", ".. list-table::", "   :header-rows: 1", ""]
            for row in rows:
                out += [f"   {'*' if k == 0 else ' '} - {cell}" for k, cell in enumerate(row)]
            out.append("")
            i = end
        else:
            out.append(lines[i])
            i += 1
    return out


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def _literals(lines: list[str]) -> list[str]:
    """Blocks that are indented after an empty line, outside of sections, stand as they are."""
    out: list[str] = []
    inside = literal = False
    for line in lines:
        flush = bool(line) and not line.startswith(" ")
        if flush:
            inside, literal = bool(_SECTION.match(line)) or line.startswith((">>>", "..", "*", "-", "=")), False
        elif line.strip() and not inside and not literal and (not out or not out[-1].strip()):
            code = "import " in line or ">>>" in line
            out += [f".. code-block:: {'python' if code else 'text'}", ""]
            literal = True
        out.append(line)
    return out


def _references(lines: list[str]) -> list[str]:
    """The entries of ``References:``, which follow one another without a mark."""
    out: list[str] = []
    inside = fresh = False
    for line in lines:
        if line == "References:":
            inside = fresh = True
            out += [".. rubric:: References", ""]
        elif inside and line.strip():
            text = line.strip()
            fresh = fresh and not text.startswith(("arXiv:", "doi:"))
            out.append(f"{'- ' if fresh else '  '}{text}")
            fresh = bool(_REFERENCE_END.search(text))
        else:
            inside = inside and not (line and not line.startswith(" "))
            out.append(line)
    return out
