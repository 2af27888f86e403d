"""When a training is settled, what lies between two runs, and whether a network groks: small networks.

    python -m benchmarks.basins                    # two CPU minutes
    python -m benchmarks.basins --only grokking

*settled*: children of a digits perceptron (64-64-64-10, Adam, 700 steps) part at steps 0 to 560;
*bent*: two perceptrons of other seeds, on the line, matched, and along a curve (`nv.paths.bend`), test digits;
*grokking*: addition modulo 31 by a network of one hidden layer of squares, half of all pairs for training, weight decay
1, against .0 (`nv.paths.history`);
*attacked*: inputs of 397 test digits that signs of one run's gradient move by a fifth of a standard deviation
(`nv.paths.attack`), shown to that run, to three perceptrons and three convolutional networks of other seeds;
*collapsed*: units that trained perceptrons would not miss (`.collapse()`), by weight decay, and what leaving them out
does to 397 test digits. One JSON file in ``results/basins.json``.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import novacula as nv
from benchmarks.common import environment, write

RESULTS = Path(__file__).parent / "results" / "basins.json"
STEPS, PRIME = 700, 31


def perceptron() -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def nothing(*_: Any) -> None:
    """No callback."""


def trained(
    train: nv.Data, weights: int, order: int, on_step: Callable[..., None], decay: float = 0.0
) -> dict[str, Tensor]:
    """A digits perceptron by a plain loop."""
    torch.manual_seed(weights)
    net, rng = perceptron(), torch.Generator().manual_seed(order)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=decay)
    for step in range(STEPS):
        on_step(step, net, optimiser)
        optimiser.param_groups[0]["lr"] = 3e-3 * (1 - step / STEPS)
        rows = torch.randint(train.n, (50,), generator=rng)
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(train.x[rows]), train.y[rows]).backward()
        optimiser.step()
    return net.state_dict()


def settled() -> dict[str, Any]:
    """Barriers between children by the step at which they part, three first weights."""
    train, test = nv.load("digits").split(1400, seed=0)
    at, rows = [0, 20, 70, 140, 280, 560], []
    for weights in range(3):
        found = nv.study.instability(
            lambda order, on_step, w=weights: trained(train, w, 100 * w + order, on_step), at, perceptron(), test
        )
        rows.append({"weights": weights, "heights": found.heights, "settled": found.settled})
    return {"at": at, "runs": rows}


def bent() -> dict[str, Any]:
    """The line, the line after a match, and the curve, of three pairs."""
    train, test = nv.load("digits").split(1400, seed=0)
    net, rows = perceptron(), []
    found = nv.paths.symmetries(net, train.x[:100])
    for pair in range(3):
        a, b = (trained(train, 10 + 2 * pair + i, 2 * pair + i, nothing) for i in (0, 1))
        moved = nv.paths.match(net, a, b, found, data=train, restarts=1).apply(b)
        row: dict[str, Any] = {}
        for name, end in {"as they are": b, "matched": moved}.items():
            middle = nv.paths.bend(net, a, end, train, steps=600)
            for kind, through in (("line", None), ("curve", middle)):
                line = nv.paths.barrier(net, a, end, test, bend=through)
                row[f"{name}, {kind}"] = {"barrier": line.height, "stderr": line.stderr, "top": float(line.loss.max())}
        rows.append(row)
    return {"pairs": rows}


class Squares(nn.Module):
    """One hidden layer of squares on two numbers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(2 * PRIME, width, bias=False), nn.Linear(width, PRIME, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the sum."""
        return self.down(self.up(x).square())


def grokking() -> dict[str, Any]:
    """Addition modulo a prime, with decay and without."""
    pairs = torch.cartesian_prod(torch.arange(PRIME), torch.arange(PRIME))
    x, y = nn.functional.one_hot(pairs, PRIME).flatten(1).float(), pairs.sum(1) % PRIME
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    cut = len(y) // 2
    train, test = (nv.Data(x[rows], y[rows], task="classification") for rows in (order[:cut], order[cut:]))
    found = {}
    for decay in (1.0, 0.0):
        torch.manual_seed(0)
        net, kept = Squares(128), []
        optimiser = torch.optim.AdamW(net.parameters(), lr=5e-3, weight_decay=decay, betas=(0.9, 0.98))
        at = sorted({round(1.35**k) - 1 for k in range(27)})
        for step in range(at[-1] + 1):
            if step in at:
                kept.append({k: v.clone() for k, v in net.state_dict().items()})
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(train.x), train.y).backward()
            optimiser.step()
        told = nv.paths.history(net, kept, train, test, at=at)
        found[f"decay {decay}"] = {**told.to_dict(), "words": told.words}
    return found


def attacked() -> dict[str, Any]:
    """The accuracy of seven networks on inputs moved against the first, and moved by chance."""
    train, test = nv.load("digits").split(1400, seed=0)
    nets: dict[str, tuple[nn.Module, Any]] = {}
    for seed in range(4):
        nets[f"perceptron {seed}"] = (perceptron(), trained(train, 20 + seed, seed, nothing))
    for seed in range(3):
        cnn = nv.networks.make("cnn", train.x_shape, 10, seed=seed)
        nets[f"convolutional {seed}"] = (
            cnn,
            nv.infer(nv.MAP(lr=0.01), cnn, train, epochs=20, batch_size=50, seed=seed),
        )
    first, own = nets["perceptron 0"]
    moved = nv.paths.attack(first, own, test, size=0.2)
    signs = torch.randint(2, test.x.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    inputs = {"as they are": test.x, "by chance": test.x + signs * (moved - test.x).abs(), "moved": moved}
    rows = {}
    for name, (net, weights) in nets.items():
        lines = {k: nv.paths.barrier(net, weights, weights, nv.Data(x, test.y), points=3) for k, x in inputs.items()}
        rows[name] = {k: float(line.accuracy[0]) for k, line in lines.items() if line.accuracy is not None}
    return {"accuracy": rows}


def collapsed() -> dict[str, Any]:
    """To how many units layers collapse."""
    train, test = nv.load("digits").split(1400, seed=0)
    found = nv.paths.symmetries(perceptron(), train.x[:1000])
    rows = []
    for decay in (0.0, 0.1, 1.0):
        weights = trained(train, 30, 0, nothing, decay)
        layers = found.collapse(weights)
        fewer = {k: w.clone() for k, w in weights.items()}
        for layer in layers:
            assert not layer.duplicates
            for name, dim in layer.weights:
                fewer[name].index_fill_(dim, torch.tensor(layer.dead), 0.0)
        line = nv.paths.barrier(perceptron(), weights, fewer, test, points=3)
        sizes = [{"weights": layer.weights[0][0], "size": layer.size, "left": layer.left} for layer in layers]
        accuracy = None if line.accuracy is None else line.accuracy[[0, -1]].tolist()
        rows.append({"decay": decay, "layers": sizes, "loss": line.loss[[0, -1]].tolist(), "accuracy": accuracy})
    return {"networks": rows}


PARTS = {"settled": settled, "bent": bent, "grokking": grokking, "attacked": attacked, "collapsed": collapsed}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=list(PARTS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", nv.NovaculaWarning)
    for name in [options.only] if options.only else list(PARTS):
        began = time.process_time()
        found = PARTS[name]()
        found["cpu_seconds"] = round(time.process_time() - began, 1)
        record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        write(RESULTS, {**record, name: found, "environment": environment()})
        print(name, json.dumps(found)[:2000], flush=True)


if __name__ == "__main__":
    main()
