"""Errors in training and on unseen examples under the prior, against counting and against all networks of ±1."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.inference import Splitting
from novacula.study.sampling.task import Task
from novacula.target.many import prior_outputs

X = torch.randn(16, 3, generator=generator(0), dtype=torch.float64)
Y = (X[:, 0] * X[:, 1] > -0.2).long()
TRAIN, REST = slice(0, 9), slice(9, 16)
DATA, HELD_OUT = (X[TRAIN], Y[TRAIN]), (X[REST], Y[REST])


def counted(f: Tensor) -> np.ndarray:
    """Shares of errors in training and on the others: outputs ``(S, 16)``."""
    missed = (f > 0).long() != Y
    pairs = missed[:, TRAIN].sum(1) * 8 + missed[:, REST].sum(1)
    return np.bincount(pairs.numpy(), minlength=80).reshape(10, 8) / len(f)


def test_all_networks_of_signs_are_divided_as_they_are() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)).double()
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=11)), dtype=torch.float64)
    w, b, v, c = signs.split([6, 2, 2, 1], 1)
    hidden = torch.tanh(torch.einsum("nd,shd->snh", X, w.unflatten(1, (2, 3))) + b[:, None])
    exact = counted((hidden * v[:, None]).sum(2) + c)
    assert 0 < exact[0].sum() < 0.02
    found = nv.study.joint_accuracy(
        net, DATA, HELD_OUT, prior=nv.priors.Signs(), method=Splitting(300, 4), populations=12, seed=1
    )
    assert found.reached
    # What levels leave behind and what is left is all there was: an identity of every population.
    np.testing.assert_allclose(np.exp(found.populations).sum((1, 2)), 1.0, rtol=1e-12)
    each = np.exp(found.populations)
    error = each.std(0, ddof=1) / math.sqrt(12)
    seen = exact > 1e-3
    # Student's with eleven degrees of freedom beyond 6: 9e-5 a cell, some 40 cells.
    assert (abs(each.mean(0) - exact)[seen] < 6 * error[seen] + 1e-3 * exact[seen]).all()
    assert (each.mean(0)[exact == 0] == 0).all()
    (log_prob, stderr), unseen = found.within(0, 0)
    assert abs(log_prob - math.log(exact[0].sum())) < 5 * stderr
    assert abs(unseen.value - exact[0] @ np.arange(8) / 7 / exact[0].sum()) < 1e-12  # all that fit are one function
    (_, _), unseen = found.within(0, 1)
    truth = exact[:2].sum(0) @ np.arange(8) / 7 / exact[:2].sum()
    assert 0 < abs(unseen.value - truth) < 2.5 * (unseen.high - unseen.value)


def test_real_weights_agree_with_counting() -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1)).double()
    task = Task.of(net, DATA, HELD_OUT, nv.FanIn(), None)
    brute = counted(prior_outputs(task.target, X, 150_000, generator(3))[..., 0])
    found = nv.study.joint_accuracy(net, DATA, HELD_OUT, method=Splitting(200, 6), populations=8, seed=2)
    for errors in (0, 1, 2, 4):
        (log_prob, stderr), unseen = found.within(0, errors)
        share, mean = brute[: errors + 1].sum(), brute[: errors + 1].sum(0) @ np.arange(8) / 7
        # Student's t beyond 5 · 1.96/2.36 · 2.36: below 1e-3 for each of four, at a fixed seed.
        assert abs(log_prob - math.log(share)) < 5 * math.hypot(stderr, (150_000 * share) ** -0.5)
        assert abs(unseen.value - mean / share) < 2.5 * (unseen.high - unseen.value) + 2 * (150_000 * share) ** -0.5
    assert found.log_prob.shape == (10, 8)
    assert math.isclose(np.exp(found.log_prob).sum(), 1.0, rel_tol=1e-9)


def test_what_is_refused_and_what_was_not_reached() -> None:
    net = nn.Linear(3, 1, bias=False).double()
    with pytest.raises(InputError, match="four or more populations"):
        nv.study.joint_accuracy(net, DATA, HELD_OUT, populations=3)
    # Of x and −x a network without a bias says contrary things: one of three errs at least.
    contrary = (torch.stack([X[0], -X[0], X[1]]), torch.tensor([1, 1, 0]))
    found = nv.study.joint_accuracy(net, contrary, HELD_OUT, method=Splitting(40, 2), steps=8)
    assert not found.reached
    assert np.isneginf(found.log_prob[0]).all()
    assert math.isnan(found.within(0, 0)[1].value)
    with pytest.raises(InputError, match="0 ≤ least ≤ most ≤ 3"):
        found.within(2, 4)
