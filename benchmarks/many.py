"""Drawing networks from the prior and evaluating them: networks a second on one core and one thread.

``python -m benchmarks.many`` writes ``results/many.json``. Networks 7-40-40-1 with ReLU are drawn from a Gaussian prior
and evaluated on all 128 inputs of the Boolean cube, through `target.many.prior_outputs`; beside it a Python loop over
plain modules, and the two halves of the work, drawing alone and evaluating alone. Ways take turns.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import novacula as nv
from benchmarks.common import environment, write
from benchmarks.members import network
from benchmarks.turns import rate, ratios, summary
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.target import Target
from novacula.target.many import outputs, prior_outputs

RESULT = Path(__file__).parent / "results" / "many.json"
SIZES, AT_ONCE, WANTED = (7, 40, 40, 1), 2_000, 11_000


def cube(d: int) -> Tensor:
    """All inputs of d bits, ``(2^d, d)``."""
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * d)


def loop(net: nn.Module, x: Tensor, rng: torch.Generator) -> Callable[[int], int]:
    """The naive way: one module, filled with new weights again and again."""

    def run(rounds: int) -> int:
        with torch.no_grad():
            for _ in range(100 * rounds):
                for w in net.parameters():
                    w.normal_(generator=rng)
                net(x)
        return 100 * rounds

    return run


def ways(target: Target, x: Tensor) -> dict[str, Callable[[int], int]]:
    """What is timed: from a number of rounds to a number of networks."""
    rng, like = generator(0), target.params()
    drawn: Params = target.prior.sample(like, AT_ONCE, rng)

    def repeated(once: Callable[[], Any]) -> Callable[[int], int]:
        def run(rounds: int) -> int:
            for _ in range(rounds):
                once()
            return AT_ONCE * rounds

        return run

    return {
        "draw and evaluate": repeated(lambda: prior_outputs(target, x, AT_ONCE, rng)),
        "evaluate alone": repeated(lambda: outputs(target, drawn, x)),
        "draw alone": repeated(lambda: target.prior.sample(like, AT_ONCE, rng)),
        "loop": loop(network(SIZES), x, rng),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU seconds of a turn")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        target = Target(network(SIZES), nv.Bernoulli(), nv.Gaussian(1.0))
    timed = ways(target, cube(SIZES[0]))
    rates: dict[str, list[float]] = {way: [] for way in timed}
    for turn in range(options.repeats + 1):
        for way, run in timed.items():
            found = rate(run, options.seconds)
            if turn:  # the first turn is for warming up
                rates[way].append(found)
    result: dict[str, Any] = {way: summary(v) for way, v in rates.items()}
    for way, v in result.items():
        print(way, v, flush=True)
    load = {"load_after": round(os.getloadavg()[0], 1)}
    over = ratios(rates["draw and evaluate"], rates["loop"])
    write(
        options.out,
        {**environment(), **load, "networks_a_cpu_second": result, "over the loop": over, "wanted": WANTED},
    )


if __name__ == "__main__":
    main()
