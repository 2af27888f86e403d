"""What K networks say of the examples that each of them has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.core.params import Params, unstack
from novacula.core.rng import derive
from novacula.curvature.structures.names import Structure
from novacula.data.data import Data
from novacula.diagnostics.crossed_mean import nested
from novacula.posteriors.base import Point, Posterior
from novacula.posteriors.mixture import mixture
from novacula.prediction import Choice, Predictive, Reliability, evaluate, reliability_of
from novacula.prediction.choose import EXAMPLES, check_candidates
from novacula.prediction.scores.by_example import by_example
from novacula.runs.saving import own_units
from novacula.study.cross_fit.choose import Unseen, choose_unseen
from novacula.study.cross_fit.conformal import CrossConformal
from novacula.study.cross_fit.curve import last_fold
from novacula.study.cross_fit.temperature import SPREAD, Temperature, fit_temperature
from novacula.study.growth import Grown
from novacula.target import Target
from novacula.target.constant import best_constant, worth_of


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
        networks: The weights of each fold's M networks, ``(M, *shape)``.
        members: Each example's outputs by the networks that have not seen it, shape ``(M, N, C)``.
        seed: Seed of everything random.
        warnings: Reservations a reader must know.
        fewer: The cross-fit of a network that saw the first fold alone, on all others; None where none was trained.
        anew: That of a network blind to the first fold, trained under the target from its first step and as long as the
            network of all data, where these were not; None elsewhere.
    """

    target: Target
    data: Data
    folds: Tensor
    networks: tuple[Params, ...]
    members: Tensor
    seed: int = 0
    warnings: tuple[str, ...] = ()
    fewer: CrossFit | None = None
    anew: CrossFit | None = None

    __repr__ = brief

    @property
    def params(self) -> tuple[Params, ...]:
        """The weights of each fold's first network."""
        return tuple({k: w[0] for k, w in each.items()} for each in self.networks)

    @property
    def outputs(self) -> Tensor:
        """Each example's outputs by the first network that has not seen it, shape ``(N, C)``."""
        return self.members[0]

    def first(self, folds: int) -> CrossFit:
        """The examples and networks of the first folds alone.

        Args:
            folds: How many.

        Returns:
            What `cross_fit` gives with ``only``.
        """
        rows = self.folds < folds
        data, members = self.data.subset(rows.to(self.data.x.device)), self.members[:, rows.to(self.members.device)]
        few = {"data": data, "folds": self.folds[rows], "networks": self.networks[:folds], "members": members}
        return replace(self, **few, fewer=None, anew=None)

    @property
    def temperature(self) -> float:
        """The temperature of the labels, fitted to the out-of-fold predictions by maximum likelihood.

        Its logarithm is taken to be within ±0.5 or so, which matters only where few rows are all predicted rightly.

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
    def posterior(self) -> Posterior:
        """The networks of all folds, mixed, at the calibrated temperature: what predicts new inputs."""
        target = self.target.calibrated(self.temperature)
        return mixture([Point(w, target) for each in self.networks for w in unstack(each)])

    @property
    def labels(self) -> Tensor:
        """The labels, in their own units."""
        return own_units(self.data.y, self.data.scaling)

    @cached_property
    def losses(self) -> Tensor:
        """Each example's negative log-density at the calibrated temperature, or its loss, shape ``(N,)``, float64."""
        return self._losses(self.predictive)

    @property
    def reliability(self) -> Reliability:
        """The reliability table of the most probable labels, at the calibrated temperature."""
        return reliability_of(self.predictive, self.labels)

    @cached_property
    def expected(self) -> Grown | None:
        """The loss to expect of a network that is trained on all data, see `novacula.study.growth`.

        None where no network of a single fold was trained (``cross_fit(curve=True)`` does), it learned nothing, or
        there are but two folds.
        """
        if self.fewer is None or len(self.params) < 3 or not self.fewer.learned:
            return None
        single = replace(self, members=self.members[:1])
        positive = self.target.likelihood.task in {"classification", "multilabel"}
        anew = None if self.anew is None else self.anew.losses
        return last_fold(self.losses, single.losses, self.fewer.losses, self.folds, anew, positive=positive)

    @cached_property
    def learned(self) -> bool:
        """Whether the networks predict better than the best constant, by what counts."""
        constant = best_constant(self.target, self.data).expand(self.data.n, -1)
        own = replace(self, members=constant.unsqueeze(0).to(self.members))
        base = float(own._losses(own.plain).mean())
        return float(self.losses.mean()) < base - worth_of(base)

    def score(self, *, calibrated: bool = True) -> dict[str, float]:
        """Score the out-of-fold predictions, in the data's own units.

        The temperature is one number that was fitted to these very labels: the calibrated loss is too low by about
        1/(2N) nats.

        Args:
            calibrated: Whether predictions are made at the calibrated temperature.

        Returns:
            What `evaluate` gives, and ``n``; the standard error of the mean loss as ``stderr``, and those of other
            scores under ``…_stderr``. They hold the spread over examples, or over folds if that is larger (see
            `novacula.diagnostics.crossed_mean.nested`). ``expected`` and ``expected_stderr``: the loss to expect of a
            network that is trained on all data, where that is known.
        """
        predictive, y = self.predictive if calibrated else self.plain, self.labels
        found = evaluate(predictive, y)
        for name, values in by_example(predictive, y).items():
            error = nested(values, self.folds).stderr
            found["stderr" if name in {"nll", "loss"} else f"{name}_stderr"] = error
        after = self.expected if calibrated else None
        more = {} if after is None else {"expected": after.value, "expected_stderr": after.stderr}
        return {**found, **more, "n": float(self.data.n)}

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

    def conformal(self, alpha: float = 0.1) -> CrossConformal:
        """Sets or intervals that hold the truth of new inputs, from all examples and all networks (CV+).

        Args:
            alpha: The share of labels that may be missed, between 0 and 1.

        Returns:
            What takes new inputs, and gives `Sets` of classes or `Intervals` of measurements.

        Raises:
            InputError: If alpha is not between 0 and 1, there are fewer than ``1/α − 1`` examples, or the labels are
                neither classes nor measurements.
        """
        copies = derive(self.seed, "copies")
        return CrossConformal(alpha, self.target, self.params, self.plain, self.labels, self.folds, copies)

    def choose(
        self,
        params: Params,
        *,
        structures: Sequence[Structure] = ("last_layer", "kron"),
        temperatures: Sequence[float] = (0.1, 1.0),
        examples: int = EXAMPLES,
        seed: int = 0,
        members: Params | None = None,
    ) -> Choice:
        """Choose the predictive by what networks say of examples that they have not seen.

        Candidates are the point estimate, the same with its labels at the calibrated temperature, an ensemble, and
        Laplace posteriors; `novacula.study.cross_fit.choose` says when one is taken.

        Args:
            params: The weights of the final network, trained on all data, around which the choice is built.
            structures: Laplace structures to consider; none for a choice among points.
            temperatures: Temperatures of their posteriors, above 0; the calibrated one is considered too.
            examples: At most this many examples are predicted by Laplace posteriors.
            seed: Seed of the final posterior.
            members: M final networks, ``(M, *shape)``, the first of which has the weights ``params``: their mixture is
                considered, where each fold has several networks too.

        Returns:
            The choice, with gains over the plain point estimate and their standard errors.

        Raises:
            InputError: If a structure is unknown, or a temperature is not positive.
        """
        check_candidates(structures or None, temperatures)
        unseen = Unseen(
            target=self.target,
            data=self.data,
            labels=self.labels,
            folds=self.folds,
            params=self.params,
            members=self.members,
            losses=self._losses(self._predictive(1.0, 1)).cpu(),
            temperature=self._temperature(1).value,
            mixed=self.temperature,
            seed=derive(self.seed, "copies"),
        )
        return choose_unseen(unseen, params, structures, temperatures, examples, seed, members)

    # ------------------------------------------------------------------ inside

    @cached_property
    def _fitted(self) -> Temperature:
        return self._temperature(None)

    def _temperature(self, members: int | None) -> Temperature:
        f = self.members[:members]
        return fit_temperature(self.target.likelihood, f, self.data.y, self.folds, spread=SPREAD)

    def _losses(self, predictive: Predictive) -> Tensor:
        density, y = self.target.likelihood.normalised, self.labels
        return (-predictive.log_prob(y) if density else predictive.expected_loss(y)).detach().double()

    def _predictive(self, temperature: float, members: int | None = None) -> Predictive:
        target, f = self.target, self.members[:members]
        if temperature != 1:
            target = target.calibrated(temperature)
            f = f / temperature if target.likelihood.tempering == "outputs" else f
        way = "plug-in" if len(f) == 1 else "mixture"
        return Predictive(target.likelihood, f, way, warnings=self.warnings).in_units(self.data.scaling)
