"""Makes golden_loo.json: PSIS-LOO and WAIC by arviz, for the tests to meet.

Run it in an environment of its own (the JSON was made with arviz 0.23.4, numpy 2.4.6):

    python tests/diagnostics/golden_loo.py
"""

from __future__ import annotations

import json
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np

SEED = 3


def log_likelihood(draws: int, examples: int, rng: np.random.Generator) -> np.ndarray:
    """Of Gaussian noise about a line with four coefficients; every fifth example is an outlier."""
    x = rng.normal(size=(examples, 4))
    y = x @ np.array([1.0, -0.5, 0.25, 2.0]) + rng.normal(size=examples)
    y[::5] += 6.0
    w = (
        np.linalg.solve(x.T @ x + np.eye(4), x.T @ y)
        + rng.normal(size=(draws, 4)) @ np.linalg.cholesky(np.linalg.inv(x.T @ x + np.eye(4))).T
    )
    return -0.5 * (y - w @ x.T) ** 2 - 0.5 * np.log(2 * np.pi)


def case(draws: int, examples: int, temperature: float, efficiency: float, rng: np.random.Generator) -> dict[str, Any]:
    ll = np.round(log_likelihood(draws, examples, rng), 4)
    weights, k = az.psislw(-ll.T / temperature, reff=efficiency)
    data = az.from_dict(posterior={"w": ll[None, :, 0]}, log_likelihood={"y": ll[None]})
    found = az.waic(data, pointwise=True)
    return {
        "log_lik": ll.tolist(),
        "temperature": temperature,
        "efficiency": efficiency,
        "elpd": np.logaddexp.reduce(weights + ll.T, axis=1).tolist(),
        "k": k.tolist(),
        "waic": found.waic_i.values.tolist(),
    }


def check(made: dict[str, Any]) -> None:
    """At temperature 1, arviz's own loo is what its weights give."""
    ll = np.array(made["log_lik"])
    data = az.from_dict(posterior={"w": ll[None, :, 0]}, log_likelihood={"y": ll[None]})
    found = az.loo(data, pointwise=True, reff=made["efficiency"])
    assert np.allclose(found.loo_i.values, made["elpd"])
    assert np.allclose(found.pareto_k.values, made["k"])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(SEED)
    cases = [case(200, 6, 1.0, 1.0, rng), case(151, 5, 1.0, 0.6, rng), case(120, 4, 0.3, 1.0, rng)]
    for made in cases[:2]:
        check(made)
    found = {"versions": {name: version(name) for name in ("arviz", "numpy")}, "cases": cases}
    Path(__file__).with_suffix(".json").write_text(json.dumps(found) + "\n", encoding="utf-8")
