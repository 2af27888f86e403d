"""`MeanField`: the independent Gaussians over the weights that are nearest to the posterior (Bayes by backprop).

With ``q(w) = Π_i N(m_i, s_i²)`` the means and deviations minimise, by Adam,

    F(m, s) = −E_q[log p_T(w | D)] − H(q) = KL(q ‖ p_T) + const,

where ``p_T`` is the target's tempered posterior: the data's term is divided by ``T T_l``, the prior's by ``T``, and
both are sums over all examples and all weights. At ``T = T_l = 1``, ``−F`` is a lower bound of the log evidence.

The expectation of the log-likelihood is that over drawn weights, ``m ± s ε`` in pairs, which cancels what is odd in ε.
Each example of a batch sees a draw of its own where the layers allow it (`novacula.inference.variational.flipout`),
which is what keeps the noise of the gradient down. Where layers keep statistics of the batches (BatchNorm), all
examples of one share a draw instead, and the network is looked at as it trains; draws of the posterior take statistics
anew. The prior's term is in closed form where the prior is Gaussian, and averaged over the same draws otherwise.

The independent Gaussians that are nearest in this sense are narrower than the posterior: for a Gaussian posterior with
precision matrix Λ they have its mean, and variances ``1/Λ_ii``. For networks with more weights than examples they are a
poor stand-in at temperature 1, as most weights then keep the prior's width: on digits (64-50-10, 1,000 examples) their
predictive is worse than MAP's, and farther from that of NUTS than at ``temperature=0.1``. The posterior warns of it.
Deviations start small and grow at ``sd_lr``, so that in short runs they are not there yet.

References:
    Weight uncertainty in neural networks. C. Blundell, J. Cornebise, K. Kavukcuoglu, D. Wierstra, 2015.
    arXiv:1505.05424.
    Practical variational inference for neural networks. A. Graves, 2011.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_fields, check_positive
from novacula.core.errors import InputError
from novacula.core.many import noisy_gradient, normal_like
from novacula.core.params import Params, count, unstack
from novacula.core.rng import split
from novacula.data.data import Data
from novacula.inference.method import Batching, Info, Start
from novacula.inference.optimising.adam import AdamState, adam_init, adam_step, one_cycle
from novacula.inference.variational.flipout import Flipout, flipout
from novacula.posteriors.base import Posterior, network_target, overparameterised
from novacula.posteriors.gaussians import DiagonalGaussian
from novacula.posteriors.mixture import mixture
from novacula.posteriors.renormalised import with_statistics
from novacula.target import Density, Target
from novacula.target.batch import Batch
from novacula.target.training import misfit_gradient, statistics_of


@dataclass(frozen=True, eq=False)
class MeanFieldState:
    """The members' Gaussians, and the optimisers' state; mean ``(M, *shape)``."""

    mean: Params  # m, shape ``(M, *shape)``
    log_sd: Params  # ``log s``
    adam_mean: AdamState  # the optimiser of the means
    adam_sd: AdamState  # the optimiser of the deviations
    size: int  # N
    statistics: Params  # those that layers keep of the batches, ``(M, *shape)``
    data: Data = field(metadata={"checkpoint": False})
    network: Flipout = field(metadata={"checkpoint": False})  # the network whose examples see draws of their own


@dataclass(frozen=True)
class MeanField:
    """Fit independent Gaussians to the posterior.

    Args:
        lr: Peak learning rate of Adam for the means.
        sd_lr: Peak learning rate for the logarithms of the deviations.
        init_sd: s at the start.
        samples: Draws of the weights in a step: 1, or an even number, in pairs ``m ± s ε``.
        noise: ``"flipout"`` for draws of each example's own where the layers allow it, ``"shared"`` for draws that a
            whole batch shares.
        temperature: T; by default the target's.
        schedule: ``"one-cycle"`` or ``"constant"``.

    Raises:
        InputError: If a number is outside its range.

    Example:
        >>> MeanField(samples=4).noise
        'flipout'
    """

    lr: float = 3e-2
    sd_lr: float = 5e-3
    init_sd: float = 0.02
    samples: int = 2
    noise: Literal["flipout", "shared"] = "flipout"
    temperature: float | None = None
    schedule: Literal["one-cycle", "constant"] = "one-cycle"

    batching: Batching = field(default="mini", init=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("lr", "sd_lr", "init_sd", "temperature"):
            if (value := getattr(self, name)) is not None:
                check_positive(name, value)
        if self.samples < 1 or (self.samples > 1 and self.samples % 2):
            raise InputError("1 sample or an even number", str(self.samples), "use samples=2, a pair")

    def init(self, target: Density, data: Data, rng: torch.Generator, start: Start) -> MeanFieldState:
        """Gaussians around where the members start."""
        network = Flipout(network_target(target, "MeanField").forward, ())
        statistics = statistics_of(target, data, start.members, start.statistics)
        if self.noise == "flipout" and not statistics:
            tried = network_target(target, "MeanField").warp(data.x[:3], 2, rng).detach()
            network = flipout(network.forward, unstack(start.params)[0], tried)
        log_sd = {k: torch.full_like(w, math.log(self.init_sd)) for k, w in start.params.items()}
        adam = adam_init(start.params), adam_init(log_sd)
        return MeanFieldState(start.params, log_sd, *adam, data.n, statistics, data, network)

    def step(
        self, target: Target, state: MeanFieldState, batch: Batch, rng: torch.Generator
    ) -> tuple[MeanFieldState, Info]:
        """One step of Adam on ``F/N``."""
        losses, elbo, grads, statistics = self.gradient(target, state, batch, rng)
        factor = one_cycle(batch.progress) if self.schedule == "one-cycle" else 1.0
        mean, adam_mean = adam_step(
            state.mean, {k: grads[f"m:{k}"] for k in state.mean}, state.adam_mean, self.lr * factor
        )
        log_sd, adam_sd = adam_step(
            state.log_sd, {k: grads[f"s:{k}"] for k in state.mean}, state.adam_sd, self.sd_lr * factor
        )
        info = Info(float(losses.mean()), {"elbo": float(elbo.mean())})
        moved = {"mean": mean, "log_sd": log_sd, "adam_mean": adam_mean, "adam_sd": adam_sd, "statistics": statistics}
        return replace(state, **moved), info

    def gradient(
        self, target: Target, state: MeanFieldState, batch: Batch, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Params, Params]:
        """The gradient of ``F/N``, estimated from a batch and a few draws.

        Args:
            target: The target.
            state: Where.
            batch: A minibatch.
            rng: Randomness.

        Returns:
            The mean negative log-likelihood of the batch, shape ``(M,)``; the estimate of ``−F``, shape ``(M,)``, in
            nats; the gradient by ``"m:"`` or ``"s:"`` and the parameter's name; and the statistics of the batches,
            where layers keep some.
        """
        names = tuple(state.mean)
        xs = target.warp(batch.x, target.copies.train, rng)
        pairs = max(1, self.samples // 2)
        noise: Params = {}
        for i in range(pairs):
            noise |= {f"e{i}:{k}": e for k, e in normal_like(state.mean, rng).items()}
            like = next(iter(state.mean.values()))
            signs = state.network.signs(like.shape[0], len(batch.x), like, rng)
            noise |= {f"f{i}:{k}": v for k, v in signs.items()}
        sides = (1.0, -1.0) if self.samples > 1 else (1.0,)
        gaussian = target.prior.gaussian
        temperature = self.temperature or target.temperature
        seen = self._as_it_trains(target, state, batch, xs, noise, sides, pairs, rng) if state.statistics else None

        def bound(values: Params) -> tuple[Tensor, Tensor, Tensor]:
            mean = {k: values[f"m:{k}"] for k in names}
            log_sd = {k: values[f"s:{k}"] for k in names}
            fits, priors = [], []
            for i in range(pairs):
                signs = {k.split(":", 1)[1]: v for k, v in values.items() if k.startswith(f"f{i}:")}
                for side in sides:
                    shift = {k: side * log_sd[k].exp() * values[f"e{i}:{k}"] for k in names}
                    if seen is None:
                        f = state.network.average(mean, shift, signs, xs)
                        fits.append(target.likelihood.log_prob(f, batch.y).mean())
                    if not gaussian:
                        priors.append(target.prior.log_prob({k: mean[k] + shift[k] for k in names}))
            # Of a network that is looked at as it trains, the fit and its gradient are known already.
            fit = torch.stack(fits).mean() if seen is None else values["fit"]
            prior = _expected_log_prob(target, mean, log_sd) if gaussian else torch.stack(priors).mean()
            entropy = _sum([s.sum() for s in log_sd.values()]) + 0.5 * count(mean) * math.log(2 * math.pi * math.e)
            tempered = fit * (batch.total / target.likelihood_temperature)
            elbo = (tempered + prior) / temperature + entropy
            return -fit, elbo, -elbo / batch.total

        leaves = {f"m:{k}": w for k, w in state.mean.items()} | {f"s:{k}": s for k, s in state.log_sd.items()}
        rows = xs.shape[0] * xs.shape[1] * self.samples
        if seen is None:
            (losses, elbo, _), grads = noisy_gradient(bound, leaves, noise, notes=target.notes, rows=rows)
            return losses, elbo, grads, {}
        known, fits, statistics = seen
        (losses, elbo, _), grads = noisy_gradient(bound, leaves, noise | {"fit": -known}, notes=target.notes, rows=1)
        scale = 1 / (target.likelihood_temperature * temperature)
        return losses, elbo, {k: torch.add(g, fits[k], alpha=scale) for k, g in grads.items()}, statistics

    def _as_it_trains(
        self,
        target: Target,
        state: MeanFieldState,
        batch: Batch,
        xs: Tensor,
        noise: Params,
        sides: tuple[float, ...],
        pairs: int,
        rng: torch.Generator,
    ) -> tuple[Tensor, Params, Params]:
        # The misfit of draws that a whole batch shares, in train mode; its gradient in m and log s; the statistics.
        seed, statistics, losses = split(rng), state.statistics, list[Tensor]()
        grads = {f"{part}:{k}": torch.zeros_like(m) for k, m in state.mean.items() for part in "ms"}
        for i in range(pairs):
            for side in sides:
                shift = {k: side * s.exp() * noise[f"e{i}:{k}"] for k, s in state.log_sd.items()}
                w = {k: m + shift[k] for k, m in state.mean.items()}
                loss, g, statistics = misfit_gradient(target, w, statistics, xs, batch.y, seed)
                losses.append(loss)
                for k, slope in g.items():
                    grads[f"m:{k}"] += slope / (pairs * len(sides))
                    grads[f"s:{k}"] += slope * shift[k] / (pairs * len(sides))
        return torch.stack(losses).mean(0), grads, statistics

    def posterior(self, target: Target, state: MeanFieldState) -> Posterior:
        """The Gaussian, or a mixture of the members'."""
        shared = [k for k in state.mean if k not in state.network.covered]
        temperature = self.temperature or target.temperature
        first = {k: m[0] for k, m in state.mean.items()}
        warnings = overparameterised(target, first, state.size, temperature, "independent Gaussians")
        if self.noise == "flipout" and shared and not state.statistics:
            warnings += (
                f"drawn once a batch, not once an example, in training: {', '.join(shared)} (not of a linear or "
                "convolution layer that sees the examples on its first axis). The gradients had more noise",
            )
        members = zip(unstack(state.mean), unstack(state.log_sd), strict=True)
        parts = [DiagonalGaussian(m, {k: v.exp() for k, v in s.items()}, target, warnings) for m, s in members]
        return mixture(with_statistics(parts, target, state.statistics, state.data))


def _expected_log_prob(target: Target, mean: Params, log_sd: Params) -> Tensor:
    # E_q[log p(w)] of a Gaussian prior: what it is at the mean, less ½ λ s² for each weight.
    precision = {k: v.detach() for k, v in target.prior.precision(mean).items()}
    spread = _sum([(precision[k] * (2 * s).exp()).expand_as(s).sum() for k, s in log_sd.items()])
    return target.prior.log_prob(mean) - 0.5 * spread


def _sum(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).sum()
