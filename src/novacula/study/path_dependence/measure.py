"""What is measured of every run and of every pair: predictions, representations, the loss between two.

Inputs of another kind, where nothing tells runs what to say, come from the examples themselves: *corrupted*, with
Gaussian noise of half the inputs' standard deviation; *shuffled*, each feature or pixel from an example of its own, so
that what is left are the margins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.layers import calls, last_linear
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.paths.attacks import attack, shaken, spread
from novacula.paths.barrier import Barrier, barrier, outputs_at
from novacula.paths.churn import disagreements, steadiness, variations
from novacula.paths.matching import match
from novacula.paths.similarity import Measure, similarity
from novacula.paths.symmetries import Symmetries, symmetries
from novacula.study.path_dependence.members import Members

_NOISE = 0.5  # of the inputs' standard deviation
_ROWS = 1_000  # examples whose representations are compared
_POINTS = 11


def outside(data: Data, seed: int) -> dict[str, Tensor]:
    """The examples' inputs, corrupted and shuffled; of whole numbers, shuffled only."""
    rng, x = generator(seed, "outside"), data.x
    order = torch.rand(x.shape, generator=rng).argsort(0).to(x.device)
    found = {"shuffled": x.gather(0, order)}
    if x.is_floating_point():
        noise = torch.randn(x.shape, generator=rng, dtype=x.dtype).to(x.device)
        found = {"corrupted": x + _NOISE * spread(x) * noise, **found}
    return found


def predictions(members: Members, x: Tensor, seed: int) -> np.ndarray:
    """What each run predicts, probabilities or means: ``(R, N, C)``."""
    found = []
    for name, target, point in zip(members.names, members.targets, members.points, strict=True):
        f, there = outputs_at(target, point, x, seed=seed)
        if not bool(torch.isfinite(f).all()):
            raise InputError("finite outputs", f"NaN or infinity ({name})", "leave out the run that diverged")
        found.append(there.likelihood.mean(f).double().cpu().numpy())
    return np.stack(found)


def scores(members: Members, values: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Of each run the loss, in nats an example, and the error: a share of labels, or of the labels' deviation."""
    losses = []
    for target, point in zip(members.targets, members.points, strict=True):
        f, there = outputs_at(target, point, members.data.x, seed=seed)
        losses.append(float(-there.likelihood.log_prob(f, members.data.y).double().mean()))
    y = members.data.y.cpu().numpy()
    if members.data.task == "regression":
        wanted = y.reshape(len(y), -1)
        error = np.sqrt((((values - wanted) / _deviation(members.data)) ** 2).mean((1, 2)))
    elif members.data.task == "multilabel":
        error = ((values > 0.5) != (y > 0.5)).mean((1, 2))
    else:
        error = (values.argmax(2) != (y if y.ndim == 1 else y.argmax(1))).mean(1)
    return {"loss": np.array(losses), "error": error}


def apart(values: np.ndarray, data: Data) -> dict[str, np.ndarray]:
    """How far two runs are apart, ``(R, R)`` each, by the data's task; the first is in the units of the error."""
    if data.task == "regression":
        scaled = values / _deviation(data)
        return {"difference": np.array([[np.sqrt(((a - b) ** 2).mean()) for b in scaled] for a in scaled])}
    if data.task == "multilabel":  # of each label, |p − q|
        each = variations(values) * 2 / values.shape[2]
        return {"disagreement": disagreements(values > 0.5), "total_variation": each}
    return {"disagreement": disagreements(values.argmax(2)), "total_variation": variations(values)}


def transfer(members: Members, size: float, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """How often run s errs on what was made against r, ``(R, R)``, and on random signs, ``(R,)``; None of no labels."""
    data = members.data.subset(range(min(members.data.n, _ROWS // 2)))
    if data.task != "classification" or data.y.ndim > 1 or not data.x.is_floating_point():
        return None

    def errors(x: Tensor) -> np.ndarray:
        return (predictions(members, x, seed).argmax(2) != data.y.cpu().numpy()).mean(1)

    made = [attack(t, p, data, size=size) for t, p in zip(members.targets, members.points, strict=True)]
    return np.stack([errors(x) for x in made]), errors(shaken(data, size, seed))


def stability(values: np.ndarray, data: Data) -> np.ndarray | None:
    """Of each example the share of pairs of runs that say the same class, ``(N,)``; None of other tasks."""
    return steadiness(values.argmax(2)) if data.task == "classification" else None


def _deviation(data: Data) -> np.ndarray:
    y = data.y.double().cpu().numpy()
    return np.maximum(y.reshape(len(y), -1).std(0), 1e-12)


@dataclass(frozen=True, eq=False)
class Alike:
    """Representations of pairs of runs: ``(R, R)`` matrices, NaN where a pair was not looked at."""

    layer: str
    value: np.ndarray
    chance: np.ndarray
    p_value: np.ndarray


def representations(
    members: Members, pairs: list[tuple[int, int]], measure: Measure, layer: str | None, seed: int
) -> Alike | None:
    """How alike a layer's outputs are, or the inputs of the last linear layer; None where there is none."""
    x, found = members.data.x[:_ROWS], []
    forward = members.targets[0].forward
    with torch.no_grad():
        last = last_linear(forward, members.targets[0].params(), x[:8].unsqueeze(1))[0] if layer is None else None
        name = layer if layer is not None else last
        if layer is not None and layer not in dict(forward.module.named_modules()):
            raise InputError(
                "a layer of the network", repr(layer), ", ".join(n for n, _ in forward.module.named_modules() if n)
            )
        if name is None:
            return None
        for target, point in zip(members.targets, members.points, strict=True):
            there, weights = target.at(point)
            call = calls(there.forward, weights, x.unsqueeze(1), name)[0][-1]
            found.append((call.output if layer is not None else call.input).reshape(len(x), -1))
    tables = {key: np.full((members.count, members.count), np.nan) for key in ("value", "chance", "p_value")}
    for r, s in pairs:
        pair = similarity(found[r], found[s], measure, seed=seed)
        for key, table in tables.items():
            table[r, s] = table[s, r] = getattr(pair, key)
    return Alike(name, **tables)


def some_pairs(allowed: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Pairs of an ``(R, R)`` mask, at most so many, and every run in about as many of them."""
    count = len(allowed)
    steps = [(r, (r + k) % count) for k in range(1, count // 2 + 1) for r in range(count)]
    pairs = [(min(p), max(p)) for p in steps if allowed[p]]
    return list(dict.fromkeys(pairs))[:most]


@dataclass(frozen=True, eq=False)
class Lines:
    """Barriers of pairs by how the second run was brought: heights ``(R, R)``, losses along lines ``(pairs, T)``."""

    heights: dict[str, np.ndarray]
    losses: dict[str, np.ndarray]
    at: np.ndarray


def lines(
    members: Members, pairs: list[tuple[int, int]], seed: int, progress: Callable[[int, int], None]
) -> tuple[Lines, tuple[str, ...]]:
    """The loss between runs: as trained, matched by symmetries, and with statistics of norms taken anew."""
    found, warnings = _found(members)
    curves: dict[str, list[Barrier]] = {}
    for done, (r, s) in enumerate(pairs):
        target, a, b = members.targets[r], members.points[r], members.points[s]
        ends = {"as trained": b}
        if found is not None:
            ends["matched"] = match(target.forward.module, a, b, found, seed=seed).apply(b)
        for name, end in ends.items():
            curves.setdefault(name, []).append(barrier(target, a, end, members.data, points=_POINTS, seed=seed))
        if members.train is not None and set(a) - set(target.params()):
            last = barrier(
                target, a, [*ends.values()][-1], members.data, train=members.train, points=_POINTS, seed=seed
            )
            curves.setdefault("repaired", []).append(last)
        progress(done + 1, len(pairs))
    heights = {name: np.full((members.count, members.count), np.nan) for name in curves}
    for name, own in curves.items():
        for (r, s), curve in zip(pairs, own, strict=True):
            heights[name][r, s] = heights[name][s, r] = curve.height
    losses = {name: np.stack([c.loss.cpu().numpy() for c in own]) for name, own in curves.items()}
    return Lines(heights, losses, np.linspace(0, 1, _POINTS)), warnings


def _found(members: Members) -> tuple[Symmetries | None, tuple[str, ...]]:
    forward = members.targets[0].forward
    arguments, named = forward.arguments(members.data.x[:4])
    try:
        if named:
            raise InputError("inputs by position", "inputs by name", "nv.paths.symmetries(net, x, axes=…)")
        found = symmetries(forward.module, arguments)
    except InputError as error:
        return None, (f"runs are not matched: {error.got}",)
    if not found.groups:
        return None, ("runs are not matched: no symmetry of the network was found",)
    frozen = f"{1 - found.coverage:.0%} of the weights stay where runs are matched: {', '.join([*found.frozen][:3])}"
    return found, () if found.coverage == 1 else (frozen,)
