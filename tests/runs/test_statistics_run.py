"""Runs of networks that keep statistics of their batches: learned, inferred further, saved, read back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import novacula as nv
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.likelihoods import Categorical, Normal
from novacula.runs.loading import load_run
from novacula.runs.packing import bounded
from novacula.runs.result import LearnResult
from novacula.target import Target


def _target(outputs: int) -> Target:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(
            nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.1), nn.Linear(6, outputs)
        ).double()
    return Target(net, Normal() if outputs == 1 else Categorical())


@pytest.fixture(scope="module", params=[1, 2], ids=["measurements", "classes"])
def learned(request: pytest.FixtureRequest) -> LearnResult:
    x = 2 + 3 * torch.randn(90, 4, generator=generator(0)).double()
    product = x[:, :1] * x[:, 1:2]
    data = Data(x, product if request.param == 1 else (product[:, 0] > 4).long())
    return nv.learn(_target(request.param), data, epochs=4)


def _outputs(fit: LearnResult) -> int:
    return 1 if fit.target.likelihood.quadratic else 2


def test_what_was_learned_holds_its_statistics(learned: LearnResult) -> None:
    fit = learned
    assert {"1.running_mean", "1.running_var"} < fit.params.keys()
    held = fit.target.forward.module.get_buffer("1.running_mean")
    assert torch.equal(held, fit.params["1.running_mean"])
    assert held.abs().max() > 0
    assert any("constants" in a for a in fit.evidence.assumptions)
    weights = {k: fit.params[k] for k in fit.target.params()}
    x = fit.data.x[:5]
    assert torch.allclose(fit.target.forward(weights, x), fit.target.forward(fit.params, x))
    assert fit.unseen is not None
    assert all("1.running_mean" in w for w in fit.unseen.params)
    assert torch.equal(_target(_outputs(fit)).network[1].running_mean, torch.zeros(6).double())  # type: ignore[index]


NAMES = ["auto", "point", "laplace", "ensemble:members=2", "swag", "multi-swag:members=2", "sgld", "nuts", "mean-field"]


@pytest.mark.filterwarnings("ignore::novacula.core.errors.NovaculaWarning")
@pytest.mark.parametrize("name", [*NAMES, "ivon", "dropout"])
def test_a_run_predicts_what_it_predicted(learned: LearnResult, name: str, tmp_path: Path) -> None:
    fit = learned.with_posterior(name, steps=None if name in {"auto", "point", "laplace"} else 30)
    fit.save(tmp_path / "run")
    again = load_run(tmp_path / "run", target=_target(_outputs(fit)), data=fit.data)
    x = fit.data.x[:6]
    before, after = nv.predict(bounded(fit.posterior), x), again.predict_standard(x)
    assert torch.allclose(before.mean(), after.mean(), rtol=1e-9)
    weights = again.run.weights()
    assert {"statistics/1.running_mean", "statistics/1.running_var"} <= weights.keys()
    assert again.run.record["weights"] == sum(w.numel() for w in fit.target.params().values())
