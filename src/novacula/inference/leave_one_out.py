"""How well a predictive would do on each training example had it not been trained on: approximate leave-one-out.

The network linearised at its weights ``w`` is ``f_n(w') = f̄_n + J_n (w' − w)``, with posterior covariance
``Σ = (Σ_n J_nᵀ Λ_n J_n + Λ)⁻¹``, where ``Λ_n = L_n L_nᵀ`` is the curvature of the loss of example n and Λ the prior's
precision. One Newton step away from w on the objective without example n gives its outputs' posterior without it. With
the leverage ``h_n = J_n Σ J_nᵀ (C, C)`` and ``g_n = −∂ log p(y_n | f)/∂f``,

    v_n = (h_n⁻¹ − Λ_n)⁻¹ = h_n + h_n L_n (I − L_nᵀ h_n L_n)⁻¹ L_nᵀ h_n,          the variance, and
    m_n = f̄_n + v_n g_n,                                                           the mean.

The step solves the problem without n exactly where the loss is quadratic (linear regression), and to first order else.
No network is trained again.

**Early stopping.** Where training stopped before the objective's minimum (weak priors, few epochs), weights without
example n would not have gone to the minimum either, and a full Newton step tells far too much. Stopping early acts
like a further prior precision τ around the first weights w₀, whose objective is stationary where ``G + τ (w − w₀) =
0``, with G the full gradient. Along the directions that the data determine,

    τ = max(0, −⟨G, w − w₀⟩_H / ⟨w − w₀, w − w₀⟩_H),      ⟨a, b⟩_H = Σ_n (J_n a)ᵀ Λ_n (J_n b),

and the mean's step is taken with ``Λ + τ``.

**Whose covariance.** The means need the exact leverages: a Kronecker-factored or diagonal Σ does not know single
examples and moves outliers by absurd amounts. So the means come from a *reference*, the exact Gauss–Newton matrix
where it is affordable and that of the last layer given its features elsewhere (which moves the means too little, and
so errs on the side of the point estimate). For the same reason the variance of an approximate structure is its h_n as
it stands: what it does not know about an example, it need not forget. On a subset of M of N examples that stands for
all, an example counts N/M times and is left out as often.

References:
    A scalable estimate of the out-of-sample prediction error via approximate leave-one-out cross-validation. K. R. Rad,
    A. Maleki, 2020. arXiv:1801.10243.
    Approximate cross-validation formula for Bayesian linear regression. Y. Kabashima, T. Obuchi, M. Uemura, 2016.
    arXiv:1610.07733.
    Early stopping as nonparametric variational inference. D. Duvenaud, D. Maclaurin, R. P. Adams, 2016.
    arXiv:1504.01344.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.data import Data
from novacula.core.errors import InputError
from novacula.core.params import Params, count
from novacula.core.rng import derive, generator
from novacula.curvature import exact, last_layer
from novacula.curvature.problem import Covariance, Curvature, Problem
from novacula.inference.copies import default_chunk, fixed_copies, fixed_outputs
from novacula.inference.early_stopping import stopping_precision
from novacula.inference.linearised import Rule, default_rule, log_predictive, normal_draws
from novacula.likelihoods.base import Likelihood
from novacula.target import Target

CUT = 0.98
"""The largest leverage (1 is infinite influence) that is believed."""

KNOWS_EXAMPLES = frozenset({"exact", "last_layer", "matrix_free"})
"""Structures whose leverages are those of the exact Gauss–Newton matrix of the parameters they cover."""

_DRAWS = 128
_FLOATS = 2**24
_WORK = 5e10  # multiplications for a reference's matrix: a few seconds of one core


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """The outputs' Gaussian posteriors, each without its own example, for M training examples.

    Args:
        likelihood: The likelihood.
        y: Their labels.
        mean: Shape ``(M, C)``, float64.
        variance: At temperature 1, shape ``(M, C, C)``, float64.
        rule: How a predictive is made of them.
    """

    likelihood: Likelihood
    y: Tensor
    mean: Tensor
    variance: Tensor
    rule: Rule

    @torch.no_grad()
    def log_prob(self, temperature: float = 0.0, *, rule: Rule | None = None) -> Tensor:
        """The log predictive density of each example by the others.

        Args:
            temperature: Factor of the variance; 0 is the point estimate.
            rule: Another way to make the predictive.

        Returns:
            Shape ``(M,)``, in nats.
        """
        if temperature == 0:
            return self.likelihood.log_prob(self.mean, self.y)
        rule = rule or self.rule
        draws = normal_draws(_DRAWS, self.mean.shape[1], 0, self.mean) if rule == "monte_carlo" else None
        return log_predictive(rule, self.likelihood, self.mean, temperature * self.variance, self.y, draws)

    def compare(self, temperature: float) -> tuple[float, float, float]:
        """The predictive at a temperature beside the point estimate.

        Args:
            temperature: Factor of the variance.

        Returns:
            The predictive's mean log-density, the point estimate's, and the standard error of their difference.
        """
        mine, point = self.log_prob(temperature), self.log_prob()
        return float(mine.mean()), float(point.mean()), float((mine - point).std()) / len(mine) ** 0.5

    def reservation(self, temperature: float) -> str | None:
        """A warning where the predictive is worse than the point estimate.

        Args:
            temperature: Factor of the variance.

        Returns:
            A sentence with both numbers, if the predictive is worse by more than one standard error; else None.
        """
        mine, point, stderr = self.compare(temperature)
        if not point - mine > stderr:
            return None
        return (
            f"the predictive at temperature {temperature:g} is worse than its own point estimate: {-mine:.4f} against "
            f"{-point:.4f} nats an example (difference ± {stderr:.4f}) on training examples predicted without "
            "themselves. Lower the temperature, or let novacula.prediction.choose choose it"
        )


@dataclass(frozen=True, eq=False)
class Reference:
    """M training examples, and where their outputs' means would be without each.

    Args:
        target: The target.
        params: Trained weights.
        x: Their inputs.
        y: Their labels.
        mean: The means without each, shape ``(M, C)``, float64.
        factor: ``√(N/M) L_n``, shape ``(M, C, K)``, float64.
        curvature: The curvature that moved the means.
        copies: S, the transformations averaged over.
        seed: Their seed.
        damping: τ, the precision that early stopping added.
        cut: How many leverages were cut off at `CUT`.
    """

    target: Target
    params: Params
    x: Tensor
    y: Tensor
    mean: Tensor
    factor: Tensor
    curvature: Curvature
    copies: int
    seed: int
    damping: float
    cut: int

    def problem(self, data: Data, *, seed: int) -> Problem:
        """The curvature problem of the reference's examples, which stand for all.

        Args:
            data: The training data.
            seed: Seed of the transformations.

        Returns:
            The problem, scaled to N examples.
        """
        part = data if len(self.y) == data.n else data.with_values(self.x, self.y)
        return self.target.problem(self.params, part, seed=seed, copies=self.copies, total=data.n)

    def of(self, curvature: Curvature, *, rule: Rule | None = None) -> LeaveOneOut:
        """The leave-one-out posteriors of a structure.

        Args:
            curvature: The structure, of the same problem.
            rule: How predictives are made; by default `default_rule`.

        Returns:
            The posteriors at temperature 1.
        """
        covariance = covariance_of(self.target, self.params, curvature)
        h = variance_at(self.target, covariance, self.x, copies=self.copies, seed=self.seed).double()
        if curvature.structure in KNOWS_EXAMPLES:
            h, _ = without_self(h, self.factor)
        likelihood = self.target.likelihood
        return LeaveOneOut(likelihood, self.y, self.mean, h, rule or default_rule(likelihood))


def reference(
    target: Target,
    params: Params,
    data: Data,
    *,
    seed: int,
    examples: int = 1_000,
    copies: int | None = None,
    curvature: Curvature | None = None,
) -> Reference | None:
    """Find where the outputs of training examples would be without each.

    Args:
        target: The target.
        params: Trained weights.
        data: The training data.
        seed: Seed of the choice of examples and of the transformations.
        examples: At most this many examples, drawn at random; fewer where many outputs need the memory.
        copies: S; by default ``target.copies.evidence``.
        curvature: A curvature of all of ``data`` whose structure is in `KNOWS_EXAMPLES`, where there is one already.

    Returns:
        The reference; None where no exact matrix is affordable, not even the last layer's.
    """
    copies = copies or target.copies.evidence
    with torch.no_grad():
        outputs = target.forward.average(params, data.x[:1].unsqueeze(1)).shape[1]
    size = min(data.n, examples, max(16, _FLOATS // outputs**2))
    if curvature is None:
        built = _build(target, params, data, outputs, size, copies=copies, seed=seed)
        if built is None:
            return None
        curvature, size, scale = built
    else:
        scale = 1.0
    x, y = _subset(data, size, seed)
    with torch.no_grad():
        f = fixed_outputs(target, params, x, copies=copies, seed=seed).double()
        tau = stopping_precision(target, params, data, x, y, copies=copies, seed=seed)
        covariance = covariance_of(target, params, curvature, extra=tau)
        h = variance_at(target, covariance, x, copies=copies, seed=seed)
    gradient, factor = _loss(target.likelihood, f, y)
    v, cut = without_self(h, scale**0.5 * factor)
    mean = f + (v @ gradient.unsqueeze(-1)).squeeze(-1)
    return Reference(target, params, x, y, mean, scale**0.5 * factor, curvature, copies, seed, tau, cut)


def without_self(h: Tensor, factor: Tensor) -> tuple[Tensor, int]:
    """``(h⁻¹ − L Lᵀ)⁻¹``, the outputs' variance without their own example.

    Args:
        h: Leverages ``J Σ Jᵀ``, shape ``(M, C, C)``.
        factor: ``L``, shape ``(M, C, K)``.

    Returns:
        Shape ``(M, C, C)``, float64, and for how many examples an eigenvalue of ``Lᵀ h L`` was cut off at `CUT`.
    """
    h, factor = h.double(), factor.double()
    values, vectors = torch.linalg.eigh(factor.mT @ h @ factor)
    cut = int((values > CUT).any(1).sum())
    b = h @ factor @ vectors
    return h + (b / (1 - values.clamp(0, CUT)).unsqueeze(1)) @ b.mT, cut


def covariance_of(target: Target, params: Params, curvature: Curvature, *, extra: float = 0.0) -> Covariance:
    """The posterior covariance of a curvature's parameters.

    Args:
        target: Gives the prior.
        params: The weights.
        curvature: The curvature.
        extra: Added to the prior's precision.

    Returns:
        The covariance at temperature 1.
    """
    precision = target.prior.precision(params)
    return curvature.covariance({k: precision[k].detach() + extra for k in curvature.names})


def variance_at(target: Target, covariance: Covariance, x: Tensor, *, copies: int, seed: int) -> Tensor:
    """``J Σ Jᵀ`` of outputs averaged over fixed transformations.

    Args:
        target: Gives the invariance.
        covariance: Σ.
        x: Inputs, shape ``(M, …)``.
        copies: S.
        seed: Seed of the transformations.

    Returns:
        Shape ``(M, C, C)``.
    """
    parts = x.split(default_chunk(target, copies))
    return torch.cat([covariance.variance(fixed_copies(target, part, copies, seed)).detach() for part in parts])


def _build(
    target: Target, params: Params, data: Data, outputs: int, size: int, *, copies: int, seed: int
) -> tuple[Curvature, int, float] | None:
    # The best exact matrix that is affordable, the number of examples in it, and N/M.

    def fit(weights: int) -> int:
        # The most examples whose rows (outputs · M, weights) can be made into a matrix and factorised.
        m = size
        while m and min(weights, m * outputs) * m * outputs * weights > _WORK:
            m = m * 3 // 4
        return m

    # A subset stands for all only where it pins down as much: most examples, or several a weight of the last layer.
    everything = fit(count(params))
    if everything >= data.n / 2:
        return _curvature(exact, target, params, data, everything, copies=copies, seed=seed)
    try:
        x, y = _subset(data, 2, seed)
        head = last_layer(target.problem(params, data.with_values(x, y), seed=seed, copies=copies))
    except InputError:  # the network does not end with a linear layer
        return None
    weights = count({k: params[k] for k in head.names})
    m = fit(weights)
    if m < min(data.n, 4 * weights / outputs):
        return None
    return _curvature(last_layer, target, params, data, m, copies=copies, seed=seed)


def _curvature(
    build: Callable[[Problem], Curvature], target: Target, params: Params, data: Data, m: int, *, copies: int, seed: int
) -> tuple[Curvature, int, float]:
    x, y = _subset(data, m, seed)
    part = data if m == data.n else data.with_values(x, y)
    return build(target.problem(params, part, seed=seed, copies=copies, total=data.n)), m, data.n / m


def _subset(data: Data, size: int, seed: int) -> tuple[Tensor, Tensor]:
    # The first of one random order, so that every size is a prefix of the larger ones.
    rows = torch.randperm(data.n, generator=generator(derive(seed, "leave-one-out")))[:size].to(data.x.device)
    return data.x[rows], data.y[rows]


def _loss(likelihood: Likelihood, f: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    # The gradient of −log p in the outputs, and the factor of its curvature.
    f = f.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(-likelihood.log_prob(f, y).sum(), f)
    return gradient, likelihood.factor(f.detach(), y).detach().double()
