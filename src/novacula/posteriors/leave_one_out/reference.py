"""Where the outputs of training examples would be had the network not been trained on them: the reference.

Approximate leave-one-out (`novacula.posteriors.leave_one_out.newton`) moves every example's outputs by its own
leverage, which must come from an exact Gauss–Newton matrix. Three references are tried in turn:

- ``"exact"``: the matrix of all weights.
- ``"last_layer"``: that of the last layer given its features. It moves the means too little, as the features too were
  fitted to each example; what it says is to be taken with a larger margin.
- ``"fit"``: none is affordable, and the means are not moved at all. The comparison is then with the training fit, which
  no average over weights is likely to beat.

A matrix is affordable at a bounded number of multiplications. To keep it so, of the C columns of the loss's curvature
``L_n`` only the leading K that hold 99 % of all curvature are taken (few classes compete for an example), and M of the
N examples stand for all: each then counts N/M times, and is left out as often.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params, count
from novacula.core.rng import derive, generator
from novacula.curvature import exact, last_layer
from novacula.curvature.problem import Covariance, Curvature, Problem
from novacula.data.data import Data
from novacula.likelihoods.base import Likelihood
from novacula.posteriors.leave_one_out.early_stopping import stopping_precision
from novacula.posteriors.leave_one_out.newton import CUT, CUT_CURVED, LeaveOneOut, without_self
from novacula.posteriors.linearised import Rule, default_rule
from novacula.target import Target
from novacula.target.copies import default_chunk, fixed_copies, fixed_outputs

_FLOATS = 2**24
_COPIES = 4_096  # transformed inputs of the reference
_BACKWARD = 20_000  # backward passes of single inputs for the variance of another structure
_MANY_CUTS = 0.05
# Multiplications for a matrix. With its factorisation and use they take seconds of one core; the rows of all weights
# are used several times over, those of the last layer come from its features.
_WORK_EXACT, _WORK_LAST_LAYER = 4e9, 3e10
_SHARE = 0.99

Factor = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Reference:
    """M training examples, and where their outputs' means would be without each."""

    target: Target  # the target
    params: Params  # trained weights
    x: Tensor  # their inputs
    y: Tensor  # their labels
    mean: Tensor  # the means without each, shape ``(M, C)``, float64
    factor: Tensor  # ``√(N/M) L_n``, shape ``(M, C, K)``, float64
    curvature: Curvature | None  # the curvature that moved the means; None where none did
    copies: int  # S, the transformations averaged over
    seed: int  # their seed
    damping: float = 0.0  # τ, the precision that early stopping added
    cut: int = 0  # how many leverages were too large to be believed

    @property
    def structure(self) -> str:
        """``"exact"``, ``"last_layer"`` or ``"fit"``."""
        return "fit" if self.curvature is None else self.curvature.structure

    @property
    def believable(self) -> bool:
        """Whether few leverages were too large; a quadratic loss bears them, as its curvature does not change."""
        return self.target.likelihood.quadratic or self.cut <= _MANY_CUTS * len(self.y)

    @property
    def few(self) -> Reference:
        """The first examples, as many as a structure without features of its own can afford."""
        size = max(64, _BACKWARD // (self.copies * self.mean.shape[1]))
        first = {name: getattr(self, name)[:size] for name in ("x", "y", "mean", "factor")}
        return replace(self, **first)

    def problem(self, data: Data, *, seed: int) -> Problem:
        """The curvature problem of the reference's examples, which stand for all."""
        part = data if len(self.y) == data.n else data.with_values(self.x, self.y)
        return self.target.problem(self.params, part, seed=seed, copies=self.copies, total=data.n)

    def of(self, curvature: Curvature, *, rule: Rule | None = None) -> LeaveOneOut:
        """The leave-one-out posteriors of a structure."""
        covariance = covariance_of(self.target, self.params, curvature)
        h = variance_at(self.target, covariance, self.x, copies=self.copies, seed=self.seed).double()
        if curvature.leverage != "approximate":
            h, _ = without_self(h, self.factor, _cut(self.target.likelihood))
        likelihood = self.target.likelihood
        believable = self.curvature is not None and self.believable
        return LeaveOneOut(likelihood, self.y, self.mean, h, rule or default_rule(likelihood), believable)


def reference(
    target: Target,
    params: Params,
    data: Data,
    *,
    seed: int,
    examples: int = 1_000,
    copies: int | None = None,
    curvature: Curvature | None = None,
) -> Reference:
    """Find where the outputs of training examples would be without each."""
    target, params = target.taking(data.parts).at(params)
    copies = 1 if target.averaged is None else copies or target.copies.evidence
    with torch.no_grad():
        outputs = target.forward.average(params, data.x[:1].unsqueeze(1)).shape[1]
    memory, time = max(16, _FLOATS // outputs**2), max(256, _COPIES // copies)
    size = min(data.n, examples, memory, time)
    x, y = _subset(data, size, seed)
    f = fixed_outputs(target, params, x, copies=copies, seed=seed).double()
    gradient, factor = _loss(target, f, y)
    start = Reference(target, params, x, y, f, factor, curvature, copies, seed)
    scale = 1.0
    if curvature is None:
        columns = _columns(factor)
        found = _build(start, data, outputs, columns)
        if found is None:
            return start
        curvature, size = found
        scale = data.n / size
        x, y, f, gradient = x[:size], y[:size], f[:size], gradient[:size]
        factor = scale**0.5 * leading(factor[:size], columns)
    tau = stopping_precision(target, params, data, x, y, copies=copies, seed=seed)
    h = variance_at(target, covariance_of(target, params, curvature, extra=tau), x, copies=copies, seed=seed)
    v, cut = without_self(h, factor, _cut(target.likelihood))
    mean = f + (v @ gradient.unsqueeze(-1)).squeeze(-1)
    return replace(start, x=x, y=y, mean=mean, factor=factor, curvature=curvature, damping=tau, cut=cut)


def leading(factor: Tensor, columns: int) -> Tensor:
    """The best approximation of ``L Lᵀ`` with few columns: factor ``(M, C, K)`` to ``(M, C, min(columns, K))``."""
    if columns >= factor.shape[2]:
        return factor
    values, vectors = torch.linalg.eigh(factor @ factor.mT)
    return vectors[..., -columns:] * values[:, None, -columns:].clamp(min=0).sqrt()


def covariance_of(target: Target, params: Params, curvature: Curvature, *, extra: float = 0.0) -> Covariance:
    """The posterior covariance of a curvature's parameters."""
    precision = target.prior.precision(params)
    return curvature.covariance({k: precision[k].detach() + extra for k in curvature.names})


def variance_at(target: Target, covariance: Covariance, x: Tensor, *, copies: int, seed: int) -> Tensor:
    """``J Σ Jᵀ`` of outputs averaged over fixed transformations: x ``(M, …)`` to ``(M, C, C)``."""
    parts = x.split(default_chunk(target, x, copies))
    return torch.cat([covariance.variance(fixed_copies(target, part, copies, seed)).detach() for part in parts])


def _cut(likelihood: Likelihood) -> float:
    return CUT if likelihood.quadratic else CUT_CURVED


def _columns(factor: Tensor) -> int:
    # How many leading columns hold nearly all of the examples' curvature.
    values = torch.linalg.eigvalsh(factor @ factor.mT).clamp(min=0).sum(0).flip(0).cumsum(0)
    return int((values < _SHARE * values[-1]).sum()) + 1


def _build(start: Reference, data: Data, outputs: int, columns: int) -> tuple[Curvature, int] | None:
    # The best exact matrix that is affordable, and the number of examples in it.
    target, params, size = start.target, start.params, len(start.y)

    def fit(weights: int, work: float) -> int:
        # The most examples whose rows (columns · M, weights) can be made into a matrix and factorised.
        m = size
        while m and min(weights, m * columns) * m * columns * weights > work:
            m = m * 7 // 8
        return m

    def build(structure: Callable[[Problem], Curvature], m: int) -> Curvature:
        part = data.with_values(start.x[:m], start.y[:m])
        problem = target.problem(params, part, seed=start.seed, copies=start.copies, total=data.n)
        likelihood = target.likelihood
        return structure(replace(problem, factor=lambda f, y: leading(likelihood.factor(f, y), columns)))

    # A subset stands for all only where it pins down as much: most examples, or two for each of a layer's features.
    if (m := fit(count(params), _WORK_EXACT)) >= data.n / 2:
        return build(exact, m), m
    try:
        weights = count({k: params[k] for k in build(last_layer, 2).names})
    except InputError:  # the network does not end with a linear layer
        return None
    m = fit(weights, _WORK_LAST_LAYER)
    return (build(last_layer, m), m) if m >= min(data.n, 2 * weights / outputs) else None


def _subset(data: Data, size: int, seed: int) -> tuple[Tensor, Tensor]:
    # The first of one random order, so that every size is a prefix of the larger ones.
    rows = torch.randperm(data.n, generator=generator(derive(seed, "leave-one-out")))[:size].to(data.x.device)
    return data.x[rows], data.y[rows]


def _loss(target: Target, f: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    # The gradient of −log p / T_l in the outputs, and the factor of its curvature.
    likelihood, t = target.likelihood, target.likelihood_temperature
    f = f.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(-likelihood.log_prob(f, y).sum(), f)
    return gradient / t, likelihood.factor(f.detach(), y).detach().double() / t**0.5
