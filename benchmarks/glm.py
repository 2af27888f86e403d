"""What the linearised (GLM) predictive of a convolutional network costs, beside a plain forward pass.

    python -m benchmarks.glm

A 22.6k-weight network (two convolutions, two linear layers) is trained on 1,000 of scikit-learn's digits; its Laplace
posterior has Kronecker factors. For the other 797 digits, all at once: a forward pass, the variances of the outputs
(10×10 for each input) with the probit prediction they give, and the memory of each above that before it, measured in
processes of their own. Written to ``results/glm.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import novacula as nv
from benchmarks.common import environment, write
from benchmarks.peak import MIB, in_subprocess, peak
from novacula.core.params import count
from novacula.inference import MAP
from novacula.inference.loop import run as train
from novacula.networks.make import seeded
from novacula.posteriors.base import Point
from novacula.posteriors.laplace import LaplacePosterior, laplace_posterior

RESULT = Path(__file__).parent / "results" / "glm.json"
RULES = ("probit", "probit_diagonal", "monte_carlo")


def fitted(seed: int, epochs: int, fit_on: int) -> tuple[LaplacePosterior, nv.Data, float]:
    """The posterior, the digits to predict, and the seconds of its factors."""
    data, test = nv.load("digits").split(1000, seed=seed)
    with seeded(seed):
        network = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(512, 34),
            nn.GELU(),
            nn.Linear(34, 10),
        )
    target, data = nv.Target(network, prior=nv.Gaussian(precision=10.0)).prepare(data)
    params = target.params()
    if epochs:
        state = train(MAP(lr=5e-3), target, data, epochs=epochs, batch_size=50, seed=seed).state
        params = {k: w[0] for k, w in state.params.items()}
    began = time.perf_counter()
    posterior = laplace_posterior(target, params, data.subset(slice(fit_on)), structure="kron", seed=seed, check=False)
    return posterior, test, time.perf_counter() - began


def works(posterior: LaplacePosterior, x: Tensor) -> dict[str, Callable[[], Tensor]]:
    """What is timed, by name."""

    def forward() -> Tensor:
        with torch.no_grad():
            return posterior.target.forward(posterior.mode, x)

    def glm(rule: str) -> Callable[[], Tensor]:
        return lambda: nv.predict(posterior, x, kind="linearised", rule=rule).mean()

    variance = {"variance": lambda: posterior.functional_variance(x.unsqueeze(1))}
    return {"forward": forward, **variance, **{rule: glm(rule) for rule in RULES}}


def seconds(work: Callable[[], Tensor], repeats: int) -> list[float]:
    """Wall seconds of each repetition, after one that warms up."""
    found = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return found[1:]


def memory(name: str) -> dict[str, float]:
    """MiB that one work needs above what was in use before it; meant for a fresh process."""
    # Few examples make the factors cheap; the prediction's memory does not depend on what they were fitted to.
    posterior, test, _ = fitted(seed=0, epochs=0, fit_on=20)
    todo = works(posterior, test.x)
    works(posterior, test.x[:20])[name]()
    before = peak()
    todo[name]()
    return {"before_mib": before / MIB, "above_mib": (peak() - before) / MIB}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--memory", choices=("forward", "variance", *RULES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        print(json.dumps(memory(options.memory)))
        return
    posterior, test, factors = fitted(options.seed, options.epochs, 1000)
    plain = nv.prediction.evaluate(nv.predict(Point(posterior.mode, posterior.target), test.x), test.y)
    works_by_name = works(posterior, test.x)
    times = {name: seconds(work, options.repeats) for name, work in works_by_name.items()}
    median = {name: statistics.median(t) for name, t in times.items()}
    scores = {
        rule: nv.prediction.evaluate(nv.predict(posterior, test.x, kind="linearised", rule=rule), test.y)
        for rule in RULES
    }
    held = {
        name: in_subprocess("benchmarks.glm", "--memory", name, "--threads", options.threads, threads=options.threads)
        for name in ("forward", "probit")
    }
    result = {
        "weights": count(posterior.mode),
        "predicted": test.n,
        "factors_seconds": factors,
        "seconds": median,
        "seconds_least": {name: min(t) for name, t in times.items()},
        "ratio_to_forward": {name: t / median["forward"] for name, t in median.items()},
        "memory": held,
        "point": {k: plain[k] for k in ("accuracy", "nll")},
        "predictive": {rule: {k: s[k] for k in ("accuracy", "nll")} for rule, s in scores.items()},
        "environment": environment(),
    }
    write(RESULT, result)
    for name, t in median.items():
        print(f"{name:16} {1e3 * t:8.1f} ms   {t / median['forward']:6.1f} × a forward pass")
    print("memory above what was in use:", {k: f"{v['above_mib']:.0f} MiB" for k, v in held.items()})


if __name__ == "__main__":
    main()
