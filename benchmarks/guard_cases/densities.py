"""Priors, likelihoods, invariances, built-in networks, data and diagnostics: the leaves of everything else."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

import novacula as nv
from benchmarks.guard_cases import base
from benchmarks.guard_cases.base import Case

PRIORS: dict[str, Any] = {
    "gaussian": nv.Gaussian(2.0),
    "isotropic": nv.Gaussian(2.0, per="all"),
    "fan_in": nv.FanIn(),
    "laplace": nv.priors.Laplace(),
    "laplace_all": nv.priors.Laplace(per="all"),
    "student_t": nv.StudentT(),
    "student_t_5": nv.StudentT(df=5.0, per="all"),
}
Y = {"classes": torch.arange(7) % 3, "reals": base.normal(7, 3, seed=2), "one": base.normal(7, 1, seed=2)}
LIKELIHOODS: dict[str, tuple[Any, Any, int]] = {
    "categorical": (nv.Categorical(), Y["classes"], 3),
    "bernoulli": (nv.Bernoulli(), (Y["reals"] > 0).double(), 3),
    "normal": (nv.Normal(sigma=0.4), Y["reals"], 3),
    "normal_per_output": (nv.Normal(sigma=0.4, per_output=True), Y["reals"], 3),
    "heteroscedastic": (nv.HeteroscedasticNormal(), Y["reals"], 6),
    "gibbs": (nv.Gibbs(lambda f, y: 0.5 * (f - y).square().sum(1), name="half square"), Y["reals"], 3),
    "zero_one": (nv.likelihoods.ZeroOne(), Y["classes"], 3),
}
INVARIANCES: dict[str, Any] = {
    "affine": nv.Affine(),
    "affine_normal": nv.Affine(only=("rotation", "scale"), distribution="gaussian", padding="border"),
    "flip": nv.Flip(),
    "deformation": nv.Deformation(grid=4),
    "colour": nv.Colour(),
    "time_warp": nv.TimeWarp(),
    "compose": nv.Compose(nv.Affine(only=("rotation",)), nv.Flip()),
    "custom": nv.Custom(
        lambda x, u, eta: x * (eta * u[:, :, None, None]).exp(), eta=torch.tensor([0.5]), noise_shape=(1,)
    ),
}


def _prior(name: str) -> dict[str, Any]:
    weights = nv.Target(base.mlp(3, 2)).params()
    prior = PRIORS[name].bind(weights)
    (key,) = prior.learnable
    leaf = getattr(prior, key).detach().clone().requires_grad_()
    target = nv.Target(base.mlp(3, 2), prior=prior).with_learnable({f"prior.{key}": leaf})
    value = target.prior.log_prob(weights)
    return {
        "log_prob": value,
        "gradient": base.gradients(value, {key: leaf}),
        "precision": prior.precision(weights),
        "draws": prior.sample(weights, 4, base.rng(1)),
        "told": prior.describe(weights),
    }


def _likelihood(name: str) -> dict[str, Any]:
    likelihood, y, outputs = LIKELIHOODS[name]
    likelihood = base.or_refused(lambda: likelihood.bind(outputs))
    f = base.normal(7, outputs, seed=1).requires_grad_()
    value = base.or_refused(lambda: likelihood.log_prob(f, y))
    asked = {
        "root": lambda: likelihood.factor(f, y),
        "draws": lambda: likelihood.sample(f, base.rng(1)),
        "mean": lambda: likelihood.mean(f),
        "outputs": lambda: likelihood.outputs(y),
        "labels": lambda: likelihood.validate(y, outputs),
    }
    found = {k: base.or_refused(ask) for k, ask in asked.items()}
    return {"log_prob": value, "gradient": base.gradients(value.sum(), {"f": f}), **found}


def _invariance(name: str) -> dict[str, Any]:
    found = INVARIANCES[name]
    channels = 3 if name == "colour" else 1
    x = torch.rand(*((5, channels, 12) if name == "time_warp" else (5, channels, 7, 6)), generator=base.rng(2))
    noise = found.noise(5, x, base.rng(3))
    net = base.mlp(x[0].numel(), 2).float()
    target = nv.Target(net, invariance=found, copies=nv.Copies(2, 3, 4))
    wanted, leaves = base.leaves(target)
    total = wanted.warp(x, 3, base.rng(4)).square().sum()
    return {
        "noise": noise,
        "moved": found(x, noise),
        "copies": target.warp(x, 3, base.rng(4)),
        "outputs": target.outputs(target.params(), x, 3, base.rng(4)),
        "gradient": base.gradients(total, {k: v for k, v in leaves.items() if k.startswith("invariance")}),
        "projected": found.project(3 * found.eta - 0.2),
        "magnitude": found.magnitude(found.eta),
        "told": found.describe(),
    }


def _network(name: str) -> dict[str, Any]:
    x = torch.rand(2, 1, 12, 12, generator=base.rng(2))
    net = nv.networks.make(name, x.shape[1:], 4, seed=3).eval()
    return {"weights": dict(net.state_dict()), "outputs": net(x)}


def _target() -> dict[str, Any]:
    data = base.measured(outputs=2)
    target = nv.Target(base.mlp(3, 2), nv.Normal(0.3), nv.FanIn(), temperature=0.5, likelihood_temperature=2.0)
    target, data = target.prepare(data)
    w = target.params()
    return {
        "log_density": target.log_density(w, data.x[:9], data.y[:9], data.n, base.rng(0)),
        "log_likelihood": target.log_likelihood(w, data.x, data.y, 1, base.rng(0)),
        "learnable": target.learnable(),
    }


def _data() -> dict[str, Any]:
    data = base.classes(40)
    (a, b), (c, d) = data.split(0.7, seed=1), data.split(25, seed=2, stratify=True)
    parts = {k: {"x": v.x, "y": v.y} for k, v in {"a": a, "b": b, "c": c, "d": d}.items()}
    scaling = nv.Standardiser.fit(data) if hasattr(nv.Standardiser, "fit") else None
    return {**parts, "batches": list(data.batches(16, 3, 2)), "scaling": scaling, "digits": base.digits(50).x}


def _diagnostics() -> dict[str, Any]:
    draws = base.normal(4, 60, 3, seed=1).cumsum(1) * 0.1 + base.normal(4, 60, 3, seed=2)
    logs = -base.normal(80, 12, seed=3).square()
    loo, waic = nv.diagnostics.psis_loo(logs), nv.diagnostics.waic(logs)
    return {
        "rhat": nv.diagnostics.rhat(draws),
        "ess": {k: nv.diagnostics.ess(draws, k) for k in ("bulk", "tail", "mean", "sd")},
        "mcse": {k: nv.diagnostics.mcse(draws, k) for k in ("mean", "sd")},
        "loo": {"all": loo, "elpd": loo.elpd, "stderr": loo.stderr, "p": loo.p_loo, "bad": loo.bad},
        "cold": nv.diagnostics.psis_loo(logs, 0.5, efficiency=0.7),
        "waic": {"all": waic, "elpd": waic.elpd, "stderr": waic.stderr, "p": waic.p_waic},
    }


CASES: dict[str, Case] = {
    **{f"prior/{name}": partial(_prior, name) for name in PRIORS},
    **{f"likelihood/{name}": partial(_likelihood, name) for name in LIKELIHOODS},
    **{f"invariance/{name}": partial(_invariance, name) for name in INVARIANCES},
    **{f"network/{name}": partial(_network, name) for name in ("mlp", "cnn", "resnet", "linear")},
    "target": _target,
    "data": _data,
    "diagnostics": _diagnostics,
}
