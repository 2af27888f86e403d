"""Likelihoods, priors and transformations by name, and what people write of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from novacula.core.errors import InputError
from novacula.runs.catalogue.row import Made, Table, loaded

if TYPE_CHECKING:
    from novacula.data.labels import Task
    from novacula.invariances import Invariance
    from novacula.likelihoods import Likelihood
    from novacula.priors import Prior
    from novacula.target import Copies


@dataclass(frozen=True)
class LikelihoodRow:
    """A likelihood by its name."""

    name: str  # what people write
    make: Made  # its class
    task: Task  # what its labels are
    defaults: Mapping[str, Any] = field(default_factory=dict)  # its settings
    help: str | None = ""  # A phrase for the help

    def __call__(self) -> Likelihood:
        """The likelihood."""
        return loaded(self.make)(**self.defaults)


@dataclass(frozen=True)
class PriorRow:
    """A prior by its name."""

    name: str  # what people write
    make: Made  # its class
    defaults: Mapping[str, Any] = field(default_factory=dict)  # its settings
    help: str | None = ""  # A phrase for the help

    def __call__(self) -> Prior:
        """The prior."""
        return loaded(self.make)(**self.defaults)


@dataclass(frozen=True)
class InvarianceRow:
    """A transformation by its name, or some generators of one."""

    name: str  # what people write
    make: Made  # its class
    only: tuple[str, ...] = ()  # its generators
    defaults: Mapping[str, Any] = field(default_factory=dict)  # its settings
    help: str | None = ""  # A phrase for the help


_LIKELIHOOD, _PRIOR, _INVARIANCE = "novacula.likelihoods:", "novacula.priors:", "novacula.invariances:"
_AFFINE, _COLOUR, _TIME = f"{_INVARIANCE}Affine", f"{_INVARIANCE}Colour", f"{_INVARIANCE}TimeWarp"

LIKELIHOODS = Table(
    "likelihood",
    LikelihoodRow,
    (
        LikelihoodRow("categorical", f"{_LIKELIHOOD}Categorical", "classification"),
        LikelihoodRow("bernoulli", f"{_LIKELIHOOD}Bernoulli", "multilabel"),
        LikelihoodRow("normal", f"{_LIKELIHOOD}Normal", "regression"),
        LikelihoodRow("heteroscedastic", f"{_LIKELIHOOD}HeteroscedasticNormal", "regression"),
    ),
)
DEFAULTS: dict[Task, str] = {"classification": "categorical", "multilabel": "bernoulli", "regression": "normal"}
PRIORS = Table(
    "prior",
    PriorRow,
    (
        PriorRow("gaussian", f"{_PRIOR}Gaussian", help="one precision a tensor"),
        PriorRow("isotropic", f"{_PRIOR}Gaussian", {"per": "all"}),
        PriorRow("fan-in", f"{_PRIOR}FanIn"),
        PriorRow("laplace", f"{_PRIOR}Laplace"),
        PriorRow("student-t", f"{_PRIOR}StudentT"),
    ),
)
INVARIANCES = Table(
    "invariance",
    InvarianceRow,
    (
        InvarianceRow("affine", _AFFINE),
        InvarianceRow("rotation", _AFFINE, ("rotation",)),
        InvarianceRow("translation", _AFFINE, ("translation_x", "translation_y")),
        InvarianceRow("translation_x", _AFFINE, ("translation_x",), help=None),
        InvarianceRow("translation_y", _AFFINE, ("translation_y",), help=None),
        InvarianceRow("scale", _AFFINE, ("scale",)),
        InvarianceRow("stretch", _AFFINE, ("stretch",)),
        InvarianceRow("shear", _AFFINE, ("shear",)),
        InvarianceRow("flip", f"{_INVARIANCE}Flip"),
        InvarianceRow("deformation", f"{_INVARIANCE}Deformation"),
        InvarianceRow("colour", _COLOUR),
        InvarianceRow("color", _COLOUR, help=None),
        InvarianceRow("brightness", _COLOUR, ("brightness",), help=None),
        InvarianceRow("contrast", _COLOUR, ("contrast",), help=None),
        InvarianceRow("saturation", _COLOUR, ("saturation",), help=None),
        InvarianceRow("timewarp", _TIME),
        InvarianceRow("time_shift", _TIME, ("time_shift",), help=None),
        InvarianceRow("time_scale", _TIME, ("time_scale",), help=None),
    ),
)


def origins(likelihood: str, prior: str, invariance: str | None) -> dict[str, dict[str, str]]:
    """The modules of those parts of a model that are of other packages: names to modules, by kind."""
    asked = ((LIKELIHOODS, [likelihood]), (PRIORS, [prior]), (INVARIANCES, _words(invariance or "none")))
    found = {table.kind: {n: made for n in names if (made := table.origin(n))} for table, names in asked}
    return {kind: made for kind, made in found.items() if made}


def check_origins(found: Mapping[str, Mapping[str, str]], where: str) -> None:
    """Insist that what a saved run was made of is still there."""
    for table in (LIKELIHOODS, PRIORS, INVARIANCES):
        for name, module in found.get(table.kind, {}).items():
            if name not in table:
                raise InputError(
                    f"the {table.kind} {name!r} of the module {module}, which {where} was learned with",
                    "no row of this name in the catalogue",
                    f"install its package, or import {module} if that calls register",
                )


def _words(text: str) -> list[str]:
    return [word.strip().lower() for word in text.split("+")]


def read_invariance(text: str) -> Invariance | None:
    """Read transformations joined by ``+``.

    Generators of one kind are gathered into one transformation, which interpolates once.

    Returns:
        The invariance, or None for ``"none"``.

    Raises:
        InputError: If a name is unknown or given twice.
    """
    from novacula.invariances import Compose

    words = _words(text)
    if words == ["none"]:
        return None
    rows = [INVARIANCES.find(word, extra="none, or several joined by +") for word in words]
    parts: list[tuple[Callable[..., Invariance], dict[str, Any]]] = []
    for row in rows:
        make = loaded(row.make)
        gathered = next((p for k, p in parts if k is make and row.only and "only" in p), None)
        if gathered is None:
            parts.append((make, {**row.defaults, **({"only": row.only} if row.only else {})}))
        else:
            gathered["only"] += row.only
    built = [make(**settings) for make, settings in parts]
    kinds = [type(p) for p in built]
    if len(set(kinds)) < len(kinds):
        raise InputError("each transformation once in --invariance", repr(text), "leave out the repetition")
    return built[0] if len(built) == 1 else Compose(*built)


def read_copies(text: str | None) -> Copies:
    """Read how many transformed copies are averaged."""
    from novacula.target import Copies

    if text is None:
        return Copies()
    try:
        train, evidence, predict = (int(word) for word in text.split(","))
    except ValueError:
        raise InputError("three whole numbers in --copies", repr(text), "--copies 8,8,32") from None
    return Copies(train=train, evidence=evidence, predict=predict)
