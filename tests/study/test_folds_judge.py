"""What the folds say of transformations, with trainings that are made up and with real ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import novacula as nv
from novacula.core.params import stack
from novacula.inference.method import Start
from novacula.study.cross_fit.result import CrossFit
from novacula.study.learning import trials, verdicts
from novacula.study.learning.each import STRENGTH
from novacula.study.learning.empirical_bayes import EmpiricalBayes
from novacula.study.learning.plan import Judged, Proposal, Trained


class Made(CrossFit):
    """Losses of networks that are made up, by a function of the extents that they were trained with."""

    by: Callable[[dict[str, float]], float]
    noise: float
    steps: int

    @property
    def losses(self) -> Tensor:
        invariance = self.target.invariance
        sizes = {} if invariance is None else dict(zip(invariance.names, invariance.eta.tolist(), strict=True))
        own = torch.Generator().manual_seed(round(1000 * sum(sizes.values())))
        shared = torch.randn(300, generator=torch.Generator().manual_seed(0)).double()
        return (self.by(sizes) + 0.1 * shared + self.noise * torch.randn(300, generator=own).double())[: self.data.n]


@dataclass(frozen=True)
class Planned:
    """A plan whose networks cost nothing."""

    target: nv.Target
    data: nv.Data
    by: Callable[[dict[str, float]], float]
    method: EmpiricalBayes = field(default_factory=EmpiricalBayes)
    seed: int = 0
    moves: int = 5
    noise: float = 0.02
    further: float = 0.0  # what going on gains

    def fold(self, target: nv.Target, steps: int = 0, gain: float = 0.0) -> Made:
        networks = tuple({k: w.unsqueeze(0) for k, w in target.params().items()} for _ in range(3))
        made = Made(target, self.data, torch.arange(self.data.n) % 3, networks, torch.zeros(1, self.data.n, 2))
        object.__setattr__(made, "by", lambda sizes: self.by(sizes) - gain)
        object.__setattr__(made, "noise", self.noise)
        object.__setattr__(made, "steps", steps)
        return made

    def propose(self, target: nv.Target, data: nv.Data) -> Proposal:
        record = {"epoch": 2.0, "step": 80.0, "loss": 0.4, "extent/rotation": 0.5}
        return Proposal(self.fold(target), [record], 80, self.moves, short=False, apart=None)

    def blind(self, target: nv.Target, *_: Any, steps: int = 0, **__: Any) -> Made:
        return self.fold(target, steps)

    def one_fold(self, target: nv.Target, *given: Any) -> Made:
        return self.fold(target, given[-1])

    def go_on(self, target: nv.Target, *_: Any, **__: Any) -> Made:
        return self.fold(target, gain=self.further)

    def train(self, target: nv.Target, data: nv.Data, *, still: bool = False) -> Trained:
        assert still
        state = self.method.init(target, data, torch.Generator(), Start(stack([target.params()]), 80))
        history = [{"epoch": 1.0, "step": 10.0, "loss": 0.3}]
        score = nv.evidence.LinearGaussian
        return Trained(target, target.params(), state, {}, history, 120, score, score, {})  # type: ignore[arg-type]


def judged(by: Callable[[dict[str, float]], float], rotation: float = 0.4, shear: float = 0.0, **more: Any) -> Judged:
    return judged_at(by, {"rotation": rotation, "shear": shear}, **more)


def judged_at(by: Callable[[dict[str, float]], float], extents: dict[str, float], **more: Any) -> Judged:
    data = nv.Data(torch.rand(300, 1, 4, 4), torch.arange(300) % 2)
    net = nv.networks.make("mlp", (1, 4, 4), 2, seed=0)
    invariance = nv.Affine(eta=torch.tensor([*extents.values()]), only=tuple(extents))  # type: ignore[arg-type]
    target, data = nv.Target(net, invariance=invariance).prepare(data)
    plan: Any = Planned(target, data, by, **more)
    return verdicts.judged(plan, target, data)


def parabola(best: float, worth: float) -> Callable[[dict[str, float]], float]:
    # A loss that falls by ``worth`` towards this rotation, and rises by as much at twice it.
    return lambda sizes: 0.5 - worth + worth * (sizes.get("rotation", 0.0) / best - 1) ** 2 + sizes.get("shear", 0.0)


def test_what_helps_is_needed_and_kept() -> None:
    found = judged(parabola(0.4, 0.2))
    rotation = found.verdicts["rotation"]
    assert rotation["verdict"] == "needed"
    assert rotation["gain"] == pytest.approx(0.2, abs=0.01)
    assert rotation["extent"] == pytest.approx(0.4)
    assert found.trained.target.invariance is not None
    assert found.verdicts["shear"]["verdict"] == "harmful"
    assert found.said == []
    assert found.hyper["rotation"]["value"] == pytest.approx(0.4)
    assert found.hyper["rotation"]["converged"]
    assert found.unseen is not None
    assert found.unseen.fewer is not None
    assert found.unseen.anew is None  # the networks went the final one's way, and more steps gain nothing


def test_where_more_steps_gain_the_expectation_is_of_networks_that_take_as_many_as_the_final_one() -> None:
    found = judged(parabola(0.4, 0.2), further=0.05)
    assert found.verdicts["rotation"]["extent"] == pytest.approx(0.4)
    assert found.trained.steps == 120  # and 80 of the folds' networks
    assert found.unseen is not None
    assert found.unseen.fewer.steps == found.unseen.anew.steps == 120  # type: ignore[union-attr]


@pytest.mark.parametrize("second", [0.006, 0.001])
def test_what_another_makes_up_for_is_asked_of_networks_without_any(second: float) -> None:
    # Either of two transformations gives .2 nats, and the second hardly more: leaving one out tells nothing.
    def loss(sizes: dict[str, float]) -> float:
        there = [sizes.get(k, 0.0) > 0.2 for k in ("rotation", "shear")]
        return 0.5 - 0.2 * any(there) - second * all(there)

    found = judged(loss, rotation=0.4, shear=0.4)
    for name in ("rotation", "shear"):
        assert found.verdicts[name]["verdict"] == "needed"
        assert found.verdicts[name]["gain"] == pytest.approx(0.2, abs=0.01)


def test_an_extent_that_is_too_small_is_doubled_until_nothing_is_gained() -> None:
    found = judged(parabola(0.4, 0.2), rotation=0.1)
    assert found.verdicts["rotation"]["extent"] == pytest.approx(0.4)
    assert found.verdicts["rotation"]["verdict"] == "needed"
    assert found.unseen is not None
    assert float(found.unseen.target.invariance.eta[0]) == pytest.approx(0.4)  # type: ignore[union-attr]
    assert [r["extent/rotation"] for r in found.trained.history] == pytest.approx([0.5, 0.4])
    assert [r["step"] for r in found.trained.history] == [80, 90]
    # The networks came late to that: the other one begins with it.
    assert float(found.unseen.anew.target.invariance.eta[0]) == pytest.approx(0.4)  # type: ignore[union-attr]


def test_an_extent_that_is_still_doubled_at_the_last_look_has_not_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "_LOOKS", 1)
    found = judged(parabola(0.6, 0.2), rotation=0.1)
    assert found.verdicts["rotation"]["extent"] == pytest.approx(0.4)
    assert not found.hyper["rotation"]["converged"]
    assert found.hyper["shear"]["converged"]


def turned(sizes: dict[str, float]) -> float:
    # Whatever is beyond a third of the circle is as good.
    return 0.5 - 0.2 * (sizes.get("rotation", 0.0) > 1 / 3)


@pytest.mark.parametrize(("found", "kept"), [(0.8, 1.0), (0.5, 0.5), (0.6, 0.6)])
def test_nearly_all_of_the_circle_is_all_of_it(found: float, kept: float) -> None:
    judgement = judged(turned, rotation=found, noise=0.0)
    assert judgement.verdicts["rotation"]["extent"] == pytest.approx(kept)
    assert judgement.verdicts["rotation"]["verdict"] == "needed"
    assert judgement.hyper["rotation"]["converged"]


def test_all_of_the_circle_is_not_taken_where_it_loses() -> None:
    judgement = judged(lambda sizes: turned(sizes) + 0.01 * (sizes.get("rotation", 0.0) > 0.9), rotation=0.8, noise=0.0)
    assert judgement.verdicts["rotation"]["extent"] == pytest.approx(0.8)


def shifted(sizes: dict[str, float]) -> float:
    # Shifts are as good up to .7 along x, and up to .5 along y; less than .1 is too little.
    x, y = (sizes.get(f"translation_{k}", 0.0) for k in "xy")
    return 0.5 - 0.1 * (0.1 < x < 0.7) - 0.1 * (0.1 < y < 0.5)


@pytest.mark.parametrize(("x", "kept"), [(0.4, 0.4), (0.6, 0.2)])
def test_shifts_are_as_far_both_ways_where_that_loses_nothing(x: float, kept: float) -> None:
    found = judged_at(shifted, {"translation_x": x, "translation_y": 0.2}, noise=0.0).verdicts
    assert found["translation_x"]["extent"] == pytest.approx(x)
    assert found["translation_y"]["extent"] == pytest.approx(kept)


@pytest.mark.parametrize(("lasts", "said"), [(True, "harmful"), (False, "no effect")])
def test_harm_must_last(lasts: bool, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    after = (lambda self, tried: tried.compare(self.control)) if lasts else (lambda *_: (0.0, 0.001))
    monkeypatch.setattr(trials.Trials, "lasting", after)
    found = judged(lambda sizes: 0.5 - 0.2 * (sizes.get("rotation", 0.0) > 0.1) + sizes.get("shear", 0.0))
    assert found.verdicts["shear"]["verdict"] == said


def test_networks_without_any_go_on_where_half_of_their_steps_do_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the steps tell a gain of .2, and not one of .004, some three standard errors."""
    taken, go_on = list[bool](), Planned.go_on

    def counted(self: Planned, target: nv.Target, *some: Any, **more: Any) -> Made:
        taken.append(target.invariance is None)
        return go_on(self, target, *some, **more)

    monkeypatch.setattr(Planned, "go_on", counted)
    judged(parabola(0.4, 0.2))
    assert not any(taken)
    judged(parabola(0.4, 0.004))
    assert any(taken)


def test_what_harms_is_dropped_and_said() -> None:
    found = judged(lambda sizes: 0.3 + sizes.get("rotation", 0.0))
    assert found.verdicts["rotation"]["verdict"] == "harmful"
    assert found.trained.target.invariance is None
    assert found.unseen is not None
    assert found.unseen.target.invariance is None
    assert found.hyper == {}
    assert "dropped" in found.said[0]
    assert found.trained.history[-1]["extent/rotation"] == 0


def test_what_was_dropped_may_come_back_at_an_extent_that_people_use() -> None:
    """Mild rotations help, those that were proposed harm."""
    found = judged(lambda sizes: 0.5 - (0.2 if 0.03 < sizes.get("rotation", 0.0) < 0.09 else 0), rotation=0.4)
    assert found.verdicts["rotation"]["extent"] == pytest.approx(STRENGTH["rotation"])
    assert found.verdicts["rotation"]["verdict"] == "needed"


def test_what_makes_no_difference_says_so() -> None:
    found = judged(lambda sizes: 0.5 if sizes else 0.503)  # so that it is not dropped by chance
    assert {v["verdict"] for v in found.verdicts.values()} <= {"no effect", "undecided"}
    assert found.trained.target.invariance is not None


def test_extents_that_were_given_stay_and_are_judged() -> None:
    method = EmpiricalBayes(learn=("prior", "likelihood"))
    found = judged(parabola(0.4, 0.2), rotation=0.1, moves=0, method=method)
    assert found.verdicts["rotation"]["verdict"] == "needed"
    assert found.verdicts["rotation"]["extent"] == pytest.approx(0.1)
    assert (found.said, found.hyper) == ([], {})


def test_extents_that_never_moved_are_said() -> None:
    found = judged(parabola(0.4, 0.2), moves=0)
    assert "stayed where they began" in found.said[0]
    assert not found.hyper["rotation"]["converged"]


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


def test_what_is_left_out_in_the_end_is_not_said_to_be_needed() -> None:
    invariance = nv.Affine(eta=torch.tensor([0.0, 0.4]), only=("rotation", "shear"))
    said = {name: {"verdict": "needed", "extent": 0.1, "gain": 0.1, "stderr": 0.01} for name in invariance.names}
    after = verdicts._at(said, invariance)
    assert (after["rotation"]["verdict"], after["rotation"]["extent"]) == ("undecided", 0.0)
    assert (after["shear"]["verdict"], after["shear"]["extent"]) == ("needed", pytest.approx(0.4))
