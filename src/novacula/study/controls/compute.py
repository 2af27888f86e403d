"""`controls`: what others predict of the same examples, with the same folds, scored in the same nats.

A network that is learned with care is worth its price only where it beats what costs less. All are held to what the
network is held to: examples that they have not seen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.data.meaning.soft import check_hard
from novacula.inference.optimising.map import MAP
from novacula.prediction import Predictive
from novacula.runs.catalogue.controls import CONTROLS
from novacula.runs.catalogue.row import known, loaded
from novacula.runs.result import LearnResult
from novacula.runs.saving import own_units
from novacula.study.controls.control import Control, Part
from novacula.study.controls.plain import plainly
from novacula.study.controls.process import check_process
from novacula.study.cross_fit.result import CrossFit
from novacula.study.cross_fit.train import cross_fit
from novacula.target import Target


def controls(
    data: Data, names: Sequence[str], *, folds: Tensor, seed: int = 0, target: Target | None = None, **training: Any
) -> dict[str, Control]:
    """Predict every example by controls that have not seen its fold.

    They are ``"trees"``, gradient-boosted ones; ``"gp"``, a Gaussian process, for measurements; ``"none"``, the
    target's network trained plainly; ``"trivial"``, the same with random augmentation, for images. The modules `trees`,
    `process` and `plain` of this package say how. Trees and process take images and signals as long rows of numbers;
    their rounds, lengths and widths are found inside the part of the data that they may see.

    Args:
        data: The examples, in standard units or their own.
        names: Which controls.
        folds: The fold of each example, 0 to K − 1, shape ``(N,)``: ``fit.folds`` of a `CrossFit`.
        seed: Seed of everything random.
        target: The target whose network and likelihood ``"none"`` and ``"trivial"`` take.
        training: How these are trained: ``method``, ``epochs`` or ``steps``, ``batch_size`` … of `cross_fit`.

    Returns:
        The controls by name; `Control.gain_over` compares one with a network's `CrossFit`.

    Raises:
        InputError: If a name is unknown, a control does not take the data, or the folds are wrong.

    Example:
        >>> import novacula as nv
        >>> x = torch.linspace(-2, 2, 90).unsqueeze(1)
        >>> data = nv.Data(x, x.sign() + 0.1 * torch.sin(40 * x))
        >>> nv.study.controls(data, ["trees"], folds=torch.arange(90) % 3)["trees"].rmse < 0.5
        True
    """
    check(names, data, target)
    k = int(folds.max()) + 1
    if folds.shape != (data.n,) or k < 2 or folds.unique().tolist() != list(range(k)) or folds.is_floating_point():
        wanted = f"the folds of {data.n} examples as whole numbers from 0 to K − 1, K at least 2"
        raise InputError(wanted, f"shape {tuple(folds.shape)}, {folds.dtype}, the largest {k - 1}", "pass fit.folds")
    folds, labels = folds.cpu(), own_units(data.y, data.scaling).detach().cpu()
    found: dict[str, Control] = {}
    for name in names:
        began, row, own = time.perf_counter(), CONTROLS[name], derive(seed, "control", name)
        if row.network and target is not None:
            augment = loaded(row.make) if row.make else None
            said = plainly(target, data, augment, folds=folds, seed=own, **training)
        else:
            learner, parts = loaded(row.make), _parts(data, labels, folds, own)
            said = [(folds == fold, learner(part)) for fold, part in enumerate(parts)]
        found[name] = _scored(said, labels, folds, data, began)
    return found


def check(names: Sequence[str], data: Data, target: Target | None) -> None:
    """Refuse controls that do not take the data or the target, before any long computation."""
    if names and target is not None and not target.likelihood.normalised:
        got = f"the loss {target.likelihood.loss!r}"
        raise InputError("a density of the labels, to compare others with", got, "use another likelihood")
    if names and data.task == "classification":
        check_hard(data.y, "controls")
    for name in names:
        row = CONTROLS[known("a control", name, CONTROLS)]
        if row.network and target is None:
            raise InputError(f"a target, whose network the control {name!r} trains", "none", "pass target=")
        if row.network and row.make and len(data.x_shape) != 3:
            got = f"inputs of shape {data.x_shape}"
            raise InputError(f"images (N, C, H, W) for the control {name!r}", got, "use none")
        if name == "gp":
            check_process(data.task, data.x[0].numel())


def against(result: LearnResult, names: Sequence[str], target: Target) -> dict[str, dict[str, Any]]:
    """Hold a learned network against controls, on training examples that neither has seen.

    Args:
        result: What was learned.
        names: Which controls, see `controls`.
        target: The target as it was before anything was learned, for controls that train its network plainly.

    Returns:
        For each control ``nll`` and ``stderr``, its ``gain`` over the network with ``gain_stderr``, ``accuracy`` or
        ``rmse``, ``seconds``; and ``gain_margin``, how many standard errors are worth two of a normal distribution.
    """
    fit = cross_fitted(result)
    method = MAP(lr=result.settings["lr"], precision=result.settings["precision"])
    training = {"method": method, "batch_size": result.settings["batch_size"]}
    seed = derive(result.seed, "against")
    found = controls(result.data, names, folds=fit.folds, seed=seed, target=target, **training)
    return {name: control.to_dict(fit) for name, control in found.items()}


def cross_fitted(result: LearnResult) -> CrossFit:
    """The network's predictions of its own training examples by networks that have not seen them."""
    if result.unseen is not None:
        return result.unseen
    return cross_fit(result.target, result.data, seed=derive(result.seed, "cross-fit"))


def _parts(data: Data, labels: Tensor, folds: Tensor, seed: int) -> list[Part]:
    x = data.x.detach().cpu().double().flatten(1)
    rows, classes = data.with_values(x, labels), data.task == "classification"
    outputs = max(len(data.classes), int(labels.max()) + 1) if classes else labels.shape[1]
    seeds = [derive(seed, "fold", k) for k in range(int(folds.max()) + 1)]
    return [Part(rows.subset(folds != k), x[folds == k], outputs, own) for k, own in enumerate(seeds)]


def _scored(said: list[tuple[Tensor, Predictive]], labels: Tensor, folds: Tensor, data: Data, began: float) -> Control:
    # Predictives of disjoint rows, with masks (N,) of these.
    losses = torch.empty(data.n, dtype=torch.float64)
    mean = torch.empty(data.n, said[0][1].mean().shape[1], dtype=torch.float64)
    for rows, predictive in said:
        losses[rows] = -predictive.log_prob(labels[rows]).detach().double().cpu()
        mean[rows] = predictive.mean().detach().double().cpu()
    notes = tuple(dict.fromkeys(text for _, predictive in said for text in predictive.warnings))
    return Control(losses, mean, labels, folds, data.task, time.perf_counter() - began, notes)
