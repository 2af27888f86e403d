"""Predictives of every task and kind, their scores, their choice, and what is done with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import novacula as nv
from benchmarks.guard_cases import base
from benchmarks.guard_cases.base import Case

conformal = nv.prediction.conformal
RULES = ("analytic", "monte_carlo", "probit", "probit_diagonal")
TASKS = ("classes", "binary", "regression", "multilabel", "heteroscedastic", "invariant")


def _fitted(task: str) -> tuple[nv.Target, nv.Data, nv.Data]:
    n = {"n": 48}
    target: nv.Target
    match task:
        case "classes":
            target, data = nv.Target(base.mlp(3, 3)), base.classes(**n)
        case "binary":
            target, data = nv.Target(base.mlp(3, 2)), base.classes(**n, k=2)
        case "regression":
            target, data = nv.Target(base.mlp(3, 2), nv.Normal(sigma=0.3)), base.measured(**n, outputs=2)
        case "multilabel":
            target, data = nv.Target(base.mlp(3, 2), nv.Bernoulli()), base.labelled(**n)
        case "heteroscedastic":
            target, data = nv.Target(base.mlp(3, 2), nv.HeteroscedasticNormal()), base.measured(**n)
        case _:
            copies = nv.Copies(2, 3, 4)
            target, data = nv.Target(base.mlp(16, 3), invariance=nv.Affine(), copies=copies), base.images(48, side=4)
    target, data = target.prepare(data)
    return target, data.subset(slice(0, 24)), data.subset(slice(24, 48))


def _posterior(task: str, structure: str = "kron") -> tuple[Any, nv.Data, nv.Data]:
    target, data, rest = _fitted(task)
    weights = base.trained(target, data)
    return nv.inference.laplace_posterior(target, weights, data, structure=structure, seed=1, check=False), data, rest


def _ask(found: nv.prediction.Predictive, y: Tensor) -> dict[str, Any]:
    asked: dict[str, Callable[[], Any]] = {
        "mean": found.mean,
        "log_prob": lambda: found.log_prob(y),
        "expected_loss": lambda: found.expected_loss(y),
        "variance": found.variance,
        "gaussians": found.gaussians,
        "interval": lambda: found.interval(0.8),
        "quantile": lambda: found.quantile([0.1, 0.5, 0.9]),
        "sample": lambda: found.sample(3, base.rng(5)),
        "entropy": found.entropy,
        "evaluate": lambda: nv.prediction.evaluate(found, y),
        "crps": lambda: nv.prediction.crps(found, y),
        "reliability": lambda: nv.prediction.reliability_of(found, y).to_dict(),
        "risk_coverage": lambda: nv.prediction.risk_coverage_of(found, y),
    }
    return {name: base.or_refused(ask) for name, ask in asked.items()}


def _predict(task: str, options: dict[str, Any]) -> dict[str, Any]:
    posterior, _, rest = _posterior(task)

    def ask() -> dict[str, Any]:
        return _ask(nv.predict(posterior, rest.x, seed=2, **options), rest.y)

    return base.or_refused(ask)


def _structure(task: str, structure: str) -> dict[str, Any]:
    posterior, _, rest = _posterior(task, structure)
    colder = posterior.with_temperature(0.3)
    return {
        "mean": nv.predict(posterior, rest.x, chunk=7).mean(),
        "colder": nv.predict(colder, rest.x).log_prob(rest.y),
        "draws": posterior.sample(3, base.rng(0)),
    }


def _choose(task: str, options: dict[str, Any]) -> dict[str, Any]:
    target, data, rest = _fitted(task)
    found = nv.prediction.choose(target, base.trained(target, data), data, seed=1, **options)
    mean = nv.predict(found.posterior, rest.x).mean()
    return {"chosen": found.temperature, "scores": found.scores, "told": found.to_dict(), "mean": mean}


def _sets() -> dict[str, Any]:
    posterior, data, rest = _posterior("classes")
    usual, new = nv.predict(posterior, data.x), nv.predict(posterior, rest.x)
    scores = {"lac": "lac", "aps": "aps", "raps": "raps", "default": None}
    scores |= {"plain_aps": conformal.APS(randomised=False), "raps_k": conformal.RAPS(penalty=0.2, k_reg=1)}
    groups = [i % 2 for i in range(24)]
    found: dict[str, Any] = {}
    for name, score in scores.items():
        rule = conformal.calibrate(usual, data.y, alpha=0.2, score=score, seed=3)
        apart = conformal.calibrate(usual, data.y, alpha=0.2, score=score, groups=groups, seed=3)
        sets = rule(new)
        found[name] = {"thresholds": rule.thresholds, "sets": sets.member, "coverage": sets.coverage(rest.y)}
        found[f"{name}/groups"] = {"thresholds": apart.thresholds, "sets": apart(new, groups).member, "n": apart.counts}
    found["in_one"] = new.conformal(0.2, usual, data.y, seed=3).member
    return found


def _intervals(task: str) -> dict[str, Any]:
    posterior, data, rest = _posterior(task)
    usual, new = nv.predict(posterior, data.x), nv.predict(posterior, rest.x)
    found: dict[str, Any] = {}
    for score in ("absolute", "normalised", "cqr", None):
        rule = conformal.calibrate(usual, data.y, alpha=0.2, score=score)
        intervals = rule(new)
        found[str(score)] = {
            "thresholds": rule.thresholds,
            "low": intervals.low,
            "high": intervals.high,
            "coverage": intervals.coverage(rest.y),
        }
    return found


def _crossed() -> dict[str, Any]:
    y, held, each = base.normal(12, 1, seed=7), base.normal(12, 1, seed=8), base.normal(12, 5, 1, seed=9)
    folds = torch.arange(12) % 4
    p = base.normal(12, 3, seed=10).softmax(1)
    models = base.normal(4, 5, 3, seed=11).softmax(2)
    return {
        "jackknife": conformal.jackknife_plus(y, held, each, alpha=0.2),
        "cv": conformal.cv_plus(y, held, each[:4], folds, alpha=0.2),
        "sets": conformal.cv_plus_sets(torch.arange(12) % 3, p, models, folds, alpha=0.2, seed=1),
    }


def _decisions() -> dict[str, Any]:
    posterior, _, rest = _posterior("classes")
    found = nv.predict(posterior, rest.x)
    costs = [[0.0, 2.0, 5.0, 1.0], [1.0, 0.0, 3.0, 1.0], [9.0, 2.0, 0.0, 1.0]]
    by_costs = found.decide(nv.prediction.Costs(costs), abstain=0.6)
    measured, _, others = _posterior("regression")
    spread = nv.predict(measured, others.x)
    labels, _, marked = _posterior("multilabel")
    return {
        "costs": {"all": by_costs, "loss": by_costs.loss, "incurred": found.decide(costs).incurred(rest.y)},
        "zero_one": found.decide("zero_one"),
        "function": found.decide(lambda a, y: (a - y.double()).abs(), actions=[0.0, 0.5, 2.0]),
        "squared": spread.decide("squared"),
        "absolute": spread.decide("absolute", abstain=0.3),
        "pinball": spread.decide("pinball", tau=0.8),
        "drawn": spread.decide(lambda a, y: (a - y).square().sum(-1), actions=[-1.0, 0.0, 1.0], draws=64),
        "multilabel": nv.predict(labels, marked.x).decide([[0.0, 1.0], [3.0, 0.0]]),
    }


def _strange(task: str) -> dict[str, Any]:
    posterior, data, rest = _posterior(task)
    usual, strange = nv.predict(posterior, data.x), nv.predict(posterior, 3 * rest.x)
    found = {
        s: base.or_refused(lambda s=s: nv.prediction.ood(usual, strange, s))
        for s in ("entropy", "max_probability", "epistemic", "energy")
    }
    scores = nv.prediction.ood_score(usual), nv.prediction.ood_score(strange)
    return {**found, "scores": scores, "detection": nv.prediction.detection(*scores)}


def _compared() -> dict[str, Any]:
    posterior, _, rest = _posterior("classes")
    a, b = nv.predict(posterior, rest.x), nv.predict(posterior, rest.x, kind="plug-in")
    draws = nv.predict(posterior, rest.x, kind="mixture", samples=12).samples
    hits = a.mean().argmax(1) == rest.y
    sure = a.mean().amax(1)
    return {
        "agreement": nv.prediction.agreement(a, b),
        "total_variation": nv.prediction.total_variation(a, b),
        "rhat": nv.prediction.function_rhat(draws.unflatten(0, (3, 4))),
        "reliability": nv.prediction.reliability(sure, hits, bins=5, spacing="mass").to_dict(),
        "risk_coverage": nv.prediction.risk_coverage(sure, (~hits).double()),
    }


KINDS: dict[str, dict[str, Any]] = {
    "auto": {},
    "plug-in": {"kind": "plug-in"},
    **{f"linearised/{r}": {"kind": "linearised", "rule": r} for r in RULES},
    "mixture": {"kind": "mixture", "samples": 6},
    "mixture/probabilities": {"kind": "mixture", "samples": 6, "average": "probabilities", "copies": 3},
}
CASES: dict[str, Case] = {
    **{f"{task}/{kind}": partial(_predict, task, o) for task in TASKS for kind, o in KINDS.items()},
    **{
        f"structure/{s}/{task}": partial(_structure, task, s)
        for task in ("classes", "regression", "invariant")
        for s in ("exact", "kron", "diag", "last_layer", "matrix_free")
    },
    **{f"choose/{task}": partial(_choose, task, {}) for task in TASKS},
    "choose/all": partial(_choose, "classes", {"structures": ("exact", "kron", "diag", "last_layer"), "examples": 10}),
    "choose/requested": partial(_choose, "regression", {"requested": ("diag", 0.5), "temperatures": (0.5, 1.0)}),
    "conformal/sets": _sets,
    "conformal/intervals": partial(_intervals, "regression"),
    "conformal/heteroscedastic": partial(_intervals, "heteroscedastic"),
    "conformal/crossed": _crossed,
    "decisions": _decisions,
    **{f"ood/{task}": partial(_strange, task) for task in ("classes", "regression", "multilabel")},
    "compared": _compared,
}
