"""Flipout against every example alone at its own explicit weights, for every kind of layer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from novacula.core.forward import Forward
from novacula.core.many import Notes, noisy_gradient
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.inference.variational.flipout import Flipout, flipout
from zoo import IN_PLACE, ZOO, Case

# The parameters that are drawn once for a batch, where not all take part.
SHARED: dict[str, set[str]] = {
    "conv_transpose": {"0.weight", "0.bias"},
    "group_norm": {"1.weight", "1.bias"},
    "batch_norm": {"1.weight", "1.bias", "5.weight", "5.bias"},
    "layer_norm": {"1.weight", "1.bias"},
    "attention": {f"attention.{k}" for k in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")},
    "attention_weights": {
        f"attention.{k}" for k in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    },
    "transformer": {
        *(f"0.self_attn.{k}" for k in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")),
        *(f"0.norm{i}.{k}" for i in (1, 2) for k in ("weight", "bias")),
    },
    "tied_functional": {"encode.weight", "encode.bias"},
    "tied_embedding": {"embed.weight"},
    "bare": {"matrix", "scale", "temperature"},
    "embedding": {"0.weight"},
    "residual": {"norm.weight", "norm.bias"},
    "lstm": {f"lstm.{k}_l0" for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
}


def naive(network: Flipout, params: Params, noise: Params, signs: Params, x: Tensor, n: int) -> Tensor:
    """Outputs of example n at ``w + δ``, the signs of δ flipped entry by entry."""
    own = {k: params[k] + noise[k] for k in params}
    for call in network.calls:
        r, s = signs[f"r:{call.weight}"][n], signs[f"s:{call.weight}"][n]
        delta = noise[call.weight].clone()
        per_group = delta.shape[0] // (len(s) // delta.shape[1])
        for o in range(delta.shape[0]):
            for i in range(delta.shape[1]):
                delta[o, i] *= r[o] * s[(o // per_group) * delta.shape[1] + i]
        own[call.weight] = params[call.weight] + delta
        if call.bias is not None:
            own[call.bias] = params[call.bias] + noise[call.bias] * r
    return network.forward(own, x).mean(0)


@pytest.mark.parametrize("case", [*ZOO, IN_PLACE], ids=lambda c: c.name)
def test_every_example_sees_weights_of_its_own(case: Case) -> None:
    forward = Forward(case.make())
    params, xs = forward.params(), case.inputs(4, 2)
    network = flipout(forward, params, xs)
    assert set(params) - network.covered == SHARED.get(case.name, set())
    like = next(iter(params.values()))
    signs = {k: v[0] for k, v in network.signs(1, 4, like, generator(1)).items()}
    assert all(set(v.unique().tolist()) <= {-1.0, 1.0} for v in signs.values())
    noise = {k: 0.3 * torch.randn(w.shape, generator=generator(2, k), dtype=torch.float64) for k, w in params.items()}
    with torch.no_grad():
        found = network.average(params, noise, signs, xs)
        truth = torch.stack([naive(network, params, noise, signs, xs[n], n) for n in range(4)])
        plain = forward.average(params, xs)
    assert torch.allclose(found, truth, rtol=1e-9, atol=1e-11)
    assert not torch.allclose(found, plain, rtol=1e-3)
    # No hook stays behind.
    assert torch.equal(forward.average(params, xs), plain)


class SequenceFirst(nn.Module):
    """A layer whose first axis is time."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x.transpose(0, 1))).mean(0))


class Rotated(nn.Module):
    """A layer that sees the examples on its first axis, in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x.roll(1, 0))).roll(-1, 0))


@pytest.mark.parametrize("build, shape", [(SequenceFirst, (3, 1, 6, 3)), (Rotated, (3, 1, 3))])
def test_layers_that_do_not_see_the_examples_in_their_order_fall_back(
    build: type[nn.Module], shape: tuple[int, ...]
) -> None:
    forward = Forward(build().double())
    xs = torch.randn(*shape, generator=generator(3), dtype=torch.float64)
    assert flipout(forward, forward.params(), xs).covered == {"head.weight", "head.bias"}


def test_a_frozen_layer_takes_no_part_and_single_precision_is_enough() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    net[0].requires_grad_(False)
    with pytest.warns(UserWarning, match="held constant"):
        forward = Forward(net)
    network = flipout(forward, forward.params(), torch.randn(3, 1, 3, generator=generator(4)))
    assert network.covered == {"2.weight", "2.bias"}
    assert forward.params()["2.weight"].dtype == torch.float32


def test_gradients_of_many_members_are_those_of_each() -> None:
    rng = generator(5)
    leaves = {"a": torch.randn(7, 3, 2, generator=rng, dtype=torch.float64), "b": torch.randn(7, generator=rng)}
    noise = {"e": torch.randn(7, 3, 2, generator=rng, dtype=torch.float64)}

    def function(w: Params) -> tuple[Tensor, Tensor]:
        return w["b"].double() ** 2, ((w["a"] * w["e"]).tanh() * w["b"]).sum()

    (first, last), grads = noisy_gradient(function, leaves, noise, notes=Notes("function"), rows=3)
    assert first.shape == last.shape == (7,)
    for i in range(7):
        a, b = leaves["a"][i].requires_grad_(), leaves["b"][i].requires_grad_()
        value = ((a * noise["e"][i]).tanh() * b).sum()
        expected = torch.autograd.grad(value, [a, b])
        assert torch.allclose(last[i], value)
        assert torch.allclose(grads["a"][i], expected[0])
        assert torch.allclose(grads["b"][i], expected[1])
