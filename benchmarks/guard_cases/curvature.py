"""Curvature in every structure: log-determinant and its gradient, diagonal, matrix, covariance; NTK; self-checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

import novacula as nv
from benchmarks.guard_cases import base, nets
from benchmarks.guard_cases.base import Case

STRUCTURES: dict[str, Callable[[Any], Any]] = {
    "exact": nv.curvature.exact,
    "exact_primal": partial(nv.curvature.exact, side="primal"),
    "exact_dual": partial(nv.curvature.exact, side="dual"),
    "kron": nv.curvature.kron,
    "kron_reduced": partial(nv.curvature.kron, sharing="reduce"),
    "kron_two_pass": partial(nv.curvature.kron, two_pass=True),
    "kron_diagonal": partial(nv.curvature.kron, fallback="diagonal", exact_up_to=3),
    "diag": nv.curvature.diagonal,
    "last_layer": nv.curvature.last_layer,
    "matrix_free": partial(nv.curvature.matrix_free, probes=4, seed=1),
}


def _target(name: str) -> tuple[nv.Target, nv.Data]:
    if name == "mlp":
        net, data = base.mlp(16, 3), base.images(side=4)
    elif name == "cnn":
        net, data = nets.Convolutional().double(), base.images(channels=2)
    else:
        net, data = nets.odd(name)
        return nv.Target(net).prepare(data)
    return nv.Target(net, invariance=nv.Affine(), copies=nv.Copies(2, 3, 3)).prepare(data)


def _facts(structure: str, name: str) -> dict[str, Any]:
    target, data = _target(name)
    params = base.trained(target, data, 20)
    problem = target.problem(params, data, seed=3, chunk=8)
    found = STRUCTURES[structure](problem)
    precision = {k: torch.tensor(1.0 + i, dtype=torch.float64) for i, k in enumerate(params)}
    covariance = found.covariance(precision, scale=0.7)
    first = next(iter(problem.batches()))[0][:4]
    return {
        "log_det": found.log_det(precision, scale=0.7),
        "diagonal": found.diagonal(),
        "dense": found.dense(),
        "covered": [k in found.names for k in params],
        "instead": [k in found.fallback for k in params],
        "draws": covariance.sample(4, base.rng(2)),
        "solved": covariance.solve({k: w + 0.1 for k, w in params.items() if k in found.names}),
        "variance": covariance.variance(first),
        "gradient": _gradient(structure, target, data, params, precision),
    }


def _gradient(structure: str, target: nv.Target, data: nv.Data, params: Any, precision: Any) -> dict[str, Any]:
    wanted, tensors = base.leaves(target)
    problem = wanted.problem(params, data, seed=3, chunk=8, differentiable=True)
    own = {k: p.clone().requires_grad_() for k, p in precision.items()}
    value = STRUCTURES[structure](problem).log_det(own, scale=0.7).value
    return {"value": value, **base.gradients(value, {**tensors, **{f"precision/{k}": p for k, p in own.items()}})}


def _pattern(name: str) -> dict[str, Any]:
    target, data = _target(name)
    params = base.trained(target, data, 20)
    problem = target.problem(params, data, seed=3, chunk=8)
    kron, exact = nv.curvature.kron(problem), nv.curvature.exact(problem)
    pattern = {k: torch.tensor(2.0, dtype=torch.float64) for k in params}
    return {
        "kron": kron.eigenvalues(pattern),
        "exact": exact.spectrum(pattern).values,
        "log_det": exact.spectrum(pattern).log_det(3.0),
    }


def _ntk(name: str, outputs: str) -> dict[str, Any]:
    target, data = _target(name)
    params = base.trained(target, data, 20)
    problem = target.problem(params, data, seed=3, chunk=8)
    found = nv.curvature.ntk_gram(problem, outputs=outputs, seed=4)
    precision = {k: torch.tensor(2.0, dtype=torch.float64, requires_grad=True) for k in params}
    log_det = found.log_det(precision, scale=0.7)
    return {"grams": found.grams, "log_det": log_det, "gradient": base.gradients(log_det.value, precision)}


def _check(structure: str, name: str) -> dict[str, Any]:
    target, data = _target(name)
    problem = target.problem(base.trained(target, data, 20), data, seed=3)
    found = nv.curvature.self_check(STRUCTURES[structure], problem, examples=5)
    return {"total": found.total, "errors": found.errors, "mixing": found.mixing, "exact": found.exact}


def _rows(name: str) -> dict[str, Any]:
    target, data = _target(name)
    params = base.trained(target, data, 20)
    problem = target.problem(params, data, seed=3, chunk=8)
    xs, y = next(iter(problem.batches()))
    cover = nv.curvature.cover(problem.forward, params, xs)
    made = nv.curvature.plan(problem)
    single = dataclasses.replace(problem, scale=2.0)
    return {
        "rows": nv.curvature.rows(made, xs, y),
        "covered": [k in cover.covered for k in params],
        "scaled": nv.curvature.diagonal(single).diagonal(),
    }


NETWORKS = ("mlp", "cnn", *nets.ODD)
CHECKED = ("kron", "diag", "exact", "last_layer")
CASES: dict[str, Case] = {
    **{f"{s}/mlp": partial(_facts, s, "mlp") for s in STRUCTURES},
    **{
        f"{s}/{name}": partial(_facts, s, name)
        for name in NETWORKS[1:]
        for s in ("exact", "kron", "kron_reduced", "kron_diagonal", "diag")
        # Predicting with the variance of a 0-d parameter alone is not covered.
        if (s, name) != ("kron_diagonal", "bare")
    },
    **{f"last_layer/{name}": partial(_facts, "last_layer", name) for name in ("cnn", "tied")},
    "matrix_free/cnn": partial(_facts, "matrix_free", "cnn"),
    **{f"spectrum/{name}": partial(_pattern, name) for name in ("mlp", "cnn", "bare")},
    **{f"ntk/{o}/{name}": partial(_ntk, name, o) for name in NETWORKS for o in ("sampled", "all")},
    **{f"check/{s}": partial(_check, s, "cnn") for s in CHECKED},
    **{f"rows/{name}": partial(_rows, name) for name in NETWORKS},
}
