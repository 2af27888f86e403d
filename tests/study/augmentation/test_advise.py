"""Planted cases: what helps, harms or does nothing is known, and the advice may not say otherwise."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.core.storage.run import ADVICE, PICTURES, PLAN
from novacula.study.augmentation import plan as planning
from novacula.study.augmentation.advise import augment
from novacula.study.augmentation.arms import EXTENTS, NONE, TRIVIAL, Arm, arms_for, combination
from novacula.study.augmentation.networks import Network, train
from novacula.study.augmentation.plan import Plan, examples_of, images_of, keep, kept, networks_of, plan

STEPS = 100


def net(channels: int, outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, 32), nn.GELU(), nn.Linear(32, outputs))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sides(n: int = 120) -> nv.Data:
    """A bright column on the left or on the right: the label. All rows of an image are the same."""
    y = torch.arange(n) % 2
    x = torch.zeros(n, 1, 8, 8)
    at = torch.randint(3, (n,), generator=rng()) + 4 * y
    x[torch.arange(n), 0, :, at] = 1.0
    return nv.Data(x + 0.35 * torch.randn(n, 1, 1, 8, generator=rng(1)), y, name="sides")


def rings(n: int = 60) -> nv.Data:
    """A spot on an inner or on an outer ring, at any angle."""
    y = torch.arange(n) % 2
    angle, radius = 2 * math.pi * torch.rand(n, generator=rng(2)), 0.3 + 0.55 * y
    at = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)[:, :, None, None]
    axis = (torch.arange(8) - 3.5) / 4
    grid = torch.stack([axis.expand(8, 8), axis.unsqueeze(1).expand(8, 8)])
    x = (-0.5 * (grid - at).square().sum(1, keepdim=True) / 0.15**2).exp()
    return nv.Data(x + 0.2 * torch.randn(x.shape, generator=rng(3)), y, name="rings")


def tinted(n: int = 120) -> nv.Data:
    """Red or yellow: the label."""
    y = torch.arange(n) % 2
    x = torch.zeros(n, 3, 8, 8)
    x[:, 0], x[y == 1, 1] = 0.8, 0.6
    return nv.Data((x + 0.15 * torch.randn(x.shape, generator=rng(4))).clamp(0, 1), y, name="tinted")


@cache
def advised(case: str, *only: str) -> nv.Advice:
    data = {"sides": sides, "rings": rings, "tinted": tinted}[case]()
    return nv.augment(data, only=only, network=net(data.x_shape[0], 2), steps=STEPS, workers=1, seed=1)


def test_mirror_images_harm_where_the_side_is_the_label() -> None:
    line = advised("sides", "flip", "flip_vertical").verdicts["flip"]
    assert line.verdict == "harmful"
    assert line.interval[1] < 0
    # Half of the mirrored images have the other label: nothing is left to be learned.
    assert line.nll == pytest.approx(math.log(2), abs=0.05)


def test_what_does_nothing_is_not_claimed_to_help_or_harm() -> None:
    line = advised("sides", "flip", "flip_vertical").verdicts["flip_vertical"]
    assert line.verdict in {"no effect", "undecided"}
    assert abs(line.gain) < 4 * line.stderr


def test_rotation_is_needed_where_shapes_are_rings() -> None:
    found = advised("rings", "rotation")
    line = found.verdicts["rotation"]
    assert (line.verdict, found.needed) == ("needed", ("rotation",))
    assert line.extent >= 1 / 3
    assert dict(found.recommended.parts) == {"rotation": line.extent}
    assert found.against["none"].value > 2 * found.against["none"].stderr
    assert found.scores["recommended"]["nll"] < found.scores["none"]["nll"]
    assert "RandomAffine(degrees=" in nv.export(found.record())


def test_hue_harms_where_colour_is_the_label() -> None:
    line = advised("tinted", "hue").verdicts["hue"]
    assert (line.verdict, line.extent) == ("harmful", 0.5)


def test_where_nothing_is_needed_nothing_is_recommended() -> None:
    found = advised("sides", "flip", "flip_vertical")
    assert (found.recommended, found.needed, set(found.against)) == (NONE, (), {"trivial"})
    assert found.scores["recommended"] == found.scores["none"]
    assert "no transformation" in nv.export(found.record())


def test_losses_are_those_of_networks_that_have_not_seen_the_images() -> None:
    # A stray label can only be predicted by a network that has seen it.
    data, module = sides(60), net(1, 2)
    folds = torch.arange(60) % 3
    f = train(Network(module, data, folds, NONE, 1, 0, 80, 10, seed=5))
    assert f.shape == (20, 2)
    wrong = data.y.clone()
    wrong[folds == 1] = 1 - wrong[folds == 1]
    again = train(Network(module, data.with_values(data.x, wrong), folds, NONE, 1, 0, 80, 10, seed=5))
    assert torch.equal(f, again)
    assert not torch.equal(f, train(Network(module, data, folds, NONE, 1, 1, 80, 10, seed=5)))


def test_without_skill_nothing_is_without_effect() -> None:
    # Labels that do not depend on the images.
    x = torch.randn(90, 1, 8, 8, generator=rng(5))
    data = nv.Data(x, (torch.randperm(90, generator=rng(6)) < 60).long())
    found = nv.augment(data, only=("flip",), network=net(1, 2), steps=20, workers=1)
    assert found.chance == pytest.approx(math.log(3) - 2 / 3 * math.log(2))
    assert found.scores["none"]["nll"] > 0.9 * found.chance
    assert found.verdicts["flip"].verdict != "no effect"


def test_the_record_has_what_is_promised_and_is_saved(tmp_path: Path) -> None:
    found = advised("sides", "flip", "flip_vertical")
    record = json.loads((found.save(tmp_path) / ADVICE).read_text())
    assert set(record["verdicts"]) == {"flip", "flip_vertical"}
    for line in record["verdicts"].values():
        assert {"verdict", "extent", "interval", "gain", "stderr"} <= line.keys()
        assert line["verdict"] in {"needed", "no effect", "harmful", "undecided"}
        assert line["interval"][0] < line["gain"] < line["interval"][1]
    assert {"nll", "stderr", "accuracy"} <= record["out_of_fold"].keys()
    assert {"none", "trivial", "recommended"} <= record["comparison"].keys()
    assert record["converged"] is True
    with np.load(tmp_path / PICTURES) as saved:
        assert saved["none"].shape == (8, 8, 8, 1)
        assert set(saved) == {"none", "trivial", "flip=0.5", "flip_vertical=0.5"}


def test_a_comparison_goes_on_where_it_stopped(tmp_path: Path) -> None:
    data, module = sides(60), net(1, 2)

    def run(store: Path | None, stop: int | None = None) -> nv.Advice:
        def progress(done: int, total: int, record: dict[str, float]) -> None:
            if done == stop:
                raise KeyboardInterrupt

        return augment(data, only=("flip",), network=module, steps=15, workers=1, store=store, progress=progress)

    whole = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop=5)
    stored = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("*.npy")}
    assert len(stored) == 5
    again = run(tmp_path)
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("*.npy")}.items() >= stored.items()
    assert again.record()["verdicts"] == whole.record()["verdicts"]
    with pytest.raises(nv.InputError, match="was made for"):
        augment(data, only=("flip",), network=module, steps=16, workers=1, store=tmp_path)
    with pytest.raises(nv.InputError, match="was made for"):
        augment(data, only=("flip", "rotation"), network=module, steps=15, workers=1, store=tmp_path)

    # A network that is not as it was written is trained again; without the plan, all are.
    damaged = min(tmp_path.glob("*.npy"))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert run(tmp_path).record()["verdicts"] == whole.record()["verdicts"]
    assert damaged.read_bytes() != content
    (tmp_path / PLAN).unlink()
    keep(kept_plan := Plan(60, 3, 8, 1e-3, 1, 500.0), tmp_path, ["other"])
    assert kept(tmp_path, ["other"]) == kept_plan
    assert not list(tmp_path.glob("*.npy"))


def test_what_the_time_cuts_short_says_so(tmp_path: Path) -> None:
    data, module = sides(60), net(1, 2)
    asked = [data.fingerprint, 0, 500.0, None, "flip", "own"]

    def run(step_seconds: float, store: Path) -> nv.Advice:
        store.mkdir()
        keep(Plan(60, 15, 8, step_seconds, 1, 500.0), store, asked)
        return augment(data, only=("flip",), network=module, seconds=500.0, workers=1, store=store)

    # Three passes over the data are few, and there was no time for more.
    assert not run(1e-3, tmp_path / "short").converged
    with pytest.raises(nv.InputError, match="time for one network"):
        run(100.0, tmp_path / "nothing")


# ---------------------------------------------------------------------- arms and the plan


def test_arms_are_the_transformations_at_their_extents() -> None:
    grey, colour = torch.rand(4, 1, 8, 8), torch.rand(4, 3, 8, 8)
    assert {a.name for a in arms_for(colour)} == set(EXTENTS)
    assert {a.name for a in arms_for(grey)} == set(EXTENTS) - {"saturation", "hue"}
    assert [a.key for a in arms_for(grey, ["scale", "flip"])] == ["scale=0.1", "flip=0.5", "scale=0.3"]
    (mild, strong) = arms_for(100 * grey / (grey.max() - grey.min()), ["brightness"])
    assert (mild.extent, strong.extent) == (pytest.approx(10, rel=1e-5), pytest.approx(30, rel=1e-5))
    mixed = combination(
        [Arm("hue", (("hue", 0.1),)), Arm("scale", (("scale", 0.3),)), Arm("deformation", (("deformation", 0.05),))]
    )
    assert mixed.key == "scale=0.3+hue=0.1+deformation=0.05"
    assert mixed.extents() == {
        "scale": pytest.approx(0.3),
        "hue": pytest.approx(0.1),
        "amplitude": pytest.approx(0.05),
        "log_smoothness": pytest.approx(math.log(0.15)),
    }
    made = mixed.invariance()
    assert made is not None
    assert made(colour, made.noise(4, colour, rng())).shape == colour.shape
    assert (NONE.invariance(), NONE.extents(), TRIVIAL.extents()) == (None, {}, {})
    assert NONE.longer.key == "none-x2"
    with pytest.raises(nv.InputError, match="three channels for hue"):
        arms_for(grey, ["hue"])
    with pytest.raises(nv.InputError, match="'spin'"):
        arms_for(grey, ["spin"])


def test_steps_and_examples_fit_the_time() -> None:
    data, module = sides(400), net(1, 2)
    arms = arms_for(data.x)
    made = plan(module, data, arms, 1e5, 1)
    assert (made.steps, made.n) == (1500, 400)
    assert networks_of(len(arms)) * made.network_seconds <= 1e5
    assert (made.left_out, made.enough) == (0, True)
    assert plan(module, data, arms, 60.0, 1, steps=33).steps == 33
    with pytest.raises(nv.InputError, match=r"got 3 s. Try: give \d+ s"):
        plan(module, data, arms, 3.0, 1)
    few = examples_of(Plan(100, 300, 10, 0.001, 1, 60.0), data, 3)
    assert few.n == 100
    assert torch.equal(few.x, examples_of(Plan(100, 300, 10, 0.001, 1, 60.0), data, 3).x)


def test_what_there_is_no_time_for_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # A step takes 20 ms: 250 steps of three folds take 15 s an arm, 8 s are for the beginning.
    monkeypatch.setattr(planning, "_step_seconds", lambda task: 0.02)
    arms, least = arms_for(torch.rand(60, 1, 8, 8)), 15.0
    kinds = len({arm.name for arm in arms})
    assert kinds < len(arms)

    def planned(seconds: float) -> Plan:
        return plan(net(1, 2), sides(60), arms, seconds, 1)

    whole = planned(8 + 5 * networks_of(len(arms)) + 1)
    assert (whole.steps, whole.left_out, whole.enough) == (250, 0, True)
    # Repetitions and mixtures are what is cut off first, then wide extents; each transformation is tried.
    short = planned(8 + least * (len(arms) + 3) + 1)
    assert (short.steps, short.left_out) == (250, 0)
    for missing in (1, len(arms) - kinds):
        made = planned(8 + least * (len(arms) + 3 - missing) + 1)
        assert (made.steps, made.left_out, made.enough) == (250, missing, False)
        assert {arm.name for arm in arms[: len(arms) - missing]} == {arm.name for arm in arms}
    with pytest.raises(nv.InputError, match="name fewer transformations"):
        planned(8 + least * (kinds + 3) - 1)


def test_plans_are_kept(tmp_path: Path) -> None:
    made = Plan(100, 300, 10, 0.001, 1, 60.0)
    assert kept(tmp_path, ["a"]) is None
    keep(made, tmp_path, ["a", 1])
    assert kept(tmp_path, ["a", 1]) == made
    with pytest.raises(nv.InputError, match="1 before, 2 now"):
        kept(tmp_path, ["a", 2])
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(nv.InputError, match="the plan of a comparison"):
        kept(tmp_path, ["a", 1])


def test_many_and_large_images_are_cut_down() -> None:
    y = torch.arange(60) % 2
    large = images_of(nv.Data(torch.rand(60, 1, 100, 80), y), 0)
    assert large.x_shape == (1, 64, 51)
    many = nv.Data(torch.rand(4100, 1, 4, 4), torch.arange(4100) % 2)
    assert images_of(many, 0).n == 4000
    assert images_of(nv.Data(torch.rand(2100, 3, 20, 20), torch.arange(2100) % 2), 0).n == 2000
    kept_rows: set[float] = set(images_of(many, 0).x[:, 0, 0, 0].tolist())
    assert kept_rows <= set(many.x[:, 0, 0, 0].tolist())


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (nv.Data(torch.rand(60, 5), torch.arange(60) % 2), "images with classes"),
        (nv.Data(torch.rand(60, 1, 40), torch.arange(60) % 2), r"images with classes.*\(1, 40\).*nv\.study\.compare"),
        (nv.Data(torch.rand(60, 1, 8, 8), torch.rand(60)), "images with classes"),
        (nv.Data(torch.rand(20, 1, 8, 8), torch.arange(20) % 2), "50 images or more"),
    ],
)
def test_other_data_are_refused(data: nv.Data, text: str) -> None:
    with pytest.raises(nv.InputError, match=text):
        nv.augment(data, steps=5, workers=1)


def test_odd_budgets_are_refused() -> None:
    with pytest.raises(nv.InputError, match=r"(seconds|steps) as a"):
        nv.augment(sides(), seconds=0)
    with pytest.raises(nv.InputError, match=r"(seconds|steps) as a"):
        nv.augment(sides(), steps=0)


def test_pictures_are_of_the_same_images() -> None:
    pictures = advised("sides", "flip", "flip_vertical").pictures
    images, mirrored = pictures["none"].astype(int), pictures["flip=0.5"].astype(int)
    same = (images == mirrored).all((1, 2, 3))
    turned_over = (images[:, :, ::-1] == mirrored).all((1, 2, 3))
    assert (same | turned_over).all()
    assert isinstance(torch.from_numpy(images), Tensor)
