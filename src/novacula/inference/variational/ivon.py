"""`IVON`: mean-field variational inference by natural gradients, at the price of Adam.

The improved variational online Newton method fits ``q(w) = Π_i N(m_i, σ_i²)`` to the target's tempered posterior. With
``ℓ`` the mean negative log-likelihood per example, ``λ = N/(T T_l)`` the effective sample size, and ``δ = T_l Λ/N`` the
weight decay that the prior's precisions Λ ask for, a step draws ``w = m + σ ε``, takes ``g = ∇ℓ(w)`` on a minibatch and
estimates the diagonal of the Hessian by reparametrisation, ``g (w − m)/σ²``, without a second derivative:

    ĝ ← β₁ ĝ + (1 − β₁) g
    h ← β₂ h + (1 − β₂) ĥ + ½ (1 − β₂)² (h − ĥ)²/(h + δ),      ĥ = g (w − m)/σ²
    m ← m − α (ĝ/(1 − β₁ᵗ) + δ m)/(h + δ)
    σ = 1/√(λ (h + δ)),

so that ``1/σ²`` is the precision ``λ h + Λ/T``. The last term of the second line keeps ``h + δ`` positive. The fixed
point is the one that `MeanField` approaches, and so is what is said there of temperature 1; h takes some ``1/(1 − β₂)``
steps to settle.

Over the first half of a run T_l rises to its own value, from a hundredth of it: the prior's part of the divergence
comes in, and the width with it (see `Batch.rising`). Noise as wide as a whole prior hides what little a network has
found at first.

References:
    Variational learning is effective for large deep networks. Y. Shen, N. Daheim, B. Cong, P. Nickl, G. M. Marconi,
    C. Bazan, R. Yokota, I. Gurevych, D. Cremers, M. E. Khan, T. Möllenhoff, 2024. arXiv:2402.17641.
    Handling the positive-definite constraint in the Bayesian learning rule. W. Lin, M. Schmidt, M. E. Khan, 2020.
    arXiv:2002.10060.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

import torch

from novacula.core.checks.numbers import check_fields, check_positive
from novacula.core.errors import InputError
from novacula.core.many import noisy_gradient, normal_like
from novacula.core.params import Params, unstack
from novacula.core.rng import split
from novacula.data.data import Data
from novacula.inference.method import Batching, Info, Start
from novacula.inference.optimising.adam import one_cycle
from novacula.posteriors.base import Posterior, network_target, overparameterised
from novacula.posteriors.gaussians import DiagonalGaussian
from novacula.posteriors.mixture import mixture
from novacula.posteriors.renormalised import with_statistics
from novacula.priors.mean import deviations
from novacula.target import Density, Target
from novacula.target.batch import WARM, Batch
from novacula.target.training import misfit_gradient, statistics_of

_FIRST = 0.01  # of T_l at the first step; none at all would be a width of nothing, which shows no curvature


@dataclass(frozen=True, eq=False)
class IVONState:
    """The members' Gaussians; mean ``(M, *shape)``."""

    mean: Params  # m, shape ``(M, *shape)``
    hessian: Params  # h, per example
    momentum: Params  # ĝ
    count: int  # steps taken, t
    size: int  # N
    statistics: Params = field(default_factory=dict)  # those that layers keep of the batches, ``(M, *shape)``
    data: Data | None = field(default=None, metadata={"checkpoint": False})


@dataclass(frozen=True)
class IVON:
    """Fit independent Gaussians to the posterior by natural gradients.

    Args:
        lr: α, at its peak; Newton's step has 1.
        h0: h at the start; the first deviations are ``1/√(λ (h0 + δ))``.
        beta1: β₁, the decay of the gradient's mean.
        beta2: β₂, the decay of the Hessian's mean; the run should be longer than some ``1/(1 − β₂)`` steps.
        clip: The largest change of a mean in a step, before it is multiplied by α: until h has settled, the division
            by it can be off by orders of magnitude. Infinite for none.
        samples: Draws of the weights in a step: 1, or an even number, in pairs ``m ± σ ε``.
        temperature: T; by default the target's.
        schedule: ``"one-cycle"`` or ``"constant"``.

    Raises:
        InputError: If a number is outside its range.

    Example:
        >>> IVON(samples=4).lr
        0.3
    """

    lr: float = 0.3
    h0: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.9995
    clip: float = 0.03
    samples: int = 2
    temperature: float | None = None
    schedule: Literal["one-cycle", "constant"] = "one-cycle"

    batching: Batching = field(default="mini", init=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("lr", "h0", "temperature"):
            if (value := getattr(self, name)) is not None:
                check_positive(name, value)
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} in [0, 1)", str(getattr(self, name)), "leave it out for the default")
        if not self.clip > 0:
            raise InputError("clip above zero", str(self.clip), "use math.inf for none")
        if self.samples < 1 or (self.samples > 1 and self.samples % 2):
            raise InputError("1 sample or an even number", str(self.samples), "use samples=2, a pair")

    def init(self, target: Density, data: Data, rng: torch.Generator, start: Start) -> IVONState:
        """Gaussians around where the members start."""
        prior = network_target(target, "IVON").prior
        if not prior.gaussian:
            raise InputError(
                "a Gaussian prior, whose precision is IVON's weight decay",
                type(prior).__name__,
                "use nv.Gaussian or nv.FanIn, or the method MeanField",
            )
        hessian = {k: torch.full_like(w, self.h0) for k, w in start.params.items()}
        momentum = {k: torch.zeros_like(w) for k, w in start.params.items()}
        statistics = statistics_of(target, data, start.members, start.statistics)
        return IVONState(start.params, hessian, momentum, 0, data.n, statistics, data)

    def step(self, target: Target, state: IVONState, batch: Batch, rng: torch.Generator) -> tuple[IVONState, Info]:
        """One step."""
        share = max(batch.rising(WARM).prior, _FIRST)
        decay, away = _decay(target, state, share), deviations(target.prior, state.mean)
        sd = self._sd(target, state, share)
        xs = target.warp(batch.x, target.copies.train, rng)
        sides = (1.0, -1.0) if self.samples > 1 else (1.0,)
        first = {k: torch.zeros_like(m) for k, m in state.mean.items()}
        curved = dict(first)
        loss, statistics = 0.0, state.statistics
        seed = split(rng) if statistics else 0

        def misfit(w: Params) -> tuple[torch.Tensor, ...]:
            return (-target.likelihood.log_prob(target.forward.average(w, xs), batch.y).mean(),)

        for _ in range(max(1, self.samples // 2)):
            noise = normal_like(state.mean, rng)
            for side in sides:
                w = {k: m + side * sd[k] * noise[k] for k, m in state.mean.items()}
                if statistics:
                    losses, g, statistics = misfit_gradient(target, w, statistics, xs, batch.y, seed)
                else:
                    (losses,), g = noisy_gradient(misfit, w, {}, notes=target.notes, rows=xs.shape[0] * xs.shape[1])
                loss += float(losses.mean()) / self.samples
                first = {k: first[k] + g[k] / self.samples for k in g}
                curved = {k: curved[k] + g[k] * (side * noise[k]) / (sd[k] * self.samples) for k in g}
        lr = self.lr * (one_cycle(batch.progress) if self.schedule == "one-cycle" else 1.0)
        t, b1, b2 = state.count + 1, self.beta1, self.beta2
        mean: Params = {}
        hessian: Params = {}
        momentum: Params = {}
        for k, h in state.hessian.items():
            momentum[k] = b1 * state.momentum[k] + (1 - b1) * first[k]
            correction = 0.5 * (1 - b2) ** 2 * (h - curved[k]).square() / (h + decay[k])
            hessian[k] = b2 * h + (1 - b2) * curved[k] + correction
            gradient = momentum[k] / (1 - b1**t) + decay[k] * away[k]
            newton = gradient / (hessian[k] + decay[k])
            mean[k] = state.mean[k] - lr * newton.clamp(-self.clip, self.clip)
        new = dataclasses.replace(state, mean=mean, hessian=hessian, momentum=momentum, count=t, statistics=statistics)
        return new, Info(loss, {"lr": lr})

    def posterior(self, target: Target, state: IVONState) -> Posterior:
        """The Gaussian, or a mixture of the members'."""
        temperature = self.temperature or target.temperature
        first = {k: m[0] for k, m in state.mean.items()}
        warnings = overparameterised(target, first, state.size, temperature, "independent Gaussians")
        members = zip(unstack(state.mean), unstack(self._sd(target, state)), strict=True)
        parts = [DiagonalGaussian(m, s, target, warnings) for m, s in members]
        return mixture(with_statistics(parts, target, state.statistics, state.data))

    def _sd(self, target: Target, state: IVONState, share: float = 1.0) -> Params:
        temperature = (self.temperature or target.temperature) * target.likelihood_temperature * share
        effective = state.size / temperature
        return {k: (effective * (state.hessian[k] + d)).rsqrt() for k, d in _decay(target, state, share).items()}


def _decay(target: Target, state: IVONState, share: float = 1.0) -> Params:
    # δ = T_l Λ/N at a share of T_l, for each tensor; a member's weights are those of any other to a Gaussian prior.
    like = unstack(state.mean)[0]
    factor = target.likelihood_temperature * share / state.size
    return {k: (factor * v).detach() for k, v in target.prior.precision(like).items()}
