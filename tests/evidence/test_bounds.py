"""PAC-Bayes bounds by hand and by brute force, and the ladder."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.evidence import NNGP, Counting, Splitting, compression, ladder, pac_bayes


def problem(n: int = 6) -> tuple[nv.Target, nv.Data]:
    net = nn.Linear(n, 1, bias=False).double()
    y = (torch.arange(n) % 3 == 0).double()[:, None]
    return nv.Target(net, likelihood=nv.Bernoulli()), nv.Data(torch.eye(n).double(), y, task="multilabel")


def test_bounds_solve_their_equations() -> None:
    found = compression(40, 500, error=0.06, delta=0.01)
    rate = (40 * math.log(2) + math.log(2 * math.sqrt(500) / 0.01)) / 500
    e = found.langford_seeger
    assert 0.06 * math.log(0.06 / e) + 0.94 * math.log(0.94 / (1 - e)) == pytest.approx(rate, rel=1e-9)
    assert found.mcallester == pytest.approx(0.06 + math.sqrt(rate / 2))
    assert e < found.mcallester  # Pinsker
    assert math.isnan(found.realizable)
    fits = compression(40, 500, delta=0.01)
    assert (1 - fits.realizable) ** 500 == pytest.approx(2**-40 * 0.01, rel=1e-9)
    assert (1 - fits.langford_seeger) ** 500 == pytest.approx(2**-40 * 0.01 / (2 * math.sqrt(500)), rel=1e-6)
    assert compression(1e6, 10).mcallester == 1


def test_the_realizable_bound_is_rarely_broken() -> None:
    # Thresholds on [0, 1) of a uniform prior over 64; the truth is one of them, and Q all that fit.
    delta, n, broken, runs = 0.2, 20, 0, 2_000
    rng = generator(0)
    x = torch.rand(runs, n, generator=rng, dtype=torch.float64)
    thresholds = (torch.arange(64) + 0.5) / 64
    labels = x > thresholds[45]
    fits = ((x[:, None] > thresholds[:, None]) == labels[:, None]).all(2).double()
    errors = (thresholds - thresholds[45]).abs().double()
    mean_error = (fits * errors).sum(1) / fits.sum(1)
    for p, error in zip(fits.mean(1).tolist(), mean_error.tolist(), strict=True):
        broken += error > compression(-math.log2(p), n, delta=delta).realizable
    assert broken / runs < delta


def test_bounds_from_an_estimate_take_its_lower_end() -> None:
    target, data = problem()
    found = Counting(20_000)(target, data, seed=0)
    assert abs(float(found) + 6 * math.log(2)) < 4.5 * found.stderr  # 7e-6
    bounds = pac_bayes(found)
    assert bounds.kl == pytest.approx(-float(found) + 1.959963984540054 * found.stderr)
    with pytest.raises(InputError, match="zero training error"):
        pac_bayes(dataclasses.replace(found, loss="categorical"))
    with pytest.raises(InputError, match="upper bound"):
        pac_bayes(dataclasses.replace(found, kind="upper bound"))
    with pytest.raises(InputError, match="delta"):
        compression(3, 10, delta=0.0)


def test_the_ladder_agrees_where_all_estimators_are_exact() -> None:
    target, data = problem()
    rungs = (Counting(20_000), NNGP("ep"), NNGP("tilting"), Splitting(particles=100, moves=4, attempts=1))
    seen: list[str] = []
    found = ladder(target, data, seed=1, estimators=rungs, progress=lambda i, n, name: seen.append(name))
    assert seen == [r.name for r in rungs] == list(found.estimates)
    assert not found.refused
    assert all(found.agree.values())  # three standard errors of fixed seeds
    assert len(found.agree) == 6
    assert float(found.estimates["NNGP(ep)"]) == pytest.approx(-6 * math.log(2), abs=1e-6)
    assert "NNGP(tilting)" in str(found)
    assert set(found.to_dict()) == {"estimates", "refused", "agree"}


def test_a_count_without_a_hit_is_a_bound() -> None:
    target, data = problem(40)
    found = Counting(1_000)(target, data, seed=0)
    assert found.kind == "upper bound"
    assert float(found) == pytest.approx(math.log(3 / 1_000))
