"""What the folds say of transformations, with trainings that are made up and with real ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import novacula as nv
from novacula.study.learning import verdicts


class Fold:
    """Losses of networks that are made up, which depend on the rotation they were trained with."""

    def __init__(self, data: nv.Data, by: dict[str, float], target: nv.Target) -> None:
        rng = torch.Generator().manual_seed(0)
        invariance = target.invariance
        angle = 0.0 if invariance is None else float(invariance.eta[0])
        name = "none" if angle < 0.01 else "mild" if angle < 0.1 else "learned"
        self.losses = by[name] + 0.1 * torch.randn(data.n, generator=rng).double()
        self.losses = (
            self.losses + 0.02 * torch.randn(data.n, generator=torch.Generator().manual_seed(len(name))).double()
        )
        self.folds, self.data, self.target = torch.arange(data.n) % 3, data, target

    def compare(self, other: Any) -> tuple[float, float]:
        difference = other.losses - self.losses
        return float(difference.mean()), float(difference.std()) / len(difference) ** 0.5


def judged(**by: float) -> tuple[Any, Any, dict[str, Any], list[str]]:
    data = nv.Data(torch.rand(90, 1, 4, 4), torch.arange(90) % 2)
    net = nv.networks.make("mlp", (1, 4, 4), 2, seed=0)
    target = nv.Target(net, invariance=nv.Affine(eta=torch.tensor([0.5]), only=("rotation",)))

    class Plan:
        def train(self, target: nv.Target, data: nv.Data, *, still: bool = False) -> Any:
            assert still
            return SimpleNamespace(target=target)

        def cross_fit(self, trained: Any, data: Any, folds: Any, target: Any = None, only: Any = None) -> Any:
            return Fold(data, by, target or trained.target)

        def go_on(self, trained: Any, data: Any, best: Any, target: nv.Target, only: Any) -> Any:
            return Fold(data, by, target)

    return verdicts.judged(Plan(), target, SimpleNamespace(target=target), Fold(data, by, target), data)


def test_what_helps_is_needed_and_kept() -> None:
    trained, _, found, said = judged(none=0.5, learned=0.3, mild=0.4)
    assert found["rotation"]["verdict"] == "needed"
    assert found["rotation"]["gain"] == pytest.approx(0.2, abs=0.02)
    assert found["rotation"]["extent"] == pytest.approx(0.5)
    assert float(trained.target.invariance.eta[0]) == 0.5
    assert said == []


def test_a_mild_extent_that_is_better_takes_its_place() -> None:
    trained, _, found, said = judged(none=0.5, learned=0.6, mild=0.4)
    assert found["rotation"]["verdict"] == "needed"
    assert float(trained.target.invariance.eta[0]) == pytest.approx(verdicts.MILD["rotation"])
    assert "mild transformations were kept" in said[0]


def test_what_harms_is_dropped_and_said() -> None:
    trained, best, found, said = judged(none=0.3, learned=0.5, mild=0.5)
    assert found["rotation"]["verdict"] == "harmful"
    assert trained.target.invariance is None
    assert best.target.invariance is None
    assert "dropped" in said[0]


def test_what_makes_no_difference_says_so() -> None:
    trained, _, found, _ = judged(none=0.5, learned=0.5, mild=0.5)
    assert found["rotation"]["verdict"] in {"no effect", "undecided"}
    assert trained.target.invariance is not None


def test_a_mirror_that_changes_the_answer_is_not_kept(tmp_path: Path) -> None:
    """The class is whether the bright side is left: half of all mirrored copies would be wrong."""
    rng = torch.Generator().manual_seed(1)
    y = torch.arange(120) % 2
    x = 0.3 * torch.rand(120, 1, 6, 6, generator=rng)
    for i, label in enumerate(y.tolist()):
        x[i, :, :, 3 * label : 3 * label + 3] += 0.5
    net = nv.networks.make("mlp", (1, 6, 6), 2, seed=0)
    target = nv.Target(net, invariance=nv.Flip(eta=torch.tensor([0.5]), only=("flip",)), copies=nv.Copies(1, 4, 8))
    method = dataclasses.replace(nv.study.default_method(120), learn=("prior",))
    fit = nv.learn(target, nv.Data(x, y), epochs=60, method=method)
    assert fit.verdicts["flip"]["verdict"] == "harmful"
    assert fit.target.invariance is None
    assert any("dropped" in w for w in fit.warnings)
    fit.save(tmp_path)
    again = nv.study.load_run(tmp_path, target=target)
    assert again.target.invariance is None
    torch.testing.assert_close(again.predict(x[:5]).mean(), nv.predict(fit.posterior, x[:5]).mean())
