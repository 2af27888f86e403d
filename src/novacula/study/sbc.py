"""Simulation-based calibration of a method: run it on data that the model itself made, many times.

Ranks are those of a plain density's parameters; of a network's log-likelihood and of its outputs at a few inputs, as
its weights have symmetries that no sampler needs to find.

References:
    Validating Bayesian inference algorithms with simulation-based calibration. S. Talts, M. Betancourt, D. Simpson,
    A. Vehtari, A. Gelman, 2018. arXiv:1804.06788.
    Simulation-based calibration checking for Bayesian computation: the choice of test quantities shapes sensitivity.
    M. Modrák et al., 2023. arXiv:2211.02383 (the likelihood as a test quantity).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from novacula.core import execute
from novacula.core.errors import InputError
from novacula.core.execute import Backend
from novacula.core.params import Params, flatten, unstack
from novacula.core.rng import derive, generator
from novacula.data.data import Data
from novacula.diagnostics.sbc import Uniformity, rank, uniformity
from novacula.inference.infer import infer
from novacula.inference.method import Method
from novacula.target import Density, LogDensity, Target

Simulation: TypeAlias = tuple[Params, LogDensity]
_OUTPUTS = 4


def sbc(
    method: Method,
    model: Target | Callable[[torch.Generator], Simulation],
    x: Tensor | None = None,
    *,
    runs: int = 100,
    steps: int = 1_000,
    chains: int = 1,
    draws: int = 63,
    batch_size: int = 128,
    seed: int = 0,
    workers: int = 1,
    backend: Backend = "loky",
) -> Uniformity:
    """Check a method by simulation.

    Args:
        method: The method; its posterior must be a set of draws, or one that can be sampled.
        model: A network's target, whose prior and likelihood make weights and labels; or a function from a generator to
            the parameters that were drawn from the prior, and the log-density of parameters given the data made by
            them.
        x: A network's inputs, shape ``(N, …)``.
        runs: R, how many data sets are made.
        steps: Steps of the method for each.
        chains: Chains of the method for each.
        draws: L, how many draws the truth is ranked among; they must be nearly independent, so take more steps than
            draws. 63 gives 64 ranks.
        batch_size: Examples a step, for methods that take minibatches.
        seed: Seed of everything random.
        workers: Processes that share the runs.
        backend: Where they are.

    Returns:
        The ranks and whether they are uniform.

    Raises:
        InputError: If a network comes without inputs, or there are too few runs.
    """
    if isinstance(model, Target) and x is None:
        raise InputError("the inputs of a network", "none", "pass x")
    if runs < 20 or draws < 1:
        raise InputError("20 or more runs, and draws", f"{runs} and {draws}", "simulate more")
    tasks = [
        _Run(method, model, x, steps, chains, draws, batch_size, derive(seed, "simulation", i)) for i in range(runs)
    ]
    return uniformity(torch.stack(execute.map(_rank, tasks, workers=workers, backend=backend)), draws)


@dataclass(frozen=True, eq=False)
class _Run:
    """One data set: all that decides its ranks."""

    method: Method
    model: Target | Callable[[torch.Generator], Simulation]
    x: Tensor | None
    steps: int
    chains: int
    draws: int
    batch_size: int
    seed: int


def _rank(task: _Run) -> Tensor:
    rng = generator(task.seed, "prior")
    data: Data | None = None
    density: Density
    if isinstance(task.model, Target):
        assert task.x is not None
        outputs = task.model.forward.check(task.x[:8])
        density = replace(task.model, likelihood=task.model.likelihood.bind(outputs))
        truth = {k: w[0] for k, w in density.prior.sample(density.params(), 1, rng).items()}
        with torch.no_grad():
            f = density.outputs(truth, task.x, density.copies.train, rng)
            data = Data(task.x, density.likelihood.sample(f, rng), task=density.likelihood.task)  # type: ignore[arg-type]
    else:
        truth, density = task.model(rng)
    post = infer(
        task.method, density, data, steps=task.steps, chains=task.chains, batch_size=task.batch_size, seed=task.seed
    )
    drawn = post.sample(task.draws, generator(task.seed, "draws"))
    if isinstance(density, Target) and data is not None:
        quantities = [_quantities(density, w, data, task.seed) for w in [truth, *unstack(drawn)]]
        return rank(quantities[0], torch.stack(quantities[1:]), rng)
    return rank(flatten(truth), flatten(drawn, batch_dims=1), rng)


def _quantities(target: Target, w: Params, data: Data, seed: int) -> Tensor:
    # The log-likelihood, and outputs at the first inputs.
    with torch.no_grad():
        f = target.outputs(w, data.x, target.copies.train, generator(seed, "warp"))
        return torch.cat([target.likelihood.log_prob(f, data.y).sum().reshape(1), f[:_OUTPUTS].flatten()]).double()
