"""Which training examples learned extents rest on: where the evidence would have put them if one had not been there.

What an example adds to the log evidence S(η) = log p(D | η) is the logarithm of its predictive density given all
others, ``c_n(η) = log p(D | η) − log p(D_{−n} | η)``. Extents that maximise S move, by a step of Newton, to where
``S − c_n`` is highest,

    Δη_n = [∇²S − ∇²c_n]⁻¹ ∇c_n.

S is Laplace's at the mode w*(η) under each η. Of its difference, with ``ℓ_n`` the log-likelihood, ``r_n`` its gradient
in the outputs, ``W_n`` its curvature there and ``V_n`` the variance of the outputs under the posterior of all,

    c_n = ℓ_n − ½ r_nᵀ V_n (I − W_n V_n)⁻¹ r_n + ½ log |I − W_n V_n|,

a step of Newton in the weights, exact where outputs are linear in them and noise is Gaussian. Derivatives in η are
differences, for which the mode is found anew at each η, from all examples: nothing is trained without one. The
transformations that are drawn stay the same.

References:
    Understanding black-box predictions via influence functions. P. W. Koh, P. Liang, 2017. arXiv:1703.04730.
    Invariance learning in deep neural networks with differentiable Laplace approximations. A. Immer, T. van der
    Ouderaa, G. Rätsch, V. Fortuin, M. van der Wilk, 2022. arXiv:2202.10638.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.checks.numbers import check_positive, check_whole
from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.curvature.structures.names import build
from novacula.data.data import Data
from novacula.data.given import DataLike
from novacula.evidence.common import log_likelihood
from novacula.evidence.laplace import Laplace, newton_step, stream_of
from novacula.invariances.measured import unit_of
from novacula.paths.barrier import point_of
from novacula.posteriors.base import Learned, Posterior
from novacula.study.learning.empirical_bayes import ETA
from novacula.target import Target
from novacula.target.given import TargetLike, prepared

_NEWTON, _HALVED = 60, 20  # steps at most in which weights come to rest, and halvings of each
_REST = 1e-9  # of the log-posterior, which a step gains at rest


@dataclass(frozen=True, eq=False)
class ExtentInfluence:
    """What learned extents rest on.

    Attributes:
        names: The extents.
        values: By how much each extent (row, K) would rise, in its own unit, without a training example (column, N);
            shape ``(K, N)``, float64. Rows of extents that stay (at nought, or at the edge) are noughts.
        stderr: The width ``√(−∇²S)⁻¹`` of the evidence along each extent, ``(K,)``; NaN of those that stay.
        away: By how many such widths each extent lies below the maximum of this evidence, ``(K,)``; NaN the same.
        warnings: Reservations: extents away from the maximum, weights that did not come to rest.
    """

    names: tuple[str, ...]
    values: Tensor
    stderr: Tensor
    away: Tensor
    warnings: tuple[str, ...]

    __repr__ = brief


def extent_influence(
    target: TargetLike,
    data: DataLike,
    start: Params | Posterior | Learned | None,
    *,
    step: float = 0.02,
    seed: int = 0,
) -> ExtentInfluence:
    """Say where extents that maximise the evidence would be if training examples were left out.

    For networks of some thousand weights, of which the whole curvature is formed. Extents that were chosen by unseen
    examples may lie away from the maximum of the evidence, which is said.

    Args:
        target: The target, with the invariance as it was learned.
        data: The training data.
        start: The trained weights, near a mode; None for the network's own.
        step: By how much extents are moved for their derivatives, in units in which 1 moves inputs beyond recognition.
        seed: Seed of the transformed copies.

    Returns:
        The moves of the extents.

    Raises:
        InputError: If the target has no invariance that is averaged over or a temperature, no extent can move, or the
            extents are at no maximum of the evidence.
    """
    check_positive("step", step)
    check_whole("seed", seed, least=0)
    made, train = prepared(target, data)
    if made.averaged is None or (made.temperature, made.likelihood_temperature) != (1, 1):
        got = "none" if made.averaged is None else "a tempered one"
        raise InputError("a target with an invariance, at temperature 1", got, "nv.Target(net, invariance=nv.Affine())")
    there, point = made.at(made.params() if start is None else point_of(made, start))
    eta = made.averaged.eta.detach()
    h = step * unit_of(made.averaged).to(eta)
    free = (eta.abs() > h) & (made.averaged.project(eta + eta.sign() * h) == eta + eta.sign() * h)
    if not bool(free.any()):
        names = ", ".join(f"{n} {v:.3g}" for n, v in zip(made.averaged.names, eta.tolist(), strict=True))
        raise InputError("an extent that may move both ways", names, "lower step=, or learn the extents first")
    units = torch.eye(len(eta)).to(eta)[free] * h
    pairs = list(itertools.combinations(range(len(units)), 2))
    moves = [torch.zeros_like(eta), *units, *-units, *(s * (units[i] + units[j]) for i, j in pairs for s in (1, -1))]
    scores, parts, settled = list[Tensor](), list[Tensor](), True
    for move in moves:
        at = there.with_learnable({ETA: eta + move})
        weights, rested = _mode(at, train, point, seed)
        settled &= rested
        scores.append(Laplace("exact", repeats=1)(at, train, weights, seed=seed).value.detach().double())
        parts.append(_added(at, train, weights, seed))
    slope, curved = _derivatives(torch.stack(scores)[:, None], h[free].double(), pairs)
    own_slope, own_curved = _derivatives(torch.stack(parts), h[free].double(), pairs)
    if float(torch.linalg.eigvalsh(curved[0]).max()) >= 0:
        hint = "take EmpiricalBayes to the end first (nv.learn), and pass its target and weights"
        raise InputError("extents near a maximum of the evidence", "an evidence that is not curved downwards", hint)
    moved = torch.linalg.solve(curved - own_curved, own_slope.unsqueeze(-1)).squeeze(-1)
    width = torch.linalg.inv(-curved[0]).diagonal().sqrt()
    away = -torch.linalg.solve(curved[0], slope[0]) / width
    doubts = [] if settled else [f"weights did not come to rest in {_NEWTON} steps of Newton: train to a mode first"]
    if float(away.abs().max()) > 1:
        doubts.append(f"the extents lie {float(away.abs().max()):.1f} widths from the maximum of the evidence")

    def spread(found: Tensor, fill: float) -> Tensor:
        return torch.full((len(eta), *found.shape[1:]), fill, dtype=torch.float64).index_put((free,), found)

    return ExtentInfluence(
        made.averaged.names, spread(moved.T, 0.0), spread(width, torch.nan), spread(away, torch.nan), tuple(doubts)
    )


def _mode(target: Target, data: Data, point: Params, seed: int) -> tuple[Params, bool]:
    # The weights after steps of Newton with the whole curvature, halved until they gain, and whether nothing is left.
    value = _density(target, data, point, seed)
    for _ in range(_NEWTON):
        new, before = newton_step(target, data, point, seed=seed), value
        for halved in range(_HALVED):
            tried = {k: torch.lerp(w, new[k], 0.5**halved) for k, w in point.items()}
            found = _density(target, data, tried, seed)
            if found > value:
                point, value = tried, found
                break
        if value - before <= _REST * abs(value):
            return point, True
    return point, False


def _density(target: Target, data: Data, point: Params, seed: int) -> float:
    # The log-posterior without its constant, at the copies that the evidence takes.
    problem = target.problem(point, data, seed=stream_of(seed, 0))
    return float(log_likelihood(target, problem)) + float(target.prior.log_prob(problem.params))


def _added(target: Target, data: Data, params: Params, seed: int) -> Tensor:
    # c_n of every example, (N,).
    problem = target.problem(params, data, seed=stream_of(seed, 0))
    covariance = build("exact", problem, seed=0).covariance(target.prior.precision(params))
    found = list[Tensor]()
    for xs, y in problem.batches():
        with torch.enable_grad():
            f = problem.forward.average(problem.params, xs.detach()).detach().requires_grad_()
            fit = target.likelihood.log_prob(f, y)
            (r,) = torch.autograd.grad(fit.sum(), f)
        variance, factor = covariance.variance(xs).double(), target.likelihood.factor(f.detach(), y).double()
        left = torch.eye(f.shape[1]).double() - factor @ factor.mT @ variance
        r = r.double().unsqueeze(2)
        bend = (r.mT @ variance @ torch.linalg.solve(left, r)).flatten()
        found.append(fit.detach().double() - bend / 2 + torch.linalg.slogdet(left).logabsdet / 2)
    return torch.cat(found)


def _derivatives(values: Tensor, h: Tensor, pairs: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    # Gradients (M, K) and Hessians (M, K, K) of values (T, M) at the moves that `extent_influence` makes.
    k = len(h)
    centre, up, down = values[0], values[1 : k + 1], values[k + 1 : 2 * k + 1]
    slope, straight = (up - down) / (2 * h[:, None]), (up + down - 2 * centre)
    curved = torch.diag_embed((straight / h[:, None] ** 2).T)
    for (i, j), both in zip(pairs, values[2 * k + 1 :].unflatten(0, (-1, 2)).sum(1) if pairs else (), strict=True):
        mixed = (both - 2 * centre - straight[i] - straight[j]) / (2 * h[i] * h[j])
        curved[:, i, j] = curved[:, j, i] = mixed
    return slope.T, curved
