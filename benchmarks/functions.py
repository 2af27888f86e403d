"""The prior over functions of a 7-40-40-1 network, drawn a million times, and of controls; how long drawing takes.

    python -m benchmarks.functions                # a minute
    python -m benchmarks.functions --speed        # where the time of drawing goes
    python -m benchmarks.functions --lz           # Lempel and Ziv's complexity alone, anew
    python -m benchmarks.functions --slopes       # how the slope moves with width and depth
    python -m benchmarks.functions --sequences    # sequences that random networks write

``results/functions.json`` holds what was found: probabilities with intervals, complexity of the functions, CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.core.rng import generator
from novacula.functions.samplers.network import Networks
from novacula.functions.samplers.weights import Normals, drawing

RESULTS = Path(__file__).parent / "results" / "functions.json"
F = nv.functions


def network() -> nn.Module:
    """7-40-40-1 with ReLU."""
    return nn.Sequential(nn.Linear(7, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))


def told(found: F.FunctionSample, seed: int) -> dict[str, Any]:
    """A sample in numbers: what it holds, ranks 100 and 1,000 beside Zipf's line, complexity of what is drawn."""
    ranks, rng = found.ranks(), np.random.default_rng(seed)
    drawn = found.labels[rng.choice(len(found.counts), 2_000, p=found.counts / found.n)]
    at = {
        str(r): [float(ranks[k][r - 1]) for k in ("probability", "zipf")]
        for r in (100, 1_000)
        if r <= len(ranks["rank"])
    }
    spread = F.lz_spread(drawn[:200], 16)[1]
    return {
        **found.to_dict(),
        "ranks": at,
        "lz_bits": [float(v) for v in np.quantile(F.lz_bits(drawn), (0.1, 0.5, 0.9))],
        "lz_spread": float(spread.mean()),
        "per_cpu_second": found.n / found.seconds,
    }


def microseconds(seed: int) -> float:
    """What `lz76` takes of a string of 128 bits."""
    strings = np.random.default_rng(seed).integers(0, 2, (2**15, 128), dtype=np.uint8)
    began = time.process_time()
    F.lz76(strings)
    return (time.process_time() - began) / len(strings) * 1e6


def speed(seed: int) -> dict[str, float]:
    """Least CPU microseconds a function: all, its weights, its outputs, and the bare products of matrices in these."""
    x, networks = F.cube(7), Networks(network(), nv.FanIn())
    size, source = networks.at_once(x), Normals(generator(seed, "speed"))
    draw, evaluate = drawing(nv.FanIn(), networks.network, networks.forward.params()), networks.evaluation(x)
    weights = draw(size, source)
    first, layers = torch.randn(size * 40, 7), [torch.randn(size, c, 40) for c in (40, 1)]
    hidden, columns = torch.randn(size, 40, 128), x.T.contiguous()
    outputs = [torch.empty(size * 40, 128), *(torch.empty(size, w.shape[1], 128) for w in layers)]

    def products() -> None:
        torch.mm(first, columns, out=outputs[0])
        for w, f in zip(layers, outputs[1:], strict=True):
            torch.bmm(w, hidden, out=f)

    parts: dict[str, tuple[int, Callable[[], object]]] = {
        "all": (16_384, lambda: F.sample(networks.network, x, 16_384, prior=nv.FanIn(), seed=seed)),
        "weights": (size, lambda: draw(size, source)),
        "outputs": (size, lambda: evaluate(weights)),
        "products": (size, products),
    }
    found = {}
    for name, (many, part) in parts.items():
        found[name] = math.inf
        with torch.no_grad():
            for _ in range(5):  # the least, as others use the machine
                began, done = time.process_time(), 0
                while time.process_time() - began < 0.4:  # the clock's ticks are of ten milliseconds
                    part()
                    done += many
                found[name] = min(found[name], (time.process_time() - began) / done * 1e6)
    return {**found, "functions_a_cpu_second": 1e6 / found["all"]}


def slopes(seed: int) -> dict[str, list[float]]:
    """Slopes of log2 P against complexity by width and depth, and of controls: of four samples of 50,000 each."""
    found: dict[str, list[float]] = {}
    sizes = [(10, 2), (40, 2), (160, 2), (40, 1), (40, 4)]
    made: dict[str, Any] = {
        f"{d} × {w}": nv.networks.mlp((7,), 1, width=w, depth=d, activation="relu") for w, d in sizes
    }
    for name, drawn in {**made, "linear thresholds": F.LinearThreshold(), "trees": F.RandomTree()}.items():
        prior = nv.FanIn() if name in made else None
        found[name] = list(F.slope_interval(drawn, F.cube(7), 50_000, prior=prior, least=4, seed=seed))
        print(name, found[name], flush=True)
    return found


def sequences(seed: int) -> dict[str, dict[str, float]]:
    """Bits a symbol, by Lempel and Ziv, of 2,000 sequences of 100 symbols that follow from the last ten."""
    x, n = torch.arange(100.0)[:, None], 2_000
    nets = {f"{d} × {w}": nv.networks.mlp((10,), 1, width=w, depth=d, activation="relu") for w, d in ((40, 1), (40, 3))}
    drawn: dict[str, Any] = {"coins": F.Coins()}
    for name, net in nets.items():
        drawn |= {f"{name}, temperature {t:g}": F.Sequences(net, 10, nv.FanIn(), t) for t in (0.0, 0.1, 1.0)}
    found = {}
    for name, sampler in drawn.items():
        began = time.process_time()
        s = F.sample(sampler, x, n, seed=seed)
        bits = F.lz_bits(s.labels)
        found[name] = {
            "bits_a_symbol": float((bits * s.counts).sum() / n / 100),
            "distinct": len(s.counts),
            "constant": s.constants.value,
            "unseen": s.unseen_mass.value,
            "cpu_seconds": time.process_time() - began,
        }
        print(name, found[name], flush=True)
    return found


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lz", action="store_true", help="measure the complexity's time alone")
    parser.add_argument("--slopes", action="store_true", help="slopes by width and depth alone")
    parser.add_argument("--speed", action="store_true", help="where the time of drawing goes alone")
    parser.add_argument("--sequences", action="store_true", help="sequences of random networks alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    n, x = options.draws, F.cube(7)
    net = network()
    cases: dict[str, Any] = {
        "7-40-40-1, σ 1, 1": lambda: F.sample(net, x, n, prior=nv.FanIn(), seed=options.seed),
        "bfloat16": lambda: F.sample(net, x, n // 10, prior=nv.FanIn(), format="bfloat16", seed=options.seed),
        "int8": lambda: F.sample(net, x, n // 10, prior=nv.FanIn(), format="int8", seed=options.seed),
        "signs": lambda: F.sample(net, x, n // 10, prior=nv.priors.Signs(fan_in=True), seed=options.seed),
        "linear thresholds": lambda: F.sample(F.LinearThreshold(), x, n // 10, seed=options.seed),
        "trees": lambda: F.sample(F.RandomTree(), x, n // 10, seed=options.seed),
        "neighbours": lambda: F.sample(F.NearestNeighbour(), x, n // 10, seed=options.seed),
        "Gaussian process": lambda: F.sample(F.GaussianProcess(1.0), x, n // 10, seed=options.seed),
        "coins": lambda: F.sample(F.Coins(), x, n // 10, seed=options.seed),
    }
    result: dict[str, Any] = {"environment": environment(), "draws": n, "cases": {}}
    for name, part in (("slopes", slopes), ("sequences", sequences), ("speed", speed)):
        if getattr(options, name):
            write(RESULTS, {**json.loads(RESULTS.read_text()), name: (found := part(options.seed))})
            print(found)
            return
    F.sample(net, x, 4_096, prior=nv.FanIn())  # what is done once
    if options.lz:
        result = json.loads(RESULTS.read_text())
    result["lz76_microseconds_a_string"] = microseconds(options.seed)
    print("lz76", result["lz76_microseconds_a_string"], flush=True)
    if options.lz:
        write(RESULTS, result)
        return
    for name, draw in cases.items():
        found = result["cases"][name] = told(draw(), options.seed)
        kept = ("n", "distinct", "constants", "unseen_mass", "entropy_bits", "ranks", "lz_bits", "per_cpu_second")
        print(name, {k: found[k] for k in kept}, flush=True)
        write(RESULTS, result)


if __name__ == "__main__":
    main()
