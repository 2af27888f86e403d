"""How far weights are from the mode of their posterior, in units of the posterior itself, and the way there.

A Laplace approximation is a Gaussian around a maximum. With the gradient g of the energy (the negative log-posterior)
at the weights and the covariance Σ, one Newton step is ``−Σ g``, and its length in posterior deviations is

    d = √(gᵀ Σ g),

exactly the distance to the mode where the model is linear and the noise Gaussian. A draw from the Gaussian itself lies
about √P away, P weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from novacula.core.params import Params
from novacula.core.rng import derive
from novacula.curvature.problem import Covariance, Problem
from novacula.curvature.structures.names import Structure, build
from novacula.data.data import Data
from novacula.posteriors.leave_one_out.reference import covariance_of
from novacula.target import Target

_ENOUGH = 0.1
_HALVINGS = 12


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
