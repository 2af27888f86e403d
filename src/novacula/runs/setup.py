"""From names to data and a target, and back from a saved run: names become objects, and nothing is computed.

The names are those of a `Setup`, which is saved with a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.core.rng import derive, generator
from novacula.data.data import Data
from novacula.data.load import load_splits
from novacula.data.meaning.labels import Task
from novacula.data.new import NewData, like_of, load_new
from novacula.data.standardise import Standardiser
from novacula.invariances import Affine, Invariance
from novacula.invariances.perturb import parse, perturb
from novacula.likelihoods import Likelihood
from novacula.networks import make
from novacula.runs.catalogue.models import DEFAULTS, LIKELIHOODS, PRIORS, read_copies, read_invariance
from novacula.runs.catalogue.row import known
from novacula.runs.settings import Setup, target_of
from novacula.target import Target

_TEST_FRACTION = 0.2


@dataclass(frozen=True, eq=False)
class Assembled:
    """What a run starts from."""

    target: Target  # the model to begin with
    train: Data  # training data, in standard units
    test: Data | None  # test data in the same units, or None. Both remember the way back to the data's own units
    rows: Tensor | None = None
    targets: tuple[str, ...] = ()  # names of the target's columns, where they are known

    __repr__ = brief

    @property
    def meaning(self) -> tuple[str, ...]:
        """What the data were taken for, and how many examples there are to learn from and to test on."""
        held = f"{self.test.n:,} for testing" if self.test is not None else "none for testing"
        return (*self.train.meaning, f"{self.train.n:,} examples to learn from, {held}")


def assemble(setup: Setup) -> Assembled:
    """Load the data, set test data aside, and put the target together."""
    likelihood_name = known("--likelihood", setup.likelihood, ["auto", *LIKELIHOODS])
    prior = PRIORS.find(setup.prior)()
    copies = read_copies(setup.copies)
    perturbations = [parse(text) for text in setup.perturb]
    invariance = None if setup.invariance is None else read_invariance(setup.invariance)

    train, test, rows, targets = _load(setup, None if likelihood_name == "auto" else LIKELIHOODS[likelihood_name].task)
    if perturbations:
        if len(train.x_shape) != 3:
            raise InputError("images to perturb", f"inputs of shape {train.x_shape}", "leave out --perturb")
        train = train.with_values(perturb(train.x, perturbations, derive(setup.seed, "perturb", "train")), train.y)
        if test is not None:
            test = test.with_values(perturb(test.x, perturbations, derive(setup.seed, "perturb", "test")), test.y)
    invariance = _default_invariance(setup, train.x_shape, invariance)
    _check_fit(invariance, train, setup.invariance)
    standardiser = Standardiser.fit(train)
    train = standardiser.apply(train)
    test = None if test is None else standardiser.apply(test)

    likelihood, outputs = _likelihood(likelihood_name, train)
    network = make(setup.net, train.x_shape, outputs, seed=setup.seed)
    target = Target(network, likelihood=likelihood, prior=prior, invariance=invariance, copies=copies)
    return Assembled(target, train, test, rows, targets)


def load_ood(path: str, assembled: Assembled) -> NewData:
    """Load inputs of another kind, which must have the same shape or columns."""
    if assembled.test is None:
        raise InputError("test data, from which --ood are to be told", "none", "leave out --ood, or set some aside")
    return load_new(path, like_of(assembled.train), labels=False)


def rebuild(setup: Setup, x_shape: Sequence[int], task: Task, outputs: int) -> Target:
    """The target of a run without its data, as it was before anything was learned."""
    name = DEFAULTS[task] if setup.likelihood == "auto" else setup.likelihood
    invariance = None if setup.invariance is None else read_invariance(setup.invariance)
    return Target(
        make(setup.net, x_shape, outputs, seed=setup.seed),
        likelihood=LIKELIHOODS.find(name)().bind(outputs),
        prior=PRIORS.find(setup.prior)(),
        invariance=_default_invariance(setup, tuple(x_shape), invariance),
        copies=read_copies(setup.copies),
    )


def _default_invariance(setup: Setup, x_shape: tuple[int, ...], given: Invariance | None) -> Invariance | None:
    return Affine() if setup.invariance is None and len(x_shape) == 3 else given


def _load(setup: Setup, task: Task | None) -> tuple[Data, Data | None, Tensor | None, tuple[str, ...]]:
    # Training and test data, the test rows' numbers, and the names of the target's columns.
    target = target_of(setup.target)
    wanted: Any = setup.task or task  # checked where the labels are read
    columns: dict[str, Any] = {"categorical": setup.categorical, "drop": setup.drop}
    split = int(setup.split) if str(setup.split).isdigit() else setup.split  # type: ignore[arg-type]
    splits = load_splits(setup.data, target, split=split, task=wanted, size=setup.size, **columns)
    targets = splits.targets or setup.target
    n, fraction = setup.train, setup.test_fraction
    if n is not None and n < 1:
        raise InputError("--train as a number of examples, 1 or more", str(n), "--train 1000")
    if splits.test is not None:
        if fraction is not None:
            raise InputError(
                "no --test-fraction for data with a test part of their own", f"{fraction:g}", "leave it out"
            )
        if n is None or n == splits.train.n:
            return splits.train, splits.test, torch.arange(splits.test.n), targets
        train = splits.train.split(n, setup.seed)[0]
        return train, splits.test.coded_as(train), torch.arange(splits.test.n), targets
    if n is not None and fraction is not None:
        raise InputError("either --train or --test-fraction", "both", "use one: the other follows")
    fraction = _TEST_FRACTION if fraction is None else fraction
    if not 0 <= fraction < 1:
        raise InputError("--test-fraction from 0 to below 1", f"{fraction:g}", "--test-fraction 0.2")
    if n == splits.train.n if n is not None else fraction == 0:
        return splits.train, None, None, targets
    share = 1 - fraction if n is None else n
    # The rows' numbers go the same way as the rows.
    every = torch.arange(splits.train.n) if splits.rows is None else splits.rows
    numbers = splits.train.with_values(every, splits.train.y)
    train, test = splits.train.split(share, setup.seed)
    return train, test, numbers.split(share, setup.seed)[1].x, targets


# The likelihood, and the number of outputs that it asks of the network.
def _likelihood(name: str, train: Data) -> tuple[Likelihood, int]:
    name = DEFAULTS[train.task] if name == "auto" else name
    likelihood = LIKELIHOODS[name]()
    # Checked even where the classes' names say how many there are: one class alone cannot be learned.
    return likelihood, max(likelihood.outputs(train.y), len(train.classes))


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
