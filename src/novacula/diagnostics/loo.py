"""Leave-one-out from posterior draws: Pareto-smoothed importance sampling (PSIS-LOO), and WAIC.

Draws ``w_s`` of a posterior whose likelihood is raised to the power ``1/T`` become draws of the posterior without
example n when they are weighted by

    r_s = p(y_n | w_s)^(−1/T),        elpd_n = log Σ_s r_s p(y_n | w_s) / Σ_s r_s.

The weights are heavy-tailed: a few draws that fit an example badly may carry all of it. The largest ones are replaced
by quantiles of a generalised Pareto distribution fitted to them, whose shape k says how far the result can be believed.
Above 0.7 (or ``1 − 1/log₁₀ S`` with fewer than 2,200 draws) the posterior without the example is too far from the one
with it, and ``elpd`` is usually too high. Only the posterior is tempered: what is scored is the density of the label.

References:
    Practical Bayesian model evaluation using leave-one-out cross-validation and WAIC. A. Vehtari, A. Gelman, J. Gabry,
    2017. arXiv:1507.04544.
    Pareto smoothed importance sampling. A. Vehtari, D. Simpson, A. Gelman, Y. Yao, J. Gabry, 2024. arXiv:1507.02646.
    A new and efficient estimation method for the generalized Pareto distribution. J. Zhang, M. A. Stephens, 2009.
    Asymptotic equivalence of Bayes cross validation and widely applicable information criterion in singular learning
    theory. S. Watanabe, 2010. arXiv:1004.2316.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError

GOOD_K = 0.7
"""The largest Pareto shape at which importance sampling is practical."""
LARGE_VARIANCE = 0.4
"""Posterior variance of an example's log-density above which WAIC starts to fail."""
_COLUMNS = 128  # examples at once
_FEWEST = 5  # ratios from which a shape can be fitted
_PRIOR_SHAPE, _PRIOR_WEIGHT = 0.5, 10.0  # shapes are drawn towards ½, as if by ten ratios


@dataclass(frozen=True, eq=False)
class Loo:
    """Leave-one-out predictive densities of N examples.

    Args:
        pointwise: ``elpd_n``, shape ``(N,)``, nats.
        k: The Pareto shape of each example's ratios, shape ``(N,)``; infinite where none could be fitted.
        in_sample: The log predictive density of each example by all draws, itself included, shape ``(N,)``.
        draws: S.
        temperature: T, of the likelihood in the posterior that was drawn from.
    """

    pointwise: Tensor
    k: Tensor
    in_sample: Tensor
    draws: int
    temperature: float = 1.0

    @property
    def elpd(self) -> float:
        """``Σ_n elpd_n``, nats."""
        return float(self.pointwise.sum())

    @property
    def stderr(self) -> float:
        """The standard error of ``elpd`` from the spread over the examples; NaN for one."""
        return _stderr(self.pointwise)

    @property
    def p_loo(self) -> float:
        """How much better the examples are predicted with themselves: the effective number of parameters at T = 1."""
        return float((self.in_sample - self.pointwise).sum())

    @property
    def threshold(self) -> float:
        """The largest k that is believed, ``min(0.7, 1 − 1/log₁₀ S)``."""
        return min(GOOD_K, 1 - 1 / math.log10(self.draws))

    @property
    def bad(self) -> int:
        """For how many examples k is above the threshold."""
        return int((self.k > self.threshold).sum())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Examples whose leave-one-out density is not to be believed."""
        if not self.bad:
            return ()
        return (
            f"leave-one-out is not to be believed for {self.bad:,} of {len(self.k):,} examples: their Pareto shape k "
            f"is above {self.threshold:.2f} (up to {float(self.k.max()):.2f}). Draw more, or refit without them",
        )

    def __repr__(self) -> str:
        bad = f", k > {self.threshold:.2f} for {self.bad}" if self.bad else ""
        return f"Loo({self.elpd:.6g} ± {self.stderr:.2g} nat, N={len(self.k)}{bad})"


@dataclass(frozen=True, eq=False)
class Waic:
    """The widely applicable information criterion of N examples, as an estimate of leave-one-out.

    Args:
        pointwise: Log predictive density less the variance, shape ``(N,)``, nats.
        variance: Of each example's log-density over the draws, shape ``(N,)``.
    """

    pointwise: Tensor
    variance: Tensor

    __repr__ = brief

    @property
    def elpd(self) -> float:
        """The sum over the examples, nats (−2 times it is WAIC on the deviance scale)."""
        return float(self.pointwise.sum())

    @property
    def stderr(self) -> float:
        """The standard error of ``elpd`` from the spread over the examples; NaN for one."""
        return _stderr(self.pointwise)

    @property
    def p_waic(self) -> float:
        """The effective number of parameters, the sum of the variances."""
        return float(self.variance.sum())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Examples for which WAIC starts to fail."""
        bad = int((self.variance > LARGE_VARIANCE).sum())
        if not bad:
            return ()
        return (
            f"the log-density of {bad:,} of {len(self.variance):,} examples varies by more than {LARGE_VARIANCE} over "
            "the draws, where WAIC starts to fail. Use psis_loo",
        )


def psis_loo(log_lik: Tensor, temperature: float = 1.0, *, efficiency: float = 1.0) -> Loo:
    """Leave-one-out predictive densities by Pareto-smoothed importance sampling.

    Args:
        log_lik: ``log p(y_n | w_s)``, untempered, shape ``(S, N)``, in nats.
        temperature: T: the draws come from a posterior in which the likelihood has the power ``1/T`` (for a target with
            both temperatures, their product).
        efficiency: Effective draws by draws, of a Markov chain; it lengthens the tail that is smoothed.

    Returns:
        Densities and shapes, in float64.

    Raises:
        InputError: If the log-likelihoods are not a finite matrix of two draws or more, or a number is not positive.

    Example:
        >>> draws = 0.3 * torch.randn(2000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> found = psis_loo(-0.5 * (draws - torch.tensor([0.0, 1.0])) ** 2)
        >>> found.pointwise.shape, found.bad
        (torch.Size([2]), 0)
    """
    values = _checked(log_lik)
    for name, value in (("temperature", temperature), ("efficiency", efficiency)):
        if not 0 < value < math.inf:
            raise InputError(f"a {name} above zero", str(value), "leave it out for 1")
    s = len(values)
    size = min(math.ceil(min(s / 5, 3 * math.sqrt(s / efficiency))), s - 1)
    pointwise, shapes = [], []
    for part in values.split(_COLUMNS, 1):
        weights, k = _smoothed(-part / temperature, size)
        pointwise.append((weights + part).logsumexp(0))
        shapes.append(k)
    return Loo(torch.cat(pointwise), torch.cat(shapes), values.logsumexp(0) - math.log(s), s, temperature)


def waic(log_lik: Tensor) -> Waic:
    """The widely applicable information criterion, from draws of the posterior at T = 1.

    Args:
        log_lik: ``log p(y_n | w_s)``, shape ``(S, N)``, in nats.

    Returns:
        The criterion, in float64.

    Raises:
        InputError: If the log-likelihoods are not a finite matrix of two draws or more.
    """
    values = _checked(log_lik)
    variance = values.var(0)
    return Waic(values.logsumexp(0) - math.log(len(values)) - variance, variance)


def _smoothed(log_ratios: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Log-weights that sum to one over the draws, the ``size`` largest smoothed, and the shapes."""
    x = log_ratios - log_ratios.amax(0)
    if size < _FEWEST:
        return x - x.logsumexp(0), torch.full_like(x[0], math.inf)
    ordered, order = x.sort(0)
    # Ratios below the smallest float are zero as they stand, and so is what they exceed a cut there by.
    cut = ordered[-size - 1].clamp(min=math.log(torch.finfo(x.dtype).tiny)).exp()
    excess = (ordered[-size:].exp() - cut).clamp(min=0)
    shape, scale = _pareto(excess)
    p = (torch.arange(size, dtype=x.dtype, device=x.device) + 0.5) / size
    quantiles = _quantiles(p.unsqueeze(1), shape, scale)
    # No quantile may exceed the largest ratio, which is 1; and where nothing was fitted, the ratios stay.
    smooth = torch.where(shape.isfinite(), (cut + quantiles).log().clamp(max=0.0), ordered[-size:])
    x = x.scatter(0, order[-size:], smooth)
    return x - x.logsumexp(0), shape


def _pareto(excess: Tensor) -> tuple[Tensor, Tensor]:
    """Shape and scale of generalised Pareto distributions, for each column of sorted excesses ``(M, N)``.

    Zhang and Stephens write the density by ``b = −k/σ`` and take the posterior mean of b on a grid, where k follows
    from b as a mean of ``log(1 − b x)``.
    """  # noqa: DOC201
    m = len(excess)
    largest = excess[-1]
    positive = torch.where(excess > 0, excess, torch.full_like(excess, math.inf)).amin(0)
    quarter = torch.maximum(excess[int(m / 4 + 0.5) - 1], positive)  # the first quartile, or the least that is not tied
    points = 30 + math.isqrt(m)
    j = torch.arange(points, dtype=excess.dtype, device=excess.device).unsqueeze(1) + 0.5
    b = 1 / largest + (1 - (points / j).sqrt()) / (3 * quarter)  # (points, N)
    k = torch.stack([torch.log1p(-row * excess).mean(0) for row in b])
    profile = m * ((-b / k).log() - k - 1)
    weight = torch.softmax(profile, 0)
    weight = torch.where(weight >= 10 * torch.finfo(weight.dtype).eps, weight, torch.zeros_like(weight))
    mean = (b * weight).sum(0) / weight.sum(0)
    k = torch.log1p(-mean * excess).mean(0)
    scale = -k / mean
    shape = (m * k + _PRIOR_WEIGHT * _PRIOR_SHAPE) / (m + _PRIOR_WEIGHT)
    return torch.where(shape.isfinite() & (scale > 0), shape, torch.full_like(shape, math.inf)), scale


def _quantiles(p: Tensor, shape: Tensor, scale: Tensor) -> Tensor:
    base = -torch.log1p(-p)
    flat = shape.abs() < torch.finfo(shape.dtype).eps
    safe = torch.where(flat, torch.ones_like(shape), shape)
    return scale * torch.where(flat, base, torch.expm1(safe * base) / safe)


def _checked(log_lik: Tensor) -> Tensor:
    if not isinstance(log_lik, Tensor) or log_lik.ndim != 2 or len(log_lik) < 2 or log_lik.shape[1] < 1:
        got = f"shape {tuple(log_lik.shape)}" if isinstance(log_lik, Tensor) else f"a {type(log_lik).__name__}"
        raise InputError("log-likelihoods of shape (S, N), two draws or more", got, "one row for each draw")
    values = log_lik.detach().double()
    bad = ~torch.isfinite(values)
    if bad.any():
        s, n = bad.nonzero()[0].tolist()
        raise InputError(
            "finite log-likelihoods", f"{values[s, n].item()} for draw {s}, example {n}", "check the draws"
        )
    return values


def _stderr(pointwise: Tensor) -> float:
    n = len(pointwise)
    return math.nan if n < 2 else float(pointwise.std()) * math.sqrt(n)
