"""Extents learned by Gaussian processes whose kernel is averaged over rotations, on upright and turned digits.

    python -m benchmarks.invariant_gp --turned 90 --arm invariant     # a minute or two
    python -m benchmarks.invariant_gp --all
    python -m benchmarks.invariant_gp --scan                          # evidence at fixed extents
    python -m benchmarks.invariant_gp --summary

1,000 digits of ``mnist10k``, 300 inducing points, classes as Gaussians on the logits. ``plain`` is the kernel inside
alone; ``network`` a 784-64-10 net with the same rotation, learned by its own evidence without folds, whose log evidence
is one of labels and does not compare with those of logits. Error on 1,000 other digits, turned alike.

What digits are is not known to be invariant to just ±90° or to nothing: handwriting slants. In ``planted`` it is: the
images are upright digits, and four measurements of each are drawn from a process whose kernel is averaged over ±90°
(12 copies of an image) or over nothing, with noise of a tenth of their size. What is learned begins at ±18° and at
half the kernel's length.

    python -m benchmarks.invariant_gp --turned 90 --arm planted --n 400 --points 400 --steps 40     # exact

Copies are turned by interpolation, which smooths them. With ``--smooth`` all images have been turned by 10° and back,
so that an extent is not learned for the sake of its smoothing.

    python -m benchmarks.invariant_gp --scan --n 300 --points 300 [--smooth]                        # exact
    python -m benchmarks.invariant_gp --arm invariant --n 300 --points 300 --steps 30 [--smooth]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

import novacula as nv
from benchmarks.common import environment, write
from novacula.invariances.perturb import parse, perturb
from novacula.kernels import Invariant, SquaredExponential, inducing, process

RESULTS = Path(__file__).parent / "results" / "invariant_gp"
ARMS = ("plain", "invariant", "network", "planted")
TURNS = (0, 90)
LENGTH, PLANTED = 12.0, 12
SCAN = {0: (0, 5, 11, 18, 27, 45), 90: (54, 72, 90, 108, 36)}
LENGTHS, AMPLITUDES = (3.5, 4.7, 6.3, 8.5), (2.0, 3.0, 4.5)


def run(turned: int, arm: str, n: int, points: int, copies: int, steps: int, seed: int, smooth: bool) -> dict[str, Any]:
    """One run."""
    torch.set_num_threads(1)
    data = nv.load(Path(os.environ["NOVACULA_DATA"]) / "mnist10k.npz")
    x = perturb(data.x, [parse(f"rotate={turned}")], seed=seed) if turned else data.x
    x = turned_by(turned_by(x, 10), -10) if smooth else x
    train, test = data.with_values(x, data.y).split(n, seed=seed)
    test, began = test.subset(range(1_000)), time.process_time()
    found: dict[str, Any] = {"turned": turned, "arm": arm, "n": n, "seed": seed, "smooth": smooth}
    if arm == "network":
        turns = nv.Affine(only=("rotation",))
        net = nv.networks.make("mlp", train.x_shape, 10, width=64, seed=seed)
        target = nv.Target(net, invariance=turns, copies=nv.Copies(train=8, evidence=8, predict=8))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", nv.NovaculaWarning)
            fit = nv.learn(target, train, folds=0, seed=seed)
        mean, eta = nv.predict(fit.posterior, test.x).mean(), fit.target.learnable()["invariance.eta"]
        found["log_evidence"] = float(fit.evidence)
    else:
        inside = SquaredExponential(torch.tensor(math.log(6.0)).double(), torch.tensor(math.log(3.0)).double())
        turns = nv.Affine(eta=torch.tensor([0.1]).double(), only=("rotation",))
        kernel = inside if arm == "plain" else Invariant(inside, turns, copies=copies)
        if arm == "planted":
            x = data.x[: n + 200].double()
            drawn = nv.Data(x, planted(x, turned / 180, seed))
            train, test = drawn.subset(range(n)), drawn.subset(range(n, n + 200))
        if points < n:
            made = inducing(kernel, train, points=points, steps=steps, lr=0.05, batch_size=200, seed=seed)
            found |= {"log_evidence": float(made.bound), "stderr": made.bound.stderr}
        else:
            made = process(kernel, train, steps=steps, lr=0.05)
            found["log_evidence"] = made.log_evidence
        mean, learned = made.outputs(test.x)[0], made.kernel.learnable()
        eta = learned.get("eta")
        found |= {"steps": steps, "copies": copies}
        found |= {"points": points, "learned": {k: v.tolist() for k, v in learned.items()}}
    wrong = (mean.argmax(1) != test.y) if arm != "planted" else (mean - test.y).square()
    found["error"] = float(wrong.double().mean())
    found["degrees"] = None if eta is None else 180 * abs(float(eta[0]))
    return {**found, "cpu_seconds": time.process_time() - began, "environment": environment()}


def turned_by(x: Tensor, degrees: float) -> Tensor:
    """Images turned by an angle, by linear interpolation."""
    a = math.radians(degrees)
    turn = torch.tensor([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0]]).to(x).expand(len(x), 2, 3)
    return grid_sample(x, affine_grid(turn, list(x.shape), align_corners=False), align_corners=False)


@torch.no_grad()
def planted(x: Tensor, extent: float, seed: int) -> Tensor:
    """Four measurements of each image ``(N, 4)``, of a process averaged over rotations by this share of ±180°."""
    rng = torch.Generator().manual_seed(seed)
    kernel = SquaredExponential(torch.tensor(math.log(LENGTH)).double(), torch.zeros(()).double())
    turns = nv.Affine(eta=torch.tensor([extent]).double(), only=("rotation",))
    made = [turns(x, turns.noise(len(x), x, rng)) for _ in range(PLANTED if extent else 1)]
    total = torch.zeros(len(x), len(x)).double()
    for i, a in enumerate(made):
        for b in made[: i + 1]:
            one = kernel(a, b) / len(made) ** 2
            total += one if a is b else one + one.T
    root = torch.linalg.cholesky(total + 1e-8 * torch.eye(len(x)).double())
    f = root @ torch.randn(len(x), 4, generator=rng).double()
    return f + 0.1 * f.std() * torch.randn(f.shape, generator=rng).double()


def profile(kernel: Invariant, data: nv.Data, degrees: int) -> tuple[float, float, float]:
    """The highest exact evidence of a grid of lengths and amplitudes, and where it is."""
    kernel, tried = replace(kernel, copies=6 if degrees else 1), list[tuple[float, float, float]]()
    for length in LENGTHS:
        for amplitude in AMPLITUDES:
            scales = {"log_length": torch.tensor(length).double().log()}
            scales["log_amplitude"] = torch.tensor(amplitude).double().log()
            at = kernel.with_learnable({**kernel.learnable(), **scales})
            tried.append((process(at, data, steps=0).log_evidence, length, amplitude))
    return max(tried)


def scan(n: int, points: int, seed: int, smooth: bool) -> dict[str, list[list[float]]]:
    """Degrees, the bound and its error at kernels that were learned but for the extent, and the exact evidence there.

    With as many points as images: degrees, the exact evidence at the best of some lengths and amplitudes, and these.
    """
    found: dict[str, list[list[float]]] = {}
    data = nv.load(Path(os.environ["NOVACULA_DATA"]) / "mnist10k.npz")
    for turned, some in SCAN.items():
        row = json.loads((RESULTS / f"{turned}-invariant-1000-{seed}.json").read_text())["learned"]
        x = perturb(data.x, [parse(f"rotate={turned}")], seed=seed) if turned else data.x
        x = turned_by(turned_by(x, 10), -10) if smooth else x
        train, _ = data.with_values(x, data.y).split(n, seed=seed)
        scales = (torch.tensor(row[k]).double() for k in ("log_length", "log_amplitude"))
        kernel = Invariant(SquaredExponential(*scales), nv.Affine(only=("rotation",)), copies=6)
        for degrees in some:
            kernel = kernel.with_learnable({**kernel.learnable(), "eta": torch.tensor([degrees / 180]).double()})
            if points >= n:
                found.setdefault(f"{turned}, best", []).append([degrees, *profile(kernel, train, degrees)])
            else:
                bound = inducing(kernel, train, points=points, steps=0, seed=seed).bound
                found.setdefault(f"{turned}", []).append([degrees, float(bound), bound.stderr])
            if points < n and degrees in some[::3]:
                exact = process(replace(kernel, copies=8), train, steps=0).log_evidence
                found.setdefault(f"{turned}, exact", []).append([degrees, exact])
    return found


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turned", type=int, default=0)
    parser.add_argument("--arm", choices=ARMS, default="invariant")
    parser.add_argument("--n", type=int, default=1_000)
    parser.add_argument("--points", type=int, default=300, help="inducing points; as many as images: exact")
    parser.add_argument("--copies", type=int, default=6)
    parser.add_argument("--steps", type=int, default=45)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smooth", action="store_true", help="images smoothed as copies are")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--scan", action="store_true")
    parser.add_argument("--summary", action="store_true")
    given = parser.parse_args()
    if given.scan:
        found = scan(given.n, given.points, given.seed, given.smooth)
        path = RESULTS.parent / "invariant_gp_scan.json"
        old = json.loads(path.read_text()) if path.exists() else {}
        kind = f"{given.n}{', smooth' if given.smooth else ''}"
        write(path, {**old, kind: {"found": found, "environment": environment()}})
        return
    if given.summary:
        for path in sorted(RESULTS.glob("*.json")):
            row = json.loads(path.read_text())
            told = "" if row["degrees"] is None else f"{row['degrees']:.0f} degrees"
            numbers = (f"{k} {row[k]:.3f}" for k in ("log_evidence", "error", "cpu_seconds"))
            smooth = "smooth" if row.get("smooth") else ""
            print(row["turned"], row["arm"], row["n"], row["seed"], *numbers, told, smooth)
        return
    wanted = [(t, a) for t in TURNS for a in ARMS[:3]] if given.all else [(given.turned, given.arm)]
    for turned, arm in wanted:
        found = run(turned, arm, given.n, given.points, given.copies, given.steps, given.seed, given.smooth)
        kind = f"{arm}-smooth" if given.smooth else arm
        write(RESULTS / f"{turned}-{kind}-{given.n}-{given.seed}.json", found)


if __name__ == "__main__":
    main()
