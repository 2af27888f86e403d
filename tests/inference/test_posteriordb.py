"""NUTS against reference posteriors of posteriordb: means and sds of 10,000 reference draws each.

26 parameters give 52 z-scores of differences over their joint Monte-Carlo error (ours, and that of the reference
draws); for normal errors 0.14 of them are expected beyond 3, so one is allowed, and none beyond 4 (false-alarm rate of
all below 1.3 %). Every parameter must have at least 1,000 effective draws, in bulk and tail.

References:
    posteriordb: testing, benchmarking and developing Bayesian inference algorithms. M. Magnusson et al., 2024.
    arXiv:2407.04967.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from novacula.diagnostics import ess, mcse
from novacula.inference import infer
from novacula.inference.hamiltonian.nuts import NUTS
from novacula.posteriors.draws import Draws

FOLDER = Path(os.environ.get("NOVACULA_DATA", Path(__file__).parents[2] / ".." / "shared" / "data")) / "posteriordb"
REFERENCE_DRAWS = 10_000

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="needs posteriordb/*.npz in the folder named by NOVACULA_DATA"
)

Params = dict[str, Tensor]


@dataclass
class Model:
    """A log density of unconstrained parameters, where to start, and the model's own parameters by the file's names."""

    log_density: Callable[[Params], Tensor]
    init: Params
    constrain: Callable[[Params], Tensor]
    method: NUTS
    steps: int = 1000


def half_cauchy(x: Tensor, scale: float) -> Tensor:
    return -torch.log1p((x / scale) ** 2)


def regression(x: Tensor, y: Tensor, method: NUTS, prior: Callable[[Tensor, Tensor], Tensor]) -> Model:
    """``y ~ N(x β, σ)`` with a log prior of (β, σ).

    Coefficients are counted from least squares, in units of the residual sd over the root mean square of their column:
    a shift and a constant factor. σ = exp(log_sigma), whose Jacobian is σ. Columns stay as correlated as they are.
    """
    fit = torch.linalg.lstsq(x, y.unsqueeze(1)).solution[:, 0]
    residual = (y - x @ fit).std()
    size = residual / x.square().mean(0).sqrt()
    n = len(y)

    def log_density(w: Params) -> Tensor:
        sigma, beta = w["log_sigma"].exp(), fit + size * w["b"]
        misfit = (y - x @ beta).square().sum()
        return -n * w["log_sigma"] - 0.5 * misfit / sigma**2 + prior(beta, sigma) + w["log_sigma"]

    init = {"b": torch.zeros_like(size), "log_sigma": residual.log()}
    return Model(
        log_density, init, lambda w: torch.cat([fit + size * w["b"], w["log_sigma"].exp().unsqueeze(-1)], -1), method
    )


def earnings(data: dict[str, Tensor]) -> Model:
    """Priors: beta flat, sigma flat on sigma > 0."""
    return regression(
        data["X"], data["y"], NUTS(mass="low_rank", max_depth=8), lambda beta, sigma: torch.zeros_like(sigma)
    )


def kidiq(data: dict[str, Tensor]) -> Model:
    """Priors: beta flat, sigma half-cauchy(0, 2.5)."""
    return regression(
        data["X"], data["y"], NUTS(mass="low_rank", max_depth=8), lambda beta, sigma: half_cauchy(sigma, 2.5)
    )


def blr(data: dict[str, Tensor]) -> Model:
    """Priors: beta normal(0, 10), sigma half-normal(0, 10)."""
    return regression(
        data["X"],
        data["y"],
        NUTS(mass="low_rank", max_depth=8),
        lambda beta, sigma: -(beta.square().sum() + sigma**2) / (2 * 10.0**2),
    )


def eight_schools(data: dict[str, Tensor]) -> Model:
    """Priors: theta = mu + tau theta_trans, theta_trans normal(0, 1), mu normal(0, 5), tau half-cauchy(0, 5)."""
    y, se = data["y"], data["se"]

    def log_density(w: Params) -> Tensor:
        tau = w["log_tau"].exp()
        theta = w["mu"] + tau * w["trans"]
        prior = -0.5 * w["trans"].square().sum() - 0.5 * (w["mu"] / 5) ** 2 + half_cauchy(tau, 5.0) + w["log_tau"]
        return prior - 0.5 * ((y - theta) / se).square().sum()

    def constrain(w: Params) -> Tensor:
        mu, tau = w["mu"].unsqueeze(-1), w["log_tau"].exp().unsqueeze(-1)
        return torch.cat([mu + tau * w["trans"], mu, tau], -1)

    zero = torch.zeros((), dtype=torch.float64)
    init = {"trans": torch.zeros_like(y), "mu": zero, "log_tau": zero}
    return Model(log_density, init, constrain, NUTS(target_accept=0.9), 1600)


POSTERIORS: dict[str, tuple[Callable[[dict[str, Tensor]], Model], dict[str, str]]] = {
    "earnings-logearn_interaction": (earnings, {"beta": "flat", "sigma": "flat on sigma > 0"}),
    "eight_schools-eight_schools_noncentered": (
        eight_schools,
        {
            "theta": "mu + tau * theta_trans",
            "theta_trans": "normal(0,1)",
            "mu": "normal(0,5)",
            "tau": "half-cauchy(0,5)",
            "y": "normal(theta, se)",
        },
    ),
    "kidiq-kidscore_interaction": (kidiq, {"beta": "flat", "sigma": "half-cauchy(0,2.5)"}),
    "sblrc-blr": (blr, {"beta": "normal(0,10)", "sigma": "half-normal(0,10), density on sigma"}),
}


def z_scores(values: Tensor, mean: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
    """Of means and sds, over the joint error of our draws ``(M, K, Q)`` and of the reference's."""
    flat = values.flatten(0, 1)
    d = flat - flat.mean(0)
    m2, m4 = d.square().mean(0), d.square().square().mean(0)
    theirs = ((m4 - m2.square()) / REFERENCE_DRAWS).sqrt() / (2 * m2.sqrt())
    of_mean = (flat.mean(0) - mean) / (mcse(values, "mean").square() + m2 / REFERENCE_DRAWS).sqrt()
    return of_mean, (flat.std(0) - sd) / (mcse(values, "sd").square() + theirs.square()).sqrt()


def test_nuts_agrees_with_reference_posteriors() -> None:
    beyond, count = [], 0
    for name, (build, priors) in POSTERIORS.items():
        file = np.load(FOLDER / f"{name}.npz")
        assert json.loads(file["priors"].item()) == priors
        data = {k: torch.from_numpy(file[k]) for k in ("X", "y", "se") if k in file}
        model = build(data)
        post = infer(model.method, model.log_density, init=model.init, steps=model.steps, chains=4, seed=1)
        assert isinstance(post, Draws)
        # Whether one transition in a thousand diverges hangs on the last digits, and so on the processor.
        assert all(re.match(r"[123] of 3,200 transitions after the warm-up diverged", w) for w in post.warnings)
        values = model.constrain(post.chains)
        for kind in ("bulk", "tail"):
            assert float(ess(values, kind).min()) >= 1000
        z = torch.cat(z_scores(values, torch.from_numpy(file["mean"]), torch.from_numpy(file["sd"])))
        count += len(z)
        beyond += [(name, i, round(float(v), 2)) for i, v in enumerate(z) if abs(float(v)) > 3]
        assert float(z.abs().max()) < 4
    assert count == 52
    assert len(beyond) <= 1, beyond
