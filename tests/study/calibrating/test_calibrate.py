"""`nv.calibrate`: against closed forms, planted temperatures and noises, and what is refused."""

from __future__ import annotations

import copy
import math
import re
import time
import warnings
from typing import Any

import pytest
import torch
from tests.files import refused
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import novacula as nv
from novacula.core.errors import NovaculaWarning
from novacula.study.calibrating.calibrate import calibrate
from novacula.study.calibrating.head import head_of
from novacula.study.calibrating.judge import is_trained
from novacula.study.calibrating.noise import fit_noise
from novacula.study.calibrating.training import default_plan, length_of, mean_loss, plainly


def blobs(n: int, seed: int = 0, classes: int = 3) -> nv.Data:
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    x = torch.randn(n, 4, generator=rng) + 1.2 * nn.functional.one_hot(y, 4)
    return nv.Data(x, y, name="blobs")


def line(n: int, seed: int = 0) -> nv.Data:
    # Noise that grows with the first input: σ = exp(x₀ − 1).
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=rng)
    noise = (x[:, :1] - 1).exp() * torch.randn(n, 1, generator=rng)
    return nv.Data(x, 2 * x[:, :1] - x[:, 1:] + noise, name="line")


def fit(net: nn.Module, data: nv.Data, steps: int = 150) -> nn.Module:
    optimiser = torch.optim.Adam(net.parameters(), 0.02)
    net.train()
    for _ in range(steps):
        optimiser.zero_grad()
        f = net(data.x)
        loss = (f - data.y).square().mean() if data.task == "regression" else cross_entropy(f, data.y)
        loss.backward()
        optimiser.step()
    return net


def mlp(outputs: int = 3, inputs: int = 4, *, noisy: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(inputs, 16), nn.ReLU()]
    if noisy:
        layers[1:1] = [nn.BatchNorm1d(16)]
        layers.append(nn.Dropout(0.2))
    return nn.Sequential(*layers, nn.Linear(16, outputs))


class Scaled(nn.Module):
    """A network whose logits are too large by a known factor."""

    def __init__(self, net: nn.Module, factor: float) -> None:
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.net(x)


@pytest.fixture(scope="module")
def classified() -> tuple[nn.Module, nv.Data, Any]:
    torch.manual_seed(0)
    data = blobs(240)
    net = fit(mlp(noisy=True), data)
    return net, data, calibrate(net, data, train=fit)


@pytest.fixture(scope="module")
def measured() -> tuple[nn.Module, nv.Data, Any]:
    torch.manual_seed(0)
    data = line(400)
    net = fit(nn.Linear(2, 1), data, 600)
    return net, data, calibrate(net, data, train=lambda net, rows: fit(net, rows, 600))


# ---------------------------------------------------------------------- numbers


def test_the_temperature_is_that_of_a_planted_factor():
    # T of a network whose logits are three times as large is three times as large.
    torch.manual_seed(0)
    data, rows = blobs(90), blobs(3_000, seed=1)
    net = fit(mlp(), data, 40)
    plain, hot = (calibrate(n, None, calibration=rows) for n in (net, Scaled(net, 3.0)))
    # The spread of log T moves it by log(3) / (.5² n h), with h the curvature of a row, about .2.
    assert hot.temperature == pytest.approx(3 * plain.temperature, rel=1e-2)
    torch.testing.assert_close(hot.predict(rows.x).mean(), plain.predict(rows.x).mean(), atol=2e-3, rtol=0)
    # Its slope in log T is nought at the optimum, with the spread of .5: by finite differences.
    f, y = hot.outputs[0].double(), rows.y

    def loss(s: float) -> float:
        return float(cross_entropy(f * math.exp(-s), y)) + s**2 / (2 * 0.25 * rows.n)

    s = math.log(hot.temperature)
    assert abs(loss(s + 1e-3) - loss(s - 1e-3)) / 2e-3 < 1e-5


def test_copies_that_make_a_network_surer_are_told_of():
    torch.manual_seed(0)
    data = blobs(240)
    net = Scaled(fit(mlp(), data, 60), 0.25)
    # It is right more often than it thinks, and so are copies that go as far.
    cal = calibrate(net, data, epochs=12)
    assert cal.temperature < 0.8
    assert any("made surer of itself" in text for text in cal.decided)
    assert not any("made surer" in text for text in calibrate(net, data, train=fit).decided)


def test_rows_that_are_all_right_do_not_ask_for_no_temperature():
    rows = blobs(30)
    net = nn.Linear(4, 3)
    with torch.no_grad():
        net.weight.copy_(torch.eye(3, 4))
        net.bias.zero_()
    sure = nv.Data(10 * nn.functional.one_hot(rows.y, 4).float() + 0.01 * rows.x, rows.y)
    cal = calibrate(net, None, calibration=sure)
    assert 0.9 < cal.temperature <= 1


def test_out_of_fold_rows_are_predicted_by_the_copy_that_has_not_seen_them(classified):
    _, data, cal = classified
    assert sorted(cal.folds.bincount().tolist()) == [80, 80, 80]
    for k, (copy_,) in enumerate(cal.copies):
        rows = cal.folds == k
        with torch.no_grad():
            torch.testing.assert_close(cal.outputs[0, rows], copy_.eval()(data.x[rows]))
    score = cal.score()
    p = (cal.outputs[0].double() / cal.temperature).softmax(1)
    assert score["nll"] == pytest.approx(-float(p[torch.arange(240), data.y].log().mean()), rel=1e-6)
    assert score["uncalibrated_nll"] == pytest.approx(float(cross_entropy(cal.outputs[0], data.y)), rel=1e-5)
    assert score["stderr"] > 0


def test_a_trained_network_is_kept_and_never_changed(classified):
    net, data, cal = classified
    before = copy.deepcopy(net.state_dict())
    mode, state = net.training, torch.get_rng_state()
    again = calibrate(net, data, train=fit)
    assert net.training is mode
    assert torch.equal(torch.get_rng_state(), state)
    for name, w in net.state_dict().items():
        assert torch.equal(w, before[name])
    assert "kept as it is" in cal.decided[0]
    assert again.temperature == cal.temperature
    with torch.no_grad():
        f = copy.deepcopy(net).eval()(data.x)
    torch.testing.assert_close(cal.predict(data.x).mean(), (f / cal.temperature).softmax(1))


def test_noise_that_varies_is_found_as_planted():
    data = line(2_000)
    mean = 2 * data.x[:, :1] - data.x[:, 1:]
    found = fit_noise(data.x, mean, torch.zeros_like(mean), data.y, torch.arange(2_000) % 3)
    assert found.varies
    assert found.gain > 3 * found.stderr
    # log σ = x₀ − 1: off by the error of five slopes, 1/√(2 · 2000) each, cut-offs and the penalty.
    inside = data.x.abs().amax(1) < 2
    for log_sd in (found.unseen, found.noise.log_sd(data.x, mean, torch.zeros_like(mean))):
        assert float((log_sd[:, 0] - (data.x[:, 0] - 1))[inside].abs().max()) < 0.2


def test_noise_that_varies_predicts_better_than_one_noise(measured):
    _, _, cal = measured
    assert cal.noise is not None
    assert cal.noise.varies
    test = line(4_000, seed=5)
    found = nv.prediction.evaluate(cal.predict(test.x), test.y)
    # The networks' own errors are a part of the residuals, above what the truth would have.
    best = float((test.x[:, 0] - 1).mean()) + 0.5 * math.log(2 * math.pi) + 0.5
    one = float((cal.predict(test.x).mean() - test.y).square().mean().log() / 2) + 0.5 * math.log(2 * math.pi) + 0.5
    assert best < found["nll"] < 0.5 * (best + one)


def test_noise_of_one_size_is_the_root_mean_square_of_the_residuals():
    torch.manual_seed(0)
    x = torch.randn(300, 2)
    data = nv.Data(x, 3 * x[:, :1] + 0.5 * torch.randn(300, 1))
    net = fit(nn.Linear(2, 1), data, 600)
    cal = calibrate(net, data, train=lambda net, rows: fit(net, rows, 600))
    assert cal.noise is not None
    assert not cal.noise.varies
    rms = float((cal.outputs[0] - data.y).double().square().mean().sqrt())
    assert float(cal.noise.noise.level.exp()) == pytest.approx(rms, rel=1e-6)


def test_a_network_of_its_own_noise_is_scaled():
    # Its standard deviations are half of the truth everywhere.
    torch.manual_seed(0)
    x = torch.randn(2_000, 1)
    rows = nv.Data(x, x + torch.randn(2_000, 1))
    net = nn.Linear(1, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0], [0.0]]))
        net.bias.copy_(torch.tensor([0.0, math.log(0.5)]))
    cal = calibrate(net, None, calibration=rows)
    assert float(cal.predict(x).variance().sqrt().mean()) == pytest.approx(1.0, abs=0.05)  # 3 errors of 1/√4000


@pytest.mark.parametrize("by", ["copies", "network"])
def test_sets_and_intervals_hold_what_they_should(classified, measured, by):
    for (_, _, cal), test in ((classified, blobs(2_000, seed=7)), (measured, line(2_000, seed=7))):
        found = cal.conformal(0.1, by=by)(test.x)
        # The scores of 240 rows leave a deviation of .02 in the coverage; copies that see less make it larger.
        assert 0.83 < found.coverage(test.y) < 0.97
        assert found.level == (0.0 if by == "network" else pytest.approx(0.8, abs=0.03))


def test_sets_by_rows_set_aside_are_split_conformal():
    torch.manual_seed(0)
    net, rows = fit(mlp(), blobs(90), 60), blobs(200, seed=3)
    cal = calibrate(net, blobs(90), calibration=rows)
    assert cal.copies == ()
    found = cal.conformal(0.1)(blobs(50, seed=4).x)
    q = (1 - cal.unseen.mean()[torch.arange(200), rows.y]).double().sort().values[math.ceil(201 * 0.9) - 1]
    assert found.level == 0.9
    assert torch.equal(found.member, 1 - cal.predict(blobs(50, seed=4).x).mean() <= q)
    with refused("by='copies' or by='network'"):
        cal.conformal(0.1, by="copies")


# ---------------------------------------------------------------------- ways of giving things


def test_an_untrained_network_is_trained_on_everything():
    torch.manual_seed(0)
    data = blobs(240)
    cal = calibrate(mlp(), data, epochs=12)
    assert "trained on all 240 rows" in cal.decided[0]
    assert cal.score()["accuracy"] > 0.6


def test_the_length_of_training_is_found_again():
    # A network trained by the same plan for a known number of epochs, from other weights.
    torch.manual_seed(0)
    data = blobs(300)
    head = head_of(mlp(), data)
    for epochs in (3, 20):
        plan, net = default_plan(300, epochs, None), mlp()
        plainly(net, data, head, plan, seed=5)
        found = length_of(mlp, data, head, plan, mean_loss(net, data, head), seed=6)
        assert 0.6 * epochs <= found.epochs <= 1.6 * epochs
    cal = calibrate(net, data)
    assert re.search(r"for (1[2-9]|2\d|3[0-2]) epochs, which lead another network", cal.decided[1])
    assert cal.warnings == ()


def test_a_persons_own_training_is_called_with_networks_that_have_seen_nothing():
    torch.manual_seed(0)
    data = blobs(120)
    net = fit(mlp(), data, 400)
    seen: list[tuple[float, int]] = []

    def train(copy_: nn.Module, rows: nv.Data) -> nn.Module:
        with torch.no_grad():
            seen.append((float(cross_entropy(copy_(rows.x), rows.y)), rows.n))
        return fit(copy_, rows, 400)

    calibrate(net, data, train=train)
    assert [n for _, n in seen] == [80, 80, 80, 40, 40, 40]
    assert min(loss for loss, _ in seen) > 0.8  # log 3 = 1.10


@pytest.mark.parametrize(
    ("last", "y", "shape"),
    [
        (nn.Sequential(nn.Linear(4, 1)), "classes", (6, 2)),
        (nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), "classes", (6, 2)),
        (nn.Sequential(nn.Linear(4, 2)), "labels", (6, 2)),
        (nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), "number", (6, 1)),
        (nn.Sequential(nn.Linear(4, 2)), "number", (6, 1)),
    ],
)
def test_outputs_of_every_kind(last: Any, y: str, shape: tuple[int, ...]):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # untrained, and by chance no better than a constant
        last[0].reset_parameters()
    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    labels = {"classes": (x[:, 0] > 0).long(), "labels": (x[:, :2] > 0).long(), "number": x[:, :1] * 2}[y]
    task: Any = {"classes": "classification", "labels": "multilabel", "number": "regression"}[y]
    data = nv.Data(x, labels, task=task)
    cal = calibrate(last, data, epochs=8)
    assert cal.predict(x[:6]).mean().shape == shape
    for by in ("copies", "network"):
        cal.conformal(0.2, by=by)(x[:6])
    out = cal.to_module()(x[:6])
    if y == "classes":
        torch.testing.assert_close(out.reshape(-1).sigmoid(), cal.predict(x[:6]).mean()[:, 1])
    elif y == "labels":
        torch.testing.assert_close(out.sigmoid(), cal.predict(x[:6]).mean())
    else:
        torch.testing.assert_close(out[0].double(), cal.predict(x[:6]).mean())
        torch.testing.assert_close(out[1].double(), cal.predict(x[:6]).variance().sqrt(), rtol=1e-4, atol=1e-6)


def test_pairs_and_datasets_are_data(classified):
    net, data, cal = classified
    for given in ((data.x, data.y), torch.utils.data.TensorDataset(data.x, data.y)):
        assert calibrate(net, given, train=fit).temperature == cal.temperature


def test_members_predict_together():
    torch.manual_seed(0)
    data = blobs(150)
    cal = calibrate(fit(mlp(), data, 60), data, members=2, epochs=8)
    assert len(cal.networks) == 2
    assert cal.outputs.shape == (2, 150, 3)
    with torch.no_grad():
        want = torch.stack([(n(data.x) / cal.temperature).softmax(1) for n in cal.networks]).mean(0)
    torch.testing.assert_close(cal.predict(data.x).mean(), want)
    torch.testing.assert_close(cal.to_module()(data.x).softmax(1), want)


def test_tables_in_standard_units_are_predicted_in_their_own():
    torch.manual_seed(0)
    raw = line(300)
    raw = nv.Data(100 * raw.x + 7, 50 * raw.y - 3)
    scale = nv.Standardiser.fit(raw)
    data = scale.apply(raw)
    cal = calibrate(fit(nn.Linear(2, 1), data, 300), data, train=lambda net, rows: fit(net, rows, 300))
    mean, sd = cal.to_module()(raw.x[:9])
    p = cal.predict(data.x[:9])
    torch.testing.assert_close(mean.double(), p.mean(), rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(sd.double(), p.variance().sqrt(), rtol=1e-3, atol=1e-3)
    assert 0.8 < cal.conformal(0.1)(data.x).coverage(raw.y) <= 1


# ---------------------------------------------------------------------- refusals and reservations


def test_training_rows_do_not_calibrate():
    torch.manual_seed(0)
    data = blobs(90)
    net = fit(mlp(), data, 60)
    with refused("90 of 90 that are training rows"):
        calibrate(net, data, calibration=(data.x, data.y))
    with refused("that are training rows"):
        calibrate(net, data, calibration=data.subset(range(0, 90, 2)))
    mixed = nv.Data(torch.cat([data.x[:9], blobs(91, seed=2).x]), torch.cat([data.y[:9], blobs(91, seed=2).y]))
    with pytest.warns(NovaculaWarning, match="9 of 100 calibration rows are training rows"):
        assert calibrate(net, data, calibration=mixed).data.n == 91


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w


def test_weights_that_cannot_be_drawn_anew_are_named():
    torch.manual_seed(0)
    data = blobs(90)
    net = fit(Bare(), data, 60)
    with refused("the trained parameter 'w' of a Bare"):
        calibrate(net, data)
    assert len(calibrate(net, data, start=Bare, epochs=8).copies) == 3
    # A layer whose weights are made of others draws those that it does not use.
    made_of = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)))
    with refused("the trained parameter '0.parametrizations.weight.original"):
        calibrate(fit(made_of, data, 60), data)


def test_frozen_weights_stay():
    torch.manual_seed(0)
    data = blobs(120)
    body = nn.Linear(4, 8).requires_grad_(False)
    net = fit(nn.Sequential(body, nn.ReLU(), nn.Linear(8, 3)), data, 60)
    cal = calibrate(net, data, epochs=6)
    assert all(torch.equal(c[0].weight, body.weight) for (c,) in cal.copies)  # type: ignore[index]


def test_a_network_that_may_be_trained_or_not_is_told():
    # Its outputs are a little better than a constant: .02 nats a row, of a deviation near .2.
    data = blobs(60)
    net = nn.Linear(4, 3)
    with torch.no_grad():
        net.weight.copy_(0.02 * torch.eye(3, 4))
        net.bias.zero_()
    head = head_of(net, data)
    assert is_trained(net, data, head, True)[0]
    assert not is_trained(net, data, head, False)[0]
    with torch.no_grad():
        net.weight.copy_(-0.5 * torch.eye(3, 4))
    assert not is_trained(net, data, head, None)[0]
    with refused("a trained network"):
        is_trained(net, data, head, True)
    noise = nv.Data(torch.randn(60, 4), torch.arange(60) % 3)
    gains = []
    for seed in range(20):
        torch.manual_seed(seed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found, _ = is_trained(nn.Linear(4, 3), noise, head, None)
        gains.append((found, len(caught)))
    # Fresh networks: none is taken for trained (3 errors: one in 740 each), and few are in doubt (one in 44 each).
    assert not any(found for found, _ in gains)
    assert sum(said for _, said in gains) <= 3


def test_the_time_ends_the_training():
    torch.manual_seed(0)
    data = blobs(120)
    began = time.monotonic()
    cal = calibrate(mlp(), data, epochs=100_000, seconds=1.0)
    assert time.monotonic() - began < 30
    assert len(cal.copies) == 3


def test_copies_that_are_unlike_the_network_are_told():
    torch.manual_seed(0)
    data = blobs(120)
    net = fit(mlp(), data, 2_000)
    with pytest.warns(NovaculaWarning, match="fit the rows that they have seen much worse"):
        calibrate(net, data, epochs=1)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"members": 0}, "one or more members"),
        ({"folds": 1}, "folds as a whole number of 2 or more"),
        ({"start": 3}, "start= as a network"),
        ({"train": lambda net, rows: 3, "epochs": None}, "to return the network or None"),
        ({"train": lambda net, rows: {}["lr"], "epochs": None}, "KeyError: 'lr'"),
        ({"train": fit}, "either train= or epochs="),
    ],
)
def test_what_cannot_be_used_is_said(given: dict[str, Any], text: str):
    with refused(text):
        calibrate(mlp(), blobs(60), **{"epochs": 1, **given})


class Noisy(nn.Module):
    """Dropout that is on in eval mode too, as people write it for Monte-Carlo dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.net(x), 0.5, training=True)


@pytest.mark.parametrize(
    ("net", "text"),
    [
        (mlp, "an nn.Module"),
        (mlp(outputs=2), "3 outputs, a logit for each class"),
        (mlp(inputs=5), "a network that takes inputs of shape"),
        (nn.Sequential(mlp(), nn.Softmax(1)), "probabilities already, by a softmax"),
        (nn.Sequential(mlp(), nn.Softmax(1)).requires_grad_(False), "probabilities already, by a norm"),
        (Noisy(), "a deterministic network"),
        (nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False), mlp()), "each example for itself"),
        (mlp().double(), "weights are torch.float64 and the inputs torch.float32"),
        (nn.LSTM(4, 3), "outputs of shape"),
    ],
)
def test_networks_that_do_not_fit_are_refused(net: Any, text: str):
    with refused(text):
        calibrate(net, blobs(60))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_traced_network_is_calibrated_by_rows_alone():
    traced = torch.jit.trace(mlp(), torch.zeros(2, 4))  # its weights cannot be drawn anew
    with refused("traced or scripted"):
        calibrate(traced, blobs(60), epochs=1)
    rows = blobs(60)
    assert calibrate(traced, None, calibration=rows).temperature == pytest.approx(
        calibrate(mlp_of(traced), None, calibration=rows).temperature
    )


def mlp_of(traced: nn.Module) -> nn.Module:
    """The Python network with a traced one's weights."""
    net = mlp()
    net.load_state_dict(traced.state_dict())
    return net
