"""How near influence comes to leaving an example out in earnest, on the digits and a perceptron.

    python -m benchmarks.influence               # about two minutes on one core
    python -m benchmarks.influence --summary

300 of scikit-learn's digits for training, 200 to ask about, a perceptron 64-32-10 with tanh under a prior of precision
1, trained to a mode (Adam, then L-BFGS). Each of 40 training examples, half of them drawn at random and half those of
the largest loss, is left out, and the network trained again, *on* from the mode, or *anew*: from the first weights and
orders of four seeds, against four networks of the same seeds with all examples. Correlations are over examples asked
about and left out (8,000), and over the sums of the losses of all that are asked about (40). JSON in
``results/influence.json``.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import novacula as nv
from benchmarks.common import environment, write

RESULTS = Path(__file__).parent / "results" / "influence.json"
SEEDS, LEFT = 4, 40


def network(seed: int) -> nn.Module:
    """The perceptron."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)).double()


def trained(data: nv.Data, seed: int, start: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """A mode: from first weights, or on from others."""
    target = nv.Target(network(seed), prior=nv.Gaussian(precision=1.0))
    if start is None:
        start = nv.infer(nv.MAP(lr=0.02), target, data, steps=300, batch_size=50, seed=seed).mode
    return descended(target, data, start)


def descended(target: nv.Target, data: nv.Data, start: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The mode of the log-posterior that L-BFGS finds."""
    module = target.network
    module.load_state_dict(start)
    options = {"max_iter": 150, "tolerance_grad": 1e-6, "line_search_fn": "strong_wolfe", "history_size": 30}
    optimiser = torch.optim.LBFGS(module.parameters(), **options)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(module(data.x), data.y, reduction="sum")
        loss = loss + sum(w.square().sum() for w in module.parameters()) / 2
        loss.backward()
        return loss

    optimiser.step(closure)
    return {k: w.detach().clone() for k, w in module.state_dict().items()}


def losses(weights: dict[str, torch.Tensor], data: nv.Data) -> np.ndarray:
    """Of each example."""
    with torch.no_grad():
        f = torch.func.functional_call(network(0), weights, (data.x,))
        return nn.functional.cross_entropy(f, data.y, reduction="none").numpy()


def run() -> dict[str, Any]:
    """All of it."""
    train, rest = (part.to(dtype=torch.float64) for part in nv.load("digits").split(300, seed=0))
    asked = rest.subset(range(200))
    modes = [trained(train, seed) for seed in range(SEEDS)]
    own = losses(modes[0], train)
    left = [*np.argsort(-own)[: LEFT // 2], *np.random.default_rng(0).choice(300, LEFT // 2, replace=False)]
    target = nv.Target(network(0), prior=nv.Gaussian(precision=1.0))
    found, seconds = {}, {}
    for structure in ("exact", "kron", "last_layer"):
        began = time.process_time()
        found[structure] = (
            nv.paths.influence(target, train, modes[0], asked, structure=structure).values[:, left].numpy()
        )
        seconds[structure] = time.process_time() - began
    on, anew = np.zeros((200, len(left))), np.zeros((200, len(left)))
    before = [losses(mode, asked) for mode in modes]
    began = time.process_time()
    for i, n in enumerate(left):
        fewer = train.subset([k for k in range(300) if k != n])
        on[:, i] = losses(trained(fewer, 0, modes[0]), asked) - before[0]
        anew[:, i] = np.mean([losses(trained(fewer, s), asked) - before[s] for s in range(SEEDS)], axis=0)
    seconds["retraining"] = time.process_time() - began
    table = {
        f"{structure}, {how}": {
            "each": float(np.corrcoef(values.ravel(), truth.ravel())[0, 1]),
            "sums": float(np.corrcoef(values.sum(0), truth.sum(0))[0, 1]),
            "slope": float((values * truth).sum() / (values**2).sum()),
        }
        for structure, values in found.items()
        for how, truth in (("on", on), ("anew", anew))
    }
    between = float(np.corrcoef(on.ravel(), anew.ravel())[0, 1])
    return {"correlations": table, "on_and_anew": between, "cpu_seconds": seconds}


def summary(result: dict[str, Any]) -> str:
    """The table, in Markdown."""
    lines = ["| structure, retraining | each | sums | slope |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {name} | {row['each']:.3f} | {row['sums']:.3f} | {row['slope']:.2f} |"
        for name, row in result["correlations"].items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", nv.NovaculaWarning)
    if not options.summary:
        write(RESULTS, {**run(), "environment": environment()})
    print(summary(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
