"""A Gaussian process, as a control: scikit-learn's, with a Matérn kernel of one length for each input.

    k(x, x') = a (1 + √5 r + 5 r²/3) exp(−√5 r) + s 1[x = x'],   r² = Σ_i (x_i − x'_i)²/l_i²,

on inputs and targets in the standard units of the rows that it sees. Scale a, lengths l and noise s maximise the
evidence: from three starts on up to 400 rows, and from the best of them, in a few steps, on all rows that are taken. A
step takes n³ operations and n²·P numbers; so at most 1,500 rows are taken, at random, and fewer for more than eight
inputs. The prediction of a target is a Gaussian, noise included; targets are predicted apart.

References:
    Gaussian processes for machine learning. C. E. Rasmussen, C. K. I. Williams, 2006.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from novacula.core.errors import InputError
from novacula.core.rng import derive, generator
from novacula.likelihoods import HeteroscedasticNormal
from novacula.prediction import Predictive
from novacula.study.controls.control import Part

ROWS, NUMBERS, INPUTS = 1_500, 20_000_000, 100
"""At most so many rows, rows² times inputs, and inputs."""
FIRST, RESTARTS, STEPS = 400, 2, 12
"""Rows and restarts of the first search, and steps of the second."""


def process(part: Part) -> Predictive:
    """A Gaussian process on a part of the data: what it says of other inputs.

    Args:
        part: The part, and the other inputs.

    Returns:
        A Gaussian for each target of each input; its warnings say where it did not see all rows.

    Raises:
        InputError: If the labels are no measurements, or there are too many inputs.
    """
    check_process(part.seen.task, part.seen.x.shape[1])
    seen = part.seen
    varied = (seen.x.amax(0) > seen.x.amin(0)).nonzero()[:, 0]
    n = min(seen.n, ROWS, int((NUMBERS / max(1, len(varied))) ** 0.5))
    rows = torch.randperm(seen.n, generator=generator(part.seed, "rows"))[:n]
    x, y = seen.x[rows], seen.y[rows].double().numpy()
    centre, scale = x.mean(0), x.std(0, correction=0)
    scale[scale == 0] = 1
    # Of inputs that never vary one is kept, so that there is a kernel.
    kept = varied if len(varied) else torch.tensor([0])
    x, new = (((v - centre) / scale)[:, kept].numpy() for v in (x, part.x))
    means, logs = [], []
    for d in range(y.shape[1]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lengths at their bounds: inputs that do not matter
            mean, sd = fitted(x, y[:, d], derive(part.seed, "start", d)).predict(new, return_std=True)
        means.append(torch.from_numpy(mean))
        logs.append(torch.from_numpy(np.maximum(sd, np.finfo(float).tiny)).log())
    said = (f"the Gaussian process saw {n:,} of {seen.n:,} rows, drawn at random",) if n < seen.n else ()
    f = torch.stack([*means, *logs], 1)
    return Predictive(HeteroscedasticNormal(), f.unsqueeze(0), "plug-in", warnings=said)


def check_process(task: str, inputs: int) -> None:
    """Refuse labels that are no measurements, and too many inputs."""
    if task != "regression":
        raise InputError("measurements for the control 'gp'", f"the task {task!r}", "use trees")
    if inputs > INPUTS:
        raise InputError(f"at most {INPUTS} inputs for the control 'gp'", f"{inputs:,}", "use trees")


def fitted(x: np.ndarray, y: np.ndarray, seed: int) -> Any:
    """Scikit-learn's process on inputs ``(n, P)`` in standard units and one target ``(n,)`` in any."""
    from sklearn.gaussian_process import GaussianProcessRegressor  # a second of import that others need not pay
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    ones: Any = np.ones(x.shape[1])
    lengths = Matern(ones, (5e-2, 1e3), nu=2.5)
    kernel: Any = ConstantKernel(1.0, (1e-3, 1e3)) * lengths + WhiteKernel(0.1, (1e-6, 1e1))
    first = GaussianProcessRegressor(
        kernel, normalize_y=True, n_restarts_optimizer=RESTARTS, random_state=seed % 2**32
    ).fit(x[:FIRST], y[:FIRST])
    if len(x) <= FIRST:
        return first
    few_steps: Any = _few_steps
    return GaussianProcessRegressor(first.kernel_, normalize_y=True, optimizer=few_steps).fit(x, y)


def _few_steps(
    objective: Callable[..., tuple[float, np.ndarray]], start: np.ndarray, bounds: np.ndarray
) -> tuple[np.ndarray, float]:
    from scipy.optimize import minimize

    found = minimize(objective, start, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": STEPS})
    return found.x, found.fun
