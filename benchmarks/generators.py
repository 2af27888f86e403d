"""Generators that are found in data, and how often "no symmetry" is said where there is none.

    python -m benchmarks.generators --case so2 --runs 5           # ten seconds a run
    python -m benchmarks.generators --all                         # 100 runs without a symmetry; twenty minutes
    python -m benchmarks.generators --summary

``so2``: 4,000 points of the plane, whose label depends on the distance from the middle, with noise; and 16,000.
``so3``: 4,000 points in space, the same, which have three generators. ``none``: 1,500 points of the plane, labels from
the product of two waves in different directions. ``waves``: labels from the sum of eight random waves, some of which
are long. ``…, underfit``: networks with one hidden layer whose first look, after 600 steps, is at two fifths of what is
to be learned. ``rotate180``: 2,000 images of MNIST turned at random; ``upright``: as they are.

**How near an angle can be.** Labels of points tell the generator only so well. Had one known that p(y | x) = g(‖Ax‖)
with this g, and only A = I + S to find, the inverse Fisher information would be the variance of S; its generator
``A⁻¹ J A`` is ``√2 ‖S‖`` away from J. ``limit`` is the root mean square of that angle for the points at hand.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import novacula as nv
from benchmarks.common import environment, write
from novacula.invariances.perturb import parse, perturb

RESULTS = Path(__file__).parent / "results" / "generators.json"
CASES = {"so2": 20, "so2, 16,000": 20, "so3": 10, "none": 100, "none, underfit": 10, "waves, underfit": 10}
CASES |= {"rotate180": 3, "upright": 3}
STEPS = {"so2": 1_000, "so2, 16,000": 1_000, "so3": 1_000, "none": 400}
STEPS |= {"none, underfit": 600, "waves, underfit": 600, "rotate180": 1_200, "upright": 1_200}
POINTS = {"so2, 16,000": 16_000, "none": 1_500, "none, underfit": 1_000, "waves, underfit": 1_000}  # else 4,000
FOLDS = {"so2, 16,000": 2, "none": 2}  # else 4


def data_of(case: str, seed: int) -> nv.Data:
    """The data of a run."""
    rng = torch.Generator().manual_seed(seed)
    if case in ("rotate180", "upright"):
        whole = nv.load(Path(os.environ["NOVACULA_DATA"]) / "mnist10k.npz")
        x = perturb(whole.x, [parse("rotate=180")], seed=seed) if case == "rotate180" else whole.x
        return whole.with_values(x, whole.y).split(2_000, seed=seed)[0]
    n, dim = POINTS.get(case, 4_000), 3 if case == "so3" else 2
    x = torch.randn(n, dim, generator=rng)
    value = 2 * x.norm(dim=1) - (2.4 if dim == 2 else 3.1)
    if case.startswith("none"):
        first, between, *phases = torch.rand(4, generator=rng).tolist()
        angles = torch.tensor([6.3 * first, 6.3 * first + 1.05 + 1.05 * between])  # 60° to 120° apart
        value = 2 * (2 * x @ torch.stack([angles.cos(), angles.sin()]) + 6.3 * torch.tensor(phases)).cos().prod(1)
    elif case.startswith("waves"):
        waves = x @ (1.5 * torch.randn(2, 8, generator=rng)) + 6.3 * torch.rand(8, generator=rng)
        value = waves.cos().sum(1) / 2
    return nv.Data(x, (torch.rand(n, generator=rng) < (3 * value).sigmoid()).long())


def limit(case: str, seed: int) -> float | None:
    """The root mean square of the angle to so(2), in degrees, that the Fisher information allows."""
    if not case.startswith("so2"):
        return None
    x = data_of(case, seed).x.double()
    r = x.norm(dim=1)
    p = (3 * (2 * r - 2.4)).sigmoid()
    along = torch.stack([x[:, 0] ** 2 - x[:, 1] ** 2, 2 * x.prod(1)], 1) / (2**0.5 * r[:, None])  # of ‖Ax‖, along S
    information = 36 * (along * (p * (1 - p))[:, None]).T @ along
    return math.degrees(math.sqrt(2 * float(torch.linalg.inv(information).trace())))


def run(case: str, seed: int) -> dict[str, Any]:
    """One run."""
    torch.set_num_threads(1)
    data = data_of(case, seed)
    images = len(data.x_shape) == 3
    options = {} if images else {"width": 32, "depth": 2 if case == "none" else 1}
    net = nv.networks.make("cnn" if images else "mlp", data.x_shape, int(data.y.max()) + 1, seed=seed, **options)
    began = time.process_time()
    method, most = nv.MAP(lr=0.02 if case == "none" else 4e-3), 3 if case == "so3" else 1
    options = {"folds": FOLDS.get(case, 4), "steps": STEPS[case], "most": most, "seed": seed}
    found = nv.study.symmetry(net, data, method=method, **options)
    turns = []
    for i, j in ((0, 1), (0, 2), (1, 2)) if case == "so3" else ((0, 1),):
        turn = torch.zeros(2, 3) if images else torch.zeros(data.x_shape[0], data.x_shape[0])
        turn[i, j], turn[j, i] = -1, 1
        turns.append(turn)
    known = found.invariance()
    return {
        "seed": seed,
        "verdict": found.verdict,
        "count": len(found.generators),
        "angles": [] if known is None else [known.angle(turn) for turn in turns],
        "limit": limit(case, seed),
        "contrast": found.contrast[:3].tolist(),
        "cost": list(found.cost),
        "stderr": list(found.stderr),
        "cpu_seconds": time.process_time() - began,
    }


def summary() -> str:
    """The table of results, in Markdown."""
    lines = ["| case | runs | verdicts | angle to so(n): median, root mean square, largest | limit | cost | CPU-s |"]
    lines += ["| --- | ---: | --- | --- | ---: | --- | ---: |"]
    for case, rows in json.loads(RESULTS.read_text()).items():
        if case == "environment" or not rows:
            continue
        said = {v: sum(r["verdict"] == v for r in rows) for v in ("symmetry", "no symmetry", "unknown")}
        angles = torch.tensor([max(r["angles"]) for r in rows if r["angles"]])
        limits = [r["limit"] for r in rows if r.get("limit")]
        rms = float(angles.square().mean().sqrt())
        costs = [r["cost"][0] for r in rows if r["cost"]]
        cells = [
            case,
            str(len(rows)),
            ", ".join(f"{n} {v}" for v, n in said.items() if n),
            f"{angles.median():.1f}°, {rms:.1f}°, {angles.max():.1f}°" if len(angles) else "–",
            f"{sum(limits) / len(limits):.1f}°" if limits else "–",
            f"{min(costs):.2f} to {max(costs):.2f}" if costs else "–",
            f"{sum(r['cpu_seconds'] for r in rows) / len(rows):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if options.summary:
        print(summary())
        return
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for case in CASES if options.all else [options.case]:
        rows = found.setdefault(case, [])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", nv.NovaculaWarning)
            while len(rows) < (options.runs or CASES[case]):
                rows.append(run(case, len(rows)))
                found["environment"] = environment()
                write(RESULTS, found)


if __name__ == "__main__":
    main()
