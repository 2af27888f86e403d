"""Loss barriers between two networks that were trained apart, before and after their symmetries are removed.

    python -m benchmarks.paths                     # a few minutes on one core
    python -m benchmarks.paths --only mlp-3x128    # one network
    python -m benchmarks.paths --summary

scikit-learn's digits, 1,400 for training; networks of two seeds, other starts and orders, trained by Adam for 40
passes; cross-entropy on the training digits along the line between them (21 points): as they are, with b under a random
permutation, matched by permutations alone, by all symmetries, and repaired (statistics of BatchNorm taken anew on the
line). One JSON file in ``results/paths.json``.
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
SEEDS = 3


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
    found = nv.paths.symmetries(first, train.x[:4])
    permutations = nv.paths.Symmetries(
        **{**vars(found), "groups": tuple(g for g in found.groups if g.kind == "permutation")}
    )
    began = time.process_time()
    by_permutations = nv.paths.match(first, a, b, permutations).apply(b)
    spent = time.process_time() - began
    by_all = nv.paths.match(first, a, b, found).apply(b)
    norms = any(isinstance(m, nn.BatchNorm2d) for m in first.modules())
    ends = {
        "as they are": b,
        "random permutation": permutations.random(seed).apply(b),
        "permutations": by_permutations,
        "all symmetries": by_all,
    }
    result: dict[str, Any] = {"network": name, "seed": seed, "match_cpu_seconds": spent, "groups": len(found.groups)}
    for what, end in ends.items():
        heights = [nv.paths.barrier(first, a, end, data, points=21) for data in (train, test)]
        result[what] = {"train": heights[0].height, "test": heights[1].height, "test_stderr": heights[1].stderr}
        if norms:
            result[f"{what}, repaired"] = {
                "train": nv.paths.barrier(first, a, end, train, train=train, points=21).height,
                "test": nv.paths.barrier(first, a, end, test, train=train, points=21).height,
            }
    return result


def summary(pairs: list[dict[str, Any]]) -> str:
    """The table, in Markdown."""
    kinds = ("as they are", "random permutation", "permutations", "all symmetries")
    lines = [
        "| network | pairs | "
        + " | ".join(f"{k}: train, test" for k in kinds)
        + " | repaired: permutations, all | CPU-s |",
        "| --- | ---: | " + " | ".join("---" for _ in kinds) + " | --- | ---: |",
    ]
    for name in NETWORKS:
        own = [p for p in pairs if p["network"] == name]
        if not own:
            continue

        def mean(kind: str, part: str, own: list[dict[str, Any]] = own) -> str:
            return f"{sum(p[kind][part] for p in own) / len(own):.3f}" if kind in own[0] else "–"

        cells = [f"{mean(k, 'train')}, {mean(k, 'test')}" for k in kinds]
        repaired = ", ".join(mean(f"{k}, repaired", "train") for k in kinds[2:])
        cpu = sum(p["match_cpu_seconds"] for p in own) / len(own)
        lines.append(f"| {name} | {len(own)} | {' | '.join(cells)} | {repaired} | {cpu:.1f} |")
    return "\n".join(lines)


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
