"""Networks as people train them: batch statistics and noise, against loops in plain PyTorch."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.forward import Forward
from novacula.core.modules.training import train_mode
from novacula.core.params import unstack
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.evidence import ELBO, Laplace, NTKSubset, tune
from novacula.inference import HMC, MAP, SGLD, SWAG, Ensemble, Method, infer
from novacula.inference.langevin.sgmcmc import SGHMC
from novacula.inference.optimising.adam import one_cycle
from novacula.inference.subnetwork import Subnetwork
from novacula.likelihoods import Categorical, Normal
from novacula.posteriors import laplace_posterior
from novacula.posteriors.base import Point
from novacula.posteriors.renormalised import Renormalised
from novacula.prediction import predict
from novacula.priors import Gaussian
from novacula.study.cross_fit.train import cross_fit
from novacula.target import Target
from novacula.target.training import averaged_statistics


class Average(nn.Module):
    """A layer of a person's own, whose buffer is set anew and not written on."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.8 * self.mean + 0.2 * x.detach().mean(0)
        return x - self.mean


class FirstFrozen(nn.Sequential):
    """A network whose first normalisation stays in eval mode, as those who fine-tune write it."""

    def train(self, mode: bool = True) -> FirstFrozen:
        super().train(mode)
        self[1].eval()
        return self


def _table(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), *layers, nn.Tanh(), nn.Linear(4, 2))


def _image(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 4, 2), *layers, nn.Flatten(), nn.Linear(8, 2))


def _bound(net: nn.Sequential) -> nn.Sequential:
    # Trained statistics, so that the start matters.
    net.train()
    for i in range(3):
        net(1 + torch.randn(20, 3, generator=generator(9, i)).double())
    return net


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: _table(nn.BatchNorm1d(4)),
    "as pretrained models come": lambda: _table(nn.BatchNorm1d(4)).eval(),
    "without a momentum": lambda: _table(nn.BatchNorm1d(4, momentum=None)),
    "without weights of its own": lambda: _table(nn.BatchNorm1d(4, affine=False)),
    "with statistics": lambda: _bound(_table(nn.BatchNorm1d(4, momentum=None)).double()),
    "first": lambda: nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)),
    "two, one in eval mode": lambda: FirstFrozen(*_table(nn.BatchNorm1d(4)), nn.BatchNorm1d(2)),
    "of channels": lambda: _image(nn.BatchNorm1d(4)),
    "instance norm that tracks": lambda: _image(nn.InstanceNorm1d(4, track_running_stats=True)),
    "of one's own": lambda: _table(Average(4)),
    "spectral norm": lambda: _table(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))),
    "shared by two places": lambda: (lambda n: _table(n, nn.Linear(4, 4), n))(nn.BatchNorm1d(4)),
}


def _net(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return NETWORKS[name]().double()


def _data(n: int = 22) -> Data:
    x = 2 + 3 * torch.randn(n, 3, generator=generator(0)).double()
    return Data(x, (x[:, 0] * x[:, 1] > 3).long())


def _loop(net: nn.Module, data: Data, *, steps: int, size: int, lr: float, seed: int = 0) -> nn.Module:
    """The same training in plain PyTorch, under a prior N(0, 1)."""
    net = copy.deepcopy(net)
    if not any(layer.training for layer in net.modules()):
        net.train()
    adam = torch.optim.Adam(net.parameters(), lr=lr)
    done = 0
    while done < steps:
        for x, y, _ in data.batches(size, seed, done // math.ceil(data.n / size)):
            if done == steps:
                break
            for group in adam.param_groups:
                group["lr"] = lr * one_cycle(done / steps)
            prior = sum((w**2).sum() for w in net.parameters()) / 2
            part = min(1.0, done / steps / 0.5)  # that the prior has: it rises over the first half
            loss = F.cross_entropy(net(x), y) + part * prior / data.n
            adam.zero_grad()
            loss.backward()
            adam.step()
            done += 1
    return net.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_training_is_that_of_a_plain_loop(name: str) -> None:
    net, data = _net(name), _data()
    before, flags = copy.deepcopy(net.state_dict()), [layer.training for layer in net.modules()]
    target = Target(net, prior=Gaussian())
    found = infer(MAP(lr=0.05), target, data, steps=13, batch_size=6)
    wanted = _loop(net, data, steps=13, size=6, lr=0.05)
    assert set(found.mode) >= set(dict(wanted.named_parameters()))
    state = wanted.state_dict()
    for k, w in found.mode.items():
        assert torch.allclose(w, state[k], rtol=1e-9, atol=1e-11), k
    moved = [k for k, b in wanted.named_buffers() if b.is_floating_point() and not torch.equal(b, before[k])]
    assert sorted(found.mode.keys() - dict(wanted.named_parameters()).keys()) == sorted(set(moved))
    assert moved
    x = _data(5).x
    assert torch.allclose(predict(found, x).mean(), wanted(x).softmax(1), rtol=1e-9)
    assert all(torch.equal(w, before[k]) for k, w in net.state_dict().items())
    assert flags == [layer.training for layer in net.modules()]


@pytest.mark.filterwarnings("ignore:vmap does not cover")
@pytest.mark.parametrize("name", NETWORKS)
def test_members_side_by_side_have_statistics_of_their_own(name: str) -> None:
    data, target = _data(), Target(_net(name))
    post = infer(Ensemble(MAP(lr=0.05), members=3, start="near"), target, data, steps=7, batch_size=6)
    means = [next(v for k, v in part.mode.items() if k not in target.params()) for part in post.parts]
    assert name == "first" or not torch.allclose(means[0], means[1], rtol=1e-6)
    starts = infer(Ensemble(MAP(lr=1e-12), members=3, start="near"), target, data, steps=1, batch_size=1)
    for part, start in zip(post.parts, starts.parts, strict=True):
        weights = {k: start.mode[k] for k in target.params()}
        alone = infer(MAP(lr=0.05), target, data, init=weights, steps=7, batch_size=6)
        for k, w in alone.mode.items():
            assert torch.allclose(part.mode[k], w, rtol=1e-6, atol=1e-8), k
    x = _data(4).x
    each = torch.stack([predict(p, x).mean() for p in post.parts])
    assert torch.allclose(predict(post, x).mean(), each.mean(0))
    drawn = post.sample(6, generator(1))
    assert {k: len(w) for k, w in drawn.items()} == dict.fromkeys(post.mode, 6)


def test_draws_afresh_start_with_fresh_statistics() -> None:
    target = Target(_net("with statistics"))
    post = infer(Ensemble(MAP(lr=1e-12), members=2, start="fresh"), target, _data(), steps=1, batch_size=6)
    first, second = (part.mode["1.running_mean"] for part in post.parts)
    # A plain average: the fourth of four batches for the first member, the only one for the other.
    x = next(iter(_data().batches(6, 0, 0)))[0]
    net = _net("with statistics")
    w = post.parts[1].mode
    assert torch.allclose(second, F.linear(x, w["0.weight"], w["0.bias"]).mean(0), rtol=1e-6)
    own = net.get_buffer("1.running_mean")
    assert torch.allclose(first, own + (net[0](x).mean(0) - own) / 4, rtol=1e-6)  # type: ignore[index]


def _eval_target(net: nn.Module, mode: dict[str, Tensor], likelihood: Any = None) -> tuple[Target, dict[str, Tensor]]:
    """A network that holds the statistics itself, so that they are constants by construction."""
    net = copy.deepcopy(net)
    net.load_state_dict({**net.state_dict(), **mode})
    weights = {k: mode[k] for k, _ in net.named_parameters()}
    return Target(net, likelihood or Categorical()), weights


@pytest.mark.parametrize("name", ["batch norm", "without a momentum", "of channels", "of one's own"])
def test_evidence_curvature_and_predictions_take_statistics_as_constants(name: str) -> None:
    net, data = _net(name), _data()
    target = Target(net)
    post = infer(MAP(lr=0.05), target, data, steps=9, batch_size=6)
    held, weights = _eval_target(net, post.mode)
    x = _data(5).x
    for estimator in (Laplace("exact"), Laplace("kron"), Laplace("last_layer"), NTKSubset(8), ELBO("diag")):
        mine, theirs = estimator(target, data, post, seed=0), estimator(held, data, weights, seed=0)
        assert math.isclose(float(mine), float(theirs), rel_tol=1e-9)
        assert float(estimator(target, data, post.mode, seed=0)) == float(mine)
        (said,) = [a for a in mine.assumptions if "statistics that training updates" in a]
        assert "constants" in said
    assert float(tune(target, data, post, structure="exact", seed=0).evidence) == pytest.approx(
        float(tune(held, data, weights, structure="exact", seed=0).evidence), rel=1e-9
    )
    for structure in ("exact", "kron", "diag", "last_layer", "matrix_free"):
        mine = laplace_posterior(target, post.mode, data, structure=structure, check=structure == "exact")  # type: ignore[arg-type]
        theirs = laplace_posterior(held, weights, data, structure=structure, check=structure == "exact")  # type: ignore[arg-type]
        assert torch.allclose(predict(mine, x).mean(), predict(theirs, x).mean(), rtol=1e-8)
        assert mine.distance == pytest.approx(theirs.distance) if mine.distance is not None else True
        again = Laplace("exact")(target, data, mine, seed=0)
        assert math.isclose(float(again), float(Laplace("exact")(held, data, weights, seed=0)), rel_tol=1e-9)


def test_gradients_of_the_evidence_see_statistics_as_constants() -> None:
    net, data = _net("batch norm"), _data()
    post = infer(MAP(lr=0.05), Target(net), data, steps=9, batch_size=6)
    held, weights = _eval_target(net, post.mode)
    slopes = []
    for target, start in ((Target(net), post), (held, weights)):
        leaf = target.learnable()["prior.log_precision"].clone().requires_grad_()
        Laplace("exact")(target.with_learnable({"prior.log_precision": leaf}), data, start, seed=0).value.backward()
        slopes.append(leaf.grad)
    assert torch.allclose(*slopes)


def test_statistics_of_averaged_weights_are_those_of_one_pass() -> None:
    data = _data(40)
    for name in ("batch norm", "without a momentum", "with statistics", "of channels"):
        net = _net(name)
        target = Target(net)
        post = infer(SWAG(rank=2, points=4, lr=0.05), target, data, steps=20, batch_size=8)
        assert isinstance(post, Renormalised)
        drawn = unstack(post.sample(3, generator(1)))
        for w in [*drawn, post.mode]:
            own = copy.deepcopy(net)
            own.load_state_dict({**net.state_dict(), **{k: w[k] for k in target.params()}})
            own.train()
            order = [x for x, _, _ in data.batches(256, 0, 0)]
            torch.optim.swa_utils.update_bn(order, own)
            for k, b in own.named_buffers():
                if b.is_floating_point():
                    assert torch.allclose(w[k], b, rtol=1e-9), k
        assert not torch.allclose(
            drawn[0]["1.running_mean" if name != "of channels" else "2.running_mean"],
            post.mode["1.running_mean" if name != "of channels" else "2.running_mean"],
        )
        multi = infer(Ensemble(SWAG(rank=2, points=4), members=2), target, data, steps=20, batch_size=8)
        assert predict(multi, data.x[:3], samples=4).samples.shape == (4, 3, 2)


def test_a_pass_over_many_batches_averages_them() -> None:
    data, target = _data(700), Target(_net("batch norm"))
    params = {k: w.unsqueeze(0) for k, w in target.params().items()}
    found = averaged_statistics(target, params, data, seed=4)
    own = copy.deepcopy(_net("batch norm")).train()
    torch.optim.swa_utils.update_bn([x for x, _, _ in data.batches(256, 4, 0)], own)
    assert torch.allclose(found["1.running_mean"][0], own.get_buffer("1.running_mean"))
    assert torch.allclose(found["1.running_var"][0], own.get_buffer("1.running_var"))


# ------------------------------------------------------------------------------------------------ noise


class Path_(nn.Module):
    """Stochastic depth: whole examples pass by a layer at random."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x + self.layer(x)
        keep = (torch.rand(len(x), 1) < 0.5).to(x) * 2
        return x + keep * self.layer(x)


class Jitter(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.3 * torch.randn_like(x) if self.training else x


class Recurrent(nn.Module):
    """Noise between the layers of an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(1, 4, 2, batch_first=True, dropout=0.4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.unsqueeze(2))[0][:, -1])


class Decides(nn.Module):
    """Noise that decides what is computed, as layer drop does: not for vmap."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and float(torch.rand(())) < 0.5:
            return x
        return self.layer(x)


NOISY: dict[str, Callable[[], nn.Module]] = {
    "dropout": lambda: _table(nn.Dropout(0.4)),
    "dropout in eval mode": lambda: _table(nn.Dropout(0.4)).eval(),
    "in place": lambda: _table(nn.Dropout(0.4, inplace=True)),
    "alpha dropout": lambda: _table(nn.SELU(), nn.AlphaDropout(0.3)),
    "of channels": lambda: _image(nn.Dropout1d(0.4)),
    "randomised slopes": lambda: _table(nn.RReLU(0.1, 0.5)),
    "stochastic depth": lambda: _table(Path_(nn.Linear(4, 4))),
    "noise of one's own": lambda: _table(Jitter()),
    "with batch norm": lambda: _table(nn.BatchNorm1d(4), nn.Dropout(0.4)),
    "inside a transformer": lambda: nn.Sequential(
        nn.Unflatten(1, (3, 1)),
        nn.Linear(1, 4),
        nn.TransformerEncoderLayer(4, 2, dim_feedforward=5, dropout=0.3, batch_first=True),
        nn.Flatten(),
        nn.Linear(12, 2),
    ),
    "between recurrent layers": Recurrent,
    "that decides": lambda: _table(Decides()),
}


def _noisy(name: str) -> Target:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Target(NOISY[name]().double())


@pytest.mark.filterwarnings("ignore:vmap does not cover", "ignore:members share")
@pytest.mark.parametrize("name", NOISY)
def test_noise_is_on_while_weights_train_and_off_elsewhere(name: str, tmp_path: Path) -> None:
    data, target = _data(), _noisy(name)
    state = torch.get_rng_state()
    post = infer(MAP(lr=0.05), target, data, steps=9, batch_size=6)
    assert torch.equal(state, torch.get_rng_state())
    again, other = (infer(MAP(lr=0.05), target, data, steps=9, batch_size=6, seed=s) for s in (0, 1))
    quiet = copy.deepcopy(target.forward.module)
    for layer in quiet.modules():
        layer.__dict__["_trains"] = False
    still = infer(MAP(lr=0.05), Target(quiet), data, steps=9, batch_size=6)
    first = next(iter(target.params()))
    assert torch.equal(post.mode[first], again.mode[first])
    assert not torch.allclose(post.mode[first], other.mode[first], rtol=1e-4)
    assert not torch.allclose(post.mode[first], still.mode[first], rtol=1e-4)
    own = _noisy(name).network.eval()
    own.load_state_dict({**own.state_dict(), **post.mode})
    x = _data(5).x
    assert torch.allclose(predict(post, x).mean(), own(x).softmax(1))
    found = Laplace("diag")(target, data, post, seed=0)
    assert any("noise that is on while weights train (dropout) is off" in a for a in found.assumptions)


@pytest.mark.filterwarnings("ignore:vmap does not cover", "ignore:members share")
@pytest.mark.parametrize("name", ["dropout", "with batch norm", "between recurrent layers", "that decides"])
@pytest.mark.parametrize("method", [MAP(lr=0.05), Ensemble(MAP(), members=2, start="near")], ids=["map", "ensemble"])
def test_a_run_that_resumes_draws_the_same_noise(name: str, method: Method, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def stop(done: int, total: int, record: dict[str, float]) -> None:
        if done == 2:
            raise Killed

    data, path, options = _data(), tmp_path / "run.safetensors", {"epochs": 4, "batch_size": 6}
    whole = infer(method, _noisy(name), data, **options)  # type: ignore[arg-type]
    with pytest.raises(Killed):
        infer(method, _noisy(name), data, checkpoint=path, progress=stop, **options)  # type: ignore[arg-type]
    rest = infer(method, _noisy(name), data, checkpoint=path, resume=True, **options)  # type: ignore[arg-type]
    for a, b in zip(whole.parts, rest.parts, strict=True):
        assert all(torch.equal(w, b.mode[k]) for k, w in a.mode.items())


def test_members_draw_noise_of_their_own() -> None:
    # Two members at the same weights: by the noise alone they part.
    target = _noisy("dropout")
    starts = {k: torch.stack([w, w]) for k, w in target.params().items()}
    from novacula.inference.loop import run

    state = run(MAP(), target, _data(), start=starts, steps=3, batch_size=6).state
    assert not torch.allclose(state.params["0.weight"][0], state.params["0.weight"][1], rtol=1e-6)


def test_dropout_of_inputs_is_the_ridge_that_it_is_in_expectation() -> None:
    """E over masks of the squared loss adds p/(1−p) Σ_i x_ni² w_i²: a closed form for a linear model.

    The last steps are cold, so that the weights stand within 4 % of it; no false alarm is known of, as the seed is set.
    """
    n, p = 200, 0.3
    x = torch.randn(n, 3, generator=generator(5)).double() * torch.tensor([1.0, 2.0, 0.5])
    y = x @ torch.tensor([1.0, -1.0, 2.0]).double() + 0.1 * torch.randn(n, generator=generator(6)).double()
    net = nn.Sequential(nn.Dropout(p), nn.Linear(3, 1, bias=False)).double()
    target = Target(net, Normal(sigma=1.0), prior=Gaussian())
    data = Data(x, y.unsqueeze(1))
    post = infer(MAP(lr=0.05), target, data, steps=4000, batch_size=50)
    gram = x.T @ x + p / (1 - p) * torch.diag((x**2).sum(0)) + torch.eye(3).double()
    wanted = torch.linalg.solve(gram, x.T @ y)
    assert torch.allclose(post.mode["1.weight"][0], wanted, rtol=0.04)


# ------------------------------------------------------------------------------------------------ everything else


CONSTANT: dict[str, tuple[Method, int]] = {
    "hmc": (HMC(warmup=2, keep=3), 5),
    "sgld": (SGLD(), 6),
    "sghmc": (SGHMC(), 6),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_methods_that_sample_hold_the_statistics_and_say_so(name: str) -> None:
    method, steps = CONSTANT[name]
    data, target = _data(), _noisy("with batch norm")
    post = infer(method, target, data, steps=steps)
    assert any("stayed as the network had them" in text for text in post.warnings)
    trained = infer(MAP(lr=0.05), target, data, steps=9, batch_size=6)
    post = infer(method, target, data, steps=steps, init=trained.mode)
    x = data.x[:4]
    held, weights = _eval_target(target.network, trained.mode)
    other = infer(method, held, data, steps=steps, init=weights)
    assert torch.allclose(predict(post, x, samples=3).mean(), predict(other, x, samples=3).mean(), rtol=1e-6)


@pytest.mark.parametrize("which", ["last_layer", ("0.*",), ("largest_variance", 5)])
def test_a_part_of_the_weights_moves_with_the_statistics_held(which: Any) -> None:
    data, target = _data(), _noisy("with batch norm")
    post = infer(Subnetwork(HMC(warmup=2, keep=3), which, optimiser=MAP(), epochs=2), target, data, steps=5)
    assert post.mode["1.running_mean"].abs().max() > 0
    drawn = post.sample(3, generator(0))
    assert torch.equal(drawn["1.running_mean"], post.mode["1.running_mean"].expand(3, 4))
    assert predict(post, data.x[:4], samples=3).samples.shape == (3, 4, 2)


@pytest.mark.parametrize("members", [1, 2])
def test_networks_blind_to_a_fold_have_statistics_of_what_they_saw(members: int) -> None:
    data, target = _data(30), _noisy("with batch norm")
    found = cross_fit(target, data, steps=12, batch_size=8, members=members)
    assert all("1.running_mean" in w for w in found.networks)
    for k, each in enumerate(found.networks):
        rows = found.folds == k
        for m, w in enumerate(unstack(each)):
            own = _noisy("with batch norm").network.eval()
            own.load_state_dict({**own.state_dict(), **w})
            assert torch.allclose(found.members[m, rows], own(data.x[rows]))
    on = cross_fit(target, data, steps=0 + 3, starts=found.networks, members=members, batch_size=8)
    assert not torch.equal(on.networks[0]["1.running_mean"], found.networks[0]["1.running_mean"])
    assert found.choose(found.params[0], structures=("last_layer",)).posterior is not None


def test_a_batch_of_one_example_is_taken_at_the_running_statistics() -> None:
    data = _data(7)
    for name in ("batch norm", "without a momentum"):
        post = infer(MAP(), Target(_net(name)), data, epochs=3, batch_size=3)
        assert all(torch.isfinite(w).all() for w in post.mode.values())


def test_what_cannot_train_is_refused() -> None:
    class Loses(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            out = super().forward(input)
            return out[:1] if self.training else out

    class Breaks(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            if self.training:
                raise RuntimeError("no targets")
            return super().forward(input)

    class Own(nn.Linear):
        calls = 0

        def forward(self, input: Tensor) -> Tensor:
            Own.calls += 1
            noise = Own.calls % 7 if self.training else 0
            return super().forward(input + noise)

    for net, match in ((Loses(3, 2), "train mode too"), (Breaks(3, 2), "no targets"), (Own(3, 2), "torch draws")):
        with pytest.raises(InputError, match=match):
            Forward(net).check(torch.ones(4, 3) + torch.arange(4).unsqueeze(1))


def test_recurrent_layers_without_dropout_are_one_function_in_both_modes() -> None:
    # Of cuDNN's there is a derivative in train mode alone.
    for dropout in (0.0, 0.4):
        for mode in (True, False):
            net = nn.Sequential(nn.LSTM(3, 4, 2, batch_first=True, dropout=dropout), nn.Flatten()).train(mode)
            module = Forward(net).module
            assert [m.training for m in module.modules()] == [False, dropout == 0, False]
            with train_mode(module):
                assert all(m.training for m in module.modules())
            assert [m.training for m in module.modules()] == [False, dropout == 0, False]


def test_layers_without_statistics_or_noise_train_by_the_recorded_path() -> None:
    x = torch.randn(4, 3, generator=generator(1))
    for layer in (nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.Dropout(0.0), nn.Identity()):
        training = Forward(_table(layer)).trains(x)
        assert not training.differs
        assert training.said == ()
    assert dataclasses.astuple(Forward(_table(nn.BatchNorm1d(4))).trains(x)) == (
        ("1.running_mean", "1.running_var", "1.num_batches_tracked"),
        False,
        True,
    )


def test_points_carry_their_statistics_through_pickles(tmp_path: Path) -> None:
    import pickle

    data, target = _data(), _noisy("with batch norm")
    for method in (MAP(), SWAG(rank=2, points=3), Ensemble(MAP(), members=2, start="near")):
        post = infer(method, target, data, steps=12, batch_size=8)
        assert isinstance(post.parts[0], Point | Renormalised)
        other = pickle.loads(pickle.dumps(post))
        a, b = (predict(p, data.x[:3], samples=4).mean() for p in (post, other))
        assert torch.equal(a, b)
