"""The Gaussian process as a control, against the closed form of its posterior predictive."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import novacula as nv
from novacula.core.rng import derive
from novacula.study.controls import process as module
from novacula.study.controls.control import Part
from novacula.study.controls.process import fitted, process


def planted(n: int = 40, *, seed: int = 0) -> nv.Data:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, 2)) * [3.0, 0.2] + [10.0, -1.0]
    first = np.sin(x[:, 0] - 10) + 2 * x[:, 1] + 0.1 * draw.normal(size=n)
    return nv.Data(torch.from_numpy(x), torch.from_numpy(np.stack([first, 50 + 7 * x[:, 1] ** 2], 1)))


def matern(a: np.ndarray, b: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    r = np.sqrt((((a[:, None] - b[None]) / lengths) ** 2).sum(-1))
    return (1 + np.sqrt(5) * r + 5 * r**2 / 3) * np.exp(-np.sqrt(5) * r)


def by_hand(x: np.ndarray, y: np.ndarray, new: np.ndarray, kernel: object) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean and deviation of new labels, and the log evidence, in the standard units of y."""
    own = kernel.get_params()  # type: ignore[attr-defined]
    a, s = own["k1__k1__constant_value"], own["k2__noise_level"]
    lengths = np.asarray(own["k1__k2__length_scale"])
    z = (y - y.mean()) / y.std()
    k = a * matern(x, x, lengths) + (s + 1e-10) * np.eye(len(x))
    cross = a * matern(new, x, lengths)
    mean = cross @ np.linalg.solve(k, z)
    variance = a + s - np.einsum("ij,ji->i", cross, np.linalg.solve(k, cross.T))
    evidence = -0.5 * z @ np.linalg.solve(k, z) - 0.5 * np.linalg.slogdet(k)[1] - 0.5 * len(x) * np.log(2 * np.pi)
    return mean * y.std() + y.mean(), np.sqrt(variance) * y.std(), float(evidence)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("first", [400, 20])
def test_predictions_are_the_closed_form_of_the_kernel_that_was_found(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST", first)
    data, new = planted(), planted(7, seed=1).x
    said = process(Part(data, new, 2, seed=3))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))  # the rows' order is of no account
    x = (data.x - data.x.mean(0)) / data.x.std(0, correction=0)
    at = ((new - data.x.mean(0)) / data.x.std(0, correction=0)).numpy()
    assert said.warnings == ()
    rows = torch.randperm(40, generator=module.generator(3, "rows"))
    for d in range(2):
        kernel = fitted(x[rows].numpy(), data.y[rows, d].numpy(), derive(3, "start", d)).kernel_
        mean, sd, evidence = by_hand(x[order].numpy(), data.y[order, d].numpy(), at, kernel)
        np.testing.assert_allclose(said.mean()[:, d].numpy(), mean, rtol=1e-4)
        np.testing.assert_allclose(said.variance()[:, d].sqrt().numpy(), sd, rtol=1e-3)
        # No kernel nearby has a higher evidence: a second search of few steps need not have ended.
        if first == 400:
            low, high = kernel.bounds.T
            for i in range(len(kernel.theta)):
                for step in (-0.3, 0.3):
                    theta = kernel.theta.copy()
                    theta[i] = np.clip(theta[i] + step, low[i], high[i])
                    other = by_hand(x.numpy(), data.y[:, d].numpy(), at, kernel.clone_with_theta(theta))[2]
                    assert other <= evidence + 1e-3


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_second_search_raises_the_evidence_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST", 12)
    data = planted()
    x, y = ((data.x - data.x.mean(0)) / data.x.std(0)).numpy(), data.y[:, 0].numpy()
    before, after = fitted(x[:12], y[:12], 0).kernel_, fitted(x, y, 0).kernel_
    assert by_hand(x, y, x[:1], after)[2] > by_hand(x, y, x[:1], before)[2] + 0.1


def test_rows_beyond_the_limit_are_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 25)
    data = planted()
    said = process(Part(data, data.x[:3], 2, seed=3))
    assert said.warnings == ("the Gaussian process saw 25 of 40 rows, drawn at random",)
    rows = torch.randperm(40, generator=module.generator(3, "rows"))[:25]
    changed = data.y.clone()
    changed[[i for i in range(40) if i not in rows.tolist()]] += 1e6
    other = process(Part(data.with_values(data.x, changed), data.x[:3], 2, seed=3))
    torch.testing.assert_close(other.outputs, said.outputs, rtol=0, atol=0)


def test_many_inputs_cost_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NUMBERS", 2 * 15**2)
    data = planted()
    assert "15 of 40" in process(Part(data, data.x[:3], 2, seed=0)).warnings[0]
    # A constant input is no input.
    monkeypatch.setattr(module, "NUMBERS", 2 * 40**2)
    wide = torch.cat([torch.full((40, 1), 7.0, dtype=torch.float64), data.x], 1)
    with_constant = process(Part(data.with_values(wide, data.y), wide[:3], 2, seed=0))
    without = process(Part(data, data.x[:3], 2, seed=0))
    assert with_constant.warnings == ()
    torch.testing.assert_close(with_constant.outputs, without.outputs, rtol=0, atol=0)


def test_inputs_that_are_all_constant_leave_mean_and_spread() -> None:
    x = torch.ones(20, 1, dtype=torch.float64)
    y = torch.from_numpy(np.random.default_rng(0).normal(size=(20, 1)))
    said = process(Part(nv.Data(x, y), x[:2], 1, seed=0))
    torch.testing.assert_close(said.mean(), y.mean().expand(2, 1), rtol=0, atol=1e-6)
    torch.testing.assert_close(said.variance().sqrt(), y.std(correction=0).expand(2, 1), rtol=0.05, atol=0)


def test_classes_and_very_many_inputs_are_refused() -> None:
    x = torch.rand(12, 2, dtype=torch.float64)
    with pytest.raises(nv.InputError, match=r"measurements for the control 'gp'; got the task 'classification'.*trees"):
        process(Part(nv.Data(x, torch.arange(12) % 2), x, 2, 0))
    wide = torch.rand(12, 101, dtype=torch.float64)
    with pytest.raises(nv.InputError, match="at most 100 inputs"):
        process(Part(nv.Data(wide, torch.rand(12, 1)), wide, 1, 0))
