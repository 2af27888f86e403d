"""How sure random networks are of digits, by the scale of their weights, and how much likelier structure is than noise.

    python -m benchmarks.prior_predictive

`scales`: 200 networks with weights ``N(0, a²)`` on 300 digits. `corruption`: log10 probability that an infinitely wide
network has the parity of 300 digits right, by expectation propagation, where a share of labels is drawn at random.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.core.rng import generator

RESULT = Path(__file__).parent / "results" / "prior_predictive.json"
NETS = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10)),
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10)
    ),
}


def scales(data: nv.Data) -> list[dict[str, Any]]:
    """Confidence and class entropy by scale, and the scale at which networks are half sure."""
    rows = []
    for name, make in NETS.items():
        net, x = make(), data.x[:300].reshape(300, 1, 8, 8)
        for a in (0.02, 0.1, 0.3, 1.0, 3.0):
            found = nv.functions.prior_predictive(net, x, prior=nv.priors.Gaussian(precision=a**-2, per="all"))
            rows.append({"net": name, "a": a, **found._asdict()})
            print(rows[-1], flush=True)
        rows.append({"net": name, "half_sure_at": nv.functions.unsaturated_scale(net, x, 50)})
        print(rows[-1], flush=True)
    return rows


def corruption(data: nv.Data) -> list[dict[str, Any]]:
    """Evidence of parity with some labels drawn at random."""
    rows, x = [], data.x[:300].reshape(300, 64)
    net = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 1))
    target = nv.Target(net, prior=nv.FanIn(), likelihood=nv.Bernoulli())
    for share in (0.0, 0.1, 0.25, 0.5, 1.0):
        rng = generator(0, "corruption")
        random = torch.rand(300, generator=rng) < share
        y = torch.where(random, torch.randint(2, (300,), generator=rng), data.y[:300] % 2).float()
        before = time.process_time()
        found = nv.evidence.NNGP("ep")(target, nv.Data(x, y[:, None], task="multilabel"), seed=0)
        took = time.process_time() - before
        rows.append({"corrupted": share, "log10": float(found) / math.log(10), "cpu_seconds": took})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure and write down."""
    torch.set_num_threads(1)
    data = nv.load("digits")
    result = {"scales": scales(data), "corruption": corruption(data)}
    write(RESULT, {"environment": environment(), **result})


if __name__ == "__main__":
    main()
