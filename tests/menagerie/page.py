"""The page of the documentation that tells which networks work with what."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from menagerie.families import FAMILIES
from menagerie.outcomes import Outcome
from menagerie.verbs import POSTERIORS, VERBS
from novacula.curvature.structures.names import STRUCTURES

Outcomes = dict[str, dict[str, Outcome]]
HEADINGS = ("network", "density", "members", *(f"`{s}`" for s in STRUCTURES), "methods", "`learn`", "save, load")


@dataclass(frozen=True)
class Limit:
    """What is refused, in the words of the error."""

    expected: str
    hint: str

    @classmethod
    def of(cls, outcome: Outcome) -> Limit:
        parts = re.fullmatch(r"expected (.*?); got .*\. Try: (.*)", outcome.note, flags=re.DOTALL)
        assert parts, outcome.note
        # Names of layers and sizes differ from network to network.
        expected = re.sub(r"layer '[^']*'", "a layer", parts[1])
        return cls(expected, parts[2].replace("|", "\\|"))


def page(outcomes: Outcomes, text: str) -> str:
    """The page anew: ``text`` with its tables replaced."""
    limits = {limit: chr(ord("a") + i) for i, limit in enumerate(_limits(outcomes))}
    parts = {
        "counts": _counts(outcomes),
        "tables": "\n\n".join(
            _table(name, [c.name for c in family], outcomes, limits) for name, family in FAMILIES.items()
        ),
        "limits": _limits_table(outcomes, limits),
    }
    for name, part in parts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda m, p=part: f"{m[1]}\n{p}\n\n{m[2]}", text, flags=re.DOTALL)
    return text


def _cells(outcomes: Outcomes) -> Iterable[Outcome]:
    return (o for cells in outcomes.values() for o in cells.values())


def _limits(outcomes: Outcomes) -> list[Limit]:
    return list(dict.fromkeys(Limit.of(o) for o in _cells(outcomes) if o.kind == "limit"))


def _counts(outcomes: Outcomes) -> str:
    kinds = [o.kind for o in _cells(outcomes)]
    right, limit = kinds.count("right"), kinds.count("limit")
    rest = len(kinds) - right - limit
    return (
        f"Of {len(kinds):,} cells, {len(outcomes)} networks by {len(VERBS)} verbs where they are tried, {right:,} are"
        f" right ({100 * right / len(kinds):.1f} %) and {limit:,} are limits"
        + (f"; {rest} are neither." if rest else ".")
    )


def _table(name: str, networks: list[str], outcomes: Outcomes, limits: dict[Limit, str]) -> str:
    lines = [f"### {name}", "", f"| {' | '.join(HEADINGS)} |", f"| {' | '.join('---' for _ in HEADINGS)} |"]
    for network in networks:
        cells = outcomes[network]

        def mark(*verbs: str, cells: dict[str, Outcome] = cells) -> str:
            return _mark([cells[v] for v in verbs if v in cells], limits)

        gradient = cells["gradient"]
        row = [
            f"`{network}`",
            mark("forward", "gradient"),
            gradient.note if gradient.kind == "right" else "",
            *(cells[s].note if s == "kron" and cells[s].kind == "right" else mark(s) for s in STRUCTURES),
            mark(*POSTERIORS),
            mark("learn"),
            mark("save"),
        ]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def _mark(cells: list[Outcome], limits: dict[Limit, str]) -> str:
    letters = sorted({limits[Limit.of(o)] for o in cells if o.kind == "limit"})
    right = sum(o.kind == "right" for o in cells)
    if any(o.kind in ("wrong", "raw") for o in cells):
        return "wrong"
    if not letters:
        return "✓"
    said = ", ".join(f"[{letter}](#what-is-refused)" for letter in letters)
    return f"{right} of {len(cells)}, {said}" if right else said


def _limits_table(outcomes: Outcomes, limits: dict[Limit, str]) -> str:
    lines = ["|  | expected | networks | what to do |", "| --- | --- | --- | --- |"]
    for limit, letter in limits.items():
        networks = [
            name
            for name, cells in outcomes.items()
            if any(o.kind == "limit" and Limit.of(o) == limit for o in cells.values())
        ]
        lines.append(f"| {letter} | {limit.expected} | {', '.join(f'`{n}`' for n in networks)} | {limit.hint} |")
    return "\n".join(lines)
