"""Prior tuning after training with the full curvature: what a step costs once the eigenvalues are known.

    python -m benchmarks.prior_tuning

A 64-48-10 network (P = 3,610) is trained on 1,000 of scikit-learn's digits. Its exact GGN is computed, its eigenvalues
are found once, and the precision is tuned by Newton steps (`novacula.evidence.tune`). For comparison, one step as other
libraries take it: the log-determinant by a new factorisation, and its gradient by autograd. The result must be the
estimator's own value at the tuned precision. Written to ``results/prior_tuning.json``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.core.params import count
from novacula.curvature import Exact, Problem, exact
from novacula.evidence import Laplace, tune
from novacula.inference import MAP
from novacula.inference.loop import run as train

RESULT = Path(__file__).parent / "results" / "prior_tuning.json"


def trained(seed: int) -> tuple[nv.Target, nv.Data, dict[str, torch.Tensor]]:
    """The network, the data and its weights."""
    data, _ = nv.load("digits").split(1000, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 10))
    target, data = nv.Target(network, prior=nv.Gaussian(precision=1.0)).prepare(data)
    state = train(MAP(lr=5e-3), target, data, epochs=40, batch_size=50, seed=seed).state
    return target, data, {k: w[0] for k, w in state.params.items()}


def factorising_step(target: nv.Target, problem: Problem, curvature: Exact) -> float:
    """Seconds of one value and gradient in the precisions, with a factorisation of its own."""
    log_precision = torch.zeros(len(problem.params), dtype=torch.float64, requires_grad=True)
    moved = target.with_learnable({"prior.log_precision": log_precision})
    began = time.perf_counter()
    value = curvature.log_det(moved.prior.precision(problem.params)).value
    value.backward()
    return time.perf_counter() - began


def main() -> None:
    """Measure, check and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    target, data, params = trained(options.seed)
    found = {}
    for structure in ("exact", "kron", "diag"):
        result = tune(target, data, params, structure=structure, seed=options.seed)
        again = Laplace(structure, repeats=1)(result.target, data, params, seed=options.seed)
        found[structure] = {
            "steps": result.steps,
            "milliseconds_per_step": 1e3 * result.seconds["steps"] / result.steps,
            "seconds_once": result.seconds["curvature"],
            "gradient_left": result.gradient,
            "evidence_before": result.history[0],
            "evidence_after": result.history[-1],
            "difference_from_the_estimator": float(result.evidence) - float(again),
        }
    problem = target.problem(params, data, seed=options.seed)
    curvature = exact(problem)
    refactorising = min(factorising_step(target, problem, curvature) for _ in range(3))
    with torch.no_grad():
        began = time.perf_counter()
        curvature.spectrum(target.prior.precision(params))
        eigenvalues = time.perf_counter() - began
    write(
        RESULT,
        {
            "weights": count(params),
            "examples": data.n,
            "structures": found,
            "exact_seconds": {"eigenvalues": eigenvalues, "step_that_refactorises": refactorising},
            "environment": environment(),
        },
    )
    for structure, r in found.items():
        print(
            f"{structure}: {r['steps']} steps of {r['milliseconds_per_step']:.2f} ms after {r['seconds_once']:.1f} s"
            f" once; evidence {r['evidence_before']:.1f} → {r['evidence_after']:.1f}"
        )
    print(f"exact: eigenvalues {eigenvalues:.2f} s; a step that refactorises {refactorising:.2f} s")


if __name__ == "__main__":
    main()
