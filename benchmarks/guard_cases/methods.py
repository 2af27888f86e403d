"""Every method of inference: draws, mode and predictions, on networks and on plain densities."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

import novacula as nv
from benchmarks.guard_cases import base
from benchmarks.guard_cases.base import Case

ADAM = nv.MAP(lr=0.02)
MASKS = ("dropout", "dropout_ensemble")
NETWORKS_ONLY = (*MASKS, "laplace", "mean_field", "ivon", "subnetwork")
AT_THE_PRIOR = ("smc", "smc_elliptical")
METHODS: dict[str, Callable[[], Any]] = {
    "map": lambda: ADAM,
    "map_constant": lambda: nv.MAP(lr=0.02, schedule="constant"),
    "ensemble": lambda: nv.Ensemble(ADAM, members=2),
    "laplace": lambda: nv.Laplace("exact", optimiser=ADAM, check=False),
    "laplace_kron": lambda: nv.Laplace("kron", optimiser=ADAM),
    "laplace_diag": lambda: nv.Laplace("diag", optimiser=ADAM, check=False),
    "laplace_last_layer": lambda: nv.Laplace("last_layer", optimiser=ADAM),
    "laplace_matrix_free": lambda: nv.Laplace("matrix_free", optimiser=ADAM, check=False),
    "laplace_ensemble": lambda: nv.Ensemble(nv.Laplace("kron", optimiser=ADAM, check=False), members=2),
    "sgld": lambda: nv.SGLD(lr=1e-3, keep=5),
    "sgld_preconditioned": lambda: nv.SGLD(lr=1e-3, precondition=True, keep=5),
    "sgld_cyclical": lambda: nv.SGLD(lr=1e-3, cycles=2, keep=5),
    "sghmc": lambda: nv.SGHMC(lr=1e-3, keep=5),
    "sgld_own_rate": lambda: nv.SGLD(keep=5),
    "sgld_own_rate_preconditioned": lambda: nv.SGLD(precondition=True, keep=5),
    "sgld_own_rate_cyclical": lambda: nv.SGLD(cycles=2, keep=5),
    "sghmc_own_rate": lambda: nv.SGHMC(keep=5),
    "nuts": lambda: nv.NUTS(max_depth=3, keep=5),
    "nuts_low_rank": lambda: nv.NUTS(max_depth=3, mass="low_rank", rank=2, keep=5),
    "hmc": lambda: nv.HMC(leapfrogs=3, keep=5),
    "swag": lambda: nv.SWAG(points=4, rank=2),
    "multi_swag": lambda: nv.Ensemble(nv.SWAG(points=4, rank=2), members=2),
    "mean_field": lambda: nv.MeanField(),
    "mean_field_shared": lambda: nv.MeanField(noise="shared"),
    "ivon": lambda: nv.IVON(),
    "dropout": lambda: nv.Dropout(lr=0.02),
    "dropout_ensemble": lambda: nv.Ensemble(nv.Dropout(lr=0.02), members=2),
    "subnetwork": lambda: nv.Subnetwork(nv.MeanField(), ("*.bias",), epochs=2),
    "subnetwork_sgld": lambda: nv.Subnetwork(nv.SGLD(keep=5), ("largest_variance", 7), epochs=2),
    "subnetwork_last_layer": lambda: nv.Subnetwork(nv.SGLD(keep=5), "last_layer", epochs=2),
    "smc": lambda: nv.SMC(particles=8, moves=1, leapfrogs=2),
    "smc_elliptical": lambda: nv.SMC(particles=8, moves=1, move="elliptical"),
}


def _steps(name: str) -> int:
    return 60 if name in AT_THE_PRIOR else 24


def _classes(name: str) -> dict[str, Any]:
    data = base.classes(14, k=2)
    target = nv.Target(base.mlp(3, 2, width=4, drop=0.2 if name in MASKS else 0.0), prior=nv.Gaussian(3.0))
    post = nv.infer(METHODS[name](), target, data, steps=_steps(name), batch_size=6, chains=2, seed=2)
    return base.posterior_facts(post, data.x)


def _everything_at_once(name: str) -> dict[str, Any]:
    # Regression, an invariance and both temperatures.
    data = base.images(7, side=4)
    data = nv.Data(data.x, base.normal(7, 2, seed=4))
    target = nv.Target(
        base.mlp(16, 2, width=3, drop=0.2 if name in MASKS else 0.0),
        likelihood=nv.Normal(sigma=0.3),
        prior=nv.Gaussian(2.0),
        invariance=nv.Affine(),
        copies=nv.Copies(train=2, evidence=2, predict=3),
        temperature=1.0 if name in AT_THE_PRIOR else 0.5,
        likelihood_temperature=2.0,
    )
    post = nv.infer(METHODS[name](), target, data, steps=_steps(name), batch_size=4, seed=0)
    return base.posterior_facts(post, data.x, samples=4)


def _plain(name: str) -> dict[str, Any]:
    scale = torch.tensor([1.0, 3.0], dtype=torch.float64)
    start = {"a": torch.zeros(2, dtype=torch.float64)}
    density = nv.LogDensity(lambda w: -(w["a"] * scale).square().sum() / 2, start, prior=nv.Gaussian(1.0))
    post = nv.infer(METHODS[name](), density, steps=_steps(name), chains=2, seed=0)
    return base.posterior_facts(post)


def _one_after_another() -> dict[str, Any]:
    # A network that vmap does not cover: its members take their gradients one by one.
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.lstm(x)[0][:, -1])

    with base.seeded(0):
        net = Recurrent().double()
    data = nv.Data(base.normal(12, 5, 3, seed=5), torch.arange(12) % 2)
    post = nv.infer(nv.SGLD(lr=1e-3, keep=4), nv.Target(net), data, steps=16, batch_size=6, chains=2, seed=1)
    return base.posterior_facts(post, data.x)


def _by_hand() -> dict[str, Any]:
    # Posteriors that are made of weights, without a run.
    data = base.classes(20)
    target = nv.Target(base.mlp(3, 3, drop=0.2))
    plain = nv.Target(base.mlp(3, 3))
    point = nv.inference.Point(plain.params(), plain)
    other = nv.inference.laplace_posterior(plain, base.trained(plain, data), data, structure="diag", check=False)
    return {
        "dropout": base.posterior_facts(nv.inference.dropout_posterior(target, target.params(), data, p=0.3), data.x),
        "mixture": base.posterior_facts(nv.inference.mixture([point, other]), data.x),
        "weights": nv.inference.weights_of(other),
    }


CASES: dict[str, Case] = {
    **{name: partial(_classes, name) for name in METHODS},
    **{f"{name}/regression": partial(_everything_at_once, name) for name in METHODS},
    **{f"{name}/density": partial(_plain, name) for name in METHODS if not name.startswith(NETWORKS_ONLY)},
    "one_after_another": _one_after_another,
    "by_hand": _by_hand,
}
