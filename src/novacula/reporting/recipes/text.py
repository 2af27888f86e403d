"""How a recipe is written: numbers, pairs, comments, and a list of calls in a container."""

from __future__ import annotations

from collections.abc import Sequence

from novacula.reporting.recipes.ranges import Ranges

LEFT_OUT = "{}: nothing like it here; left out"
INDEPENDENT = "stretch: the factors along x and y are independent here; ours are exp(s + d) and exp(s - d)"
SHEAR = "shear: the same change of the right angle; rows slide, so that the image also turns by half of it"
SCALE = "scale, contrast and saturation: factors are uniform here, ours log-uniform, between the same ends"
NO_SIZE = "deformation: measured in pixels; export with size=(height, width) to have it"
WHOLE = "shifts are rounded to whole pixels"
ERASING = "erasing: the square is painted with 0, the mean where images were standardised"


def num(value: float) -> str:
    """A number to eight digits."""
    return f"{value:.9g}"


def pair(low: float, high: float) -> str:
    """A pair of numbers."""
    return f"({num(low)}, {num(high)})"


def around(reach: float) -> str:
    """A range ± around 0."""
    return pair(-reach, reach)


def factors(largest: float) -> str:
    """A range of factors around 1."""
    return pair(1 / largest, largest)


def call(name: str, **arguments: str | None) -> str:
    """A call with the arguments that are there."""
    return f"{name}({', '.join(f'{key}={value}' for key, value in arguments.items() if value is not None)})"


def flips(found: Ranges, across: str, down: str) -> list[str]:
    """The flips that are there, by a library's names of them."""
    return [call(name, p=num(share)) for name, share in ((across, found.flip), (down, found.flip_vertical)) if share]


def comments(found: Ranges, notes: Sequence[str | bool]) -> list[str]:
    """The notes that apply, as comments, with what no library has."""
    missing = [LEFT_OUT.format(name) for name in found.unknown]
    return [f"# {note}" for note in [*notes, *missing] if isinstance(note, str) and note]


def program(head: Sequence[str], notes: Sequence[str], container: str, steps: Sequence[str], *, many: bool) -> str:
    """Imports, comments and a container of steps; ``many`` where the container takes them one by one."""
    if not steps:
        return "\n".join([*notes, "# no transformation: train on the images as they are"])
    inner, ends = ("    ", ("(", ")")) if many else ("        ", ("(\n    [", "    ]\n)"))
    lines = [f"transform = {container}{ends[0]}", *(f"{inner}{step}," for step in steps), ends[1]]
    return "\n".join([*head, "", *notes, *lines])
