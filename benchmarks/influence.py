"""How near influence comes to leaving an example out in earnest, on the digits and a perceptron.

    python -m benchmarks.influence               # about two minutes on one core
    python -m benchmarks.influence --extents     # what a learned extent rests on; one minute
    python -m benchmarks.influence --summary

300 of scikit-learn's digits for training, 200 to ask about, a perceptron 64-32-10 with tanh under a prior of precision
1, trained to a mode (Adam, then L-BFGS). Each of 40 training examples, half of them drawn at random and half those of
the largest loss, is left out, and the network trained again, *on* from the mode, or *anew*: from the first weights and
orders of four seeds, against four networks of the same seeds with all examples. Correlations are over examples asked
about and left out (8,000), and over the sums of the losses of all that are asked about (40).

Extents: 100 digits, each turned at random by up to ±60°, a perceptron 64-8-10 (tanh, precision 1, four copies), the
extent of turning and the weights at the maximum of Laplace's evidence (whole curvature); and again with the weight of
an example nought, for the four of which most was predicted and four others. JSON in ``results/influence.json``.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.evidence.laplace import stream_of

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

    def misfit() -> torch.Tensor:
        return nn.functional.cross_entropy(target.network(data.x), data.y, reduction="sum")

    return lowest(target.network, start, misfit, steps=150, rest=1e-6)


def lowest(
    module: nn.Module, start: dict[str, torch.Tensor], misfit: Callable[[], torch.Tensor], *, steps: int, rest: float
) -> dict[str, torch.Tensor]:
    """The weights at which the misfit and half of their squares are least, by L-BFGS."""
    module.load_state_dict(start)
    options = {"max_iter": steps, "tolerance_grad": rest, "line_search_fn": "strong_wolfe", "history_size": 30}
    optimiser = torch.optim.LBFGS(module.parameters(), **options)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = misfit() + sum(w.square().sum() for w in module.parameters()) / 2
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


@dataclass(frozen=True, eq=False)
class Weighted(nv.likelihoods.Likelihood):
    """Classes, each example with a weight: ``y (N, 2)``."""

    one: ClassVar[nv.Categorical] = nv.Categorical(10)

    def log_prob(self, f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Of each example, times its weight."""
        return y[:, 1].to(f) * self.one.log_prob(f, y[:, 0].long())

    def factor(self, f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The root, times that of the weight."""
        return y[:, 1].to(f).sqrt()[:, None, None] * self.one.factor(f, y[:, 0].long())

    def sample(self, f: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """A class, of weight one."""
        label = self.one.sample(f, rng)
        return torch.stack([label, torch.ones_like(label)], 1)

    def mean(self, f: torch.Tensor) -> torch.Tensor:
        """Probabilities."""
        return self.one.mean(f)

    def outputs(self, y: torch.Tensor) -> int:
        """One for each class."""
        return 10

    def validate(self, y: torch.Tensor, outputs: int, *, training: bool = True) -> torch.Tensor:
        """Labels and weights."""
        return y


def climbed(target: nv.Target, xs: torch.Tensor, y: torch.Tensor, start: Any) -> dict[str, torch.Tensor]:
    """The mode at transformed copies of the inputs that stay, ``(N, S, …)``."""

    def misfit() -> torch.Tensor:
        f = target.network(xs.flatten(0, 1)).unflatten(0, xs.shape[:2]).mean(1)
        return -target.likelihood.log_prob(f, y).sum()

    return lowest(target.network, start, misfit, steps=400, rest=1e-8)


def highest(target: nv.Target, data: nv.Data, start: dict[str, torch.Tensor], eta: float) -> tuple[float, Any]:
    """The extent at the maximum of the evidence, by parabolas through three, and the weights there."""

    def evidence(eta: float) -> float:
        nonlocal start
        at, rows = target.with_learnable({"invariance.eta": torch.tensor([eta]).double()}).prepare(data)
        copies = [*at.problem(at.params(), rows, seed=stream_of(0, 0)).batches()]
        start = climbed(at, torch.cat([x for x, _ in copies]), torch.cat([y for _, y in copies]), start)
        return float(nv.evidence.Laplace("exact", repeats=1)(at, rows, start, seed=0))

    for h in (0.05, 0.05):  # the evidence is rough below, as pixels are interpolated
        low, middle, high = (evidence(eta + k * h) for k in (-1, 0, 1))
        bend = low + high - 2 * middle
        move = h * (low - high) / (2 * bend) if bend < 0 else h * np.sign(high - low)
        eta += float(np.clip(move, -3 * h, 3 * h))
    evidence(eta)
    return eta, start


def extents() -> dict[str, Any]:
    """What a learned extent of turning rests on."""
    digits = nv.load("digits").subset(range(100)).to(dtype=torch.float64)
    turn = nv.invariances.Affine(eta=torch.tensor([1 / 3]).double(), only=("rotation",))
    turned = turn(digits.x, turn.noise(digits.n, digits.x, torch.Generator().manual_seed(0)))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10)).double()
    prior, copies = nv.Gaussian(precision=1.0), nv.Copies(4, 4, 4)
    target = nv.Target(net, prior=prior, invariance=turn, copies=copies)
    data = nv.Data(turned, digits.y)
    began = time.process_time()
    start = nv.infer(nv.MAP(lr=0.01), target, data, steps=600, batch_size=50, seed=0).mode
    eta, mode = highest(target, data, start, 0.3)
    learned = time.process_time() - began
    best = target.with_learnable({"invariance.eta": torch.tensor([eta]).double()})
    began = time.process_time()
    found = nv.study.extent_influence(best, data, mode, step=0.05)
    spent = time.process_time() - began
    values = found.values[0].numpy()
    most = np.argsort(-np.abs(values))[:4]
    left = [*most, *np.random.default_rng(0).choice(np.setdiff1d(np.arange(100), most), 4, replace=False)]
    weighted = nv.Target(net, Weighted(), prior, invariance=turn, copies=copies)
    began, truth = time.process_time(), []
    for n in left:
        y = torch.stack([digits.y, (torch.arange(100) != n).long()], 1).double()
        truth.append(highest(weighted, nv.Data(turned, y), mode, eta)[0] - eta)
    told = values[left]
    return {
        "eta": eta, "stderr": float(found.stderr[0]), "away": float(found.away[0]), "warnings": list(found.warnings),
        "predicted": told.tolist(), "found": truth, "correlation": float(np.corrcoef(told, truth)[0, 1]),
        "slope": float((told * np.array(truth)).sum() / (told**2).sum()),
        "cpu_seconds": {"learning": learned, "influence": spent, "leaving out": time.process_time() - began},
    }  # fmt: skip


def summary(result: dict[str, Any]) -> str:
    """The table, in Markdown."""
    if "extents" in result:
        print({k: v for k, v in result["extents"].items() if k not in ("predicted", "found")})
    lines = ["| structure, retraining | each | sums | slope |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {name} | {row['each']:.3f} | {row['sums']:.3f} | {row['slope']:.2f} |"
        for name, row in result["correlations"].items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--extents", action="store_true")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", nv.NovaculaWarning)
    record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not options.summary:
        made = {"extents": extents()} if options.extents else run()
        write(RESULTS, {**record, **made, "environment": environment()})
    print(summary(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
