"""Posteriors of runs: what is kept of them, that what is read back predicts what was saved, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

import novacula as nv
from files import resealed
from novacula.core.errors import InputError
from novacula.core.params import Params, flatten, stack, unstack
from novacula.core.rng import generator
from novacula.core.storage.run import POSTERIOR, RECORD, Run
from novacula.data.data import Data
from novacula.data.new import NewData
from novacula.data.standardise import Standardiser
from novacula.inference import SGLD, Draws, Ensemble, Mixture, Point
from novacula.inference.optimising.swag import SWAG
from novacula.likelihoods import Normal
from novacula.posteriors.gaussians import DiagonalGaussian, LowRankGaussian
from novacula.prediction import predict
from novacula.runs import packing as stored
from novacula.runs.catalogue.methods import METHODS, Trained, Wanted, changed, method_of, read_method, settings_of
from novacula.runs.packing import bounded, size_of, tensors_of
from novacula.study import LearnResult, learn, load_posterior, load_run
from novacula.target import Target

STEPS = {"nuts": 8, "hmc": 8, "smc": 60, "swag": 12, "multi-swag": 12}
LESS = {
    "ensemble": ":members=3",
    "multi-swag": ":members=3,rank=4,points=8",
    "swag": ":rank=4,points=8",
    "smc": ":particles=8,moves=1,leapfrogs=2",
    "nuts": ":max_depth=3",
    "hmc": ":leapfrogs=2",
}


def net(seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Dropout(0.3), nn.Linear(4, 3)).eval()


def classes(n: int = 40) -> Data:
    x = torch.randn(n, 5, generator=generator(1))
    return Data(x, (x[:, :3] + 0.3 * torch.randn(n, 3, generator=generator(2))).argmax(1), name="classes")


def measured(n: int = 40, inputs: int = 2) -> Data:
    x = 3 + 2 * torch.rand(n, inputs, generator=generator(3))
    y = torch.stack([40 * x.sum(1), 0.1 * x[:, 0]], 1) + torch.randn(n, 2, generator=generator(4)) * torch.tensor(
        [9, 0.02]
    )
    return Data(x, y, name="measured")


@pytest.fixture(scope="module")
def fit() -> LearnResult:
    return learn(Target(net()), classes(), epochs=2, structures=("last_layer",))


def with_named(fit: LearnResult, name: str) -> LearnResult:
    return fit.with_posterior(
        name + LESS.get(name, ""), steps=STEPS.get(name, 20), chains=2 if name in SAMPLERS else None
    )


SAMPLERS = ("sgld", "csgld", "sghmc", "hmc", "nuts", "smc")


# ---------------------------------------------------------------------- the same predictions


@pytest.mark.parametrize("name", ["point", "laplace", *METHODS])
def test_what_is_read_back_predicts_what_was_saved(fit: LearnResult, name: str, tmp_path: Path) -> None:
    found = fit.with_posterior(name) if name in ("point", "laplace") else with_named(fit, name)
    test = classes(9)
    record = found.save(tmp_path / "run", test=test)
    assert json.loads((tmp_path / "run" / RECORD).read_text()) == record
    read = load_posterior(tmp_path / "run", target=Target(net(8)), data=fit.data)
    before, after = predict(found.posterior, test.x), predict(read, test.x)
    if name != "multi-swag":  # three Gaussians take 43 draws each, of which 42 fit
        assert torch.equal(before.mean(), after.mean())
    assert torch.equal(torch.from_numpy(Run.read(tmp_path / "run").arrays["test/mean"]), after.mean())
    torch.testing.assert_close(predict(read, test.x[3:5]).mean(), after.mean()[3:5], atol=1e-6, rtol=0)
    assert after.warnings == before.warnings
    assert (tmp_path / "run" / POSTERIOR).exists() == (name not in ("point", "laplace"))
    if name in ("point", "laplace"):
        assert record["posterior"] is None
        assert record["predictive"]["structure"] == ("point" if name == "point" else "last_layer")
        return
    assert record["posterior"]["name"].startswith(name)
    assert record["posterior"]["chains"] == (2 if name in SAMPLERS else 1)
    assert record["posterior"]["steps"] == STEPS.get(name, 20)
    assert record["posterior"]["warnings"] == list(found.posterior.warnings)
    assert record["predictive"]["structure"] is None
    assert record["seconds"]["total"] > record["seconds"]["posterior"] > 0
    assert (record["posterior"]["diagnostics"] is not None) == (name in SAMPLERS)


def test_stored_draws_are_averaged_over(fit: LearnResult, tmp_path: Path) -> None:
    """Against a loop over the draws in the file."""
    found = fit.with_posterior(SGLD(lr=0.02, keep=7), steps=20, chains=3)
    found.save(tmp_path, test=classes(7))
    draws = {k.removeprefix("0/draws/"): v for k, v in Run.read(tmp_path).posterior().items() if "draws" in k}
    assert draws["0.weight"].shape == (7, 3, 4, 5)
    x = fit.target.forward.units.inward(classes(7).x.double())
    each = []
    for k in range(7):
        for m in range(3):
            w = {name: torch.tensor(v[k, m]).double() for name, v in draws.items()}
            hidden = torch.tanh(x @ w["0.weight"].T + w["0.bias"])
            each.append((hidden @ w["3.weight"].T + w["3.bias"]).softmax(1))
    read = load_posterior(tmp_path, target=Target(net(8)))
    torch.testing.assert_close(
        predict(read, classes(7).x).mean().double(), torch.stack(each).mean(0), atol=1e-6, rtol=0
    )
    assert isinstance(read, Draws)
    assert isinstance(found.posterior, Draws)
    assert torch.equal(read.flat, found.posterior.flat)


def test_seeds_make_the_posterior(fit: LearnResult) -> None:
    twice = [fit.with_posterior("sgld", steps=9, chains=2).posterior for _ in range(2)]
    other = dataclasses.replace(fit, seed=1).with_posterior("sgld", steps=9, chains=2).posterior
    assert torch.equal(twice[0].flat, twice[1].flat)
    assert not torch.equal(twice[0].flat, other.flat)


# ---------------------------------------------------------------------- what is kept


def made(target: Target, k: int, m: int) -> Draws:
    like = target.params()
    flat = torch.arange(k * m, dtype=torch.float32).reshape(k, m, 1).expand(k, m, 39).contiguous()
    return Draws(target, flat, torch.arange(k * m, dtype=torch.float32).reshape(k, m), like, reservations=("odd",))


@pytest.mark.parametrize(
    ("k", "m", "rows", "chains"), [(300, 2, 64, 2), (129, 1, 128, 1), (7, 60, 2, 60), (2, 300, 1, 128)]
)
def test_no_more_than_128_draws_are_kept_and_they_are_spread_evenly(k: int, m: int, rows: int, chains: int) -> None:
    whole = made(Target(net()), k, m)
    kept = bounded(whole)
    assert isinstance(kept, Draws)
    assert kept.flat.shape == (rows, chains, 39)
    number = kept.flat[..., 0]
    assert torch.equal(number, kept.log_density)
    assert number.unique().numel() == kept.size == size_of(kept) <= 128
    at = (number[:, -1] // m).tolist()
    assert at[-1] == k - 1  # the last, which has come furthest
    gaps = np.diff(at)
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1
    assert kept.warnings == whole.warnings
    assert "odd" in kept.warnings


def test_few_draws_are_kept_as_they_are() -> None:
    whole = made(Target(net()), 64, 2)
    assert bounded(whole) is whole


def test_large_networks_keep_fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "MOST_BYTES", 39 * 4 * 6)
    target = Target(net())
    assert size_of(bounded(made(target, 64, 2))) == 6
    points = Mixture(tuple(Point(target.params(), target) for _ in range(8)))
    assert size_of(bounded(points)) == 6
    assert size_of(bounded(Mixture(tuple(made(target, 5, 1) for _ in range(3))))) == 6
    monkeypatch.setattr(stored, "MOST_BYTES", 1)
    assert size_of(bounded(made(target, 64, 2))) == 1


def test_gaussians_keep_the_draws_that_predictions_take() -> None:
    target, x = Target(net()), classes(5).x
    mode = target.params()
    diagonal = DiagonalGaussian(mode, {k: 0.3 * torch.ones_like(w) for k, w in mode.items()}, target, ("narrow",))
    factor = 0.1 * torch.randn(2, 39, generator=generator(0))
    low = LowRankGaussian(mode, {k: 0.02 * torch.ones_like(w) for k, w in mode.items()}, factor, target)
    for posterior in (diagonal, low):
        kept = bounded(posterior)
        assert isinstance(kept, Draws)
        assert kept.size == 128
        assert torch.equal(predict(kept, x).outputs, predict(posterior, x).outputs)
        assert kept.warnings == posterior.warnings
    both = bounded(Mixture((diagonal, low)))
    assert isinstance(both, Mixture)
    assert [size_of(c) for c in both.components] == [64, 64]
    torch.testing.assert_close(predict(both, x).outputs, predict(Mixture((diagonal, low)), x).outputs)


def test_dropout_keeps_its_share(fit: LearnResult, tmp_path: Path) -> None:
    found = fit.with_posterior("dropout:p=0.6", steps=3)
    found.save(tmp_path)
    saved = Run.read(tmp_path).posterior()
    assert saved["0/shares"].tolist() == [0.6]
    x = classes(6).x
    read = load_posterior(tmp_path, target=Target(net(8)))
    assert torch.equal(predict(read, x).outputs, predict(found.posterior, x).outputs)
    bare = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Identity(), nn.Linear(4, 3))  # the same function, without masks
    with pytest.raises(InputError, match="a network with dropout layers"):
        load_posterior(tmp_path, target=Target(bare))


def test_an_older_runs_draws_do_not_stay(fit: LearnResult, tmp_path: Path) -> None:
    fit.with_posterior("ensemble:members=2", steps=3).save(tmp_path)
    assert (tmp_path / POSTERIOR).exists()
    fit.save(tmp_path)
    assert not (tmp_path / POSTERIOR).exists()


def test_a_posterior_that_cannot_be_kept_says_so(fit: LearnResult, tmp_path: Path) -> None:
    found = fit.with_posterior(nv.Laplace("diag"), steps=20)
    assert tensors_of(bounded(found.posterior)) is None
    record = found.save(tmp_path, test=classes(6))
    assert any("not kept" in w for w in record["posterior"]["warnings"])
    assert record["test"]["nll"] > 0
    with pytest.raises(InputError, match="a run with a stored posterior"):
        load_posterior(tmp_path, target=Target(net()))


# ---------------------------------------------------------------------- what is refused


def test_another_network_is_refused(fit: LearnResult, tmp_path: Path) -> None:
    fit.save(tmp_path)
    with pytest.raises(InputError, match="saved from Python"):
        load_posterior(tmp_path)
    wide = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 3)).eval()
    with pytest.raises(InputError, match=r"weights 0.weight of shape \(6, 5\)"):
        load_posterior(tmp_path, target=Target(wide))
    with pytest.raises(InputError, match=r"weights 1\.weight"):
        load_posterior(tmp_path, target=Target(nn.Sequential(nn.Flatten(), nn.Linear(5, 3))))
    other = nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.Dropout(0.3), nn.Linear(4, 3)).eval()
    with pytest.raises(InputError, match="another function of the same weights"):
        load_posterior(tmp_path, target=Target(other))
    with pytest.raises(InputError, match=r"differs in likelihood\.log_sigma"):
        load_posterior(tmp_path, target=Target(net(), likelihood=Normal()))


def test_buffers_are_part_of_the_function(fit: LearnResult, tmp_path: Path) -> None:
    class Shifted(nn.Module):
        def __init__(self, shift: float) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 3)
            self.register_buffer("shift", torch.tensor(shift))

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x + self.shift)

    found = learn(Target(Shifted(0.5)), classes(), epochs=1, structures=("last_layer",))
    found.with_posterior("point").save(tmp_path)
    load_posterior(tmp_path, target=Target(Shifted(0.5)))
    with pytest.raises(InputError, match="another function"):
        load_posterior(tmp_path, target=Target(Shifted(0.7)))


def test_laplace_needs_the_data_it_was_made_from(fit: LearnResult, tmp_path: Path) -> None:
    fit.with_posterior("laplace").save(tmp_path)
    with pytest.raises(InputError, match="the training data, from which Laplace's curvature is computed"):
        load_posterior(tmp_path, target=Target(net()))
    x = fit.data.x.clone()
    x[7, 2] += 1e-3
    with pytest.raises(InputError, match=f"fingerprint {fit.data.fingerprint}"):
        load_posterior(tmp_path, target=Target(net()), data=Data(x, fit.data.y))


def test_runs_of_earlier_versions_say_so(fit: LearnResult, tmp_path: Path) -> None:
    record = {k: v for k, v in fit.save(tmp_path).items() if k != "outputs"}
    (tmp_path / RECORD).write_text(json.dumps(record))
    resealed(tmp_path)
    with pytest.raises(InputError, match="of an earlier version"):
        load_posterior(tmp_path, target=Target(net()))


# ---------------------------------------------------------------------- what the report is given


def test_a_classifiers_doubt_is_saved(fit: LearnResult, tmp_path: Path) -> None:
    test, odd = classes(11), NewData(5 * torch.randn(6, 5, generator=generator(9)), None, "odd", torch.arange(6))
    found = fit.with_posterior("sgld", steps=12, chains=2)
    run = Run.read((found.save(tmp_path, test=test, strange=odd), tmp_path)[1])
    p = predict(found.posterior, test.x).samples.double().numpy()

    def entropy(p: np.ndarray) -> np.ndarray:
        return -(p * np.log(p)).sum(-1)

    total, parts = entropy(p.mean(0)), entropy(p).mean(0)
    np.testing.assert_allclose(run.arrays["test/entropy_total"], total, atol=1e-6)
    np.testing.assert_allclose(run.arrays["test/entropy_epistemic"], total - parts, atol=1e-6)
    np.testing.assert_allclose(run.arrays["test/strangeness"], total, atol=1e-6)
    usual, strange = run.arrays["test/strangeness"], run.arrays["ood/strangeness"]
    assert strange.shape == (6,)
    ranks = rankdata(np.concatenate([usual, strange]))[len(usual) :]
    auroc = (ranks.sum() - 6 * 7 / 2) / (6 * len(usual))
    assert run.record["ood"] == {"name": "odd", "n": 6, "score": "entropy"} | {
        "auroc": pytest.approx(auroc),
        "aupr_out": run.record["ood"]["aupr_out"],
        "aupr_in": run.record["ood"]["aupr_in"],
        "fpr95": run.record["ood"]["fpr95"],
    }
    for name in ("rhat", "ess_bulk", "ess_tail"):
        assert run.arrays[f"sampler/{name}"].shape == (32 * 3,)
    assert "sampler/log_density" not in run.arrays
    assert run.record["posterior"]["examined"] == "predictions"
    assert run.record["posterior"]["draws"] == 16
    assert not any("quantile" in k for k in run.arrays)
    point = Run.read((fit.with_posterior("point").save(tmp_path, test=test), tmp_path)[1])
    assert "test/entropy_total" not in point.arrays


def test_a_regressions_quantiles_are_saved_in_the_targets_units(tmp_path: Path) -> None:
    data = measured()
    scale = Standardiser.fit(data)
    target = Target(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)), likelihood=Normal(per_output=True))
    found = learn(target, scale.apply(data), epochs=2, structures=("last_layer",))
    found = found.with_posterior("hmc:leapfrogs=2", steps=12, chains=3)
    test = scale.apply(measured(9))
    run = Run.read((found.save(tmp_path, test=test), tmp_path)[1])
    assert run.record["posterior"]["examined"] == "predictions and log-density"
    logs = run.arrays["sampler/log_density"]
    assert logs.shape == (3, 6)
    np.testing.assert_array_equal(logs, found.posterior.log_density.T.numpy())
    levels, q = run.arrays["test/quantile_levels"], run.arrays["test/quantiles"]
    assert levels.tolist() == [0.05, 0.25, 0.5, 0.75, 0.95]
    assert q.shape == (5, 9, 2)
    # The share of each mixture below its quantile, component by component, in the units of the data.
    mu, sd = (t.double().numpy() for t in predict(found.posterior, test.x).gaussians())
    s, m = scale.y_sd.numpy(), scale.y_mean.numpy()
    z = (q[:, None] - (mu * s + m)) / (sd * s)
    below = np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)))(z).mean(1)
    np.testing.assert_allclose(below, np.broadcast_to(levels[:, None, None], below.shape), atol=1e-4)
    assert "test/x" not in run.arrays
    assert "test/entropy_total" not in run.arrays


def test_one_input_is_saved_beside_its_predictions(tmp_path: Path) -> None:
    data = measured(inputs=1)
    scale = Standardiser.fit(data)
    found = learn(Target(nn.Linear(1, 2), likelihood=Normal()), scale.apply(data), epochs=1, structures=("last_layer",))
    test = measured(9, inputs=1)
    run = Run.read((found.save(tmp_path, test=scale.apply(test)), tmp_path)[1])
    np.testing.assert_allclose(run.arrays["test/x"], test.x.numpy(), rtol=1e-6)


def test_runs_know_the_way_to_their_data_units(tmp_path: Path) -> None:
    data = measured()
    scale = Standardiser.fit(data)
    target = Target(nn.Linear(2, 2), likelihood=Normal())
    found = learn(target, scale.apply(data), epochs=1, structures=("last_layer",))
    found.save(tmp_path, targets=("weight", "height"))
    read = load_run(tmp_path, target=Target(nn.Linear(2, 2), likelihood=Normal()), data=found.data)
    assert read.scaling is not None
    assert read.like.shape == (2,)
    assert read.targets(2) == ("weight", "height")
    x = measured(5).x
    standard = predict(found.posterior, scale.inputs(x))
    assert torch.equal(read.predict(x).mean(), scale.restore_y(standard.mean().double()))
    spread = scale.restore_y_scale(standard.variance().double().sqrt())
    torch.testing.assert_close(read.predict(x).variance().sqrt(), spread, rtol=1e-6, atol=0)


# ---------------------------------------------------------------------- methods by name


def test_names_become_methods_with_settings() -> None:
    assert read_method("auto") == Wanted("auto", "auto", {})
    text = "sgld:lr=1e-4, keep=7"
    assert read_method(text) == Wanted(text, "sgld", {"lr": 1e-4, "keep": 7})
    assert [read_method(name).is_choice for name in ("laplace", "sgld")] == [True, False]
    method, steps, chains, least = method_of(read_method("sgld:lr=1,keep=7"), Trained(steps=2_000))
    assert method == SGLD(lr=1.0, keep=7)
    assert isinstance(method.lr, float)  # type: ignore[attr-defined]
    assert (steps, chains, least) == (8_000, 4, 100)
    found = method_of(read_method("multi-swag:members=3,rank=5"), Trained(lr=0.01))[0]
    assert found == Ensemble(SWAG(lr=0.01, swa_lr=0.01, rank=5), members=3)
    assert settings_of(found)["method"] == {"name": "SWAG"} | settings_of(SWAG(lr=0.01, swa_lr=0.01, rank=5))
    assert method_of(read_method("nuts"), Trained(size=2**20))[0].keep == 128  # type: ignore[attr-defined]
    assert method_of(read_method("smc"), Trained(size=2**30), 2)[0].particles == 10  # type: ignore[attr-defined]


def test_a_setting_knows_how_large_a_draw_is() -> None:
    trained = Trained.of(Target(nn.Linear(1, 1)).params(), 1e-3, 10)
    assert (trained.lr, trained.steps, trained.size) == (1e-3, 10, 8)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sgdl", "sgld"),
        ("sgld:rate=1", "settings of sgld: lr"),
        ("sgld:lr", "SETTING=VALUE"),
        ("sgld:lr=fast", "lr of sgld to be a number"),
        ("sgld:keep=1.5", "keep of sgld to be a whole number"),
        ("sgld:precondition=1", "precondition of sgld"),
        ("sgld:lr=-1", "lr above 0"),
        ("multi-swag:method=3", "settings of multi-swag"),
        ("point:lr=1", "no settings with point"),
        ("ensemble:members=0", "members as a whole number of 1 or more"),
    ],
)
def test_names_and_settings_that_do_not_exist_are_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        method_of(read_method(text), Trained())


def test_unset_settings_may_take_any_value() -> None:
    method: Any = method_of(read_method("nuts"), Trained())[0]
    assert changed(method, {"warmup": 7}, "nuts").warmup == 7


def test_an_object_needs_its_steps(fit: LearnResult) -> None:
    with pytest.raises(InputError, match="steps= for a method that is no name"):
        fit.with_posterior(SGLD())
    with pytest.raises(InputError, match="chains as a whole number of 1 or more"):
        fit.with_posterior("sgld", chains=0)


def test_the_choice_can_be_restricted(fit: LearnResult) -> None:
    assert fit.with_posterior("auto").choice is fit.choice
    point, laplace = fit.with_posterior("point"), fit.with_posterior("laplace")
    assert isinstance(point.posterior, Point)
    assert laplace.choice.structure == "last_layer"
    assert laplace.choice.temperature > 0
    back = point.with_posterior("laplace")
    assert back.choice.reason.endswith("as requested")
    scored = [s for s in fit.choice.scores if s.temperature > 0]
    assert (back.choice.structure, back.choice.temperature) == (
        max(scored, key=lambda s: s.gain).structure,
        max(scored, key=lambda s: s.gain).temperature,
    )
    after = point.with_posterior("ensemble:members=2", steps=2)
    assert after.inferred is not None
    assert after.with_posterior("auto").inferred is None


def test_first_chains_start_where_learning_ended(fit: LearnResult) -> None:
    """A step of nearly no length leaves the first chain at the trained weights, and the other elsewhere."""
    found = fit.with_posterior(SGLD(lr=1e-14, warmup=0), steps=1, chains=2).posterior
    first, second = unstack({k: w[:, 0] for k, w in found.chains.items()})
    torch.testing.assert_close(flatten(first), flatten(fit.params), atol=1e-5, rtol=0)
    assert (flatten(second) - flatten(fit.params)).abs().max() > 0.1


def test_points_of_an_ensemble_are_kept_apart(fit: LearnResult, tmp_path: Path) -> None:
    found = fit.with_posterior("ensemble:members=4", steps=3)
    found.save(tmp_path)
    read = load_posterior(tmp_path, target=Target(net(8)))
    assert isinstance(read, Mixture)
    both: list[Params] = [stack([c.mode for c in p.components]) for p in (read, found.posterior)]
    assert all(torch.equal(both[0][k], both[1][k]) for k in both[1])
