"""What the evidence makes of relaxed layers: digits that are shifted, and digits whose place is the label.

    python -m benchmarks.relaxed --case shifted --seed 0      # two minutes
    python -m benchmarks.relaxed --all --seeds 2
    python -m benchmarks.relaxed --summary

The 8×8 digits of scikit-learn in a 12×12 frame. ``shifted``: at a random place; ``framed``: upright in the middle. The
network is dense(144 → 12×6×6), GELU, dense(→ 24×3×3), GELU, an average over places, linear(24 → 10), or, in the cases
``…-one``, dense(144 → 24×6×6), GELU, an average over places, linear(24 → 10), where no layer but the first can tell
places. It starts dense;
arms are the relaxed network (`nv.study.relaxation`), and dense layers and convolutions alone, trained and solved for in
as many rounds as the relaxed network that is left.
"""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import novacula as nv
from benchmarks.common import environment, runs
from novacula.core.rng import generator
from novacula.networks.make import seeded
from novacula.posteriors.base import Posterior

RESULTS = Path(__file__).parent / "results" / "relaxed"
CASES, ARMS = ("shifted", "framed", "shifted-one", "framed-one"), ("dense", "convolution", "relaxed")
SIDE, STEPS, ROUNDS = 12, 300, 12


def data_of(case: str, seed: int) -> tuple[nv.Data, nv.Data]:
    """Training and test data."""
    digits = nv.load("digits")
    x, rng = digits.x, generator(seed, "places")
    room = SIDE - x.shape[-1]
    framed = F.pad(x, (room // 2,) * 4)
    if case.startswith("shifted"):
        places = torch.randint(room + 1, (len(x), 2), generator=rng)
        whole = F.pad(x, (room,) * 4)
        rows = [
            w[:, room - a : room - a + SIDE, room - b : room - b + SIDE]
            for w, (a, b) in zip(whole, places, strict=True)
        ]
        framed = torch.stack(rows)
    return nv.Data(framed, digits.y).split(1_300, seed=seed)


def network(case: str, seed: int) -> nn.Sequential:
    """Dense layers between images, an average over places, and a head."""
    with seeded(seed):
        if case.endswith("one"):
            return nn.Sequential(
                nn.Flatten(), nn.Linear(SIDE * SIDE, 24 * 36), nn.GELU(), nn.Unflatten(1, (24, 6, 6)),
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
            )  # fmt: skip
        return nn.Sequential(
            nn.Flatten(), nn.Linear(SIDE * SIDE, 12 * 36), nn.GELU(), nn.Unflatten(1, (12, 6, 6)),
            nn.Flatten(), nn.Linear(12 * 36, 24 * 9), nn.GELU(), nn.Unflatten(1, (24, 3, 3)),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
        )  # fmt: skip


def run(case: str, arm: str, seed: int) -> dict[str, Any]:
    """One run."""
    torch.set_num_threads(1)
    train, test = data_of(case, seed)
    net = nv.structure.relax(network(case, seed), train.x[:2], kernel=7 if case.endswith("one") else 5)
    began = time.process_time()
    said: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nv.NovaculaWarning)
        if arm == "relaxed":
            found = nv.study.relaxation(nv.Target(net), train, steps=STEPS, rounds=ROUNDS, seed=seed)
            posterior = found.posterior
            said = {
                "evidence": found.evidence,
                "effective": found.effective,
                "share": found.share("convolution"),
                "trials": [vars(t) for t in found.trials],
            }
        else:
            posterior, said = alone(
                start(nv.structure.keep(net, dict.fromkeys(nv.structure.parts(net), arm)), seed), train, seed
            )
    seconds = time.process_time() - began
    prediction = nv.predict(posterior, test.x)
    return {
        "case": case,
        "arm": arm,
        "seed": seed,
        "accuracy": float((prediction.mean().argmax(1) == test.y).double().mean()),
        "nll": -float(prediction.log_prob(test.y).double().mean()),
        "cpu_seconds": seconds,
        "environment": environment(),
        **said,
    }


def alone(net: nn.Module, train: nv.Data, seed: int) -> tuple[Posterior, dict[str, Any]]:
    """A network without choices, in rounds of training and solving."""
    target = nv.Target(net)
    posterior, evidence = None, float("nan")
    for r in range(ROUNDS + 2 * (ROUNDS // 3)):
        options: dict[str, Any] = {"init": posterior, "steps": STEPS, "batch_size": 64, "seed": r}
        posterior = nv.infer(nv.MAP(lr=4e-3), target, train, **options)
        tuned = nv.evidence.tune(target, train, posterior, subset=500, columns=8, seed=seed)
        target, evidence = tuned.target, float(tuned.evidence)
    assert posterior is not None
    return posterior, {"evidence": evidence}


def start(net: nn.Module, seed: int) -> nn.Module:
    """Convolutions alone begin at a draw of their own, not at nought."""
    with seeded(seed + 1), torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()
    return net


def summary() -> str:
    """The table of results, in Markdown."""
    lines = [
        "| case | seed | " + " | ".join(f"{a}: accuracy, NLL, nats" for a in ARMS) + " | effective parameters | share |"
    ]
    lines += ["| --- | ---: | --- | --- | --- | --- | ---: |"]
    found = [json.loads(p.read_text()) for p in sorted(RESULTS.glob("*.json"))]
    for case in CASES:
        for seed in sorted({r["seed"] for r in found}):
            of = {r["arm"]: r for r in found if (r["case"], r["seed"]) == (case, seed)}
            if set(of) == set(ARMS):
                cells = [f"{r['accuracy']:.4f}, {r['nll']:.3f}, {r['evidence']:.0f}" for r in (of[a] for a in ARMS)]
                used = "; ".join(
                    ", ".join(f"{part} {n:.0f}" for part, n in layer.items())
                    for layer in of["relaxed"]["effective"].values()
                )
                lines.append(f"| {case} | {seed} | {' | '.join(cells)} | {used} | {of['relaxed']['share']:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    runs(RESULTS, CASES, ARMS, run, summary)
