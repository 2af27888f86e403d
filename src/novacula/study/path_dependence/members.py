"""The runs that are compared: their networks, their weights and the examples that all of them answer for."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.data.data import Data
from novacula.data.given import DataLike, as_data
from novacula.data.standardise import Standardiser
from novacula.networks.weights import load_weights
from novacula.paths.barrier import point_of
from novacula.posteriors.base import Learned, Posterior, weights_of
from novacula.runs.loading import SavedRun, load_run, training_data
from novacula.target import Target
from novacula.target.given import TargetLike, as_target, prepared

RunLike: TypeAlias = str | Path | SavedRun | Params | Posterior | Learned
"""A run folder, a file of weights, a state dictionary, a posterior (its mode) or a result of `novacula.learn`."""


@dataclass(frozen=True, eq=False)
class Members:
    """Runs of one network."""

    names: tuple[str, ...]  # for people
    # the network of each with its likelihood, prepared for the data; what was learned may differ
    targets: tuple[Target, ...]
    points: tuple[Params, ...]  # the weights and statistics of each
    data: Data  # the examples on which they are compared, in the units of the networks
    train: Data | None  # training data in the same units, where they are known
    warnings: tuple[str, ...]  # reservations a reader must know

    __repr__ = brief

    @property
    def count(self) -> int:
        """R."""
        return len(self.names)


def members(
    runs: Sequence[RunLike], module: TargetLike | None, data: DataLike | None, train: DataLike | None
) -> Members:
    """Read runs: finite networks of one kind that learned from the same data, unless ``data`` are given."""
    if isinstance(runs, str | bytes | Path) or not isinstance(runs, Sequence) or len(runs) < 2:
        got = f"a {type(runs).__name__} of {len(runs) if isinstance(runs, list | tuple) else 1}"
        raise InputError("a list of at least two runs", got, "train another with another seed")
    found = [_opened(run) for run in runs]
    folders = [run for run in found if isinstance(run, SavedRun)]
    rows, seen, warnings = _data(folders, len(runs), data, train)
    names = tuple(str(run) if isinstance(run, str | Path) else f"run {i}" for i, run in enumerate(runs))
    targets, points = [], []
    for name, run in zip(names, found, strict=True):
        try:
            target, weights = _network(run, module, rows)
            points.append(point_of(target, weights))
        except InputError as error:
            raise InputError(error.expected, f"{error.got} ({name})", error.hint) from error
        targets.append(target)
        shapes = [{k: w.shape for k, w in p.items()} for p in (points[0], points[-1])]
        if shapes[0] != shapes[1]:
            hint = "compare runs of one network; another setting goes to against="
            raise InputError("runs of one network", f"other weights in {name} than in {names[0]}", hint)
    for name, point in zip(names[1:], points[1:], strict=True):
        if all(torch.equal(w, points[0][k]) for k, w in point.items()):
            warnings += (f"{name} has the same weights as {names[0]}",)
    return Members(names, tuple(targets), tuple(points), rows, seen, warnings)


def _opened(run: RunLike) -> SavedRun | Path | Params | Posterior | Learned:
    if not isinstance(run, str | Path):
        return run
    path = Path(run).expanduser()
    return path if path.is_file() else load_run(path)


def _network(run: object, module: TargetLike | None, rows: Data) -> tuple[Target, Params]:
    if isinstance(run, SavedRun):
        prefix = "statistics/"
        kept = {k.removeprefix(prefix): torch.tensor(v) for k, v in run.run.weights().items() if k.startswith(prefix)}
        return run.target.prepare(rows)[0], {**kept, **run.posterior.mode}
    if module is None:
        hint = "module=the network, or a target; on the command line --net MODULE.py:NAME"
        raise InputError("a network for weights", "weights alone", hint)
    if not isinstance(run, Path):
        return prepared(module, rows)[0], weights_of(run)  # type: ignore[arg-type]
    network: nn.Module = copy.deepcopy(as_target(module, rows).network)
    load_weights(network, run)
    return prepared(module, rows)[0], dict(network.state_dict())


def _data(
    folders: list[SavedRun], count: int, data: DataLike | None, train: DataLike | None
) -> tuple[Data, Data | None, tuple[str, ...]]:
    warnings: tuple[str, ...] = ()
    seen = None if train is None else as_data(train)
    prints = {run.run.record["data"].get("fingerprint") for run in folders}
    rows = None if data is None else as_data(data)
    scale = rows.scaling if rows is not None and rows.scaling is not None else folders[0].scaling if folders else None
    if not all(_same_units(run.scaling, scale) for run in folders):
        raise InputError("runs of one training set", "runs whose tables have other units", "learn from the same rows")
    if rows is not None:
        if len(prints) > 1:
            warnings = ("runs learned from other examples: what they differ in includes the sample",)
        return rows if scale is None or rows.scaling is not None else scale.apply(rows), seen, warnings
    if len(folders) < count:
        raise InputError("data on which weights are compared", "none", "data=nv.Data(x, y); on the command line --data")
    if len(prints) > 1:
        hint = "data with a test part of their own, so that --seed leaves the split; or data= examples none has seen"
        raise InputError("runs that learned from the same examples", f"{len(prints)} different sets", hint)
    found = training_data(folders[0])
    if found.test is None:
        warnings = ("runs are compared on the examples they learned from: none were set aside",)
    return found.test or found.train, seen or found.train, warnings


def _same_units(one: Standardiser | None, other: Standardiser | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(torch.equal(v, getattr(other, k)) for k, v in vars(one).items() if isinstance(v, torch.Tensor))
