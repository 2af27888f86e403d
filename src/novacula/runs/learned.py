"""What a run folder is written from: a result of learning, as the writer sees it.

`novacula.runs.result.LearnResult` fulfils it and calls the writer, which knows this protocol alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from novacula.core.estimate import Estimate
from novacula.core.params import Params
from novacula.data.data import Data
from novacula.posteriors.base import Posterior
from novacula.prediction import Choice
from novacula.runs.refit import Inferred
from novacula.target import Target


class Learned(Protocol):
    """What `describe` and `save` read of a result; `LearnResult` says what each part is."""

    @property
    def target(self) -> Target:
        """The learned target."""
        ...

    @property
    def evidence(self) -> Estimate:
        """The log evidence."""
        ...

    @property
    def choice(self) -> Choice:
        """The chosen predictive."""
        ...

    @property
    def params(self) -> Params:
        """The trained weights."""
        ...

    @property
    def history(self) -> Sequence[Mapping[str, float]]:
        """One record an epoch."""
        ...

    @property
    def data(self) -> Data:
        """The training data."""
        ...

    @property
    def seed(self) -> int:
        """The seed."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """The options."""
        ...

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by part."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reservations."""
        ...

    @property
    def hyper(self) -> Mapping[str, Mapping[str, Any]]:
        """What is known of each hyperparameter."""
        ...

    @property
    def converged(self) -> bool:
        """Whether the run has."""
        ...

    @property
    def unseen(self) -> Any:
        """The out-of-fold predictions; None without folds."""
        ...

    @property
    def verdicts(self) -> Mapping[str, Mapping[str, Any]]:
        """What the folds say of each transformation."""
        ...

    @property
    def inferred(self) -> Inferred | None:
        """The posterior that was asked for."""
        ...

    @property
    def posterior(self) -> Any:
        """The posterior that predicts."""
        ...

    @property
    def point(self) -> Posterior:
        """The point estimate."""
        ...
