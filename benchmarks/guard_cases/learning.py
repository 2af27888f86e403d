"""`nv.learn`: evidence, learned tensors, weights, history and the chosen predictive."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

import novacula as nv
from benchmarks.guard_cases import base
from benchmarks.guard_cases.base import Case


def _facts(fit: nv.LearnResult, x: torch.Tensor) -> dict[str, Any]:
    choice = fit.choice
    return {
        "evidence": fit.evidence,
        "learned": fit.target.learnable(),
        "weights": fit.params,
        "history": fit.history,
        "choice": {"temperature": choice.temperature, "scores": choice.scores},
        "described": fit.target.prior.describe(fit.params),
        **base.posterior_facts(fit.posterior, x),
    }


def _digits(**options: Any) -> dict[str, Any]:
    data = base.digits()
    net = nv.networks.make("mlp", data.x_shape, 10, seed=0, width=16)
    copies = nv.Copies(train=2, evidence=3, predict=4)
    target = nv.Target(net, likelihood=nv.Categorical(), prior=nv.Gaussian(), invariance=nv.Affine(), copies=copies)
    fit = nv.learn(target, data, **{"epochs": 3, "seed": 0, **options})
    return _facts(fit, data.x[:20])


def _digits_cnn() -> dict[str, Any]:
    data = base.digits(120)
    net = nv.networks.make("cnn", data.x_shape, 10, seed=1, width=4, hidden=12)
    target = nv.Target(net, prior=nv.FanIn(), invariance=nv.Affine(only=("rotation",)), copies=nv.Copies(2, 2, 3))
    return _facts(nv.learn(target, data, epochs=2, seed=1, structures=("kron", "last_layer")), data.x[:20])


def _concrete(likelihood: Any, outputs: int) -> dict[str, Any]:
    data = base.concrete()
    net = nv.networks.make("mlp", data.x_shape, outputs, seed=0, width=20)
    target = nv.Target(net, likelihood=likelihood, prior=nv.Gaussian())
    return _facts(nv.learn(target, data, epochs=3, seed=0), data.x[:20])


def _other_prior(prior: Any) -> dict[str, Any]:
    data = base.classes(40)
    fit = nv.learn(nv.Target(base.mlp(3, 3), prior=prior), data, epochs=6, batch_size=10, seed=2)
    return _facts(fit, data.x[:9])


def _then_averaged(method: Any) -> dict[str, Any]:
    data = base.measured(40)
    target = nv.Target(base.mlp(3, 1), likelihood=nv.Normal(sigma=0.5))
    fit = nv.learn(target, data, epochs=6, batch_size=10, seed=2)
    again = fit.with_posterior(method, steps=40, chains=2)
    return {"evidence": again.evidence, **base.posterior_facts(again.posterior, data.x[:9])}


def _resolved() -> dict[str, Any]:
    method = nv.study.default_method(500)
    return {
        "first": method.first,
        "moves": method.moves,
        "lr": method.lr,
        "lr_eta": method.lr_eta,
        "estimator": method.estimator,
    }


CASES: dict[str, Case] = {
    "digits": _digits,
    "digits_by_exact_subset": partial(_digits, evidence=nv.evidence.NTKSubset(subset=24, repeats=2), epochs=2),
    "digits_cnn": _digits_cnn,
    "concrete": partial(_concrete, nv.Normal(), 1),
    "concrete_heteroscedastic": partial(_concrete, nv.HeteroscedasticNormal(), 2),
    "student_t": partial(_other_prior, nv.StudentT()),
    "laplace_prior": partial(_other_prior, nv.priors.Laplace()),
    "isotropic": partial(_other_prior, nv.Gaussian(per="all")),
    "then_sgld": partial(_then_averaged, nv.SGLD(keep=5)),
    "then_ensemble": partial(_then_averaged, "ensemble:members=2"),
    "default_method": _resolved,
}
