"""Controls: out-of-fold losses in the data's units, paired with a network's, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from conjugate import line, moments
from novacula.core.rng import derive
from novacula.data.standardise import Standardiser
from novacula.diagnostics.crossed_mean import nested
from novacula.inference import MAP
from novacula.study import Control, CrossFit, against, controls
from novacula.study.controls import compute
from novacula.study.controls import trees as module
from novacula.study.controls.compute import check
from novacula.study.controls.control import Part
from novacula.study.controls.plain import DECAY
from novacula.study.controls.trees import trees

PLAIN = {"method": MAP(lr=5e-2), "steps": 800, "batch_size": 48}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(n: int = 48) -> nv.Data:
    x = draw(n, 3)
    return nv.Data(x, x @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64) + 0.7 * draw(n, 1, seed=1))


def folds(n: int = 48, k: int = 3) -> Tensor:
    # Of unequal sizes, where k is 3.
    return torch.where(torch.arange(n) < n // 4, 0, torch.arange(n) % (k - 1) + 1)


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    # How rounds are chosen is tested beside the trees.
    monkeypatch.setattr(module, "ROUNDS", (5, 10, 20))


@cache
def by_trees() -> Control:
    return controls(planted(), ["trees"], folds=folds())["trees"]


@cache
def network() -> CrossFit:
    target = line(3, sigma=0.7, precision=0.1)
    return nv.cross_fit(target, planted(), folds=folds(), seed=1, method=MAP(lr=5e-2), steps=400, batch_size=48)


def gaussian(y: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    return (0.5 * ((y - mean) / sd) ** 2 + sd.log() + 0.5 * math.log(2 * math.pi)).sum(1)


# ---------------------------------------------------------------------- trees and process


def test_each_fold_is_predicted_by_trees_that_have_not_seen_it() -> None:
    data, which = planted(), folds()
    scaled = Standardiser.fit(data).apply(data)
    found = controls(scaled, ["trees"], folds=which, seed=4)["trees"]
    for k in range(3):
        out = which == k
        seed = derive(derive(4, "control", "trees"), "fold", k)
        said = trees(Part(scaled.with_values(scaled.x, data.y).subset(~out), scaled.x[out], 1, seed))
        mean, sd = said.mean(), said.variance().sqrt()
        torch.testing.assert_close(found.mean[out], mean, rtol=0, atol=1e-5)
        expected = gaussian(data.y[out], mean, sd)
        torch.testing.assert_close(found.losses[out], expected, rtol=0, atol=1e-4)
    errors = (found.mean - data.y).square().mean().sqrt()
    assert found.rmse == pytest.approx(float(errors), rel=1e-9)
    assert found.accuracy is None
    assert found.nll == pytest.approx(float(found.losses.mean()))
    assert found.stderr == nested(found.losses, which).stderr
    assert found.seconds > 0


@pytest.mark.parametrize("name", ["trees", "gp"])
def test_the_width_has_not_seen_the_fold(name: str) -> None:
    # The fold's own residuals become huge; its means and widths stay, and the loss is what they say.
    data, which = planted(), folds()
    out = which == 1
    strange = data.with_values(data.x, torch.where(out[:, None], data.y + 1e4, data.y))
    found, other = (controls(d, [name], folds=which, seed=2)[name] for d in (data, strange))
    torch.testing.assert_close(other.mean[out], found.mean[out], rtol=0, atol=0)
    before, after = ((d.y - found.mean)[out, 0] for d in (data, strange))
    sd = ((after**2 - before**2) / 2 / (other.losses - found.losses)[out]).sqrt()
    expected = gaussian(data.y[out], found.mean[out], sd[:, None])
    torch.testing.assert_close(found.losses[out], expected, rtol=1e-6, atol=1e-6)
    assert float(sd.max()) < 20
    # The other folds have seen it.
    assert not torch.allclose(other.mean[~out], found.mean[~out])


@pytest.mark.parametrize("name", ["trees", "gp"])
def test_targets_side_by_side_are_scored_jointly(name: str) -> None:
    data, which = planted(), folds()
    both = nv.Data(data.x, torch.cat([data.y, 100 + 9 * data.x[:, :1].abs()], 1))
    found = controls(both, [name], folds=which, seed=1)[name]
    assert found.mean.shape == (48, 2)
    alone = controls(nv.Data(both.x, both.y[:, :1]), [name], folds=which, seed=1)[name]
    torch.testing.assert_close(found.mean[:, :1], alone.mean, rtol=1e-9, atol=1e-9)
    other = controls(nv.Data(both.x, both.y[:, 1:]), [name], folds=which, seed=1)[name]
    # The process draws starts for each target; that of a single one is the first.
    if name == "trees":
        torch.testing.assert_close(found.losses, alone.losses + other.losses, rtol=1e-9, atol=1e-9)
    else:
        assert float((found.losses - alone.losses - other.losses).abs().max()) < 0.2


def test_a_class_missing_from_a_part_costs_a_finite_loss() -> None:
    x = draw(40, 2)
    y = (x[:, 0] > 0).long()
    y[3] = 2  # only in the first fold
    which = folds(40)
    found = controls(nv.Data(x, y), ["trees"], folds=which)["trees"]
    assert found.mean.shape == (40, 3)
    torch.testing.assert_close(found.mean.sum(1), torch.ones(40, dtype=torch.float64))
    n = int((which != which[3]).sum())
    # One example's share; a temperature makes it less at most.
    assert math.log(3 * (n + 1)) - 0.7 <= float(found.losses[3]) <= math.log(3 * (n + 1)) + 1e-9
    assert found.accuracy == pytest.approx(float((found.mean.argmax(1) == y).double().mean()))


def test_images_are_taken_as_rows_of_numbers() -> None:
    images = draw(36, 1, 3, 3)
    y = (images[:, 0, 1, 1] > 0).long()
    which = torch.arange(36) % 3
    found = controls(nv.Data(images, y), ["trees"], folds=which, seed=3)["trees"]
    rows = controls(nv.Data(images.flatten(1), y), ["trees"], folds=which, seed=3)["trees"]
    torch.testing.assert_close(found.losses, rows.losses, rtol=0, atol=0)


# ---------------------------------------------------------------------- plain training


def test_plain_training_is_ridge_regression_with_a_small_decay() -> None:
    data, which = planted(), folds()
    # Whatever the target has learned is of no account.
    target = line(3, sigma=0.01, precision=1e5)
    found = controls(data, ["none"], folds=which, seed=1, target=target, **PLAIN)["none"]
    unit = float(data.y.std(correction=0))
    mean = torch.empty(48, 1, dtype=torch.float64)
    for k in range(3):
        out = which == k
        w, _ = moments(data.x[~out], data.y[~out], sigma=unit, precision=DECAY * 48 * 2 / 3)
        mean[out] = data.x[out] @ w
    torch.testing.assert_close(found.mean, mean, rtol=0, atol=5e-3)
    squares = (found.mean - data.y).square()[:, 0]
    for k in range(3):
        out = which == k
        sd = squares[~out].mean().sqrt()
        expected = gaussian(data.y[out], found.mean[out], sd)
        torch.testing.assert_close(found.losses[out], expected, rtol=1e-9, atol=1e-9)


def net(outputs: int = 2) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, outputs)).double()


def images(n: int = 30) -> nv.Data:
    x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return nv.Data(x, (x[:, 0, 4, 4] > 0.5).long())


@pytest.mark.parametrize(("name", "policy"), [("none", None), ("trivial", nv.Trivial())])
def test_networks_of_classes_are_cross_fitted_plainly(name: str, policy: nv.Trivial | None) -> None:
    data, which = images(), torch.arange(30) % 3
    target = nv.Target(net(), prior=nv.Gaussian(50.0), invariance=nv.Affine(), temperature=0.5)
    found = controls(data, [name], folds=which, seed=1, target=target, steps=40)[name]
    plain = nv.Target(net(), prior=nv.Gaussian(DECAY * 20), invariance=policy)
    plain = replace(plain, forward=target.forward)
    fit = nv.cross_fit(plain, data, folds=which, seed=derive(1, "control", name), steps=40)
    torch.testing.assert_close(found.losses, fit.losses, rtol=1e-6, atol=1e-6)
    assert found.accuracy == pytest.approx(fit.score()["accuracy"])


# ---------------------------------------------------------------------- gains


def test_gains_are_paired() -> None:
    fit, found = network(), by_trees()
    gain, stderr = found.gain_over(fit)
    difference = fit.losses - found.losses
    assert gain == pytest.approx(float(difference.mean()))
    assert gain == pytest.approx(fit.score()["nll"] - found.nll)
    assert stderr == pytest.approx(nested(difference, folds()).stderr)
    # A line is what the network knows, and trees do not.
    assert gain < -stderr
    record = found.to_dict(fit)
    assert (record["gain"], record["gain_stderr"], record["rmse"]) == (gain, stderr, found.rmse)
    assert "accuracy" not in record
    assert record["gain_margin"] >= 2


def test_only_the_same_labels_and_folds_are_compared() -> None:
    fit, found = network(), by_trees()
    with pytest.raises(nv.InputError, match="the same folds"):
        replace(found, folds=found.folds.roll(1)).gain_over(fit)
    with pytest.raises(nv.InputError, match="the same labels in the same order"):
        replace(found, labels=found.labels.roll(1)).gain_over(fit)


def test_a_loss_without_a_density_is_not_compared() -> None:
    data = images()
    loss = nv.Gibbs(lambda f, y: (f[:, 0] - y).square(), name="squares", task="classification")
    target = nv.Target(net(), likelihood=loss)
    with pytest.raises(nv.InputError, match="a density of the labels"):
        check(["trees"], data, target)
    fit = nv.cross_fit(target, data, folds=torch.arange(30) % 3, steps=5)
    with pytest.raises(nv.InputError, match="a network with a density"):
        controls(data, ["trees"], folds=fit.folds)["trees"].gain_over(fit)


@pytest.mark.parametrize(
    ("names", "data", "expected"),
    [
        (["forest"], planted(), "among trees, gp, none, trivial; got 'forest'"),
        (["gp"], images(), "measurements for the control 'gp'"),
        (["none"], planted(), "a target, whose network the control 'none' trains"),
    ],
)
def test_refusals(names: list[str], data: nv.Data, expected: str) -> None:
    with pytest.raises(nv.InputError, match=expected):
        controls(data, names, folds=torch.arange(data.n) % 3)


def test_augmentation_wants_images() -> None:
    with pytest.raises(nv.InputError, match=r"images .* for the control 'trivial'; got inputs of shape \(3,\)"):
        controls(planted(), ["trivial"], folds=folds(), target=line(3, sigma=1.0, precision=1.0))


@pytest.mark.parametrize(
    "wrong", [torch.zeros(48).long(), torch.arange(48) % 3 * 2, torch.arange(47) % 3, torch.arange(48) % 3.0]
)
def test_folds_are_whole_numbers_one_for_each_example(wrong: Tensor) -> None:
    with pytest.raises(nv.InputError, match="folds"):
        controls(planted(), ["trees"], folds=wrong)


def test_a_learned_network_is_held_against_controls(monkeypatch: pytest.MonkeyPatch) -> None:
    target = line(3, sigma=0.7, precision=0.1)
    result = nv.learn(target, planted(), epochs=1)
    monkeypatch.setattr(compute, "cross_fitted", lambda result: network())
    found = against(result, ["gp"], target)
    expected = controls(planted(), ["gp"], folds=folds(), seed=derive(result.seed, "against"))["gp"]
    assert found["gp"] == expected.to_dict(network()) | {"seconds": found["gp"]["seconds"]}
