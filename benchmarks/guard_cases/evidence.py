"""Every estimator of the evidence in every structure, with gradients of what can be learned, and `tune`."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

import novacula as nv
from benchmarks.guard_cases import base, nets
from benchmarks.guard_cases.base import Case

STRUCTURES = ("exact", "kron", "diag", "last_layer", "matrix_free")


def _problem(name: str) -> tuple[nv.Target, nv.Data]:
    copies = nv.Copies(2, 3, 3)
    match name:
        case "classes":
            data = base.images(side=4)
            target = nv.Target(base.mlp(16, 3), prior=nv.Gaussian(2.0), invariance=nv.Affine(), copies=copies)
        case "regression":
            data = base.measured(outputs=2)
            target = nv.Target(base.mlp(3, 2), nv.Normal(sigma=0.4, per_output=True), nv.FanIn())
        case "heteroscedastic":
            data = base.measured()
            target = nv.Target(base.mlp(3, 2), nv.HeteroscedasticNormal(), nv.StudentT())
        case "multilabel":
            data = base.labelled()
            target = nv.Target(base.mlp(3, 2), nv.Bernoulli(), nv.Gaussian(per="all"))
        case "tempered":
            data = base.classes()
            target = nv.Target(base.mlp(3, 3), prior=nv.priors.Laplace(), temperature=0.5)
        case "linear":
            data = base.measured(outputs=2)
            with base.seeded(0):
                target = nv.Target(nn.Linear(3, 2).double(), nv.Normal(sigma=0.4))
        case "cnn":
            data = base.images(channels=2)
            target = nv.Target(nets.Convolutional().double(), invariance=nv.Affine(only=("rotation",)), copies=copies)
        case _:
            net, data = nets.odd(name)
            target = nv.Target(net)
    return target.prepare(data)


def _score(name: str, estimator: Any, *, steps: int = 40, grad: bool = True) -> dict[str, Any]:
    target, data = _problem(name)
    weights = base.trained(target, data, steps)
    found, tensors = base.leaves(target) if grad else (target, {})
    estimate = estimator(found, data, weights, seed=3)
    return {"estimate": estimate, "gradient": base.gradients(estimate.value, tensors)}


def _tune(name: str, structure: str) -> Any:
    target, data = _problem(name)

    def ask() -> dict[str, Any]:
        found = nv.evidence.tune(target, data, base.trained(target, data), structure=structure, seed=3)
        kept = {k: getattr(found, k) for k in ("evidence", "history", "steps", "gradient", "factors")}
        return {**kept, "learned": found.target.learnable()}

    return base.or_refused(ask)


PROBLEMS = ("classes", "regression", "heteroscedastic", "multilabel", "tempered", "linear")
LAPLACE: dict[str, Case] = {
    f"laplace/{s}/{name}": partial(_score, name, nv.evidence.Laplace(s)) for name in PROBLEMS for s in STRUCTURES
}
NETS: dict[str, Case] = {
    f"laplace/{s}/{name}": partial(_score, name, nv.evidence.Laplace(s))
    for name in ("cnn", *nets.ODD)
    for s in ("exact", "kron", "diag")
}
OTHERS: dict[str, tuple[str, Any]] = {
    "laplace/subset": ("classes", nv.evidence.Laplace("kron", subset=6, repeats=3)),
    "laplace/copies": ("classes", nv.evidence.Laplace("exact", copies=4, chunk=5, repeats=3)),
    "laplace/probes": ("classes", nv.evidence.Laplace("matrix_free", probes=4)),
    "elbo/classes": ("classes", nv.evidence.ELBO(samples=4)),
    "elbo/regression": ("regression", nv.evidence.ELBO(structure="exact", samples=4)),
    "ntk/sampled": ("classes", nv.evidence.NTKSubset(subset=6, repeats=2)),
    "ntk/all": ("classes", nv.evidence.NTKSubset(subset=6, outputs="all", repeats=2)),
    "ntk/fit": ("regression", nv.evidence.NTKSubset(subset=6, fit=12)),
    "ntk/heteroscedastic": ("heteroscedastic", nv.evidence.NTKSubset(subset=6)),
    "ntk/cnn": ("cnn", nv.evidence.NTKSubset(subset=6)),
    "linear_gaussian": ("linear", nv.evidence.LinearGaussian()),
}
RUNS: dict[str, tuple[str, Any]] = {
    "conditional/kron": ("classes", nv.evidence.Conditional(epochs=2, batch_size=6)),
    "conditional/exact": ("regression", nv.evidence.Conditional(structure="exact", epochs=3, batch_size=6, orders=3)),
    "prequential/classes": ("tempered", nv.evidence.Prequential(blocks=3, epochs=2, batch_size=6)),
    "prequential/regression": ("regression", nv.evidence.Prequential(blocks=3, epochs=2, batch_size=6, orders=2)),
    "smc/hmc": ("linear", nv.evidence.SMC(particles=16, populations=2, moves=1)),
    "smc/elliptical": ("linear", nv.evidence.SMC(particles=16, populations=2, moves=1, move="elliptical")),
}


def _difference() -> dict[str, Any]:
    target, data = _problem("regression")
    estimator, weights = nv.evidence.Laplace("exact"), base.trained(target, data)
    wider = target.with_learnable({k: v + torch.log(torch.tensor(2.0)) for k, v in target.learnable().items()})
    a, b = (estimator(t, data, weights, seed=0) for t in (target, wider))
    return {"first": a, "second": b, "difference": a - b}


CASES: dict[str, Case] = {
    **LAPLACE,
    **NETS,
    **{name: partial(_score, problem, estimator) for name, (problem, estimator) in OTHERS.items()},
    **{name: partial(_score, problem, estimator, grad=False) for name, (problem, estimator) in RUNS.items()},
    **{
        f"tune/{s}/{name}": partial(_tune, name, s)
        for name in ("classes", "regression", "multilabel")
        for s in ("exact", "kron", "diag", "last_layer")
    },
    "difference": _difference,
}
