"""Draws in ArviZ's form: what is handed over to either of its versions (a stand-in, as ArviZ itself is optional)."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.diagnostics import to_arviz
from novacula.inference import SGLD, Draws, infer
from novacula.inference.hamiltonian.hmc import HMC
from novacula.target import LogDensity, Target


def old(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """ArviZ before 1.0: each group is an argument."""
    seen: dict[str, Any] = {}

    def from_dict(posterior: Any = None, *, sample_stats: Any = None, log_likelihood: Any = None) -> str:
        seen.update(posterior=posterior, sample_stats=sample_stats, log_likelihood=log_likelihood)
        return "inference data"

    module = ModuleType("arviz")
    module.from_dict = from_dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "arviz", module)
    return seen


def new(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """ArviZ since 1.0: one dictionary of groups."""
    seen: dict[str, Any] = {}

    def from_dict(data: Any, *, name: Any = None) -> str:
        seen.update(data)
        return "tree"

    module = ModuleType("arviz")
    module.from_dict = from_dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "arviz", module)
    return seen


def drawn() -> Draws:
    density = LogDensity(
        lambda w: -0.5 * (w["a"] - 1).square().sum() - w["b"].square(), {"a": torch.zeros(2, 3), "b": torch.tensor(0.5)}
    )
    found = infer(HMC(leapfrogs=2), density, steps=10, chains=3, seed=1)
    assert isinstance(found, Draws)
    return found


@pytest.mark.parametrize("version", [old, new])
def test_chains_and_draws_lead(version: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, draws = version(monkeypatch), drawn()
    assert to_arviz(draws) == ("tree" if version is new else "inference data")
    assert set(seen["posterior"]) == {"a", "b"}
    assert seen["posterior"]["a"].shape == (3, 5, 2, 3)
    assert seen["posterior"]["b"].shape == (3, 5)
    np.testing.assert_array_equal(seen["posterior"]["a"][2, 4].ravel(), draws.flat[4, 2, :6].numpy())
    lp = seen["sample_stats"]["lp"]
    assert lp.shape == (3, 5)
    a, b = seen["posterior"]["a"], seen["posterior"]["b"]
    np.testing.assert_allclose(lp, -0.5 * ((a - 1) ** 2).sum((2, 3)) - b**2, rtol=1e-5)
    assert seen.get("log_likelihood") is None


def test_what_is_not_known_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = new(monkeypatch)
    data = Data(torch.randn(8, 2, generator=generator(0)), torch.arange(8) % 2)
    draws = infer(SGLD(keep=4), Target(nn.Linear(2, 2)), data, steps=8, chains=2)
    logs = torch.randn(2, 4, 8, generator=generator(1))
    to_arviz(draws, log_likelihood=logs)  # type: ignore[arg-type]
    assert set(seen) == {"posterior", "log_likelihood"}
    assert seen["posterior"]["weight"].shape == (2, 4, 2, 2)
    np.testing.assert_array_equal(seen["log_likelihood"]["y"], logs.numpy())
    with pytest.raises(InputError, match=r"shape \(2, 4, N\)"):
        to_arviz(draws, log_likelihood=logs.transpose(0, 1))  # type: ignore[arg-type]


def test_without_arviz_one_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(InputError, match=r"novacula\[arviz\]"):
        to_arviz(drawn())
