"""Whole questions on tiny problems: temperatures, learning rates, comparisons, calibration, Monte-Carlo EM."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

import novacula as nv
from benchmarks.guard_cases import base
from benchmarks.guard_cases.base import Case

SAMPLER = nv.SGLD(lr=1e-3, keep=8)
LAPLACE = nv.Laplace("kron", optimiser=nv.MAP(lr=0.02), check=False)
SHORT = {"steps": 24, "batch_size": 8}


def _classes() -> tuple[nv.Target, nv.Data, nv.Data]:
    data = base.classes(40)
    return nv.Target(base.mlp(3, 3)), data.subset(slice(0, 24)), data.subset(slice(24, 40))


def _measured() -> tuple[nv.Target, nv.Data, nv.Data]:
    data = base.measured(40)
    return nv.Target(base.mlp(3, 1), nv.Normal(sigma=0.4)), data.subset(slice(0, 24)), data.subset(slice(24, 40))


def _safe_bayes(kind: str, method: Any) -> dict[str, Any]:
    target, data, _ = _measured()
    found = nv.study.safe_bayes(method, target, data, learning_rates=(0.3, 1.0), blocks=3, kind=kind, **SHORT)
    return {"rate": found.learning_rate, "scores": found.scores, "cuts": found.cuts, "told": found.to_dict()}


def _cold(which: str, method: Any) -> dict[str, Any]:
    target, data, rest = _classes()
    options: dict[str, Any] = {"temperatures": (0.3, 3.0), "which": which, "seeds": (0, 1), **SHORT}
    found = nv.study.cold_posterior(method, target, data, rest, **options)
    return {"rows": found.rows, "effect": found.effect, "told": found.to_dict()}


def _temperature(which: str, method: Any) -> dict[str, Any]:
    target, data, _ = _measured()
    options: dict[str, Any] = {"temperatures": (0.3, 3.0), "which": which, "seeds": (0, 1), "chains": 2, **SHORT}
    found = nv.study.choose_temperature(method, target, data, **options)
    return {"temperature": found.temperature, "scores": found.scores, "told": found.to_dict()}


def _compare() -> list[dict[str, Any]]:
    data = base.classes(40)
    models = {"small": nv.Target(base.mlp(3, 3, width=2)), "large": nv.Target(base.mlp(3, 3, width=6))}
    conditional = nv.evidence.Conditional(epochs=2, batch_size=10)
    found = nv.study.compare(models, data, epochs=3, batch_size=10, seed=1, conditional=conditional)
    kept = ("weights", "evidence", "conditional", "params")
    entries = [{k: getattr(e, k) for k in kept} for e in found.entries]
    return [*entries, {"agreement": found.agreement}]


def _sbc(method: Any) -> Any:
    with base.seeded(0):
        net = nn.Linear(2, 1).double()
    target = nv.Target(net, likelihood=nv.Normal(sigma=0.5), prior=nv.Gaussian(2.0))
    found = nv.study.sbc(method, target, base.normal(8, 2, seed=1), runs=20, steps=60, draws=20, batch_size=8, seed=1)
    return {"ranks": found.ranks, "p": found.p_value, "bias": found.bias, "spread": found.spread}


def _sbc_density() -> Any:
    def simulate(rng: torch.Generator) -> tuple[dict[str, torch.Tensor], nv.LogDensity]:
        a = torch.randn((), generator=rng, dtype=torch.float64)
        y = a + torch.randn(3, generator=rng, dtype=torch.float64)
        start = {"a": torch.zeros((), dtype=torch.float64)}
        return {"a": a}, nv.LogDensity(lambda w: -(w["a"] ** 2) / 2 - (y - w["a"]).square().sum() / 2, start)

    found = nv.study.sbc(nv.HMC(leapfrogs=3, keep=30), simulate, runs=20, steps=60, draws=20, seed=1)
    return {"ranks": found.ranks, "p": found.p_value}


def _from_draws(method: Any) -> dict[str, Any]:
    target, data, rest = _measured()
    options: dict[str, Any] = {"rounds": 2, "draws": 8, "seed": 2, **SHORT}
    found = nv.study.learn_from_draws(method, target, data, **options)
    learned = {"learned": found.target.learnable(), "weights": found.params, "history": found.history}
    return {**learned, **base.posterior_facts(found.posterior, rest.x)}


CASES: dict[str, Case] = {
    "safe_bayes/randomised": partial(_safe_bayes, "randomised", SAMPLER),
    "safe_bayes/in_model": partial(_safe_bayes, "in_model", LAPLACE),
    "cold_posterior/posterior": partial(_cold, "posterior", SAMPLER),
    "cold_posterior/likelihood": partial(_cold, "likelihood", LAPLACE),
    "choose_temperature/draws": partial(_temperature, "posterior", SAMPLER),
    "choose_temperature/laplace": partial(_temperature, "likelihood", LAPLACE),
    "compare": _compare,
    "sbc/laplace": partial(_sbc, nv.Laplace("exact", optimiser=nv.MAP(lr=0.05), check=False)),
    "sbc/nuts": partial(_sbc, nv.NUTS(max_depth=3, keep=30)),
    "sbc/density": _sbc_density,
    "learn_from_draws/sgld": partial(_from_draws, SAMPLER),
    "learn_from_draws/laplace": partial(_from_draws, LAPLACE),
}
