"""Learning prior and noise from draws of the posterior: Monte-Carlo EM.

The gradient of the log evidence in a hyperparameter η is an average over the posterior (Fisher's identity),

    d/dη log p(D | η) = E_{w ~ p(w | D, η)} [ d/dη log p(D, w | η) ],

so that draws of the weights are all that is needed, and no curvature. A round draws weights at the present
hyperparameters, beginning where the last round ended, and then maximises the average of ``log p(D, w | η)`` over them:
every such step raises the evidence, but for the noise of the draws. It is slower than `learn` and exact where Laplace's
approximation is not: small networks that are sampled anyway.

References:
    Maximum likelihood from incomplete data via the EM algorithm. A. P. Dempster, N. M. Laird, D. B. Rubin, 1977.
    A Monte Carlo implementation of the EM algorithm. G. C. G. Wei, M. A. Tanner, 1990.
    Bayesian learning for neural networks. R. M. Neal, 1996 (hyperparameters along with Hamiltonian Monte Carlo).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError, NonFiniteError
from novacula.core.params import Params, unstack
from novacula.core.rng import derive, generator
from novacula.data.data import Data
from novacula.inference.infer import infer
from novacula.inference.method import Method
from novacula.posteriors.base import Posterior
from novacula.target import Target

_LEARNED = ("prior", "likelihood")


@dataclass(frozen=True, eq=False)
class Sampled:
    """What Monte-Carlo EM has learned.

    Args:
        target: The target with the learned hyperparameters.
        posterior: The last round's draws, from the hyperparameters of the round before.
        params: The last draw's weights, to start the next run from.
        history: One dictionary a round: the hyperparameters, and the average log-joint density that they reached, nats.
    """

    target: Target
    posterior: Posterior
    params: Params
    history: tuple[dict[str, float], ...]

    __repr__ = brief


def learn_from_draws(
    method: Method,
    target: Target,
    data: Data,
    *,
    rounds: int = 5,
    steps: int = 200,
    batch_size: int = 128,
    draws: int = 50,
    init: Params | None = None,
    seed: int = 0,
) -> Sampled:
    """Learn the prior's scales and the likelihood's noise from draws of the posterior.

    Args:
        method: Draws the weights, for instance `NUTS`, `SGHMC`, or `Laplace` where the model is nearly linear.
        target: The target, at temperature 1.
        data: The training data.
        rounds: How often weights are drawn and hyperparameters moved.
        steps: Steps of the method in a round.
        batch_size: Examples a step, for methods that take minibatches.
        draws: Weights that a round's averages are taken over.
        init: Weights to begin at; by default the network's own. Trained ones (`MAP`) save rounds.
        seed: Seed of everything random.

    Returns:
        What was learned.

    Raises:
        InputError: If the target is tempered, has nothing to learn here, or a number is not positive. Invariances are
            left as they are: their extents are for `learn`.
        NonFiniteError: If hyperparameters become NaN or infinite.
    """
    target, data = target.prepare(data)
    if target.temperature != 1.0 or target.likelihood_temperature != 1.0 or not target.likelihood.normalised:
        raise InputError(
            "a normalised likelihood at temperature 1",
            f"{target.likelihood.loss}, temperatures {target.temperature:g} and {target.likelihood_temperature:g}",
            "a tempered posterior has no evidence that its draws could raise",
        )
    if min(rounds, steps, draws) < 1:
        raise InputError("positive rounds, steps and draws", f"{rounds}, {steps}, {draws}", "use 1 or more")
    names = [k for k in target.learnable() if k.split(".")[0] in _LEARNED]
    if not names:
        raise InputError("a prior or likelihood that can learn", "neither can", "use nv.Gaussian() or nv.Normal()")
    history: list[dict[str, float]] = []
    posterior: Posterior | None = None
    for i in range(rounds):
        stream = derive(seed, "round", i)
        posterior = infer(method, target, data, init=init, steps=steps, batch_size=batch_size, seed=stream)
        weights = posterior.sample(draws, generator(stream, "draws"))
        target, value = _maximise(target, data, weights, names, stream)
        init = {k: w[-1] for k, w in weights.items()}
        history.append({"log_joint": value, **_numbers(target, names)})
    assert posterior is not None
    assert init is not None
    return Sampled(target, posterior, init, tuple(history))


def _maximise(target: Target, data: Data, weights: Params, names: list[str], seed: int) -> tuple[Target, float]:
    points = unstack(weights)
    with torch.no_grad():
        # Outputs do not depend on what is learned here, so they are computed once.
        outputs = torch.cat(
            [target.outputs(w, data.x, target.copies.evidence, generator(seed, "warp")) for w in points]
        )
    labels = data.y.repeat(len(points), *[1] * (data.y.ndim - 1))
    start = {k: v.detach().clone() for k, v in target.learnable().items()}
    leaves = {k: start[k].clone().requires_grad_() for k in names}
    optimiser = torch.optim.LBFGS(
        list(leaves.values()), max_iter=200, tolerance_grad=1e-9, tolerance_change=1e-13, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        current = target.with_learnable({**start, **leaves})
        fit = current.likelihood.log_prob(outputs, labels).sum() / len(points)
        return -(fit + torch.func.vmap(current.prior.log_prob)(weights).mean()) / data.n

    def closure() -> float:
        optimiser.zero_grad()
        with torch.enable_grad():
            value = objective()
            value.backward()
        return float(value.detach())

    optimiser.step(closure)  # type: ignore[arg-type]  # torch's stubs want a tensor; a float is what it uses
    found = {**start, **{k: v.detach() for k, v in leaves.items()}}
    for name in names:
        if not torch.isfinite(found[name]).all():
            raise NonFiniteError(f"a finite {name}", "NaN or infinity", "draw more weights, or start from trained ones")
    learned = target.with_learnable(found)
    with torch.no_grad():
        value = -float(objective()) * data.n
    return learned, value


def _numbers(target: Target, names: list[str]) -> dict[str, float]:
    values = target.learnable()
    return {
        name if len(flat) == 1 else f"{name}/{i}": v
        for name in names
        for flat in (values[name].detach().flatten().tolist(),)
        for i, v in enumerate(flat)
    }
