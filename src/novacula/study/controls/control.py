"""What a control says of examples that it has not seen, and how that compares with a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.data.data import Data
from novacula.data.meaning.labels import Task
from novacula.diagnostics.crossed_mean import Mean, nested
from novacula.study.cross_fit.result import CrossFit


@dataclass(frozen=True, eq=False)
class Part:
    """What a learner is given: a part of the data with labels, and inputs without."""

    seen: Data  # inputs as a table (n, P) in float64; labels in their own units
    x: Tensor  # other inputs, (m, P)
    outputs: int  # how many classes, labels or targets there are in all the data
    seed: int


@dataclass(frozen=True, eq=False)
class Control:
    """A control's predictions of examples that it has not seen, scored.

    Args:
        losses: Each example's negative log-density in the data's own units, in nats, shape ``(N,)``, float64.
        mean: Its mean predictions, in the data's own units: probabilities ``(N, C)`` or means ``(N, D)``.
        labels: The labels, in their own units.
        folds: The fold of each example, shape ``(N,)``.
        task: What the labels are.
        seconds: What it took.
        notes: What a reader must know of it.
    """

    losses: Tensor
    mean: Tensor
    labels: Tensor
    folds: Tensor
    task: Task
    seconds: float
    notes: tuple[str, ...] = ()

    __repr__ = brief

    @property
    def nll(self) -> float:
        """The mean loss, in nats an example."""
        return float(self.losses.mean())

    @property
    def stderr(self) -> float:
        """The standard error of `nll`, see `novacula.diagnostics.crossed_mean.nested`."""
        return nested(self.losses, self.folds).stderr

    @property
    def accuracy(self) -> float | None:
        """The share of right labels; None for measurements."""
        if self.task == "regression":
            return None
        hits = self.mean.argmax(1) == self.labels if self.task == "classification" else (self.mean > 0.5) == self.labels
        return float(hits.double().mean())

    @property
    def rmse(self) -> float | None:
        """The root mean square error over examples and targets; None where there are no measurements."""
        return None if self.task != "regression" else float((self.mean - self.labels).square().mean().sqrt())

    def gain_over(self, fit: CrossFit) -> tuple[float, float]:
        """How much better this control predicts than a network, example by example.

        Args:
            fit: The network's own predictions of the same data with the same folds, at its calibrated temperature.

        Returns:
            The mean paired difference of the losses in nats an example (above 0: the control is better), and its
            standard error.

        Raises:
            InputError: If labels, folds or kinds of loss differ.
        """
        found = self._gain(fit)
        return found.value, found.stderr

    def to_dict(self, fit: CrossFit) -> dict[str, Any]:
        """What a run records: scores, the gain over the network, and how many errors are worth two of a normal's."""
        gain = self._gain(fit)
        scores = {"nll": self.nll, "stderr": self.stderr, "accuracy": self.accuracy, "rmse": self.rmse}
        gains = {"gain": gain.value, "gain_stderr": gain.stderr, "gain_margin": gain.margin}
        kept = {k: v for k, v in scores.items() if v is not None}
        return {**kept, **gains, "seconds": self.seconds, "notes": list(self.notes)}

    def _gain(self, fit: CrossFit) -> Mean:
        mine, theirs = self.labels.double(), fit.labels.detach().double().cpu()
        if mine.shape != theirs.shape or not torch.allclose(mine, theirs, rtol=1e-5, atol=1e-5 * float(mine.std())):
            got = f"others, of {fit.data!r}"
            raise InputError("predictions of the same labels in the same order", got, "use the same data for both")
        if not torch.equal(self.folds, fit.folds.cpu()):
            raise InputError("predictions with the same folds", "others", "pass folds=fit.folds to controls")
        if not fit.target.likelihood.normalised:
            got = f"the loss {fit.target.likelihood.loss!r}"
            raise InputError("a network with a density of its labels", got, "use Categorical, Bernoulli or Normal")
        return nested(fit.losses.cpu() - self.losses, self.folds)
