"""`Predictive`: what a model says about new labels, whatever it was computed from.

A predictive is a mixture of S likelihoods with equal weights, ``p(y) = 1/S Σ_s p(y | f_s)``, one component for a point
estimate and one a sample otherwise; or, for linear-Gaussian outputs, one Gaussian ``N(y; m, V + σ²)``. Everything that
people ask of it follows from that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.checks.numbers import check_whole, check_within, shown
from novacula.core.errors import InputError
from novacula.data.arrays import to_tensor
from novacula.data.standardise import Standardiser
from novacula.likelihoods.base import Likelihood
from novacula.posteriors.linearised import add_noise, gaussian_log_prob
from novacula.prediction import sampled, units
from novacula.prediction.conformal.calibrate import calibrate
from novacula.prediction.conformal.scores import IntervalScore, SetScore
from novacula.prediction.conformal.sets import Intervals, Sets
from novacula.prediction.decisions.decide import DRAWS, Decision, Losses, PointDecision, PointLoss, decide
from novacula.prediction.entropy import Entropy, of_gaussian, of_mixture, of_probabilities
from novacula.prediction.gaussians import probabilities, quantile


@dataclass(frozen=True, eq=False)
class Predictive:
    """A distribution over the labels of N inputs.

    Args:
        likelihood: ``p(y | f)``.
        outputs: ``f_s``, shape ``(S, N, C)``.
        kind: How it was made: ``"plug-in"``, ``"mixture"``, or the rule of a linearised network.
        covariance: The outputs' covariance V, shape ``(N, D, D)``, of a Gaussian likelihood's analytic predictive.
        warnings: Reservations a reader must know.
        scaling: How the targets were brought to the standard units of ``outputs`` and ``covariance``; None where they
            were not. Whatever a predictive is asked, it takes and gives labels in the targets' own units.

    Example:
        >>> from novacula.likelihoods import Categorical
        >>> two = Predictive(Categorical(), torch.tensor([[[0.0, 0.0]], [[0.0, 40.0]]]), "mixture")
        >>> two.mean()
        tensor([[0.2500, 0.7500]])
    """

    likelihood: Likelihood
    outputs: Tensor
    kind: str
    covariance: Tensor | None = None
    warnings: tuple[str, ...] = ()
    scaling: Standardiser | None = None

    __repr__ = brief

    def in_units(self, scaling: Standardiser | None) -> Predictive:
        """The same predictive, pushed through ``y · s + m`` into the targets' own units.

        Args:
            scaling: How the targets were brought to standard units for training; None where they were not.

        Returns:
            A predictive that takes and gives labels in their own units; of classes and counts, itself.
        """
        if scaling is None or not scaling.y_sd.numel():
            return self
        # In float64: single precision would lose the spread of targets that are far from zero.
        covariance = None if self.covariance is None else self.covariance.double()
        return replace(self, outputs=self.outputs.double(), covariance=covariance, scaling=scaling)

    @property
    def n(self) -> int:
        """The number of inputs N."""
        return self.outputs.shape[1]

    @property
    def samples(self) -> Tensor:
        """Each component's own prediction: probabilities ``(S, N, C)``, or means ``(S, N, D)``."""
        return units.restored(torch.stack([self.likelihood.mean(f) for f in self.outputs]), self.scaling)

    def mean(self) -> Tensor:
        """``E[y]``: the average of the components' predictions.

        Returns:
            Probabilities ``(N, C)``, or means ``(N, D)`` in the targets' units.
        """
        return self.samples.mean(0)

    def log_prob(self, y: Tensor) -> Tensor:
        """The log-density of labels.

        Args:
            y: Labels of the N inputs, as the likelihood takes them.

        Returns:
            Shape ``(N,)``, in nats. Several outputs of a regression are scored jointly.

        Raises:
            InputError: If the likelihood is a loss without a normalised density, or the labels do not fit.
        """
        if not self.likelihood.normalised:
            raise InputError(
                "a likelihood with a normalised density",
                f"the loss {self.likelihood.loss!r}",
                "use expected_loss(y), or predict with Categorical, Bernoulli or Normal",
            )
        y = self.labels(y)
        if self.covariance is not None:
            return gaussian_log_prob(units.restored(self.outputs[0], self.scaling), self.total_covariance(), y)
        return self.likelihood.mixture(self.outputs, units.standard(y, self.scaling)) - self._log_scale

    def expected_loss(self, y: Tensor) -> Tensor:
        """``E_f[−log p(y | f)]``: the loss of one function drawn at random, and not of their average.

        The average over components; over Gaussian outputs about their mean, each adds its variance over twice the
        noise's. A linearised classifier's closed form (``"probit"``) is one component that already holds the average:
        predict with ``rule="monte_carlo"`` to have the loss of its functions.

        Args:
            y: Labels of the N inputs.

        Returns:
            Shape ``(N,)``.
        """
        y = units.standard(self.labels(y), self.scaling)
        loss = self._log_scale - torch.stack([self.likelihood.log_prob(f, y) for f in self.outputs]).mean(0)
        if self.covariance is None:
            return loss
        spread = self.covariance.diagonal(dim1=1, dim2=2)
        noise = self.likelihood.log_noise(spread.shape[1]).detach().exp().to(spread)
        return loss + 0.5 * (spread / noise**2).sum(1)

    def variance(self) -> Tensor:
        """The variance of each target, noise included.

        Returns:
            Shape ``(N, D)``.

        Raises:
            InputError: If this is no regression with Gaussian noise.
        """
        if (draws := self.draws()) is not None:
            return draws.var(0, correction=0)
        mu, sd = self.gaussians()
        return sd.square().mean(0) + mu.var(0, correction=0)

    def gaussians(self) -> tuple[Tensor, Tensor]:
        """The Gaussians of which each target's predictive is the mixture, with equal weights.

        Returns:
            Means and standard deviations, noise included, each of shape ``(S, N, D)``.

        Raises:
            InputError: If this is no regression with Gaussian noise.
        """
        f = self.outputs
        if self.covariance is not None:
            return units.restored(f, self.scaling), self.total_covariance().diagonal(dim1=1, dim2=2).sqrt().unsqueeze(0)
        if (found := self.likelihood.gaussians(f)) is not None:
            return units.restored(found[0], self.scaling), units.rescaled(found[1], self.scaling)
        raise InputError(
            "a regression with Gaussian noise", f"the likelihood {self.likelihood.loss!r}", "use mean(), or Normal()"
        )

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """The central interval of each target: equal probabilities lie below and above.

        Args:
            level: The probability inside, between 0 and 1.

        Returns:
            Lower and upper ends, each of shape ``(N, D)``.

        Raises:
            InputError: If this is no regression with Gaussian noise, or the level is not between 0 and 1.

        Example:
            >>> from novacula.likelihoods import Normal
            >>> one = Predictive(Normal(sigma=2.0), torch.zeros(1, 1, 1), "plug-in")
            >>> [round(float(end), 2) for end in one.interval(0.95)]
            [-3.92, 3.92]
        """
        check_within("level", level)
        low, high = self.quantile([(1 - level) / 2, (1 + level) / 2])
        return low, high

    def quantile(self, p: float | Sequence[float] | Tensor) -> Tensor:
        """Quantiles of each target, of mixtures too.

        Args:
            p: A probability between 0 and 1, or Q of them.

        Returns:
            Shape ``(N, D)``, or ``(Q, N, D)``, in the targets' units.

        Raises:
            InputError: If this is no regression with Gaussian noise, or a probability is not between 0 and 1.

        Example:
            >>> from novacula.likelihoods import Normal
            >>> one = Predictive(Normal(sigma=2.0), torch.zeros(1, 1, 1), "plug-in")
            >>> [round(float(q), 2) for q in one.quantile([0.5, 0.975])]
            [0.0, 3.92]
        """
        wanted = probabilities(p)
        levels = wanted.flatten().tolist()
        if (draws := self.draws()) is not None:
            found = torch.stack([sampled.quantile(draws, q) for q in levels])
        else:
            mu, sd = self.gaussians()
            found = torch.stack([quantile(mu, sd, q) for q in levels])
        return found if wanted.ndim else found[0]

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw labels from the predictive.

        One draw takes one component for all inputs, as one function explains all of them; so draws are joint over the
        inputs where the components are weights sampled from a posterior.

        Args:
            n: The number of draws.
            rng: The source of randomness.

        Returns:
            Labels as the likelihood takes them: ``(n, N)`` classes, or ``(n, N, C)`` labels or targets.

        Raises:
            InputError: If ``n`` is not positive, ``rng`` is no generator, or the likelihood is a loss, which cannot be
                sampled.

        Example:
            >>> from novacula.likelihoods import Categorical
            >>> sure = Predictive(Categorical(), torch.tensor([[[0.0, 90.0], [90.0, 0.0]]]), "plug-in")
            >>> sure.sample(2, torch.Generator().manual_seed(0))
            tensor([[1, 0],
                    [1, 0]])
        """
        check_whole("n", n)
        if not isinstance(rng, torch.Generator):
            raise InputError("rng as a torch.Generator", shown(rng), "torch.Generator().manual_seed(0)")
        f = self.outputs
        if self.covariance is not None:
            factor = torch.linalg.cholesky(self.total_covariance())
            noise = torch.randn((n, *f.shape[1:]), generator=rng, device=rng.device, dtype=f.dtype).to(f.device)
            return units.restored(f, self.scaling) + torch.einsum("ncd,snd->snc", factor, noise)
        likelihood = self.likelihood.bind(f.shape[2])
        which = torch.randint(len(f), (n,), generator=rng, device=rng.device).to(f.device)
        parts = []  # component by component, and back into the order in which they were drawn
        for s, k in zip(*(t.tolist() for t in which.unique(return_counts=True)), strict=True):
            y = likelihood.sample(f[s].repeat(k, 1), rng)
            parts.append(y.reshape(k, self.n, *y.shape[1:]))
        return units.restored(torch.cat(parts)[which.argsort(stable=True).argsort()], self.scaling)

    def entropy(self) -> Entropy:
        """How unsure the predictive is, and why.

        For classification and multilabel (where labels count as independent, and entropies add) the values are exact
        for the mixture; for a Gaussian too. The total of a mixture of Gaussians is an average over fixed draws of the
        noise.

        Returns:
            Total, aleatoric and epistemic entropy.

        Raises:
            InputError: If the likelihood is a loss, which has no entropy.
        """
        task = self.likelihood.task
        if not self.likelihood.normalised:
            raise InputError("a likelihood with an entropy", f"the loss {self.likelihood.loss!r}", "use a density")
        if task != "regression":
            return of_probabilities(self.samples, exclusive=task == "classification")
        if sampled.needed(self.likelihood, self.outputs):
            return sampled.entropy(self.likelihood, self.outputs)
        if self.covariance is None:
            return of_mixture(*self.gaussians())
        noise = add_noise(torch.zeros_like(self.covariance), self.likelihood)
        return of_gaussian(self.total_covariance(), units.squared(noise, self.scaling))

    def labels(self, y: Tensor) -> Tensor:
        """Check labels against the inputs.

        Args:
            y: Labels of the N inputs.

        Returns:
            The labels as the likelihood takes them.

        Raises:
            InputError: If there are more or fewer than N, or one does not fit the likelihood.
        """
        y = self.likelihood.validate(to_tensor(y, "labels", least=1), self.outputs.shape[2], training=False).to(
            self.outputs.device
        )
        if len(y) != self.n:
            raise InputError(f"labels of the {self.n} inputs", f"{len(y)} labels", "pass the labels of the same rows")
        return y

    # ------------------------------------------------------------------ what to do with it

    @overload
    def decide(self, loss: PointLoss, *, tau: float | None = None, abstain: float | None = None) -> PointDecision: ...
    @overload
    def decide(
        self,
        loss: Losses,
        *,
        actions: Sequence[Any] | Tensor | None = None,
        abstain: float | None = None,
        draws: int = DRAWS,
    ) -> Decision: ...
    def decide(
        self,
        loss: Losses | PointLoss,
        *,
        actions: Sequence[Any] | Tensor | None = None,
        abstain: float | None = None,
        tau: float | None = None,
        draws: int = DRAWS,
    ) -> Decision | PointDecision:
        """The action with the least expected loss for each input, see `novacula.prediction.decisions.decide`.

        Args:
            loss: For classes, costs of shape ``(C, A)`` (rows are true classes, columns actions; a tensor, nested lists
                or `Costs`), or ``"zero_one"``. For multilabel, costs ``(2, A)``, for each label by itself. For
                regression ``"squared"``, ``"absolute"`` or ``"pinball"``. For all of them a function
                ``loss(action, y)`` with ``actions``, where ``y`` are labels ``(K, …)`` and the losses have shape
                ``(K,)`` for classes (all C of them), ``(K, N)`` otherwise (K draws of the labels of N inputs).
            actions: The actions to choose from for a function; for costs, names of the columns.
            abstain: The cost of not acting (leaving the case to someone else); by default one must act.
            tau: The level of ``"pinball"``.
            draws: Draws of the labels for a function, where they are not classes.

        Returns:
            Actions with their expected losses; for the losses of a regression that have names, values.

        Raises:
            InputError: If the loss does not fit the task, is not finite, or has another shape, or an option is wrong.

        Example:
            >>> from novacula.likelihoods import Categorical
            >>> half = Predictive(Categorical(), torch.tensor([[[0.0, 0.1]]]), "plug-in")
            >>> half.decide([[0.0, 1.0], [20.0, 0.0]]).action, half.decide("zero_one", abstain=0.3).abstained
            (tensor([1]), tensor([True]))
        """
        return decide(self, loss, actions=actions, abstain=abstain, tau=tau, draws=draws)

    def conformal(
        self,
        alpha: float,
        calibration: Predictive,
        y: Tensor,
        *,
        score: str | SetScore | IntervalScore | None = None,
        seed: int = 0,
    ) -> Sets | Intervals:
        """Sets or intervals that hold the truth with probability ``1 − alpha``, whatever the model is worth.

        The same as ``conformal.calibrate(calibration, y, alpha=alpha)(self)``: call `calibrate` where many predictives
        share one calibration, or groups each need their own.

        Args:
            alpha: The share of labels that may be missed.
            calibration: The same model's predictive of inputs that it was not trained on.
            y: Their labels.
            score: The score, see `novacula.prediction.conformal.calibrate`.
            seed: Seed of the scores that are randomised.

        Returns:
            `Sets` for classes and multilabel, `Intervals` for regression.

        Raises:
            InputError: If there are too few labels for the level, or the score does not fit the task.
        """
        return calibrate(calibration, y, alpha=alpha, score=score, seed=seed)(self)

    # ------------------------------------------------------------------ inside

    def draws(self) -> Tensor | None:
        """Fixed draws ``(K, N, D)`` that stand for labels which are not Gaussian given the outputs; else None."""
        if not sampled.needed(self.likelihood, self.outputs):
            return None
        return units.restored(sampled.components(self.likelihood, self.outputs, sampled.DRAWS), self.scaling)

    def total_covariance(self) -> Tensor:
        """The covariance ``(N, D, D)`` of new targets, noise included, of an analytic predictive."""
        assert self.covariance is not None
        return units.squared(add_noise(self.covariance, self.likelihood), self.scaling)

    @property
    def _log_scale(self) -> float:
        # A density in standard units is this much too high; a loss that is none has no units.
        return self.scaling.log_y_scale if self.scaling is not None and self.likelihood.normalised else 0.0
