"""What hangs on the defaults of learned extents: each at half and at twice its value, on three data sets.

    python -m benchmarks.halves --all            # 99 runs of 30 to 60 CPU seconds
    python -m benchmarks.halves --summary

The data sets are 600 of scikit-learn's digits for training, upright, turned by up to 90 degrees, or shifted by up to a
fifth of the width, and 1,197 for the test; the network is the built-in ``mlp``, the six affine extents are free, and
all else is `nv.learn` as it comes. ``as it is`` is run with three seeds, by whose spread the others are to be judged;
these have the first. One JSON file a run lies in ``results/halves``; runs that are there are kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import statistics
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import novacula as nv
from benchmarks.common import environment, write
from novacula.invariances.perturb import parse, perturb
from novacula.study.learning import learn as learning
from novacula.study.learning import plan
from novacula.study.learning.blind import BlindExtents

RESULTS = Path(__file__).parent / "results" / "halves"
DATA = {"upright": None, "turned": "rotate=90", "shifted": "translate=0.2"}
N = 600
_ROOM = "novacula.study.learning"
# The default's name in the table: where it stands, and its value.
FIELDS = {f.name: f.default for f in dataclasses.fields(BlindExtents)}
# What costs time, or decides most, comes first.
DEFAULTS: dict[str, tuple[str, Any]] = {
    "part by which networks go on, 1 in": ("SHARE", importlib.import_module(f"{_ROOM}.each").SHARE),
    "rounds": ("ROUNDS", plan.ROUNDS),
    "extents wider than asked, share": ("wider", FIELDS["wider"]),
    "steps of the extents": ("moves", FIELDS["moves"]),
    "their learning rate": ("lr", FIELDS["lr"]),
    "unseen examples a step": ("examples", FIELDS["examples"]),
    "copies a step": ("copies", FIELDS["copies"]),
    "steps before the first": ("burn_in", FIELDS["burn_in"]),
    "their rate falls from": ("hold", FIELDS["hold"]),
    "learning rate of the weights": ("_FAST", learning._FAST),
    "steps of the first round": ("_FIRST", learning._FIRST),
    "copies of a comparison": ("COPIES", importlib.import_module(f"{_ROOM}.each").COPIES),
    "worth a word, nats": ("WORTH", importlib.import_module(f"{_ROOM}.each").WORTH),
    "an extent that is none": ("SMALL", importlib.import_module(f"{_ROOM}.each").SMALL),
    "looks": ("_LOOKS", importlib.import_module(f"{_ROOM}.verdicts")._LOOKS),
}
_HOME = {"_FAST": "learn", "_FIRST": "learn", "ROUNDS": "plan", "_LOOKS": "verdicts"}


def scaled(name: str, value: Any, factor: float) -> Any:
    """A default times a factor; of a share beyond one, the excess; of a fraction of the run, at most .8."""
    if name == "wider":
        return 1 + factor * (value - 1)
    if name == "hold":
        return min(factor * value, 0.8)
    if name == "_FIRST":
        return {table: (round(factor * steps), passes * factor) for table, (steps, passes) in value.items()}
    if isinstance(value, dict):
        return {k: max(1, round(factor * v)) for k, v in value.items()}
    return max(1, round(factor * value)) if isinstance(value, int) else factor * value


@contextmanager
def changed(name: str, value: Any) -> Iterator[None]:
    """Another default, for a while."""
    if name in FIELDS:
        home, place = plan, "BlindExtents"
        own = BlindExtents

        def made(*args: Any, **more: Any) -> BlindExtents:
            return own(*args, **{name: value, **more})

        new: Any = made
    else:
        home, place, new = importlib.import_module(f"{_ROOM}.{_HOME.get(name, 'each')}"), name, value
    before = getattr(home, place)
    setattr(home, place, new)
    try:
        yield
    finally:
        setattr(home, place, before)


def run(data: str, seed: int) -> dict[str, Any]:
    """One run of `nv.learn`."""
    everything = nv.load("digits")
    x = everything.x.reshape(-1, 1, 8, 8)
    x = perturb(x, [parse(DATA[data])], seed=0) if DATA[data] else x  # type: ignore[arg-type]
    train, test = nv.Data(x, everything.y, name=data).split(N, seed=0)
    network = nv.networks.make("mlp", train.x_shape, 10, seed=seed)
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nv.NovaculaWarning)
        fit = nv.learn(nv.Target(network, invariance=nv.Affine()), train, seed=seed)
        taken = time.process_time() - began
        prediction = nv.predict(fit.posterior, test.x)
    return {
        "nll": -float(prediction.log_prob(test.y).double().mean()),
        "accuracy": float((prediction.mean().argmax(1) == test.y).double().mean()),
        "extents": {k: v["extent"] for k, v in fit.verdicts.items()},
        "verdicts": {k: v["verdict"] for k, v in fit.verdicts.items()},
        "intervals": {k: v["interval"] for k, v in fit.verdicts.items()},
        "out_of_fold": fit.unseen.score()["nll"] if fit.unseen is not None else None,
        "cpu_seconds": taken,
    }


def every() -> None:
    """All runs that are not there yet."""
    torch.set_num_threads(1)
    for data in DATA:
        for seed in range(3):
            _keep(data, f"as-it-is-{seed}", lambda d=data, s=seed: run(d, s))
    for name, value in DEFAULTS.values():
        for factor in (0.5, 2.0):
            for data in DATA:

                def other(d: str = data, n: str = name, v: Any = value, f: float = factor) -> dict[str, Any]:
                    with changed(n, scaled(n, v, f)):
                        return {**run(d, 0), "default": n, "value": str(scaled(n, v, f))}

                _keep(data, f"{name.strip('_').lower()}-{factor:g}", other)


def _keep(data: str, name: str, made: Any) -> None:
    path = RESULTS / f"{data}-{name}.json"
    if path.exists():
        return
    found = made()
    write(path, {**found, "data": data, "name": name, "environment": environment()})
    print(data, name, f"{found['nll']:.3f}", f"{found['cpu_seconds']:.0f} CPU-s", flush=True)


def summary() -> str:
    """The changes of the test log loss, beside the spread of seeds."""
    found = {p.stem: json.loads(p.read_text()) for p in sorted(RESULTS.glob("*.json"))}
    lines = [f"| default | value | {' | '.join(f'{d}: half, twice' for d in DATA)} |", "| --- | --- |" + " --- |" * 3]
    base = {d: [found[f"{d}-as-it-is-{s}"]["nll"] for s in range(3) if f"{d}-as-it-is-{s}" in found] for d in DATA}
    cells = [f"{statistics.mean(v):.3f}, from {min(v):.3f} to {max(v):.3f}" if v else "–" for v in base.values()]
    lines.append(f"| as it is, three seeds | | {' | '.join(cells)} |")
    for label, (name, value) in DEFAULTS.items():
        row = []
        for d in DATA:
            pair = [found.get(f"{d}-{name.strip('_').lower()}-{f}") for f in ("0.5", "2")]
            row.append(", ".join("–" if p is None else f"{p['nll'] - base[d][0]:+.3f}" for p in pair))
        lines.append(f"| {label} | {value} | {' | '.join(row)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if options.all:
        every()
    print(summary())


if __name__ == "__main__":
    main()
