"""Run folders with each kind of stored posterior, with checksums and without; checkpoints and saved options."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import novacula as nv
from benchmarks.damaged.subject import Subject
from novacula.cli.options import Options, load_options, save_options
from novacula.cli.summary import summary
from novacula.core.storage.run import MANIFEST, RECORD, Run
from novacula.data.standardise import Standardiser
from novacula.inference.checkpoint import load_checkpoint, save_checkpoint
from novacula.runs.loading import load_run

_POSTERIORS = {
    "measurements": None,  # what `learn` itself chooses
    "points": "ensemble:members=3",
    "draws": "sghmc:keep=4",
    "masks": "dropout",
    "one draw of each": "multi-swag:members=2",
}


def runs(folder: Path) -> list[Subject]:
    """Run folders, file by file: of measurements, and of classes with a stored posterior."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 2)).astype(np.float32)
    made = []
    for name, posterior in _POSTERIORS.items():
        data = _data(x, measurements=posterior is None)
        fit = nv.learn(_target(name), data, epochs=2, seed=0)
        if posterior is not None:
            fit = fit.with_posterior(posterior, steps=12)
        fit.save(folder / name, test=data.subset(range(10)))
        read = partial(_read, name=name, data=data, new=torch.from_numpy(x[:5]))
        # The older folder is as a version without checksums wrote it.
        old = folder / f"{name} of schema 1"
        shutil.copytree(folder / name, old, ignore=shutil.ignore_patterns(MANIFEST))
        record = json.loads((old / RECORD).read_text())
        (old / RECORD).write_text(json.dumps({**record, "schema": 1}))
        for kind, path in (("run", folder / name), ("run of schema 1", old)):
            files = sorted(path.iterdir())
            made += [Subject(f"{kind}/{name}/{file.name}", file, partial(read, path), True) for file in files]
        if name == "points":
            made.append(_checkpoint(folder / "checkpoint.safetensors", fit.params))
            made.append(_options(folder / "command.json"))
    return made


def _data(x: np.ndarray, *, measurements: bool) -> nv.Data:
    if not measurements:
        return nv.Data(*_tensors(x, (x.sum(1) > 0).astype(np.int64)))
    own = nv.Data(*_tensors(x, (3 * x[:, :1] - x[:, 1:] + 5).astype(np.float32)))
    return Standardiser.fit(own).apply(own)


def _target(name: str) -> nv.Target:
    if name == "measurements":
        return nv.Target(nv.networks.make("linear", (2,), 1), likelihood=nv.Normal())
    if name != "masks":
        return nv.Target(nv.networks.make("linear", (2,), 2), likelihood=nv.Categorical())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = (torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(4, 2))
        return nv.Target(torch.nn.Sequential(*layers), likelihood=nv.Categorical())


def _read(path: Path, *, name: str, data: nv.Data, new: torch.Tensor) -> bytes:
    run = Run.read(path)
    summary(run.record)
    shown = json.dumps({**run.record, "schema": None}, sort_keys=True).encode()
    saved = load_run(path, target=_target(name), data=data)
    p = saved.predict(new)
    spread = p.variance().numpy().tobytes() if data.task == "regression" else b""
    arrays = b"".join(k.encode() + a.tobytes() for k, a in sorted(run.arrays.items()))
    history = json.dumps(run.history).encode()
    return shown + history + arrays + p.mean().numpy().tobytes() + spread


def _checkpoint(path: Path, state: Any) -> Subject:
    save_checkpoint(path, state, step=3, history=[{"epoch": 1.0, "loss": 0.5}], done=False, run_key="key")

    def read() -> bytes:
        found, *rest = load_checkpoint(path, state, run_key="key")
        return b"".join(k.encode() + w.numpy().tobytes() for k, w in sorted(found.items())) + repr(rest).encode()

    return Subject("checkpoint.safetensors", path, read, True)


def _options(path: Path) -> Subject:
    save_options(Options.of(data="digits", epochs=30, perturb=("rotate=180",)), path)
    return Subject("command.json", path, lambda: repr(load_options(Options, path)).encode(), True)


def _tensors(*arrays: np.ndarray) -> list[Any]:
    return [torch.from_numpy(a) for a in arrays]
