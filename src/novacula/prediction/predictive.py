"""`Predictive`: what a model says about new labels, whatever it was computed from.

A predictive is a mixture of S likelihoods with equal weights, ``p(y) = 1/S Σ_s p(y | f_s)``, one component for a point
estimate and one a sample otherwise; or, for linear-Gaussian outputs, one Gaussian ``N(y; m, V + σ²)``. Everything that
people ask of it follows from that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.inference.linearised import add_noise, gaussian_log_prob, mixture_log_prob, normal_draws
from novacula.likelihoods import HeteroscedasticNormal, Normal
from novacula.likelihoods.base import Likelihood

_NOISE_DRAWS = 64


class Entropy(NamedTuple):
    """Entropies in nats, each of shape ``(N,)``.

    ``total`` is that of the predictive; ``aleatoric`` the average over the weights of each one's own, what would remain
    were the weights known; ``epistemic`` the difference, the information that the label would give about the weights.
    The last two are None where the predictive is not made of samples.
    """

    total: Tensor
    aleatoric: Tensor | None
    epistemic: Tensor | None


@dataclass(frozen=True, eq=False)
class Predictive:
    """A distribution over the labels of N inputs.

    Args:
        likelihood: ``p(y | f)``.
        outputs: ``f_s``, shape ``(S, N, C)``.
        kind: How it was made: ``"plug-in"``, ``"mixture"``, or the rule of a linearised network.
        covariance: The outputs' covariance V, shape ``(N, D, D)``, of a Gaussian likelihood's analytic predictive.
        warnings: Reservations a reader must know.

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

    @property
    def n(self) -> int:
        """The number of inputs N."""
        return self.outputs.shape[1]

    @property
    def samples(self) -> Tensor:
        """Each component's own prediction: probabilities ``(S, N, C)``, or means ``(S, N, D)``."""
        return torch.stack([self.likelihood.mean(f) for f in self.outputs])

    def mean(self) -> Tensor:
        """``E[y]``: the average of the components' predictions.

        Returns:
            Probabilities ``(N, C)``, or means ``(N, D)`` in the units of the training targets.
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
            return gaussian_log_prob(self.outputs[0], self._total_covariance(), y)
        return mixture_log_prob(self.likelihood, self.outputs, y)

    def expected_loss(self, y: Tensor) -> Tensor:
        """``−1/S Σ_s log p(y | f_s)``, the average of the components' losses.

        Args:
            y: Labels of the N inputs.

        Returns:
            Shape ``(N,)``.
        """
        y = self.labels(y)
        return -torch.stack([self.likelihood.log_prob(f, y) for f in self.outputs]).mean(0)

    def variance(self) -> Tensor:
        """The variance of each target, noise included.

        Returns:
            Shape ``(N, D)``.

        Raises:
            InputError: If this is no regression with Gaussian noise.
        """
        mu, sd = self._gaussians()
        return (sd.square() + mu.square()).mean(0) - mu.mean(0).square() if len(mu) > 1 else sd[0].square()

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """The central interval of each target: equal probabilities lie below and above.

        Args:
            level: The probability inside, between 0 and 1.

        Returns:
            Lower and upper ends, each of shape ``(N, D)``.

        Raises:
            InputError: If this is no regression with Gaussian noise, or the level is not between 0 and 1.

        Example:
            >>> one = Predictive(Normal(sigma=2.0), torch.zeros(1, 1, 1), "plug-in")
            >>> [round(float(end), 2) for end in one.interval(0.95)]
            [-3.92, 3.92]
        """
        if not 0 < level < 1:
            raise InputError("a level between 0 and 1", str(level), "use 0.9 for 90 %")
        mu, sd = self._gaussians()
        return _quantile(mu, sd, (1 - level) / 2), _quantile(mu, sd, (1 + level) / 2)

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
        if task == "regression":
            total, aleatoric = self._gaussian_entropies()
        else:
            each = _class_entropy if task == "classification" else _label_entropy
            p = self.samples
            total, aleatoric = each(p.mean(0)), each(p).mean(0)
            if len(p) == 1:
                return Entropy(total, None, None)
        return Entropy(total, aleatoric, (total - aleatoric).clamp(min=0))

    def labels(self, y: Tensor) -> Tensor:
        """Check labels against the inputs.

        Args:
            y: Labels of the N inputs.

        Returns:
            The labels as the likelihood takes them.

        Raises:
            InputError: If there are more or fewer than N, or one does not fit the likelihood.
        """
        y = self.likelihood.validate(torch.as_tensor(y), self.outputs.shape[2], training=False).to(self.outputs.device)
        if len(y) != self.n:
            raise InputError(f"labels of the {self.n} inputs", f"{len(y)} labels", "pass the labels of the same rows")
        return y

    # ------------------------------------------------------------------ inside

    def _total_covariance(self) -> Tensor:
        assert self.covariance is not None
        assert isinstance(self.likelihood, Normal)
        return add_noise(self.covariance, self.likelihood)

    def _gaussians(self) -> tuple[Tensor, Tensor]:
        # Means and standard deviations of each component, each (S, N, D).
        f = self.outputs
        if self.covariance is not None:
            return f, self._total_covariance().diagonal(dim1=1, dim2=2).sqrt().unsqueeze(0)
        if isinstance(self.likelihood, Normal):
            sigma = self.likelihood.bind(f.shape[2]).log_sigma.detach().to(f).exp()
            return f, sigma.expand_as(f)
        if isinstance(self.likelihood, HeteroscedasticNormal):
            mu, log_sigma = f.chunk(2, -1)
            return mu, log_sigma.exp()
        raise InputError(
            "a regression with Gaussian noise", f"the likelihood {self.likelihood.loss!r}", "use mean(), or Normal()"
        )

    def _gaussian_entropies(self) -> tuple[Tensor, Tensor]:
        mu, sd = self._gaussians()
        d = mu.shape[2]
        constant = 0.5 * d * math.log(2 * math.pi * math.e)
        if self.covariance is not None:
            noise = self.covariance.new_zeros(self.covariance.shape)
            assert isinstance(self.likelihood, Normal)
            return tuple(  # type: ignore[return-value]
                constant + 0.5 * torch.linalg.slogdet(m).logabsdet
                for m in (self._total_covariance(), add_noise(noise, self.likelihood))
            )
        aleatoric = constant + sd.log().sum(-1).mean(0)
        if len(mu) == 1:
            return aleatoric, aleatoric
        z = normal_draws(_NOISE_DRAWS, d, 1, mu)
        logs = [torch.stack([_log_normal(m + s * e, mu, sd) for e in z]).mean(0) for m, s in zip(mu, sd, strict=True)]
        return -torch.stack(logs).mean(0), aleatoric


def _log_normal(y: Tensor, mu: Tensor, sd: Tensor) -> Tensor:
    # The log-density of y (N, D) under the mixture of independent Gaussians (S, N, D).
    logs = (-0.5 * ((y - mu) / sd).square() - sd.log() - 0.5 * math.log(2 * math.pi)).sum(-1)
    return logs.logsumexp(0) - math.log(len(mu))


def _quantile(mu: Tensor, sd: Tensor, p: float) -> Tensor:
    # The p-quantile of a mixture of Gaussians, by bisection between its components' quantiles.
    each = mu + sd * torch.special.ndtri(torch.tensor(p, dtype=torch.float64)).to(mu)
    low, high = each.amin(0), each.amax(0)
    if len(mu) == 1:
        return low
    for _ in range(60):
        middle = (low + high) / 2
        below = torch.special.ndtr((middle - mu) / sd).mean(0) < p
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def _class_entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(-1)


def _label_entropy(p: Tensor) -> Tensor:
    return (torch.special.entr(p) + torch.special.entr(1 - p)).sum(-1)
