"""Recording draws, what they say of themselves, and plain log-densities as targets."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError, NonFiniteError
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.inference import SGLD, Draws, infer
from novacula.inference.method import Start
from novacula.inference.recorder import Recorder, draws_of
from novacula.prediction import predict
from novacula.priors import Gaussian
from novacula.target import LogDensity, Target


def normal(w: Params) -> Tensor:
    return -0.5 * sum((v**2).sum() for v in w.values())


def start(members: int = 2, steps: int = 20) -> Start:
    return Start({"a": torch.zeros(members, 3), "b": torch.zeros(members)}, steps)


def test_draws_are_spread_over_the_steps_after_the_warmup() -> None:
    recorder = Recorder.of(start(), warmup=5, keep=4)  # 15 steps for 4 draws
    for step in range(20):
        recorder = recorder.record(step, {"a": torch.full((2, 3), float(step)), "b": torch.zeros(2)})
    assert recorder.flat[:, 0, 0].tolist() == [8.0, 12.0, 16.0, 19.0]
    assert recorder.count == 4
    assert Recorder.of(start(steps=7), warmup=5, keep=4).flat.shape == (2, 2, 4)


@pytest.mark.parametrize(("warmup", "keep"), [(20, 3), (-1, 3), (0, 0)])
def test_recorders_refuse_to_keep_nothing(warmup: int, keep: int) -> None:
    with pytest.raises(InputError, match="steps after the warm-up"):
        Recorder.of(start(), warmup=warmup, keep=keep)


def test_recorders_refuse_more_than_memory_holds() -> None:
    huge = Start({"a": torch.zeros(1, 1).expand(8, 10**6)}, 10**4)
    with pytest.raises(InputError, match="4 GiB"):
        Recorder.of(huge, warmup=0, keep=1000)


def filled(values: Tensor) -> Draws:
    # (K, M, P) draws of a plain normal density.
    recorder = Recorder(values, -0.5 * values.square().sum(-1), len(values), 0, 1)
    like = {"a": torch.zeros(2, dtype=values.dtype), "b": torch.zeros((), dtype=values.dtype)}
    return draws_of(LogDensity(normal, like), recorder, None, stats={"divergences": torch.tensor([1, 0, 2, 0])})


def test_chains_mode_and_sample_come_from_the_draws() -> None:
    values = torch.randn(50, 4, 3, generator=generator(1), dtype=torch.float64)
    post = filled(values)
    assert post.size == 200
    assert torch.equal(post.chains["a"], values.transpose(0, 1)[..., :2])
    best = values.flatten(0, 1)[values.flatten(0, 1).square().sum(-1).argmin()]
    assert torch.equal(post.mode["a"], best[:2])
    drawn = torch.cat([post.sample(200, generator(0))["a"], post.sample(200, generator(0))["b"][:, None]], 1)
    assert torch.equal(drawn, values.flatten(0, 1))
    some = post.sample(20, generator(3))["b"]
    assert len(some.unique()) == 20
    more = post.sample(600, generator(3))["b"]
    assert torch.equal(more.unique(return_counts=True)[1], torch.full((200,), 3))


def test_good_chains_pass_and_bad_ones_are_named() -> None:
    """Independent draws: R-hat above 1.05 at 4·500 draws has a probability below 1e-6 for each of 3 parameters."""
    values = torch.randn(500, 4, 3, generator=generator(2), dtype=torch.float64)
    good = filled(values)
    assert good.warnings == ()
    assert good.diagnostics.max_rhat < 1.02
    assert good.diagnostics.min_ess > 1000
    assert good.diagnostics.names == ("a[0]", "a[1]", "b")
    assert good.diagnostics.to_dict()["divergences"] == 3
    values = values.clone()
    values[:, 1, 2] += 3
    bad = filled(values)
    assert any("the chains disagree" in text and "(b)" in text and "33%" in text for text in bad.warnings)
    assert any("few effective draws" in text for text in bad.warnings)
    assert "few" not in "".join(filled(values[:3]).warnings[:-1])
    assert "only 3 draws" in filled(values[:3]).warnings[-1]


def test_what_was_examined_is_said() -> None:
    values = torch.randn(200, 4, 3, generator=generator(1), dtype=torch.float64)
    found = filled(values).diagnostics
    assert found.examined == "parameters"
    worst = float(torch.cat([found.ess_bulk, found.ess_tail]).min())
    shown = f"Diagnostics(R-hat ≤ {float(found.rhat.max()):.3f}, ESS ≥ {worst:.0f}, divergences 3)"
    assert repr(found) == shown


def test_networks_are_compared_by_predictions_and_not_by_weights() -> None:
    """Two chains that differ by a permutation of hidden units agree in every prediction."""
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)).double()
    target = Target(net)
    data = Data(torch.randn(20, 2, generator=generator(0), dtype=torch.float64), torch.arange(20) % 2)
    own = target.params()
    noise = 0.1 * torch.randn(100, 12, generator=generator(1), dtype=torch.float64)
    mean = torch.cat([own[k].flatten() for k in own])
    one = mean + 3 * torch.arange(12.0) / 12 + noise
    other = one.clone()
    w1, b1, w2 = one[:, :4].unflatten(1, (2, 2)), one[:, 4:6], one[:, 6:10].unflatten(1, (2, 2))
    other[:, :10] = torch.cat([w1.flip(1).flatten(1), b1.flip(1), w2.flip(2).flatten(1)], 1)
    flat = torch.stack([one, other], 1)
    recorder = Recorder(flat, torch.full((100, 2), math.nan, dtype=torch.float64), 100, 0, 1)
    post = draws_of(target, recorder, data)
    assert post.diagnostics.names[0] == "prediction[0]"
    assert post.diagnostics.max_rhat < 1.05
    assert post.warnings == ()
    assert filled(flat[..., :3]).diagnostics.max_rhat > 1.5


def test_plain_densities_are_checked() -> None:
    zeros = {"a": torch.zeros(2)}
    with pytest.raises(InputError, match="scalar"):
        LogDensity(lambda w: w["a"], zeros)
    with pytest.raises(NonFiniteError, match="finite log-density at init"):
        LogDensity(lambda w: w["a"].log().sum(), zeros)
    with pytest.raises(InputError, match="dictionary of floating"):
        LogDensity(normal, {"a": torch.zeros(2, dtype=torch.int64)})
    with pytest.raises(InputError, match="init= for a plain"):
        infer(SGLD(), normal, steps=10)
    with pytest.raises(InputError, match="no data"):
        infer(SGLD(), normal, Data([[0.0], [1.0]], [0.0, 1.0]), init=zeros, steps=10)
    with pytest.raises(InputError, match="training data of a network"):
        infer(SGLD(), Target(nn.Linear(2, 2)), steps=10)
    with pytest.raises(InputError, match="give steps="):
        infer(SGLD(), normal, init=zeros, epochs=10)


def test_a_prior_turns_a_log_likelihood_into_a_density() -> None:
    density = LogDensity(lambda w: -w["a"].sum(), {"a": torch.zeros(2, dtype=torch.float64)}, prior=Gaussian(4.0))
    at = torch.tensor([0.5, -1.0], dtype=torch.float64)
    expected = 0.5 + torch.distributions.Normal(0, 0.5).log_prob(at).sum()
    assert float(density.log_density({"a": at})) == pytest.approx(float(expected), rel=1e-6)


def test_draws_of_a_plain_density_make_no_predictions() -> None:
    post = infer(SGLD(lr=0.1, keep=10), normal, init={"a": torch.zeros(2)}, steps=50)
    with pytest.raises(InputError, match="network's Target for predictions"):
        predict(post, torch.zeros(1, 2))
