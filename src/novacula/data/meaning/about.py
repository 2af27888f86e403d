"""What was decided about data: what the target is, what became of columns and rows; in sentences and for files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from novacula.core.modules.parts import Parts
from novacula.data.meaning.coding import Coding, Column

_NAMED = 6  # names that a sentence lists


@dataclass(frozen=True, eq=False)
class About:
    """What data remember of where they are from."""

    targets: tuple[str, ...] = ()  # names of the target's columns, or of the labels' array
    said: tuple[str, ...] = ()  # what their reader decided, in sentences
    coding: Coding | None = None  # how a table's columns became inputs
    size: int | None = None  # the size to which images were brought


def meaning(
    about: About, task: str, classes: Sequence[str], labels: int, x_shape: tuple[int, ...], tokens: bool | Parts
) -> tuple[str, ...]:
    """What data were taken for.

    Args:
        about: What they remember.
        task: What the labels are.
        classes: Names of the classes, where they have some.
        labels: How many classes there are where these have no names; for other tasks, the number of targets.
        x_shape: The shape of one input.
        tokens: Whether inputs are token ids; or their layout, where they are several parts.

    Returns:
        Sentences without a full stop.
    """
    named = f"target{'s' * (len(about.targets) > 1)} {listed(about.targets)}" if about.targets else "labels"
    if task == "classification":
        kind = f"{len(classes) or labels} classes" + (f" ({listed(classes)})" if classes else "")
    elif task == "multilabel":
        kind = f"{labels} yes/no labels" + (f" ({listed(classes)})" if classes else "")
    else:
        kind = "numbers" if labels == 1 or about.targets else f"{labels} numbers"
    return (f"{named}: {kind}", _inputs(about.coding, x_shape, tokens), *about.said, *coded(about.coding))


def coded(coding: Coding | None) -> tuple[str, ...]:
    """What became of words and missing entries."""
    if coding is None:
        return ()
    said = []
    words = [c for c in coding.columns if c.words is not None]
    if words:
        said.append(f"{_columns(words)} of words one-hot ({listed([c.name for c in words])})")
    for c in words:
        if c.other:
            rows = f"{c.other:,} row{'s' * (c.other > 1)}"
            said.append(f"column {c.name!r}: {rows} with words that occur once count as other")
    holes = [c for c in coding.columns if c.missing]
    if holes:
        total = sum(c.missing for c in holes)
        kinds = {c.words is None for c in holes}
        how = "the median" if kinds == {True} else "the most frequent word" if kinds == {False} else ""
        shown = listed([f"{c.name}: {_short(c.fill)}" for c in holes])
        said.append(
            f"{total:,} missing value{'s' * (total > 1)} in {_columns(holes)} filled by "
            f"{how or 'the median or most frequent word'} ({shown}), and marked in a column beside"
        )
    return tuple(said)


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f", … {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(map(str, names[:_NAMED])) + more


def _inputs(coding: Coding | None, x_shape: tuple[int, ...], tokens: bool | Parts) -> str:
    size = " × ".join(f"{n:,}" for n in x_shape)
    if coding is not None:
        width = sum(len(c.names) for c in coding.columns)
        return f"inputs: {_columns(coding.columns)}" + (
            f", as {width:,} numbers" if width != len(coding.columns) else ""
        )
    if isinstance(tokens, Parts):
        return f"inputs: {len(tokens.parts)} parts ({tokens})"
    if tokens:
        return f"inputs: token ids of shape {size}"
    if len(x_shape) == 1:
        return f"inputs: {x_shape[0]:,} column{'s' * (x_shape[0] > 1)}"
    kind = {2: "signals (channels × length)", 3: "images (channels × height × width)"}.get(len(x_shape), "arrays")
    return f"inputs: {kind} of {size}"


def _columns(columns: Sequence[Column]) -> str:
    return f"{len(columns):,} column{'s' * (len(columns) != 1)}"


def _short(fill: float | str | None) -> str:
    return "other" if fill is None else fill if isinstance(fill, str) else f"{fill:.4g}"
