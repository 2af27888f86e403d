"""From options to data and a target: names become objects, and nothing is computed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from novacula.cli.options import Options
from novacula.core.data import Data
from novacula.core.errors import InputError
from novacula.core.labels import Task
from novacula.core.loaders import load_splits
from novacula.core.rng import derive, generator
from novacula.core.standardise import Standardiser
from novacula.invariances import Affine, Colour, Compose, Deformation, Flip, Invariance, TimeWarp
from novacula.invariances.affine import AFFINE_NAMES
from novacula.invariances.colour import COLOUR_NAMES
from novacula.invariances.perturb import parse, perturb
from novacula.invariances.signal import TIME_NAMES
from novacula.likelihoods import Bernoulli, Categorical, HeteroscedasticNormal, Likelihood, Normal
from novacula.networks import make
from novacula.priors import FanIn, Gaussian, Laplace, Prior, StudentT
from novacula.target import Copies, Target

_TASKS: dict[str, Task] = {
    "categorical": "classification",
    "bernoulli": "multilabel",
    "normal": "regression",
    "heteroscedastic": "regression",
}
_DEFAULTS: dict[Task, str] = {"classification": "categorical", "multilabel": "bernoulli", "regression": "normal"}
_PRIORS: dict[str, Callable[[], Prior]] = {
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
_TEST_FRACTION = 0.2


@dataclass(frozen=True, eq=False)
class Assembled:
    """What a run starts from.

    Args:
        target: The model to begin with.
        train: Training data, in standard units.
        test: Test data in the same units, or None. Both remember the way back to the data's own units.
    """

    target: Target
    train: Data
    test: Data | None


def assemble(options: Options) -> Assembled:
    """Load the data, set test data aside, and put the target together.

    Args:
        options: The command's options.

    Returns:
        Data and target.

    Raises:
        InputError: If an option is unknown or does not fit the data, or anything it names cannot be used.
    """
    likelihood_name = _known("--likelihood", options.likelihood, ["auto", *_TASKS])
    prior = _PRIORS[_known("--prior", options.prior, _PRIORS)]()
    copies = read_copies(options.copies)
    perturbations = [parse(text) for text in options.perturb]
    spec = options.invariance
    invariance = None if spec is None else read_invariance(spec)

    train, test = _load(options, _TASKS.get(likelihood_name))
    if perturbations:
        if len(train.x_shape) != 3:
            raise InputError("images to perturb", f"inputs of shape {train.x_shape}", "leave out --perturb")
        train = train.with_values(perturb(train.x, perturbations, derive(options.seed, "perturb", "train")), train.y)
        if test is not None:
            test = test.with_values(perturb(test.x, perturbations, derive(options.seed, "perturb", "test")), test.y)
    if spec is None and len(train.x_shape) == 3:
        invariance = Affine()
    _check_fit(invariance, train, spec)
    standardiser = Standardiser.fit(train)
    train = standardiser.apply(train)
    test = None if test is None else standardiser.apply(test)

    likelihood, outputs = _likelihood(likelihood_name, train)
    network = make(options.net, train.x_shape, outputs, seed=options.seed)
    target = Target(network, likelihood=likelihood, prior=prior, invariance=invariance, copies=copies)
    return Assembled(target, train, test)


def read_invariance(text: str) -> Invariance | None:
    """Read transformations joined by ``+``.

    Generators of one kind are gathered into one transformation, which interpolates once.

    Args:
        text: For instance ``"none"``, ``"affine"``, ``"rotation+scale"`` or ``"affine+flip+colour"``.

    Returns:
        The invariance, or None for ``"none"``.

    Raises:
        InputError: If a name is unknown or given twice.
    """
    words = [word.strip().lower() for word in text.split("+")]
    if words == ["none"]:
        return None
    for word in words:
        _known("--invariance", word, [*_WHOLE, *_PARTS], extra="none, or several joined by +")
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
    """Read how many transformed copies are averaged.

    Args:
        text: ``"TRAIN,EVIDENCE,PREDICT"``, or None for the defaults.

    Returns:
        The copies.

    Raises:
        InputError: If these are not three whole numbers of at least 1.
    """
    if text is None:
        return Copies()
    try:
        train, evidence, predict = (int(word) for word in text.split(","))
    except ValueError:
        raise InputError("three whole numbers in --copies", repr(text), "--copies 8,8,32") from None
    return Copies(train=train, evidence=evidence, predict=predict)


def _load(options: Options, task: Task | None) -> tuple[Data, Data | None]:
    target: Any = options.target[0] if len(options.target) == 1 else list(options.target) or None
    if isinstance(target, str) and target.lstrip("-").isdigit():
        target = int(target)
    splits = load_splits(options.data, target, split=options.split, task=task)
    n, fraction = options.train, options.test_fraction
    if n is not None and n < 1:
        raise InputError("--train as a number of examples, 1 or more", str(n), "--train 1000")
    if splits.test is not None:
        if fraction is not None:
            raise InputError(
                "no --test-fraction for data with a test part of their own", f"{fraction:g}", "leave it out"
            )
        train = splits.train if n is None or n == splits.train.n else splits.train.split(n, options.seed)[0]
        return train, splits.test
    if n is not None and fraction is not None:
        raise InputError("either --train or --test-fraction", "both", "use one: the other follows")
    if n is not None:
        return (splits.train, None) if n == splits.train.n else splits.train.split(n, options.seed)
    fraction = _TEST_FRACTION if fraction is None else fraction
    if not 0 <= fraction < 1:
        raise InputError("--test-fraction from 0 to below 1", f"{fraction:g}", "--test-fraction 0.2")
    return (splits.train, None) if fraction == 0 else splits.train.split(1 - fraction, options.seed)


# The likelihood, and the number of outputs that it asks of the network.
def _likelihood(name: str, train: Data) -> tuple[Likelihood, int]:
    name = _DEFAULTS[train.task] if name == "auto" else name
    if name == "categorical":
        categorical = Categorical()
        # Checked even where the classes' names say how many there are: one class alone cannot be learned.
        outputs = categorical.outputs(train.y)
        return categorical, max(outputs, len(train.classes))
    likelihood = {"bernoulli": Bernoulli, "normal": Normal, "heteroscedastic": HeteroscedasticNormal}[name]()
    return likelihood, likelihood.outputs(train.y)


def _check_fit(invariance: Invariance | None, train: Data, spec: str | None) -> None:
    if invariance is None:
        return
    try:
        invariance(train.x[:1], invariance.noise(1, train.x[:1], generator(0, "check")))
    except InputError as error:
        raise InputError(
            f"inputs that --invariance {spec or 'affine'} can transform ({error.expected})",
            f"{error.got} (inputs of {train.name} have shape {train.x_shape})",
            "--invariance none, or another",
        ) from error


def _known(option: str, value: str, known: Sequence[str] | dict[str, Any], extra: str = "") -> str:
    if value in known:
        return value
    close = difflib.get_close_matches(value, list(known), n=1)
    listed = ", ".join(known) + (f"; {extra}" if extra else "")
    raise InputError(f"{option} among {listed}", repr(value), f"{option} {close[0] if close else next(iter(known))}")
