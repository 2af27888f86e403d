"""What people write, and the objects that it names: likelihoods, priors, invariances, copies."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

from novacula.core.errors import InputError
from novacula.data.labels import Task
from novacula.invariances import Affine, Colour, Compose, Deformation, Flip, Invariance, TimeWarp
from novacula.invariances.affine import AFFINE_NAMES
from novacula.invariances.colour import COLOUR_NAMES
from novacula.invariances.signal import TIME_NAMES
from novacula.likelihoods import Bernoulli, Categorical, HeteroscedasticNormal, Likelihood, Normal
from novacula.priors import FanIn, Gaussian, Laplace, Prior, StudentT
from novacula.target import Copies

TASKS: dict[str, Task] = {
    "categorical": "classification",
    "bernoulli": "multilabel",
    "normal": "regression",
    "heteroscedastic": "regression",
}
DEFAULTS: dict[Task, str] = {"classification": "categorical", "multilabel": "bernoulli", "regression": "normal"}
LIKELIHOODS: dict[str, Callable[[], Likelihood]] = {
    "categorical": Categorical,
    "bernoulli": Bernoulli,
    "normal": Normal,
    "heteroscedastic": HeteroscedasticNormal,
}
PRIORS: dict[str, Callable[[], Prior]] = {
    "gaussian": Gaussian,
    "isotropic": lambda: Gaussian(per="all"),
    "fan-in": FanIn,
    "laplace": Laplace,
    "student-t": StudentT,
}
_WHOLE: dict[str, Callable[..., Invariance]] = {
    "affine": Affine,
    "flip": Flip,
    "deformation": Deformation,
    "colour": Colour,
    "color": Colour,
    "timewarp": TimeWarp,
}
# A single generator, and the transformation that holds it.
_PARTS: dict[str, tuple[Callable[..., Invariance], tuple[str, ...]]] = {
    **{name: (Affine, (name,)) for name in AFFINE_NAMES},
    "translation": (Affine, ("translation_x", "translation_y")),
    **{name: (Colour, (name,)) for name in COLOUR_NAMES},
    **{name: (TimeWarp, (name,)) for name in TIME_NAMES},
}


def read_invariance(text: str) -> Invariance | None:
    """Read transformations joined by ``+``.

    Generators of one kind are gathered into one transformation, which interpolates once.

    Returns:
        The invariance, or None for ``"none"``.

    Raises:
        InputError: If a name is unknown or given twice.
    """
    words = [word.strip().lower() for word in text.split("+")]
    if words == ["none"]:
        return None
    for word in words:
        known("--invariance", word, [*_WHOLE, *_PARTS], extra="none, or several joined by +")
    parts: list[Invariance | tuple[Callable[..., Invariance], list[str]]] = []
    for word in words:
        if word in _WHOLE:
            parts.append(_WHOLE[word]())
            continue
        kind, generators = _PARTS[word]
        gathered = next((p for p in parts if isinstance(p, tuple) and p[0] is kind), None)
        if gathered is None:
            parts.append((kind, list(generators)))
        else:
            gathered[1].extend(generators)
    built = [p[0](only=tuple(p[1])) if isinstance(p, tuple) else p for p in parts]
    kinds = [type(p) for p in built]
    if len(set(kinds)) < len(kinds):
        raise InputError("each transformation once in --invariance", repr(text), "leave out the repetition")
    return built[0] if len(built) == 1 else Compose(*built)


def read_copies(text: str | None) -> Copies:
    """Read how many transformed copies are averaged."""
    if text is None:
        return Copies()
    try:
        train, evidence, predict = (int(word) for word in text.split(","))
    except ValueError:
        raise InputError("three whole numbers in --copies", repr(text), "--copies 8,8,32") from None
    return Copies(train=train, evidence=evidence, predict=predict)


def known(option: str, value: str, names: Iterable[str], extra: str = "") -> str:
    """Insist on a name that is known."""
    listed = list(names)
    if value in listed:
        return value
    close = difflib.get_close_matches(value, listed, n=1)
    words = ", ".join(listed) + (f"; {extra}" if extra else "")
    raise InputError(f"{option} among {words}", repr(value), f"{option} {close[0] if close else listed[0]}")
