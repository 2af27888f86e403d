"""How far weights are from the mode of their posterior, in units of the posterior itself, and the way there.

A Laplace approximation is a Gaussian around a maximum. With the gradient g of the energy (the negative log-posterior)
at the weights and the covariance Σ, one Newton step is ``−Σ g``, and its length in posterior deviations is

    d = √(gᵀ Σ g),

exactly the distance to the mode where the model is linear and the noise Gaussian. Most of many weights are left to the
prior, and say nothing of whether a network is trained. What counts is how far the step δ moves the outputs on the
training examples, beside how far draws of the posterior do: with the curvature H and the prior's precision Λ

    r² = δᵀ H δ / tr(H Σ),        δᵀ H δ = gᵀ Σ g − δᵀ Λ δ.

The mean of ``δᵀ H δ`` over draws δ ~ N(0, Σ) is tr(H Σ), the number of weights that the data determine (MacKay, 1992).
On digits, r was 2 to 5 for untrained networks and .1 to .9 at the end of their training, by three structures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from novacula.core.params import Params
from novacula.core.rng import derive, generator
from novacula.curvature.problem import Covariance, Curvature, Problem
from novacula.curvature.structures.names import Structure, build
from novacula.data.data import Data
from novacula.posteriors.leave_one_out.reference import covariance_of
from novacula.target import Target

_ENOUGH = 0.1
_HALVINGS = 12
_LARGE = 1_000
_PROBES = 16


class Away(NamedTuple):
    """How far weights are from the mode, at temperature 1."""

    distance: float  # d, in posterior deviations
    ratio: float  # r, in deviations of the outputs on the training examples

    def at(self, temperature: float) -> Away:
        """The same in units of the posterior at a temperature."""
        return Away(self.distance / temperature**0.5, self.ratio / temperature**0.5)

    def words(self) -> str:
        """That the weights are far from the mode; nothing where they are not."""
        if self.ratio <= 1:
            return ""
        return (
            f"the weights are {self.distance:.3g} posterior deviations from the mode: a step to it moves the outputs on"
            f" the training examples {self.ratio:.2g} times as far as draws of the posterior do"
        )


def energy_and_gradient(target: Target, problem: Problem, params: Params) -> tuple[Tensor, Params]:
    """The negative log-posterior at temperature 1 over all data, up to a constant, and its gradient, in float64."""
    leaves = {k: w.detach().clone().requires_grad_() for k, w in params.items()}
    total, gradient = torch.zeros((), dtype=torch.float64), {k: torch.zeros_like(w).double() for k, w in params.items()}

    def add(term: Tensor) -> None:
        nonlocal total
        found = torch.autograd.grad(term, list(leaves.values()), allow_unused=True, materialize_grads=True)
        total = total + term.detach().double().cpu()
        for (name, g), part in zip(list(gradient.items()), found, strict=True):
            gradient[name] = g + part

    with torch.enable_grad():
        add(-target.prior.log_prob(leaves))
        for xs, y in problem.batches():
            f = target.forward.average(leaves, xs.detach())
            add(-problem.scale * target.likelihood.log_prob(f, y).double().sum())
    return total, gradient


def newton(covariance: Covariance, names: tuple[str, ...], gradient: Params, like: Params) -> tuple[Params, float]:
    """``Σ g`` of the weights that are covered, and ``gᵀ Σ g``."""
    mine = {k: gradient[k].to(like[k].dtype) for k in names}
    step = covariance.solve(mine)
    return step, float(sum((mine[k].double() * step[k].double()).sum() for k in names))


def away(target: Target, problem: Problem, curvature: Curvature, covariance: Covariance) -> Away:
    """How far the problem's weights are from the mode, by the curvature there."""
    like = problem.params
    step, square = newton(covariance, curvature.names, energy_and_gradient(target, problem, like)[1], like)
    precision = {k: v.detach().double() for k, v in target.prior.precision(like).items() if k in step}
    pinned = square - float(sum((precision[k] * step[k].double().square()).sum() for k in step))
    if is_large(curvature, like):
        determined = _probed(covariance, [precision[k].expand_as(like[k]) for k in curvature.names])
    else:
        determined = _determined(curvature, precision)
    ratio = (max(0.0, pinned) / determined) ** 0.5 if determined > 0 else 0.0
    return Away(max(0.0, square) ** 0.5, ratio)


def is_large(curvature: Curvature, params: Params) -> bool:
    """Whether a structure is one dense matrix of so many weights that to invert it costs more than all else."""
    return curvature.leverage in {"whole", "part"} and sum(params[k].numel() for k in curvature.names) > _LARGE


def _determined(curvature: Curvature, precision: Params) -> float:
    # tr(H Σ) = P − tr(Λ Σ), which is minus the derivative of log|H + Λ| − log|Λ| along Λ.
    with torch.enable_grad():
        leaves = {k: v.clone().requires_grad_() for k, v in precision.items()}
        slopes = torch.autograd.grad(curvature.log_det(leaves).value, list(leaves.values()))
    return -float(sum((a * b.detach()).sum() for a, b in zip(slopes, leaves.values(), strict=True)))


def _probed(covariance: Covariance, precision: Sequence[Tensor]) -> float:
    # tr(I − √Λ Σ √Λ) by random signs: of γ determined weights the relative error is at most √(2 / (n γ)).
    root = torch.cat([p.flatten() for p in precision]).sqrt()
    signs = torch.randint(2, (_PROBES, len(root)), generator=generator(0, "probes")).to(root) * 2 - 1
    moved = covariance.apply(signs * root).to(root) * root
    return float((signs * (signs - moved)).sum(1).mean())


def settled(target: Target, params: Params, data: Data, structure: Structure, seed: int, steps: int = 30) -> Params:
    """Go to the mode by Newton's method with the structure's curvature, halving steps that do not pay.

    Args:
        target: The target.
        params: Weights to start from.
        data: The training data.
        structure: The structure; weights that it does not cover stay where they are.
        seed: Seed of the transformations.
        steps: At most so many steps; fewer where 0.1 posterior deviations are reached, or no step lowers the energy.

    Returns:
        Weights of a lower energy.
    """
    now = {k: w.detach().clone() for k, w in params.items()}
    for _ in range(steps):
        problem = target.problem(now, data, seed=derive(seed, "laplace"))
        with torch.no_grad():
            curvature = build(structure, problem)
            covariance = covariance_of(target, now, curvature)
        energy, gradient = energy_and_gradient(target, problem, now)
        step, square = newton(covariance, curvature.names, gradient, now)
        if square <= _ENOUGH**2:
            break
        for halving in range(_HALVINGS):
            size = 0.5**halving
            there = {k: w - size * step[k] if k in step else w for k, w in now.items()}
            if float(energy_and_gradient(target, problem, there)[0]) <= float(energy) - 1e-4 * size * square:
                now = there
                break
        else:
            break
    return now
