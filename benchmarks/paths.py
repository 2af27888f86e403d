"""Loss barriers between two networks that were trained apart, before and after their symmetries are removed.

    python -m benchmarks.paths                     # a few minutes on one core
    python -m benchmarks.paths --only mlp-3x128    # one network
    python -m benchmarks.paths --summary

scikit-learn's digits, 1,400 for training; networks of two seeds, other starts and orders, trained by Adam for 40
passes; cross-entropy along the line between them (11 points), on training and test digits: as they are, with b under a
random permutation, matched by weights, with data (which adds starts by activations and chooses by the loss half-way),
and with steps of the loss half-way; by permutations alone and by all symmetries, and repaired (statistics of BatchNorm
taken anew on the line). One JSON file in ``results/paths.json``.
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
from torch import nn

import novacula as nv
from benchmarks.common import environment, write

RESULTS = Path(__file__).parent / "results" / "paths.json"
SEEDS, POINTS = 3, 11
ALL: tuple[Any, ...] = ("permutation", "scale", "sign", "orthogonal", "invertible")
STEPS: dict[str, Any] = {"steps": 200, "lr": 3e-3}
ARMS: dict[str, tuple[tuple[Any, ...], dict[str, Any] | None]] = {
    "as they are": ((), None),
    "random permutation": (("permutation",), None),
    "permutations": (("permutation",), {}),
    "all": (ALL, {}),
    "permutations, data": (("permutation",), {}),
    "all, data": (ALL, {}),
    "permutations, steps": (("permutation",), STEPS),
}
"""What is done to b: kinds of groups, and how they are matched."""


def mlp(width: int) -> nn.Module:
    """Three hidden layers."""
    layers: list[nn.Module] = [nn.Flatten()]
    for size in (64, width, width):
        layers += [nn.Linear(size, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def cnn(norm: Callable[[int], nn.Module]) -> nn.Module:
    """Three convolutions of 32 channels, each with a norm."""
    layers: list[nn.Module] = []
    for i, channels in enumerate((1, 32, 32)):
        layers += [nn.Conv2d(channels, 32, 3, 2 if i else 1, 1, bias=False), norm(32), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


class Block(nn.Module):
    """A residual block with BatchNorm."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.second, self.norm2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.short = nn.Sequential()
        if stride > 1 or before != width:
            self.short = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block."""
        inside = self.norm2(self.second(self.norm1(self.first(x)).relu()))
        return (inside + self.short(x)).relu()


def resnet8() -> nn.Module:
    """A stem, and a block at 16, 32 and 64 channels."""
    stem = [nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    blocks = [Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mlp-3x32": lambda: mlp(32),
    "mlp-3x128": lambda: mlp(128),
    "mlp-3x512": lambda: mlp(512),
    "cnn-group-norm": lambda: cnn(lambda n: nn.GroupNorm(1, n)),
    "cnn-batch-norm": lambda: cnn(nn.BatchNorm2d),
    "resnet8": resnet8,
}


def trained(make: Callable[[], nn.Module], data: nv.Data, seed: int) -> nn.Module:
    """A network of this seed, trained."""
    torch.manual_seed(seed)
    module = make()
    optimiser = torch.optim.Adam(module.parameters(), lr=2e-3)
    rng = torch.Generator().manual_seed(seed)
    for epoch in range(40):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * (1 - epoch / 40)
        for rows in torch.randperm(data.n, generator=rng).split(100):
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(data.x[rows]), data.y[rows]).backward()
            optimiser.step()
    return module.eval()


def run(name: str, seed: int) -> dict[str, Any]:
    """Barriers of one pair."""
    train, test = nv.load("digits").split(1400, seed=0)
    first, second = (trained(NETWORKS[name], train, 2 * seed + i) for i in (0, 1))
    a, b = first.state_dict(), second.state_dict()
    found = nv.paths.symmetries(first, train.x[:100])
    norms = any(isinstance(m, nn.BatchNorm2d) for m in first.modules())
    result: dict[str, Any] = {"network": name, "seed": seed, "groups": len(found.groups)}
    for what, (kinds, how) in ARMS.items():
        own = found.only(*kinds)
        began = time.process_time()
        if how is None:
            end = b if not kinds else own.random(seed).apply(b)
        else:
            given = {"data": train} if "data" in what or "steps" in what else {}
            end = nv.paths.match(first, a, b, own, **given, **how).apply(b)
        spent = time.process_time() - began
        parts = {"train": train, "test": test}
        heights = {k: nv.paths.barrier(first, a, end, v, points=POINTS) for k, v in parts.items()}
        result[what] = {"cpu_seconds": spent, "test_stderr": heights["test"].stderr}
        result[what] |= {k: v.height for k, v in heights.items()}
        if norms:
            again = {k: nv.paths.barrier(first, a, end, v, train=train, points=POINTS) for k, v in parts.items()}
            result[what]["repaired"] = {k: v.height for k, v in again.items()}
    return result


def summary(pairs: list[dict[str, Any]]) -> str:
    """The table, in Markdown."""
    lines = []
    for table in ("", "repaired"):
        lines += ["", f"{table or 'on the line'}: training, test", ""]
        lines += ["| network | " + " | ".join(ARMS) + " |", "| --- |" + " ---: |" * len(ARMS)]
        for name in NETWORKS:
            own = [p for p in pairs if p["network"] == name and (not table or table in p["as they are"])]
            if own:
                lines.append(f"| {name} | " + " | ".join(_cell(own, arm, table) for arm in ARMS) + " |")
    lines += ["", "CPU seconds of a match", "", "| network | " + " | ".join(list(ARMS)[2:]) + " |"]
    lines += ["| --- |" + " ---: |" * (len(ARMS) - 2)]
    for name in NETWORKS:
        own = [p for p in pairs if p["network"] == name]
        if own:
            times = [sum(p[arm]["cpu_seconds"] for p in own) / len(own) for arm in list(ARMS)[2:]]
            lines.append(f"| {name} | " + " | ".join(f"{t:.1f}" for t in times) + " |")
    return "\n".join(lines)


def _cell(pairs: list[dict[str, Any]], arm: str, table: str) -> str:
    rows = [p[arm][table] if table else p[arm] for p in pairs]
    return ", ".join(f"{sum(row[part] for row in rows) / len(rows):.3f}" for part in ("train", "test"))


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=list(NETWORKS))
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", nv.NovaculaWarning)
    pairs = json.loads(RESULTS.read_text())["pairs"] if RESULTS.exists() else []
    for name in [] if options.summary else [options.only] if options.only else list(NETWORKS):
        for seed in range(SEEDS):
            if not any((p["network"], p["seed"]) == (name, seed) for p in pairs):
                pairs.append(run(name, seed))
                write(RESULTS, {"pairs": pairs, "environment": environment()})
                print(json.dumps(pairs[-1]), flush=True)
    print(summary(pairs))


if __name__ == "__main__":
    main()
