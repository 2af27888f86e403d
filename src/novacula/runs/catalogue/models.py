"""Likelihoods, priors and transformations by name, and what people write of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from novacula.core.errors import InputError
from novacula.runs.catalogue.row import Made, Table, loaded

if TYPE_CHECKING:
    from novacula.core.estimate import Estimate
    from novacula.data.meaning.labels import Task
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
class EvidenceRow:
    """An estimator of the log evidence by its name."""

    name: str  # what people write
    make: Made  # its class
    defaults: Mapping[str, Any] = field(default_factory=dict)  # its settings
    help: str | None = ""  # A phrase for the help

    def __call__(self) -> Callable[..., Estimate]:
        """The estimator."""
        return loaded(self.make)(**self.defaults)


@dataclass(frozen=True)
class FigureRow:
    """A figure of the report."""

    name: str  # its name
    make: Callable[..., Any]  # from a saved `Run` to a `Picture`, or to None where the run has not what it shows
    section: Literal["training", "posterior", "predictions"] = "predictions"  # where on the page it stands
    help: str | None = ""  # what it shows


NEGLIGIBLE = 0.08
"""Extents up to this size (in ``eta``) are within the jitter of learning, and count as none."""


@dataclass(frozen=True)
class Extent:
    """What an extent of a transformation means to people; a run saves it in the transformation's own units ``eta``."""

    label: str  # its name in words
    plural: str  # what its presence supports, e.g. ``"rotations"``
    unit: Literal["degrees", "percent", "factor", "plain"] = "plain"  # its unit for people
    scale: float = 1.0  # A value in that unit is ``scale · eta`` (for factors: ``exp(± scale · eta)``)
    natural: float = 1.0  # the largest ``eta`` that figures show by default
    symmetric: bool = True  # whether it is a range ± around none
    of: str = ""  # what a per cent is a per cent of
    group: str = ""  # the title of the figure that it shares with others; by default its label
    least: float = NEGLIGIBLE  # the largest ``eta`` that counts as none
    whole: float | None = None  # from which ``eta`` on it covers its whole group, as far as an estimate can tell …
    everything: str = ""  # … and what is said of that
    shown: bool = True  # False for what shapes a transformation, and is not how far it reaches

    def negligible(self, eta: float) -> bool:
        """Whether it counts as none."""
        return abs(eta) <= self.least


@dataclass(frozen=True)
class InvarianceRow:
    """A transformation by its name, or some generators of one."""

    name: str  # what people write
    make: Made  # its class
    only: tuple[str, ...] = ()  # its generators
    defaults: Mapping[str, Any] = field(default_factory=dict)  # its settings
    help: str | None = ""  # A phrase for the help
    extents: Mapping[str, Extent] = field(default_factory=dict)  # what its extents mean, by name


def _part(name: str, make: str, entry: Extent, help: str | None = None) -> InvarianceRow:
    return InvarianceRow(name, make, (name,), help=help, extents={name: entry})


def _factor(label: str, plural: str, group: str = "") -> Extent:
    return Extent(label, plural, "factor", natural=math.log(2), group=group)


def _shift(label: str, of: str) -> Extent:
    return Extent(label, f"{label}s", "percent", 50.0, of=of, group="shifts")


_LIKELIHOOD, _PRIOR, _INVARIANCE = "novacula.likelihoods:", "novacula.priors:", "novacula.invariances:"
_AFFINE, _COLOUR, _TIME = f"{_INVARIANCE}Affine", f"{_INVARIANCE}Colour", f"{_INVARIANCE}TimeWarp"
_MIRROR = f"{_INVARIANCE}Flip"
_HALF = "mirror images as often as originals"
_SIZES = "scale, stretch and shear"
_ROTATION = Extent("rotation", "rotations", "degrees", 180.0, whole=165 / 180, everything="any rotation")


def _mirror(label: str) -> Extent:
    return Extent(
        label, f"{label}s", "percent", 100.0, 0.5, False, "of copies", "mirror images", whole=0.45, everything=_HALF
    )


_HUE = Extent("hue", "changes of hue", "degrees", 180.0, group="hue", whole=165 / 180, everything="any hue")
_SQUARE = Extent("erased square", "erased squares", "percent", 100.0, 1.0, False, "of the side", "erased squares")
_FORM = Extent("log smoothness", "log smoothness", shown=False)
_REACH = Extent("deformation", "local deformations", "percent", 100.0, 0.1, False, "of the width", least=0.005)

LIKELIHOODS = Table(
    "likelihood",
    LikelihoodRow,
    (
        LikelihoodRow("categorical", f"{_LIKELIHOOD}Categorical", "classification"),
        LikelihoodRow("bernoulli", f"{_LIKELIHOOD}Bernoulli", "multilabel"),
        LikelihoodRow("normal", f"{_LIKELIHOOD}Normal", "regression"),
        LikelihoodRow("heteroscedastic", f"{_LIKELIHOOD}HeteroscedasticNormal", "regression"),
    ),
    ("auto",),
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
        _part("rotation", _AFFINE, _ROTATION, ""),
        InvarianceRow("translation", _AFFINE, ("translation_x", "translation_y")),
        _part("translation_x", _AFFINE, _shift("horizontal shift", "of the width")),
        _part("translation_y", _AFFINE, _shift("vertical shift", "of the height")),
        _part("scale", _AFFINE, _factor("scale", "changes of scale", _SIZES), ""),
        _part("stretch", _AFFINE, _factor("stretch", "stretches along the axes", _SIZES), ""),
        _part("shear", _AFFINE, _factor("shear", "shears", _SIZES), ""),
        _part("flip", _MIRROR, _mirror("mirror image")),
        _part("flip_vertical", _MIRROR, _mirror("vertical mirror image"), "top to bottom"),
        InvarianceRow(
            "deformation", f"{_INVARIANCE}Deformation", extents={"amplitude": _REACH, "log_smoothness": _FORM}
        ),
        InvarianceRow("colour", _COLOUR),
        InvarianceRow("color", _COLOUR, help=None),
        _part("brightness", _COLOUR, Extent("brightness", "changes of brightness", group="colour")),
        _part("contrast", _COLOUR, _factor("contrast", "changes of contrast", "colour")),
        _part("saturation", _COLOUR, _factor("saturation", "changes of saturation", "colour")),
        _part("hue", _COLOUR, _HUE),
        InvarianceRow("erasing", f"{_INVARIANCE}Erasing", extents={"erasing": _SQUARE}, help="a square painted over"),
        InvarianceRow(
            "trivial",
            f"{_INVARIANCE}Trivial",
            help="one random transformation of each image in training",
        ),
        InvarianceRow("timewarp", _TIME),
        _part("time_shift", _TIME, Extent("time shift", "shifts in time", "percent", 50.0, of="of the length")),
        _part("time_scale", _TIME, _factor("tempo", "changes of tempo")),
    ),
    ("none",),
)


_EVIDENCE = "novacula.evidence:"
ESTIMATORS = Table(
    "evidence",
    EvidenceRow,
    (
        EvidenceRow("laplace", f"{_EVIDENCE}Laplace"),
        EvidenceRow("linear-gaussian", f"{_EVIDENCE}LinearGaussian", help="exact, where it applies"),
        EvidenceRow("elbo", f"{_EVIDENCE}ELBO", help="a lower bound"),
        EvidenceRow("smc", f"{_EVIDENCE}SMC", help="small networks"),
    ),
    ("auto",),
)
FIGURES: Table[FigureRow] = Table("figure", FigureRow, ())


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


def extent(name: str, rows: Iterable[InvarianceRow] | None = None) -> Extent | None:
    """What the catalogue says of an extent, without the prefix that `Compose` adds to names which parts share."""
    for row in INVARIANCES.rows() if rows is None else rows:
        if found := row.extents.get(name) or row.extents.get(bare(name)):
            return found
    return None


def bare(name: str) -> str:
    """The name of an extent without such a prefix."""
    return re.sub(r"^[a-z]+\d+_", "", name)


def spoken_extents(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What a run says of extents that rows of other packages explain, so that the report needs not have these."""
    others = [name for name in names if not extent(name, INVARIANCES.own)]
    return {name: asdict(found) for name in others if (found := extent(name))}


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
        raise InputError("three whole numbers in --copies", repr(text), "--copies 1,8,32") from None
    return Copies(train=train, evidence=evidence, predict=predict)
