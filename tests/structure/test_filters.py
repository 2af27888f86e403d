"""Transformed filters against transformed inputs, whose average they are in one layer."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.invariances.affine import AffineName
from novacula.structure.filters import Transformed
from novacula.structure.grids import Grid, grids

F64 = torch.float64
S = 6


def dense(height: int, width: int, channels: int = 2, units: int = 5) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        size = channels * height * width
        return nn.Sequential(nn.Flatten(), nn.Linear(size, units), nn.GELU(), nn.Linear(units, 3)).double()


def placed(bank: nn.Module, name: str, noise: Tensor, eta: Tensor) -> Transformed:
    layer = bank.get_submodule(name)
    assert isinstance(layer, Transformed)
    layer.noise, layer.eta = noise, eta
    return layer


def on_inputs(net: nn.Module, invariance: nv.Affine, noise: Tensor, x: Tensor) -> Tensor:
    """The outputs averaged over transformed inputs."""
    copies = x.repeat_interleave(len(noise), 0)
    return net(invariance(copies, noise.repeat(len(x), 1))).unflatten(0, (len(x), -1)).mean(1)


def test_quarter_turns_and_whole_shifts_of_filters_are_those_of_inputs() -> None:
    net, x = dense(7, 7), torch.zeros(4, 2, 7, 7, dtype=F64)
    x[:, :, 2:5, 1:5] = torch.rand(4, 2, 3, 4, dtype=F64)
    names: tuple[AffineName, ...] = ("rotation", "translation_x", "translation_y")
    eta = torch.tensor([0.5, 2 / 7, 2 / 7], dtype=F64)
    noise = torch.tensor([[1.0, 1.0, 0.0], [0.0, -1.0, 1.0], [-1.0, 0.0, -1.0], [2.0, 1.0, 1.0]], dtype=F64)
    bank = nv.structure.FilterBank(names, samples=4)(net, {"1": "2"}, x)
    placed(bank, "1", noise, eta)
    expected = on_inputs(net, nv.Affine(eta=eta, only=names), noise, x)
    torch.testing.assert_close(bank.eval()(x), expected, rtol=0, atol=1e-12)
    assert not torch.allclose(expected, net(x), atol=1e-3)


def smooth(size: int, width: int) -> tuple[nn.Sequential, Tensor]:
    """A dense network and images on a grid of this size, both samples of fixed smooth functions."""
    y, x = torch.meshgrid(*((torch.arange(n, dtype=F64) + 0.5) / n * 2 - 1 for n in (size, width)), indexing="ij")
    inside = (1 - x**2).clamp(min=0) ** 3 * (1 - y**2).clamp(min=0) ** 3
    patterns = torch.stack([(a * x + b * y + 0.4 * a).sin() * inside for a, b in ((3, 1), (1, -2), (-2, 4), (5, 0))])
    first, last = nn.Linear(size * width, 3).double(), nn.Linear(3, 2, bias=False).double()
    with torch.no_grad():
        first.weight.copy_(patterns[:3].flatten(1) * 40 / (size * width))
        first.bias.fill_(0.1)
        last.weight.copy_(torch.tensor([[1.0, -2.0, 0.5], [0.3, 1.0, -1.0]]))
    return nn.Sequential(nn.Flatten(), first, nn.Tanh(), last), (patterns[3:] * (1 + x.exp()))[:, None]


def test_all_affine_maps_agree_to_the_order_of_the_interpolation() -> None:
    """On grids twice as fine the difference of the two is a quarter (bilinear interpolation is of second order)."""
    eta = torch.tensor([0.3, 0.1, 0.15, 0.2, 0.15, 0.25], dtype=F64)
    noise = torch.rand(S, 6, dtype=F64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    errors = []
    for size in (16, 32, 64):
        net, x = smooth(size, size * 3 // 4)
        bank = nv.structure.FilterBank(samples=S)(net, {"1": "2"}, x).eval()
        placed(bank, "1", noise, eta)
        expected = on_inputs(net, nv.Affine(eta=eta), noise, x)
        errors.append(float((bank(x) - expected).abs().max().detach()))
        scale = float((net(x) - expected).abs().max().detach())
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 0.01 * scale


def test_a_convolution_with_groups_and_strides_is_that_of_each_turned_filter() -> None:
    layer = nn.Conv2d(4, 6, (3, 3), stride=2, padding=1, groups=2).double()
    net, x = nn.Sequential(layer, nn.Tanh()), torch.randn(3, 4, 9, 7, dtype=F64)
    noise = torch.tensor([[0.0], [1.0], [-1.0]], dtype=F64)
    outs = []
    for turns in (0, -1, 1):  # the filter of an input that is turned one way is turned the other
        other = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2).double()
        other.load_state_dict({"weight": layer.weight.rot90(turns, (-2, -1)), "bias": layer.bias})
        outs.append(other(x))
    channels = nv.structure.FilterBank(("rotation",), samples=3, pool="channels")(nn.Sequential(layer), ["0"], x)
    placed(channels, "0", noise, torch.tensor([0.5], dtype=F64))
    torch.testing.assert_close(channels.eval()(x), torch.cat(outs, 1))
    pooled = torch.stack(outs).tanh()
    for pool, expected in (("mean", pooled.mean(0)), ("max", pooled.amax(0))):
        bank = nv.structure.FilterBank(("rotation",), samples=3, pool=pool)(net, {"0": "1"}, x)  # type: ignore[arg-type]
        placed(bank, "0", noise, torch.tensor([0.5], dtype=F64))
        torch.testing.assert_close(bank.eval()(x), expected)


def test_filters_while_training_are_transposed_maps_of_inputs_after() -> None:
    net, x = dense(6, 5), torch.randn(3, 2, 6, 5, dtype=F64)
    bank = nv.structure.FilterBank(samples=S, init=0.4)(net, {"1": "2"}, x)
    drawn = bank.train()(x)  # which leaves its noise
    torch.testing.assert_close(bank.eval()(x), drawn, rtol=0, atol=1e-12)
    assert not torch.allclose(bank.train()(x), drawn, atol=1e-4)


def test_no_extent_is_the_layer_itself_and_the_network_stays() -> None:
    net, x = dense(6, 5), torch.randn(3, 2, 6, 5, dtype=F64)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    bank = nv.structure.FilterBank(init=0.0)(net, {"1": "2"}, x)
    torch.testing.assert_close(bank.eval()(x), net(x))
    assert [n.replace(".layer", "") for n, _ in bank.named_parameters()] == [n for n, _ in net.named_parameters()]
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_the_evidence_reaches_the_extents_by_every_road() -> None:
    """The gradient of an evidence in the extents against its finite difference, and what training redraws."""
    net, x = dense(5, 5, 1), torch.randn(24, 1, 5, 5, dtype=F64)
    data = nv.Data(x, torch.arange(24) % 3)
    bank = nv.structure.FilterBank(("rotation", "scale"), samples=4)(net, {"1": "2"}, x)
    target = nv.Target(bank)
    assert set(target.learnable()) == {"network.1.eta", "prior.log_precision"}
    assert target.forward.trains(data.x).moving == ("1.noise",)

    def evidence(eta: Tensor) -> Tensor:
        held = target.with_learnable({"network.1.eta": eta})
        return nv.evidence.Laplace("exact", repeats=1)(held, data, target.params(), seed=0).value

    eta = torch.tensor([0.31, 0.22], dtype=F64, requires_grad=True)
    (found,) = torch.autograd.grad(evidence(eta), eta)
    for k in range(2):
        step = torch.zeros(2, dtype=F64)
        step[k] = 1e-5
        difference = (evidence(eta.detach() + step) - evidence(eta.detach() - step)) / 2e-5
        assert float(found[k]) == pytest.approx(float(difference), rel=1e-5)


def test_learning_moves_the_extents_and_members_train_side_by_side() -> None:
    data = nv.load("digits").subset(range(80))
    net = nv.networks.make("mlp", data.x_shape, 10, width=8)
    bank = nv.structure.FilterBank(("rotation",), samples=2)(net, {"1": "2"}, data.x[:2])
    method = dataclasses.replace(nv.study.default_method(data.n), first=20, moves=4)
    fit = nv.learn(nv.Target(bank), data, epochs=10, folds=0, method=method)
    assert float(fit.target.learnable()["network.1.eta"]) != pytest.approx(0.1)
    pair = nv.infer(nv.Ensemble(nv.MAP(), 2), nv.Target(bank), data, steps=6, seed=0)
    assert math.isfinite(float(nv.predict(pair, data.x[:9]).mean().sum()))


def test_images_are_found_where_they_are_flattened_and_made() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(60, 120), nn.ReLU(inplace=True),
        nn.Dropout(0.5), nn.Unflatten(1, (4, 5, 6)), nn.Conv2d(4, 1, 1), nn.Flatten(), nn.Linear(30, 60), nn.GELU(),
        nn.Linear(60, 3),
    )  # fmt: skip
    found = grids(net, torch.zeros(2, 1, 5, 6))
    assert found == {
        "0": Grid((1, 5, 6), (2, 5, 6)),
        "3": Grid((2, 5, 6), (4, 5, 6)),
        "7": Grid((4, 5, 6), (1, 5, 6)),
        "9": Grid((1, 5, 6), None),
        "11": Grid(None, None),
    }


@pytest.mark.parametrize(
    "case",
    [
        lambda net, x: nv.structure.FilterBank(samples=0),
        lambda net, x: nv.structure.FilterBank(("turn",)),  # type: ignore[arg-type]
        lambda net, x: nv.structure.FilterBank(pool="sum"),  # type: ignore[arg-type]
        lambda net, x: nv.structure.FilterBank(init=2.0),
        lambda net, x: nv.structure.FilterBank()(net, ["1"], x),
        lambda net, x: nv.structure.FilterBank(pool="channels")(net, {"1": "2"}, x),
        lambda net, x: nv.structure.FilterBank()(net, {"1": "9"}, x),
        lambda net, x: nv.structure.FilterBank()(net, {"2": "2"}, x),
        lambda net, x: nv.structure.FilterBank()(net, {"3": "3"}, x),
        lambda net, x: nv.structure.FilterBank()(net, {"1": "2"}, x[:, :, :-1]),
    ],
)
def test_what_does_not_fit_is_refused(case: object) -> None:
    with pytest.raises(nv.InputError):
        case(dense(6, 5), torch.zeros(2, 2, 6, 5, dtype=F64))  # type: ignore[operator]
