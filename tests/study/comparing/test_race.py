"""Races of real networks: who is dropped and when, the budget, the folder, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.rng import derive
from novacula.study.comparing import race as module
from novacula.study.comparing.gaps import Gap
from novacula.study.comparing.race import _counts, _promise, _staying
from novacula.study.comparing.standings import Runner

SHORT: dict[str, Any] = {"budget": 600.0, "steps": 100, "batch_size": 20, "seed": 1, "method": nv.MAP(lr=0.02)}


class Blind(torch.nn.Module):
    """Sees nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return 0 * x


@pytest.fixture(scope="module")
def data() -> nv.Data:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(120, 4, generator=rng)
    return nv.Data(x, (x[:, 0] > 0).long())


@pytest.fixture(scope="module")
def models() -> dict[str, torch.nn.Module]:
    nets = {name: nv.networks.make("mlp", (4,), 2, width=8, depth=1, seed=0) for name in ("width 8", "again")}
    return {"blind": torch.nn.Sequential(Blind(), torch.nn.Linear(4, 2)), **nets}


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which every training takes one second."""
    ticks = iter(float(i) for i in range(10_000))
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ticks))


def told(found: nv.study.Race) -> str:
    return json.dumps(found.to_dict())


@pytest.mark.parametrize(
    ("models", "drop", "counts"),
    [(12, 1 / 3, [12, 12, 8, 4]), (10, 0.25, [10, 10, 7, 4]), (3, 0.3, [3, 3, 2]), (3, 0.9, [3, 3])],
)
def test_how_many_run(models: int, drop: float, counts: list[int]) -> None:
    assert _counts(models, drop) == counts
    assert _counts(2, drop) == [2, 2]
    assert _counts(1, drop) == [1, 1]


def test_who_stays() -> None:
    # After 10 and 100 steps of 1,000 the scores fall by as much again, one e-fold being log 10 of both.
    fit: Any = None
    scores = {"flat": (0.5, 0.5), "rises": (0.4, 0.55), "slow": (2.0, 1.2), "steep": (2.3, 1.3), "stuck": (2.3, 2.2)}
    runs = [Runner(name, fit, (10, 90), s, s, (1.0, 1.0)) for name, s in scores.items()]
    promised = [0.5, 0.55, 0.4, 0.3, 2.1]
    assert [_promise(r, "unseen", 1_000) for r in runs] == pytest.approx(promised)
    stay = [[r.name for r in _staying(runs, count, "unseen", 1_000)] for count in (1, 2, 3, 4)]
    assert stay == [["flat"], ["flat", "steep"], ["flat", "rises", "steep"], ["flat", "rises", "steep", "slow"]]
    assert _staying(runs, 3, "speed", 1_000) == _staying(runs, 3, "unseen", 1_000)
    failed = Runner("failed", fit, (10, 90), (1.0, math.nan), (1.0, math.nan), (1.0, 1.0))
    assert _promise(failed, "unseen", 1_000) == math.inf
    assert _promise(Runner("new", fit, (10,), (0.7,), (0.7,), (1.0,)), "unseen", 1_000) == 0.7


def test_the_schedule_by_the_clock(ticking: None, models: dict[str, Any], data: nv.Data) -> None:
    # A pass is 4 steps of 20 of 80 examples and takes each of the 3 models a second. Of 18 seconds 15 are left, 7.5 for
    # each of two rungs: 7.5 / (3/4) steps, which take 3 seconds by this clock; 12 left pay for 12 / (2/10) of two.
    found = nv.study.race(models, data, **{**SHORT, "budget": 18.0})
    by_name = {r.name: r for r in found.runners}
    assert by_name["blind"].steps == (4, 10)
    assert found.runners[-1].name == "blind"
    assert [len(r.steps) for r in found.runners] == [3, 3, 2]
    assert found.best.steps == found.runners[1].steps == (4, 10, 60)
    assert found.seconds == 3 + 3 + 2
    longer = nv.study.race(models, data, **{**SHORT, "budget": 36.0})
    assert longer.best.steps == (4, 22, 74)  # never beyond a full training


def test_that_nobody_is_dropped_where_there_is_time(models: dict[str, Any], data: nv.Data) -> None:
    found = nv.study.race(models, data, only=None, **SHORT)
    assert {r.steps for r in found.runners} == {(4, 96)}
    assert len(found.finalists) == 3
    assert [r.name for r in found.runners][-1] == "blind"
    assert [found.word(r) for r in found.runners[:2]] == ["best", "tied"]
    assert found.word(found.runners[-1]) == "worse"
    longer = dataclasses.replace(found, length=201)  # of which 100 steps are not half
    assert [longer.word(r) for r in longer.runners] == ["best", "tied", "behind"]
    assert any("'blind' (100 steps)" in text for text in longer.warnings)
    best, last = found.best, found.runners[-1]
    assert last.gap is not None
    assert last.gap.value == pytest.approx(best.fit.compare(last.fit)[0])
    one = nv.study.race(models, data, **SHORT)  # of single networks, which do not tell how much trainings differ
    assert [one.word(r) for r in one.runners] == ["best", "tied", "behind"]
    for single in one.runners:
        of_three = next(r for r in found.runners if r.name == single.name)
        assert len(single.fit.networks) == 1
        assert all(torch.equal(w, of_three.fit.networks[0][k]) for k, w in single.fit.networks[0].items())
        assert torch.equal(single.fit.data.x, data.x[found.best.fit.folds == 0])
    behind = one.runners[-1].gap
    assert behind is not None
    assert (behind.value, behind.stderr) == pytest.approx(one.best.fit.compare(one.runners[-1].fit))
    assert len(found.table().splitlines()) == 5
    assert not found.warnings
    weights = found.stack.weights
    assert list(weights) == [r.name for r in found.finalists]
    assert weights["blind"] < 0.1


def test_the_scores_against_training_by_hand(models: dict[str, Any], data: nv.Data) -> None:
    found = nv.study.race({"a": models["width 8"]}, data, by="speed", only=None, **SHORT)
    first: list[float] = []
    options: dict[str, Any] = {"batch_size": 20, "method": SHORT["method"], "folds": found.best.fit.folds}
    options |= {"seed": derive(1, "rung", 0), "part": (0, 100)}
    fit = nv.cross_fit(models["width 8"], data, steps=4, progress=lambda *r: first.append(r[2]["loss"]), **options)
    assert found.best.unseen[0] == pytest.approx(float(fit.losses.mean()))
    assert found.best.speed[0] == pytest.approx(sum(first) / 3)
    second: list[list[float]] = [[], [], []]

    def later(done: int, total: int, record: dict[str, float]) -> None:
        second[(done - 1) // (total // 3)].append(record["loss"])

    options |= {"seed": derive(1, "rung", 1), "starts": fit.networks, "part": (4, 100)}
    nv.cross_fit(models["width 8"], data, steps=96, progress=later, **options)
    tails = [sum(x[12:]) / 12 for x in second]  # of 24 passes the later 12
    assert found.best.speed[1] == pytest.approx(sum(tails) / 3)


def test_the_posterior_of_the_folds(models: dict[str, Any], data: nv.Data) -> None:
    fit = nv.study.race({"a": models["width 8"]}, data, only=None, **SHORT).best.fit
    net, by_hand = models["width 8"], []
    for each in fit.networks:
        f = torch.func.functional_call(net, {k: w[0] for k, w in each.items()}, (data.x,))
        by_hand.append((f / fit.temperature).softmax(1))
    assert torch.allclose(nv.predict(fit.posterior, data.x).mean(), torch.stack(by_hand).mean(0), atol=1e-6)


def test_that_an_interrupted_race_goes_on(
    models: dict[str, Any], data: nv.Data, tmp_path: Path, ticking: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**SHORT, "budget": 18.0, "steps": 40}
    found = nv.study.race(models, data, **options)
    once, calls = module._Leg.fit, []

    def interrupted(leg: Any, progress: Any) -> Any:
        calls.append(leg)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return once(leg, progress)

    with monkeypatch.context() as m:
        m.setattr(module._Leg, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            nv.study.race(models, data, store=tmp_path, **options)
    kept = sorted(p.name for p in tmp_path.iterdir())
    assert len(kept) == 1 + 4
    assert told(nv.study.race(models, data, store=tmp_path, **options)) == told(found)
    monkeypatch.setattr(module._Leg, "fit", None)  # nothing is trained again
    assert told(nv.study.race(models, data, store=tmp_path, **options)) == told(found)
    with pytest.raises(InputError, match="other budget, steps than"):
        nv.study.race(models, data, store=tmp_path, **SHORT)


def test_that_workers_change_nothing(models: dict[str, Any], data: nv.Data) -> None:
    def results(found: nv.study.Race) -> list[tuple[str, Any, Any]]:
        return [(r.name, r.unseen, r.speed) for r in found.runners]

    some = {k: models[k] for k in ("blind", "width 8")}
    assert results(nv.study.race(some, data, workers=2, backend="threads", **SHORT)) == results(
        nv.study.race(some, data, **SHORT)
    )


def test_what_is_told_of_a_budget_that_ends(data: nv.Data) -> None:
    fit: Any = None
    a = Runner("a", fit, (4, 6, 9), (1.0,) * 3, (1.0,) * 3, (1.0,) * 3)
    gap = Gap(0.1, 0.2, 4.0, 0.01, 120, 1, 0.05)
    b = Runner("b", fit, (4, 6, 9), (1.0,) * 3, (1.0,) * 3, (1.0,) * 3, gap)
    c = Runner("c", fit, (4, 6), (1.0,) * 2, (1.0,) * 2, (1.0,) * 2, gap)
    found = nv.study.Race((a, b, c), "unseen", 5.0, 100)
    assert found.finalists == (a, b)
    assert [text.split(":")[0] for text in found.warnings] == [
        "the best was trained for 19 steps of 100",
        "one pass of all models takes more than the budget",
        "dropped for want of time, not beyond doubt",
    ]
    assert found.warnings[2].endswith("'c'")


@pytest.mark.parametrize(
    "wrong", [{"budget": 0.0}, {"by": "luck"}, {"drop": 1.0}, {"only": 0}, {"steps": 0}, {"folds": 1}]
)
def test_what_is_refused(wrong: dict[str, Any], models: dict[str, Any], data: nv.Data) -> None:
    with pytest.raises(InputError):
        nv.study.race(models, data, **{**SHORT, **wrong})
    with pytest.raises(InputError, match="at least one model"):
        nv.study.race({}, data, budget=1.0)
