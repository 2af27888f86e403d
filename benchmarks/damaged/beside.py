"""Files beside data and runs: weights of a person's network, costs, comparisons of augmentations, a sampler's state."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

import novacula as nv
from benchmarks.damaged.subject import Subject
from novacula.core.errors import InputError
from novacula.core.storage.run import ADVICE, NETWORKS, PICTURES, PLAN, plain
from novacula.inference.checkpoint import pack
from novacula.inference.loop import Outcome, run
from novacula.networks.weights import load_weights
from novacula.prediction.decisions.costs import load_costs
from novacula.reporting import report
from novacula.study.augmentation.advise import augment
from novacula.study.augmentation.arms import NONE
from novacula.study.augmentation.networks import Network, train
from novacula.study.augmentation.plan import kept


def beside(folder: Path) -> list[Subject]:
    """A small file of each kind."""
    folder.mkdir(parents=True)
    return [*_weights(folder), _costs(folder / "costs.csv"), *_comparison(folder / "augment"), *_states(folder)]


def _weights(folder: Path) -> list[Subject]:
    def net() -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))

    def read(path: Path) -> bytes:
        made = net()
        load_weights(made, path)
        return b"".join(w.numpy().tobytes() for w in made.state_dict().values())

    state = net().state_dict()
    save_file(state, folder / "w.safetensors")
    torch.save({"state_dict": state, "epoch": 3}, folder / "w.pt")
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    files = [folder / name for name in ("w.safetensors", "w.pt", "old.pt")]
    return [Subject(f"weights {file.name}", file, partial(read, file), False) for file in files]


def _costs(path: Path) -> Subject:
    path.write_text("class,keep,throw\nred,0,1.5\nblue,10,0\ngreen,2,3\n")
    names = ("blue", "green", "red")
    return Subject("costs", path, lambda: load_costs(path, names).matrix.numpy().tobytes(), False)


def _comparison(folder: Path) -> list[Subject]:
    # Finished: the record and the pictures; and what an unfinished one keeps.
    rng = np.random.default_rng(2)
    images = nv.Data(torch.from_numpy(rng.random((60, 1, 6, 6), dtype=np.float32)), torch.arange(60) % 2)
    store = folder / NETWORKS
    store.mkdir(parents=True)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 2))
    augment(images, only=("flip",), network=net, steps=4, workers=1, store=store).save(folder)
    one = Network(
        net, images, torch.arange(60) % 3, NONE, fold=0, start=0, steps=2, batch_size=20, seed=0, store=folder
    )
    train(one)
    assert one.path is not None

    def page() -> bytes:
        return report(folder).read_bytes()

    words = json.loads((store / PLAN).read_text())["asked"]

    def plan() -> bytes:
        found = kept(store, words)
        if found is None:
            raise InputError("a plan", "none", "the comparison begins anew")
        return repr(found).encode()

    return [
        Subject("comparison/advice.json", folder / ADVICE, page, True),
        Subject("comparison/pictures", folder / PICTURES, page, True),
        Subject("comparison/plan", store / PLAN, plan, True),
        Subject("comparison/network", one.path, lambda: train(one).numpy().tobytes(), True),
    ]


def _states(folder: Path) -> list[Subject]:
    # What `run` goes on from: the nested states of a method by each kind of batching.
    rng = np.random.default_rng(3)
    x = torch.from_numpy(rng.normal(size=(24, 2)).astype(np.float32))
    data = nv.Data(x, x.sum(1, keepdim=True))
    target = nv.Target(torch.nn.Linear(2, 1), likelihood=nv.Normal())
    methods: dict[str, Any] = {
        "map": nv.MAP(), "swag": nv.SWAG(), "ivon": nv.IVON(), "sghmc": nv.SGHMC(keep=3), "nuts": nv.NUTS(keep=3)
    }  # fmt: skip
    made = []
    for name, method in methods.items():
        path = folder / f"{name}.safetensors"
        go = partial(run, method, target, data, steps=6, batch_size=8, checkpoint=path, resume=True)
        go()
        made.append(Subject(f"checkpoint of {name}", path, partial(_state, go), True))
    return made


def _state(go: Callable[[], Outcome]) -> bytes:
    found = go()
    tensors, other = pack(found.state)
    content = b"".join(k.encode() + w.detach().numpy().tobytes() for k, w in sorted(tensors.items()))
    return f"{plain(found.history)} {found.steps} {other}".encode() + content
