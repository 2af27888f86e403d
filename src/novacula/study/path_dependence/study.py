"""`path_dependence`: two runs end in different weights; are they different functions?

The answer is in one number, the share of examples of which two runs say different labels over the share that a run gets
wrong. Were labels of runs draws from what the examples leave open, as the true one is, the two would be alike (Jiang
and others, 2022); where all runs make the same errors it is nought, and where all errors are a run's own it is two.
Beside it stand total variation, what happens to inputs of another kind, representations, the loss between runs, and the
variance by causes of a crossed layout. Intervals are of runs, by a bootstrap (`novacula.paths.crossed`): the examples
are taken as they are.

References:
    Underspecification presents challenges for credibility in modern machine learning. A. D'Amour and others, 2020.
    arXiv:2011.03395.
    Assessing generalization of SGD via disagreement. Y. Jiang, V. Nagarajan, C. Baek, J. Z. Kolter, 2022.
    arXiv:2106.13799.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from novacula.core.checks.numbers import check_callable, check_positive, check_whole, check_within
from novacula.core.errors import InputError
from novacula.data.given import DataLike
from novacula.paths.crossed import ANY, SHARE, Layout, Measured, components, over_pairs, over_runs
from novacula.paths.similarity import Measure
from novacula.study.comparing.settings import gap
from novacula.study.path_dependence.measure import (
    apart,
    lines,
    outside,
    predictions,
    representations,
    scores,
    some_pairs,
    stability,
    transfer,
)
from novacula.study.path_dependence.members import Members, RunLike, members
from novacula.study.path_dependence.result import PathDependence
from novacula.target.given import TargetLike

Progress = Callable[[int, int], None]


def path_dependence(
    runs: Sequence[RunLike],
    module: TargetLike | None = None,
    data: DataLike | None = None,
    *,
    train: DataLike | None = None,
    causes: Mapping[str, Sequence[int]] | None = None,
    against: Sequence[RunLike] | None = None,
    against_module: TargetLike | None = None,
    inputs: Mapping[str, Tensor] | None = None,
    similarity: Measure | None = "cka",
    layer: str | None = None,
    pairs: int = 12,
    attack: float = 0.25,
    alpha: float = 0.1,
    seed: int = 0,
    progress: Progress | None = None,
) -> PathDependence:
    """Say how much trained networks depend on the path of their training.

    Args:
        runs: Two runs or more of one network and one training set: folders of ``novacula learn``, files of weights
            (safetensors, or a state dict of ``torch.save``, read without running code), state dictionaries, results.
        module: The network of runs that are weights alone; or a target.
        data: Examples that the runs have not seen, in the units of the data; by default what runs of folders set aside.
        train: Training data, from which statistics of normalisation are taken anew on the line between two runs.
        causes: Of a crossed layout (see `crossed_runs`), the level of each run by cause.
        against: Runs of another setting, on the same examples. Run r of both is taken for a pair (the same seed).
        against_module: Their network, where it is another.
        inputs: Inputs of another kind by name, shape ``(N, …)``; by default the examples *corrupted* by noise of half
            their standard deviation, and *shuffled*, each feature from an example of its own.
        similarity: How representations are compared; None leaves them out.
        layer: The layer whose outputs these are; by default the inputs of the last linear layer.
        pairs: Pairs whose representations and barriers are measured, at most; 0 for none.
        attack: How far perturbations that are made against one run move each number of an input, in standard deviations
            of the inputs, of up to 500 examples with labels; 0 for none.
        alpha: One minus the level of the intervals.
        seed: Seed of everything random.
        progress: Called with (pairs done, pairs in all).

    Returns:
        The verdict (``.words``), what was measured with its intervals, and the record (``.to_dict()``).

    Raises:
        InputError: If there are fewer than two runs, they are of different networks or training sets, a weight or
            output is not finite, or what is given does not fit.

    Example:
        >>> import novacula as nv
        >>> train, test = nv.load("digits").subset(range(400)).split(300)
        >>> nets = [nv.networks.make("mlp", train.x_shape, 10, seed=s, width=16) for s in range(3)]
        >>> runs = [nv.infer(nv.MAP(lr=0.01), net, train, steps=100) for net in nets]
        >>> found = path_dependence(runs, nets[0], test, pairs=0)
        >>> 0 < found.measured["disagreement"].value < 0.5
        True
    """
    check_whole("pairs", pairs, least=0)
    check_within("alpha", alpha)
    if attack:
        check_positive("attack", attack)
    check_callable("progress", progress)
    how = partial(_study, inputs, similarity, layer, pairs, attack, alpha, seed, progress)
    own = members(runs, module, data, train)
    found = how(own, Layout.of(own.count, causes))
    if against is None:
        return found
    other = members(against, module if against_module is None else against_module, own.data, own.train)
    theirs = how(other, Layout.of(other.count))
    if theirs.values.shape[1:] != found.values.shape[1:]:
        got = f"{found.values.shape[1:]} and {theirs.values.shape[1:]}"
        raise InputError("settings that predict the same", got, "compare networks with the same outputs")
    losses = [[*m.pairs["loss"].diagonal()] for m in (found, theirs)]
    paired = gap(*losses, alpha=alpha) if own.count == other.count else None
    between = _between(found.values, theirs.values, own, alpha, seed)
    return dataclasses.replace(found, against=theirs, gap=paired, between=between)


def _study(
    inputs: Mapping[str, Tensor] | None,
    similarity: Measure | None,
    layer: str | None,
    most: int,
    attack: float,
    alpha: float,
    seed: int,
    progress: Progress | None,
    own: Members,
    layout: Layout,
) -> PathDependence:
    measure, mask = partial(layout.measure, alpha=alpha, seed=seed), layout.apart
    values = predictions(own, own.data.x, seed)
    runs, tables = scores(own, values, seed), apart(values, own.data)
    first, error = over_pairs(next(iter(tables.values())), mask), over_runs(runs["error"])
    share = (0.0, math.inf) if own.data.task == "regression" else SHARE
    measured = {"loss": measure(over_runs(runs["loss"]), bounds=ANY), "error": measure(error, bounds=share)}
    measured |= {name: measure(over_pairs(v, mask), bounds=share) for name, v in tables.items()}
    steady, key = stability(values, own.data), next(iter(tables))
    measured["share"] = measure(lambda w: first(w) / np.where(error(w) > 0, error(w), 1.0))  # runs that never err agree
    for name, x in (outside(own.data, seed) if inputs is None else inputs).items():
        table = apart(predictions(own, x.to(own.data.x), seed), own.data)[key]
        tables[f"outside/{name}"], there = table, over_pairs(table, mask)
        measured[f"outside/{name}"] = measure(there, bounds=share)
        measured[f"excess/{name}"] = measure(lambda w, t=there: t(w) - first(w), bounds=ANY)
    made = transfer(own, attack, seed) if attack else None
    if made is not None:
        tables["attacked"], noise = made[0], over_runs(made[1])
        same, other = over_runs(made[0].diagonal()), over_pairs(made[0], mask)
        measured |= {"attack/own": measure(same, bounds=SHARE), "attack/others": measure(other, bounds=SHARE)}
        measured |= {"attack/noise": measure(noise, bounds=SHARE)}
        measured["attack/share"] = measure(
            lambda w: (other(w) - noise(w)) / np.maximum(same(w) - noise(w), 1e-12), bounds=ANY
        )
    looked, about, warnings = some_pairs(mask, most), dict[str, Any](), own.warnings
    alike = representations(own, looked, similarity, layer, seed) if looked and similarity is not None else None
    if alike is not None:
        tables["similarity"] = alike.value
        chance, p_value = float(np.nanmean(alike.chance)), float(np.nanmax(alike.p_value))
        about = {"layer": alike.layer, "measure": similarity, "chance": chance, "p_value": p_value}
        measured["similarity"] = measure(over_pairs(alike.value, np.isfinite(alike.value)), bounds=(-1.0, 1.0))
    curves: dict[str, np.ndarray] = {}
    if looked:
        on_lines, more = lines(own, looked, seed, progress or (lambda done, total: None))
        curves, warnings = on_lines.losses, warnings + more
        for name, table in on_lines.heights.items():
            tables[f"barrier/{name}"] = table
            measured[f"barrier/{name}"] = measure(over_pairs(table, np.isfinite(table)))
    parts = components(values, layout, alpha=alpha) if len(layout.levels) > 1 else {}
    tables |= {name: np.diag(v) for name, v in runs.items()}
    return PathDependence(
        own.names, own.data.task, own.data.n, measured, parts, tables, steady, curves, about, values, warnings
    )


def _between(a: np.ndarray, b: np.ndarray, own: Members, alpha: float, seed: int) -> Measured:
    # How much further apart two settings are than runs of one: the energy distance, of which half is within each.
    table = next(iter(apart(np.concatenate([a, b]), own.data).values()))
    group = np.arange(len(table)) >= len(a)
    same, other = group[:, None] == group, np.eye(len(table), dtype=bool)
    within = [over_pairs(table, same & ~other & (group == g)) for g in (False, True)]
    across = over_pairs(table, ~same)
    return Layout.of(len(table)).measure(
        lambda w: across(w) - (within[0](w) + within[1](w)) / 2, bounds=ANY, alpha=alpha, seed=seed
    )
