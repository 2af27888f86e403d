"""What K networks say of the examples that each of them has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.data.data import Data
from novacula.diagnostics.crossed_mean import nested
from novacula.prediction import Predictive, Reliability, evaluate, reliability_of
from novacula.prediction.scores.by_example import by_example
from novacula.runs.saving import own_units
from novacula.study.cross_fit.temperature import Temperature, fit_temperature
from novacula.target import Target


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Networks that were each trained without a fold, and their predictions of it.

    The predictions estimate the loss of a network that is trained on ``(K − 1)/K`` of the data: a network of all data
    is on average better, by the more the steeper the learning curve still is. The hyperparameters of the target are
    taken as they are; where they were learned, it was from all data.

    Args:
        target: The target, with the hyperparameters under which all networks were trained.
        data: The examples.
        folds: The fold of each, shape ``(N,)``: which network has not seen it.
        params: The K networks' weights.
        outputs: Each example's outputs by the network that has not seen it, shape ``(N, C)``.
        seed: Seed of everything random.
        warnings: Reservations a reader must know.
    """

    target: Target
    data: Data
    folds: Tensor
    params: tuple[Params, ...]
    outputs: Tensor
    seed: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def temperature(self) -> float:
        """The temperature of the labels, fitted to the out-of-fold predictions by maximum likelihood.

        Logits are divided by it, a Gaussian noise's variance is multiplied by it; it is 1 for likelihoods that declare
        no ``tempering``. It lies between 0.05 and 20. ``Target.calibrated`` gives the target at a temperature.
        """
        return self._fitted.value

    @property
    def temperature_stderr(self) -> float:
        """The standard error of the temperature; NaN where it is at its bound, or not fitted."""
        return self._fitted.stderr

    @property
    def plain(self) -> Predictive:
        """The out-of-fold predictions of all N examples in their order, as the networks made them."""
        return self._predictive(1.0)

    @property
    def predictive(self) -> Predictive:
        """The out-of-fold predictions of all N examples in their order, at the calibrated temperature."""
        return self._predictive(self.temperature)

    @property
    def labels(self) -> Tensor:
        """The labels, in their own units."""
        return own_units(self.data.y, self.data.scaling)

    @cached_property
    def losses(self) -> Tensor:
        """Each example's negative log-density at the calibrated temperature, or its loss, shape ``(N,)``, float64."""
        predictive, y = self.predictive, self.labels
        found = -predictive.log_prob(y) if self.target.likelihood.normalised else predictive.expected_loss(y)
        return found.detach().double()

    @property
    def reliability(self) -> Reliability:
        """The reliability table of the most probable labels, at the calibrated temperature."""
        return reliability_of(self.predictive, self.labels)

    def score(self, *, calibrated: bool = True) -> dict[str, float]:
        """Score the out-of-fold predictions, in the data's own units.

        The temperature is one number that was fitted to these very labels: the calibrated loss is too low by about
        1/(2N) nats.

        Args:
            calibrated: Whether predictions are made at the calibrated temperature.

        Returns:
            What `evaluate` gives, and ``n``; the standard error of the mean loss as ``stderr``, and those of other
            scores under ``…_stderr``. They hold the spread over examples, or over folds if that is larger (see
            `novacula.diagnostics.crossed_mean.nested`).
        """
        predictive, y = self.predictive if calibrated else self.plain, self.labels
        found = evaluate(predictive, y)
        for name, values in by_example(predictive, y).items():
            error = nested(values, self.folds).stderr
            found["stderr" if name in {"nll", "loss"} else f"{name}_stderr"] = error
        return {**found, "n": float(self.data.n)}

    def compare(self, other: CrossFit) -> tuple[float, float]:
        """How much better this one predicts, example by example, each at its own calibrated temperature.

        Args:
            other: Another model or setting, cross-fitted on the same data with the same folds.

        Returns:
            The mean paired difference of the losses (above 0: this one is better), and its standard error.

        Raises:
            InputError: If data, folds or kinds of loss differ.
        """
        if other.data.fingerprint != self.data.fingerprint:
            raise InputError(f"predictions of the same data, {self.data!r}", repr(other.data), "use the same data")
        if not torch.equal(other.folds.cpu(), self.folds.cpu()):
            got = f"{len(other.params)} others, that share the seed {other.seed}, against {self.seed}"
            raise InputError(
                f"the same {len(self.params)} folds", got, "pass folds=fit.folds of one to cross_fit of the other"
            )
        mine, theirs = self.target.likelihood, other.target.likelihood
        if mine.loss != theirs.loss and not (mine.normalised and theirs.normalised):
            raise InputError("two losses of one kind", f"{mine.loss!r} and {theirs.loss!r}", "compare densities")
        found = nested(other.losses - self.losses, self.folds)
        return found.value, found.stderr

    # ------------------------------------------------------------------ inside

    @cached_property
    def _fitted(self) -> Temperature:
        return fit_temperature(self.target.likelihood, self.outputs, self.data.y, self.folds)

    def _predictive(self, temperature: float) -> Predictive:
        target, f = self.target, self.outputs
        if temperature != 1:
            target = target.calibrated(temperature)
            f = f / temperature if target.likelihood.tempering == "outputs" else f
        plain = Predictive(target.likelihood, f.unsqueeze(0), "plug-in", warnings=self.warnings)
        return plain.in_units(self.data.scaling)
