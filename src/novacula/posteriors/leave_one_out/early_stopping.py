"""τ: the precision around the first weights that stopping early amounts to (see `leave_one_out`)."""

from __future__ import annotations

import torch
from torch import Tensor

from novacula.core.params import Params, add, dot
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.target import Target
from novacula.target.copies import fixed_outputs

INPUTS = 2**14
"""Transformed inputs of the full gradient."""

DRAWS = 4
"""Full gradients, where transformations are random: near the minimum one of them is mostly noise."""


def stopping_precision(
    target: Target, params: Params, data: Data, x: Tensor, y: Tensor, *, copies: int, seed: int
) -> float:
    """``τ = max(0, −⟨G, w − w₀⟩_H / ⟨w − w₀, w − w₀⟩_H)``, with G the gradient of the negative log-joint at w.

    With random transformations G is noisy. A τ that is too small makes leave-one-out move the means much too far, so
    the mean of several draws is raised by two standard errors.

    Returns:
        A number of at least 0; 0 where the weights are where they started.
    """
    moved = add(params, target.params(), scale=-1.0)
    distance = float(dot(moved, moved)) ** 0.5
    if distance == 0:
        return 0.0
    draws = 1 if target.averaged is None else DRAWS
    gradients = [full_gradient(target, params, data, seed=derive(seed, "gradient", i)) for i in range(draws)]
    with torch.no_grad():
        f = fixed_outputs(target, params, x, copies=copies, seed=seed)
        factor = target.likelihood.factor(f, y)

    def along(direction: Params) -> Tensor:
        # Central differences ask nothing of the network but its values, and two digits of τ are plenty.
        eps = 1e-2 * distance / max(float(dot(direction, direction)) ** 0.5, 1e-300)
        ends = [
            fixed_outputs(target, add(params, direction, scale=sign * eps), x, copies=copies, seed=seed)
            for sign in (1, -1)
        ]
        return (factor.mT @ ((ends[0] - ends[1]) / (2 * eps)).unsqueeze(-1)).flatten().double()

    u = along(moved)
    size = float(u @ u)
    if size == 0:
        return 0.0
    found = torch.stack([-(u @ along(gradient)) / size for gradient in gradients])
    error = float(found.std()) / draws**0.5 if draws > 1 else 0.0
    return max(0.0, float(found.mean()) + 2 * error)


def full_gradient(target: Target, params: Params, data: Data, *, seed: int) -> Params:
    """The gradient of ``−log p(D | w)/T_l − log p(w)`` over all data, with as many copies as training takes.

    Many copies of many examples are more than a diagnosis is worth: beyond `INPUTS` transformed inputs there are fewer
    copies, though never fewer examples, whose gradients would no longer cancel.

    Returns:
        The gradient by name.
    """
    leaves = {k: w.detach().requires_grad_() for k, w in params.items()}
    inputs = list(leaves.values())
    problem = target.problem(params, data, seed=seed, copies=max(1, min(target.copies.train, INPUTS // data.n)))
    with torch.enable_grad():
        total = list(torch.autograd.grad(-target.prior.log_prob(leaves), inputs))
        for xs, y in problem.batches():
            loss = -target.likelihood.log_prob(target.forward.average(leaves, xs.detach()), y).sum() * problem.scale
            parts = torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)
            total = [a + b for a, b in zip(total, parts, strict=True)]
    return {k: g.detach() for k, g in zip(leaves, total, strict=True)}
