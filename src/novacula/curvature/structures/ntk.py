"""The NTK-subset estimate: Occam's factor from the Gram matrix of a few examples' gradients.

For a subset of M of the N examples and rows ``g_i = J_nᵀ v_i`` of each, the Gram matrix under the prior's covariance,
``K = Σ_t K_t / δ_t`` with one term for each parameter tensor, gives

    log |H + Λ| − log |Λ| ≈ N/M · log |I + K|.

How this relates to the exact number, with ``v`` the columns of the factor L (``outputs="all"``): cutting K for all N
examples into blocks of M and dropping what lies between them can only raise its determinant (Fischer's inequality), so
the expectation over random subsets is an *upper* bound of the left side, and the Occam term −½(…) a *lower* bound of
the exact one, tight for M = N. With ``outputs="sampled"`` there is one random row for each example, ``v = L ε`` with
random signs ε, and ``E v vᵀ = L Lᵀ``: the expected Fisher information is right, but the log-determinant is concave, so
that sampling *lowers* the left side in expectation (Jensen). The two effects are opposed, and the sampled value bounds
nothing for C > 1; for C = 1 the sampled row is the only one, and the bound holds. Its gradient is cheap, and that is
its use.

References:
    Stochastic marginal likelihood gradients using neural tangent kernels. A. Immer, T. van der Ouderaa, M. van der
    Wilk, G. Rätsch, B. Schölkopf, 2023. arXiv:2306.03968.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError, NonFiniteError
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.curvature.gradients.features import Feature, choose, cross, features, join, weight
from novacula.curvature.gradients.jacobian import Plan, capture_rows, plan
from novacula.curvature.gradients.recompute import recompute, retry
from novacula.curvature.precision import check_precision
from novacula.curvature.problem import LogDet, Problem

Score: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]
LogProb: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Outputs: TypeAlias = Literal["sampled", "all"]

PLAIN = 2**27
"""Bytes of rows up to which all graphs are kept; above, they are computed twice and kept one chunk at a time."""

CHUNK = 2**26
"""Bytes of rows in one chunk of the latter."""


@dataclass(frozen=True, eq=False)
class NTK:
    """Gram matrices of the subset's gradients, tensor by tensor.

    Args:
        plan: How the rows are computed.
        outputs: One random row for each example, or all.
        seed: Seed of the random rows.
        score: Draws the sampled rows' cotangents, instead of random signs.
        pattern: Precisions Λ₀ by which the rows are divided (their square roots); 1 where absent.
        two_pass: Whether graphs are recomputed chunk by chunk.
        by_position: Weights whose rows are not formed (see `features`).
        log_prob: What to evaluate on the outputs besides, from ``(f̄ (B, C), y)`` to ``(B,)``.
    """

    plan: Plan
    outputs: Outputs
    seed: int
    score: Score | None
    pattern: Params
    two_pass: bool
    by_position: frozenset[str]
    log_prob: LogProb | None = None

    __repr__ = brief

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters: all."""
        return self.plan.names

    @property
    def grams(self) -> Tensor:
        """``K_t``, shape ``(T, R, R)`` for R rows, in the order of `names`; computed once, when first needed."""
        return self._computed[0]

    @property
    def log_probs(self) -> Tensor:
        """``log_prob`` of each example, ``(M,)``, from the same pass over the network; empty if none was given."""
        return self._computed[1]

    @cached_property
    def _computed(self) -> tuple[Tensor, Tensor]:
        return _compute(self)

    def log_det(self, precision: Params, *, scale: float | Tensor = 1.0) -> LogDet:
        """``N/M · log |I + scale · Σ_t K_t / δ_t|``, an estimate of ``log |scale·H + Λ| − log |Λ|``."""
        checked = check_precision(precision, self.plan.problem.params, self.names)
        several = {name: p for name, p in checked.items() if p.numel() > 1}
        if several:
            pattern = {name: p * self.pattern.get(name, 1.0) for name, p in several.items()}
            one = torch.ones((), dtype=torch.float64, device=next(iter(several.values())).device)
            again = replace(self, pattern={**self.pattern, **pattern}, by_position=self.by_position - several.keys())
            return again.log_det({**checked, **dict.fromkeys(several, one)}, scale=scale)
        inverse = torch.stack([1 / p.reshape(()) for p in checked.values()])
        k = torch.einsum("t,tij->ij", inverse, self.grams.double()) * scale
        factor, info = torch.linalg.cholesky_ex(torch.eye(len(k), dtype=k.dtype, device=k.device) + k)
        if int(info):
            if not bool(torch.isfinite(k).all()):
                raise NonFiniteError("a finite Gram matrix", "NaN or infinity", "check the weights and the extents")
            # Inner products in single precision can make zero eigenvalues of a large K slightly negative.
            half = torch.linalg.eigvalsh(k).clamp(min=0).log1p().sum() / 2
        else:
            half = factor.diagonal().log().sum()
        return LogDet(self.plan.problem.scale * 2 * half, math.nan)


def ntk_gram(
    problem: Problem,
    *,
    outputs: Outputs = "sampled",
    seed: int = 0,
    score: Score | None = None,
    pattern: Params | None = None,
    two_pass: bool | None = None,
    log_prob: LogProb | None = None,
) -> NTK:
    """The Gram matrices of a subset's gradients.

    Args:
        problem: The subset: ``size`` M, and ``scale`` N/M.
        outputs: ``"sampled"`` takes one random row for each example, ``"all"`` all K.
        seed: Seed of the random rows.
        score: From averaged outputs ``(B, C)`` and a generator to cotangents ``(B, C)`` with ``E v vᵀ = L Lᵀ``, for
            example ``∂ log p(ỹ|f̄)/∂f̄`` at a sampled ỹ. By default ``L ε`` with random signs ε.
        pattern: Precisions of the weights within a tensor, where they are not all the same; ``log_det`` multiplies its
            precisions to them.
        two_pass: Whether to keep only one chunk's graph in memory; by default where the rows are large.
        log_prob: A likelihood's ``log_prob``, evaluated in the same pass: `NTK.log_probs`.

    Returns:
        The Gram matrices, with gradients where the problem is differentiable.

    Raises:
        InputError: If ``outputs`` is neither, or a score is given for all rows.
    """
    if outputs not in {"sampled", "all"} or (outputs == "all" and score is not None):
        raise InputError("outputs='sampled' or 'all', and a score only for the former", repr(outputs), "use 'sampled'")
    made = plan(problem)
    rows = 1 if outputs == "sampled" else made.columns
    xs, _ = next(iter(problem.batches()))
    elementwise = {name for name, p in (pattern or {}).items() if p.numel() > 1}
    by_position = choose(made, xs, rows) - elementwise
    formed = sum(problem.params[name].numel() for name in made.names if name not in by_position)
    example = max(1, formed * rows * made.leaves[made.names[0]].element_size())
    two = example * problem.size > PLAIN if two_pass is None else two_pass
    made = replace(made, chunk=[max(1, CHUNK // example)])
    return NTK(made, outputs, seed, score, dict(pattern or {}), two, by_position, log_prob)


def _compute(ntk: NTK) -> tuple[Tensor, Tensor]:
    """All tensors' Gram matrices, and all examples' log-probabilities.

    In two passes, the first gives all features F without a graph, and the second moves one chunk's at a time,
    ``U_c = <F_c, F>``: as K is bilinear and symmetric, its differential is that of ``U + Uᵀ`` with the right fixed.

    Returns:
        Shapes ``(T, R, R)`` and ``(M,)``.
    """
    made, problem = ntk.plan, ntk.plan.problem
    graph = torch.is_grad_enabled() and (problem.differentiable or any(p.requires_grad for p in ntk.pattern.values()))
    compute = _Rows(ntk)

    def first_pass() -> tuple[dict[str, Feature], Tensor]:
        found, log_probs = zip(*(compute(*chunk) for chunk in compute.chunks()), strict=True)
        return join(found), torch.cat(log_probs)

    def against(known: dict[str, Feature], found: dict[str, Feature]) -> Tensor:
        return torch.stack([cross(found[name], known[name]) for name in made.names], 1)

    def second_pass(chunk: tuple[Tensor, Tensor, int]) -> list[Tensor]:
        found, log_probs = compute(*chunk)
        return [against(known, found), log_probs]

    if graph and not ntk.two_pass:
        known, log_probs = first_pass()
        return against(known, known).transpose(0, 1), log_probs
    with torch.no_grad():
        known, log_probs = retry(first_pass, made.shrink)
        value = against(known, known)
    if graph:
        u, log_probs = recompute(
            second_pass,
            compute.chunks,
            combine="cat",
            values=[value, log_probs],
            shrink=made.shrink,
            ignore=made.internal,
        )
        value = u + u.transpose(0, 2) - u.detach()
    return value.transpose(0, 1), log_probs


@dataclass(frozen=True, eq=False)
class _Rows:
    """The features of chunks of the subset; the random rows do not depend on how it is cut."""

    ntk: NTK

    def chunks(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        """One pass, with each chunk's place among the examples."""
        place = 0
        for xs, y in self.ntk.plan.chunks() if self.ntk.two_pass else self.ntk.plan.problem.batches():
            yield xs, y, place
            place += len(xs)

    def __call__(self, xs: Tensor, y: Tensor, place: int) -> tuple[dict[str, Feature], Tensor]:
        ntk, made = self.ntk, self.ntk.plan
        captured, v = capture_rows(made, xs, y, factor=lambda f, y: self._cotangents(f, y, place))
        found = features(made, captured, v, xs, ntk.by_position)
        for name, pattern in ntk.pattern.items():
            if name in found:
                shape = made.problem.params[name].shape
                found[name] = weight(found[name], pattern.expand(shape).flatten())
        with torch.set_grad_enabled(made.problem.differentiable and torch.is_grad_enabled()):
            outputs = captured.outputs
            return found, outputs.new_zeros(0) if ntk.log_prob is None else ntk.log_prob(outputs, y)

    def _cotangents(self, f: Tensor, y: Tensor, place: int) -> Tensor:
        ntk = self.ntk
        if ntk.score is not None:
            return ntk.score(f, generator(ntk.seed, "score", place)).unsqueeze(-1)
        factor = ntk.plan.problem.factor(f, y)
        if ntk.outputs == "all":
            return factor
        shape = (ntk.plan.problem.size, factor.shape[2])
        signs = torch.randint(0, 2, shape, generator=generator(ntk.seed, "signs"))[place : place + len(f)]
        return factor @ (2 * signs - 1).to(factor).unsqueeze(-1)
