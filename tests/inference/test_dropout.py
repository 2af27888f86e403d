"""Monte-Carlo dropout: a draw is the module under that very mask, wherever the dropout is."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from novacula.core.errors import InputError
from novacula.core.params import flatten, unstack
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.inference.dropout import Dropout
from novacula.inference.infer import infer
from novacula.inference.method import Start
from novacula.inference.optimising.ensemble import Ensemble
from novacula.inference.starts import starts
from novacula.invariances import Affine
from novacula.likelihoods import Normal
from novacula.posteriors.dropout import DropoutPosterior, dropout_posterior
from novacula.posteriors.masks import masked
from novacula.posteriors.mixture import Mixture
from novacula.prediction import predict
from novacula.priors import Gaussian
from novacula.target import Copies, LogDensity, Target
from novacula.target.batch import Batch


class TwoConsumers(nn.Module):
    """A dropout whose output goes two ways, one past a residual branch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.second = nn.Linear(3, 4), nn.Dropout(0.4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(torch.tanh(self.first(x)))
        return self.head(h + torch.tanh(self.second(h)))


class Reused(nn.Module):
    """One dropout layer in three places, of two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 2)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(torch.tanh(self.first(self.drop(x))))
        return self.head(self.drop(torch.tanh(self.second(h))))


class Rows(nn.Module):
    """Tokens as further rows, and an embedding's dropout with three axes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.drop = nn.Linear(3, 4), nn.Dropout(0.3)
        self.mix, self.again, self.head = nn.Linear(4, 4), nn.Dropout(0.3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(self.embed(x)).flatten(0, 1)
        return self.head(self.again(torch.tanh(self.mix(h))).unflatten(0, x.shape[:2]).mean(1))


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=5, dropout=0.4, batch_first=True)
    layer.self_attn.dropout = 0.0
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(12, 2))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, tuple[int, ...]]]] = {
    "mlp": (
        lambda: nn.Sequential(
            nn.Dropout(0.2), nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5, inplace=True), nn.Linear(4, 2), nn.Dropout(0.1)
        ),
        (3,),
        {"0.mask": (1, 3), "3.mask": (1, 4), "5.mask": (1, 2)},
    ),
    "pixels": (
        lambda: nn.Sequential(nn.Dropout(0.3), nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(18, 2)),
        (2, 3, 4),
        {"0.mask": (1, 2, 3, 4)},
    ),
    "channels": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 2), nn.Dropout2d(0.4), nn.Tanh(), nn.Conv2d(3, 4, 2), nn.Flatten(), nn.Linear(8, 2)
        ),
        (2, 3, 4),
        {"1.mask": (1, 3, 1, 1)},
    ),
    "channels_1d": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 2), nn.Dropout1d(0.4), nn.Flatten(), nn.Linear(12, 2)),
        (2, 5),
        {"1.mask": (1, 3, 1)},
    ),
    "two_consumers": (TwoConsumers, (3,), {"drop.mask": (1, 4)}),
    "reused": (Reused, (3,), {"drop.mask": (1, 3), "drop.mask_1": (1, 4), "drop.mask_2": (1, 5)}),
    "rows": (Rows, (5, 3), {"drop.mask": (1, 5, 4), "again.mask": (5, 4)}),
    "transformer": (
        transformer,
        (3, 4),
        {"0.dropout.mask": (1, 3, 5), "0.dropout1.mask": (1, 3, 4), "0.dropout2.mask": (1, 3, 4)},
    ),
}
nets = pytest.mark.parametrize("name", list(NETS))


def built(name: str) -> tuple[Target, Tensor]:
    build, shape, _ = NETS[name]
    target = Target(build().double().eval(), prior=Gaussian(2.0))
    return target, torch.randn(6, *shape, generator=generator(1), dtype=torch.float64)


def under(network: nn.Module, masks: dict[str, list[Tensor]]) -> nn.Module:
    """The user's own module, its dropout layers multiplying by given masks, call by call."""
    network = copy.deepcopy(network)
    for name, layer in network.named_modules():
        if name in masks:
            given = iter(masks[name])

            def forward(x: Tensor, given: object = given) -> Tensor:
                mask = next(given)  # type: ignore[call-overload]
                return x * mask.repeat(x.shape[0] // mask.shape[0], *[1] * (x.ndim - 1))

            layer.forward = forward
    return network


# ---------------------------------------------------------------------------------------- draws


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch, of its fused attention under vmap
@nets
def test_a_draw_is_the_module_under_that_mask(name: str) -> None:
    target, x = built(name)
    data = Data(x, torch.arange(6) % 2)
    post = dropout_posterior(target, target.params(), data)
    assert {p.name: p.shape for p in post.masks.places} == NETS[name][2]
    assert post.warnings == ()
    draws = unstack(post.sample(4, generator(2)))
    with torch.no_grad():
        plain = target.network(x)
        assert torch.allclose(post.target.forward(post.mode, x), plain)
        for w in draws:
            masks: dict[str, list[Tensor]] = {}
            for key in sorted(k for k in w if k.split(".")[-1].startswith("mask")):
                masks.setdefault(key.rsplit(".", 1)[0], []).append(w[key])
            found = post.target.forward(w, x)
            with torch.enable_grad():  # else torch's fused transformer layer would not call its dropout at all
                truth = under(target.network, masks)(x)
            assert torch.allclose(found, truth, rtol=1e-10, atol=1e-12)
            # Stored masks: the same for any batch of inputs.
            assert torch.allclose(post.target.forward(w, x[2:3]), found[2:3], rtol=1e-10, atol=1e-12)
    outputs = torch.stack([post.target.forward(w, x) for w in draws])
    assert float(outputs.std(0).min()) > 0
    p = predict(post, x, samples=16)
    assert torch.allclose(predict(post, x[1:4], samples=16).mean(), p.mean()[1:4], atol=1e-12)
    assert torch.allclose(predict(post, x, kind="plug-in").mean(), plain.softmax(1))


def test_before_a_linear_layer_a_mask_scales_the_columns_of_its_weight() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.4), nn.Linear(4, 2)).double().eval()
    x = torch.randn(5, 3, generator=generator(1), dtype=torch.float64)
    target = Target(net)
    post = dropout_posterior(target, target.params(), Data(x, torch.arange(5) % 2))
    for w in unstack(post.sample(3, generator(2))):
        scaled = {**target.params(), "3.weight": target.params()["3.weight"] * w["2.mask"]}
        assert torch.allclose(target.forward(scaled, x), post.target.forward(w, x))


def test_masks_drop_their_share_and_keep_the_expectation() -> None:
    """Nine z-scores of shares below 5 (a false alarm in fewer than 1 of 100,000 seeds)."""
    target, x = built("mlp")
    post = dropout_posterior(target, target.params(), Data(x, torch.arange(6) % 2))
    n = 4_000
    draws = post.sample(n, generator(3))
    for name, p in (("0.mask", 0.2), ("3.mask", 0.5), ("5.mask", 0.1)):
        mask = draws[name]
        assert mask.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)])
        z = ((mask == 0).double().mean(0) - p) / (p * (1 - p) / n) ** 0.5
        assert float(z.abs().max()) < 5
    assert not torch.equal(draws["0.mask"], draws["3.mask"][..., :3])
    other = dropout_posterior(target, target.params(), Data(x, torch.arange(6) % 2), p=0.7)
    assert {place.p for place in other.masks.places} == {0.7}


def test_the_predictive_variance_of_a_linear_model_is_the_closed_form() -> None:
    """``Var f = p/(1−p) Σ x_i² w_i²``; six relative errors with standard deviations near 0.03 below 0.2."""
    target = Target(nn.Sequential(nn.Dropout(0.3), nn.Linear(5, 2)).double().eval(), likelihood=Normal())
    x = torch.randn(3, 5, generator=generator(4), dtype=torch.float64)
    data = Data(x, torch.randn(3, 2, generator=generator(5), dtype=torch.float64))
    post = dropout_posterior(target, target.params(), data)
    draws = post.sample(2_000, generator(6))
    f = torch.stack([post.target.forward(w, x) for w in unstack(draws)])
    expected = 0.3 / 0.7 * x.square() @ target.params()["1.weight"].square().T
    assert float((f.var(0) / expected - 1).abs().max()) < 0.2


# ---------------------------------------------------------------------------------------- training


@nets
def test_a_step_is_a_gradient_under_masks_of_each_examples_own(name: str) -> None:
    """By autograd on the user's module, example by example, with the masks that the method draws."""
    _, x = built(name)
    images = x.ndim == 4
    target = Target(
        NETS[name][0]().double().eval(),
        prior=Gaussian(2.0),
        invariance=Affine(only=("rotation",)) if images else None,
        copies=Copies(train=2),
        temperature=0.5,
        likelihood_temperature=3.0,
    )
    y = torch.arange(6) % 2
    target, data = target.prepare(Data(x, y))
    first = starts(target, 1, 3)
    method = Dropout(lr=0.1, schedule="constant")
    state = method.init(target, data, generator(0), Start(first, 5))
    batch = Batch(x[:4], data.y[:4], 6, 3, 5)
    new, info = method.step(target, state, batch, generator(7))

    rng = generator(7)
    xs = target.warp(batch.x, 2, rng)
    drawn = state.masks.draw(4, x, rng)
    net = copy.deepcopy(target.forward.module)
    fits = []
    for n in range(4):
        masks: dict[str, list[Tensor]] = {}
        for key in sorted(drawn):
            masks.setdefault(key.rsplit(".", 1)[0], []).append(drawn[key][n])
        module = under(net, masks)
        own = dict(module.named_parameters())
        f = torch.func.functional_call(module, dict(net.named_parameters()), (xs[n],)).mean(0, keepdim=True)
        assert set(own) == set(target.params())
        fits.append(target.likelihood.log_prob(f, batch.y[n : n + 1]))
    fit = torch.cat(fits).mean()
    assert info.loss == pytest.approx(-float(fit.detach()), rel=1e-9)
    objective = -(6 * fit / 3.0 + target.prior.log_prob(dict(net.named_parameters()))) / 0.5 / 6
    grads = torch.autograd.grad(objective, list(net.parameters()))
    for k, g in zip(
        target.params(), grads, strict=True
    ):  # Adam's first moment after one step is a tenth of the gradient
        assert torch.allclose(new.adam.m[k][0], 0.1 * g, rtol=1e-8, atol=1e-12)


def test_training_under_dropout_is_ridge_regression() -> None:
    """For a linear model the expected loss is that of the mean plus ``p/(1−p) Σ_i w_i² Σ_n x_ni²``."""
    rng = generator(8)
    x = torch.randn(40, 3, generator=rng, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    y = x @ torch.tensor([[1.0], [-1.0], [2.0]], dtype=torch.float64)
    net = nn.Sequential(nn.Dropout(0.4), nn.Linear(3, 1, bias=False)).double().eval()
    target = Target(net, likelihood=Normal(sigma=1.0), prior=Gaussian(3.0))
    post = infer(Dropout(lr=0.05), target, Data(x, y), steps=500, batch_size=40, seed=0)
    gram = x.T @ x
    ridge = torch.linalg.solve(gram + 0.4 / 0.6 * torch.diag(gram.diag()) + 3 * torch.eye(3), x.T @ y)
    plain = torch.linalg.solve(gram + 3 * torch.eye(3), x.T @ y)
    found = post.mode["1.weight"].T
    assert float((found - ridge).abs().max()) < 0.05
    assert float((found - plain).abs().max()) > 0.3


def test_a_resumed_run_is_bit_identical_and_the_users_module_is_untouched(tmp_path: Path) -> None:
    target, x = built("reused")
    net, data = target.network, Data(x, torch.arange(6) % 2)
    before, state = copy.deepcopy(net.state_dict()), torch.random.get_rng_state()
    options = {"epochs": 4, "batch_size": 4, "seed": 1, "chains": 2}
    path = tmp_path / "run.safetensors"

    def stop(done: int, total: int, record: dict[str, float]) -> None:
        if done == 2:
            raise KeyboardInterrupt

    whole = infer(Dropout(), target, data, **options)
    with pytest.raises(KeyboardInterrupt):
        infer(Dropout(), target, data, **options, checkpoint=path, progress=stop)
    again = infer(Dropout(), target, data, **options, checkpoint=path, resume=True)
    a, b = (p.sample(5, generator(3)) for p in (whole, again))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert all(torch.equal(w, net.state_dict()[k]) for k, w in before.items())
    assert isinstance(net.drop, nn.Dropout)
    assert not net._forward_pre_hooks
    assert torch.equal(torch.random.get_rng_state(), state)


def test_ensembles_of_it_and_copies_of_its_posterior() -> None:
    target, x = built("reused")
    post = infer(Ensemble(Dropout(), members=2), target, Data(x, torch.arange(6) % 2), steps=5)
    assert isinstance(post, Mixture)
    travelled = pickle.loads(pickle.dumps(post))
    for other in (copy.deepcopy(post), travelled):
        assert torch.allclose(predict(post, x, samples=6).mean(), predict(other, x, samples=6).mean())
    w = post.sample(4, generator(1))
    assert w["drop.mask_2"].shape == (4, 1, 5)
    assert flatten({"a": w["first.weight"]}, batch_dims=1).shape == (4, 12)


# ---------------------------------------------------------------------------------------- refusals


class SequenceFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(x.transpose(0, 1)).mean(0))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.head = nn.Linear(3, 4), nn.Dropout(0.2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(F.dropout(self.first(x), 0.5, self.training)))


@pytest.mark.parametrize(
    "net, shape, match",
    [
        (nn.Linear(3, 2), (3,), "with dropout layers"),
        (nn.Sequential(nn.Dropout(0.0), nn.Linear(3, 2)), (3,), "with 1 of them, none"),
        (nn.Sequential(nn.AlphaDropout(0.2), nn.Linear(3, 2)), (3,), "layer '0', AlphaDropout"),
        (SequenceFirst(), (5, 3), "layer 'drop', which sees"),
        (nn.Sequential(nn.Dropout1d(0.2), nn.Linear(3, 2)), (3,), "channels and positions"),
    ],
)
def test_what_no_mask_can_stand_for_is_refused_by_name(net: nn.Module, shape: tuple[int, ...], match: str) -> None:
    data = Data(torch.randn(4, *shape, generator=generator(1)), torch.arange(4) % 2)
    with pytest.raises(InputError, match=match):
        infer(Dropout(), Target(net.eval()), data, steps=2)


def test_dropout_that_no_mask_replaces_is_told() -> None:
    net = nn.TransformerEncoderLayer(4, 2, dim_feedforward=5, dropout=0.4, batch_first=True)
    x = torch.randn(4, 3, 4, generator=generator(1))
    target = Target(nn.Sequential(net, nn.Flatten(), nn.Linear(12, 2)).eval())
    post = dropout_posterior(target, target.params(), Data(x, torch.arange(4) % 2))
    assert post.warnings == ("the draws leave out the dropout inside of 0.self_attn",)
    target = Target(Functional().eval())
    post = dropout_posterior(target, target.params(), Data(x[:, 0, :3], torch.arange(4) % 2))
    assert len(post.warnings) == 1
    assert "random in train mode" in post.warnings[0]


def test_shares_and_targets_are_checked_and_layers_without_a_share_may_be_given_one() -> None:
    for p in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(InputError, match=r"share in|p as a number"):
            Dropout(p=p)
    density = LogDensity(lambda w: -w["a"].square().sum(), {"a": torch.zeros(2)})
    with pytest.raises(InputError, match="network's Target for Dropout"):
        infer(Dropout(), density, steps=3)
    target = Target(nn.Sequential(nn.Dropout(0.0), nn.Linear(3, 2)))
    data = Data(torch.randn(4, 3, generator=generator(1)), torch.arange(4) % 2)
    post = infer(Dropout(p=0.25), target, data, steps=2)
    assert isinstance(post, DropoutPosterior)
    assert post.masks.places[0].p == 0.25
    assert masked(target, data.x, 0.5).places[0].p == 0.5
