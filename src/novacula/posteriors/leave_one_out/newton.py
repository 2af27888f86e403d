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

**Large leverages.** Where one example alone holds the outputs in place (interpolating networks, weak priors), the step
is large and first order is no guide: labels come out dozens of nats away. Leverages are therefore cut off, at 0.98
for a quadratic loss and at 0.8 for others, and the cuts are counted: if they are many, leave-one-out is not to be
believed.

**Whose covariance.** The means need the exact leverages: a Kronecker-factored or diagonal Σ does not know single
examples and moves outliers by absurd amounts. They come from a reference
(`novacula.posteriors.leave_one_out.reference`). For the same reason the variance of an approximate structure is its h_n
as it stands: what it does not know about an example, it need not forget.

References:
    A scalable estimate of the out-of-sample prediction error via approximate leave-one-out cross-validation. K. R. Rad,
    A. Maleki, 2020. arXiv:1801.10243.
    Approximate cross-validation formula for Bayesian linear regression. Y. Kabashima, T. Obuchi, M. Uemura, 2016.
    arXiv:1610.07733.
    Early stopping as nonparametric variational inference. D. Duvenaud, D. Maclaurin, R. P. Adams, 2016.
    arXiv:1504.01344.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.likelihoods.base import Likelihood
from novacula.posteriors.linearised import Rule, log_predictive, normal_draws

CUT = 0.98
"""The largest leverage (1 is infinite influence) that is believed where the loss is quadratic."""
CUT_CURVED = 0.8
"""The same for other losses. A step is then no longer small, and the curvature of the other examples grows under
way."""

_DRAWS = 128


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """The outputs' Gaussian posteriors, each without its own example, for M training examples."""

    likelihood: Likelihood  # the likelihood
    y: Tensor  # their labels
    mean: Tensor  # shape ``(M, C)``, float64
    variance: Tensor  # at temperature 1, shape ``(M, C, C)``, float64
    rule: Rule  # how a predictive is made of them
    believable: bool = True  # whether an exact curvature moved the means, by few leverages that were too large

    __repr__ = brief

    @torch.no_grad()
    def log_prob(self, temperature: float = 0.0, *, rule: Rule | None = None) -> Tensor:
        """The log predictive density of each example by the others, ``(M,)``."""
        if temperature == 0:
            return self.likelihood.log_prob(self.mean, self.y)
        rule = rule or self.rule
        draws = normal_draws(_DRAWS, self.mean.shape[1], 0, self.mean) if rule == "monte_carlo" else None
        return log_predictive(rule, self.likelihood, self.mean, temperature * self.variance, self.y, draws)

    def compare(self, temperature: float) -> tuple[float, float, float]:
        """The predictive at a temperature beside the point estimate."""
        mine, point = self.log_prob(temperature), self.log_prob()
        return float(mine.mean()), float(point.mean()), float((mine - point).std()) / len(mine) ** 0.5

    def reservation(self, temperature: float) -> str | None:
        """A warning where the predictive is worse than the point estimate."""
        mine, point, stderr = self.compare(temperature)
        if not point - mine > 2 * stderr:
            return None
        return (
            f"the predictive at temperature {temperature:g} is worse than its own point estimate: {-mine:.4f} against "
            f"{-point:.4f} nats an example (difference ± {stderr:.4f}) on training examples predicted without "
            "themselves. Lower the temperature, or let novacula.prediction.choose choose it"
        )


def without_self(h: Tensor, factor: Tensor, cut: float = CUT) -> tuple[Tensor, int]:
    """``(h⁻¹ − L Lᵀ)⁻¹``, the outputs' variance without their own example; h ``(M, C, C)``, factor ``(M, C, K)``."""
    h, factor = h.double(), factor.double()
    values, vectors = torch.linalg.eigh(factor.mT @ h @ factor)
    beyond = int((values > cut).any(1).sum())
    b = h @ factor @ vectors
    return h + (b / (1 - values.clamp(0, cut)).unsqueeze(1)) @ b.mT, beyond
