"""Per-example gradients from hooks against single backward passes, and the measured coverage against traps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from novacula.core.errors import InputError
from novacula.core.forward import Forward
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.curvature.gradients.capture import (
    Coverage,
    capture,
    cover,
    fallback_jacobian,
    output_gradients,
    per_example_gradients,
)
from novacula.curvature.gradients.sites import unfold
from zoo import ZOO, Case, case

ATTENTION = {"in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"}
UNCOVERED = {
    "conv_transpose": {"0.weight", "0.bias"},
    "attention": {f"attention.{name}" for name in ATTENTION},
    "attention_weights": {f"attention.{name}" for name in ATTENTION},
    "transformer": {f"0.self_attn.{name}" for name in ATTENTION},
    "tied_functional": {"encode.weight"},
    "tied_embedding": {"embed.weight"},
    "bare": {"matrix", "scale", "temperature"},
    "embedding": {"0.weight"},
    "lstm": {f"lstm.{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
}


def true_jacobian(forward: Forward, params: Params, xs: Tensor) -> Params:
    """One backward pass for each output of each example alone."""
    w = {k: v.detach().requires_grad_() for k, v in params.items()}
    rows = []
    for x in xs:
        f = torch.stack([forward(w, copy.unsqueeze(0))[0] for copy in x]).mean(0)
        for c in f:
            rows.append(
                torch.autograd.grad(c, list(w.values()), retain_graph=True, allow_unused=True, materialize_grads=True)
            )
    stacked = [torch.stack(g).unflatten(0, (len(xs), -1)) for g in zip(*rows, strict=True)]
    return dict(zip(w, stacked, strict=True))


def jacobian(coverage: Coverage, params: Params, xs: Tensor) -> Params:
    """What the library makes of it: unit cotangents for what is covered, the fallback for the rest."""
    captured = capture(coverage, params, xs)
    b, c = captured.outputs.shape
    covered = per_example_gradients(captured, torch.eye(c, dtype=captured.outputs.dtype).expand(b, c, c))
    return {**covered, **fallback_jacobian(coverage, params, xs, coverage.uncovered, chunk=2)}


def check(module: nn.Module, xs: Tensor, uncovered: set[str] | None = None) -> Coverage:
    """Assert that all per-example Jacobians are right, and, where given, what is not covered."""
    forward = Forward(module)
    params = forward.params()
    coverage = cover(forward, params, xs)
    found, truth = jacobian(coverage, params, xs), true_jacobian(forward, params, xs)
    assert set(found) == set(truth)
    for name, j in truth.items():
        torch.testing.assert_close(found[name], j, rtol=1e-9, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")
    if uncovered is not None:
        assert set(coverage.uncovered) == uncovered
    assert set(coverage.covered) | set(coverage.uncovered) == set(params)
    return coverage


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=generator(3, *shape), dtype=torch.float64)


@pytest.mark.parametrize("c", ZOO, ids=lambda c: c.name)
def test_zoo(c: Case) -> None:
    coverage = check(c.make(), c.inputs(4, 2), UNCOVERED.get(c.name, set()))
    assert coverage.vmaps
    assert coverage.copies == (c.name == "in_place")


class Packed(nn.Module):
    """An LSTM of packed sequences, for which vmap has no rule."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.full((len(x),), x.shape[1]), batch_first=True)
        return self.head(self.lstm(packed)[1][0][-1])


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_what_vmap_has_no_rule_for() -> None:
    check(Packed().double(), randn(4, 2, 5, 3), UNCOVERED["lstm"])
    coverage = cover(forward := Forward(case("lstm").make()), forward.params(), xs := case("lstm").inputs(4, 2))
    looped, truth = replace(coverage, vmaps=False), true_jacobian(forward, forward.params(), xs)
    for name, j in jacobian(looped, forward.params(), xs).items():
        torch.testing.assert_close(j, truth[name], rtol=1e-9, atol=1e-12)


def test_batch_size_may_change_after_the_check() -> None:
    c = case("cnn")
    forward = Forward(c.make())
    params, xs = forward.params(), c.inputs(7, 3)
    coverage = cover(forward, params, xs[:1, :2])
    for part in (xs[:1], xs[:, :1], xs):
        found, truth = jacobian(coverage, params, part), true_jacobian(forward, params, part)
        for name in truth:
            torch.testing.assert_close(found[name], truth[name])


@pytest.mark.parametrize("copies", [1, 2])
def test_sequence_first_layouts_are_not_covered(copies: int) -> None:
    class TimeFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.head = nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.mix(x.transpose(0, 1))).mean(0))

    # T = 6 rows on the first axis can be mistaken for examples (3 · 2), or for a multiple of them.
    check(TimeFirst().double(), randn(3, copies, 6, 4), {"mix.weight", "mix.bias"})
    check(TimeFirst().double(), randn(1, copies, 6, 4), {"mix.weight", "mix.bias"})


def test_flattened_tokens_are_covered_and_their_transpose_is_not() -> None:
    class Tokens(nn.Module):
        def __init__(self, time_first: bool) -> None:
            super().__init__()
            self.mix, self.norm, self.head, self.time_first = (
                nn.Linear(4, 3),
                nn.LayerNorm(3),
                nn.Linear(3, 2),
                time_first,
            )

        def forward(self, x: Tensor) -> Tensor:
            n, t = x.shape[:2]
            x = x.transpose(0, 1) if self.time_first else x
            h = torch.tanh(self.norm(self.mix(x.reshape(n * t, -1)))).unflatten(
                0, (t, n) if self.time_first else (n, t)
            )
            return self.head(h.mean(0 if self.time_first else 1))

    check(Tokens(False).double(), randn(3, 2, 5, 4), set())
    check(Tokens(True).double(), randn(3, 2, 5, 4), {"mix.weight", "mix.bias", "norm.weight", "norm.bias"})


def test_inplace_activations_and_residuals_are_copied() -> None:
    class Inplace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = F.elu(self.first(x), inplace=True)
            g = self.second(h)
            g += 1
            g.mul_(2)
            return self.head(torch.tanh(g))

    class InplaceLater(Inplace):
        """No layer at the start of the graph is touched, so that nothing complains."""

        def forward(self, x: Tensor) -> Tensor:
            g = self.second(torch.tanh(self.first(x)))
            g.mul_(2)
            return self.head(torch.tanh(g))

    assert check(Inplace().double(), randn(3, 2, 4), set()).copies
    assert check(InplaceLater().double(), randn(3, 2, 4), set()).copies


def test_wrapped_and_overridden_layers() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return F.linear(input, 2 * self.weight, self.bias)

    check(nn.Sequential(Doubled(4, 3), nn.Tanh(), nn.Linear(3, 2)).double(), randn(3, 2, 4), {"0.weight"})
    normed = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 3)), nn.Tanh(), nn.Linear(3, 2)).double()
    originals = {f"0.parametrizations.weight.original{i}" for i in range(2)}
    check(normed, randn(3, 2, 4), originals)
    hooked = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    hooked[0].register_forward_hook(lambda module, args, output: 3 * output)
    hooked[2].register_forward_pre_hook(lambda module, args: (args[0].square(),))
    check(hooked, randn(3, 2, 4), set())


def test_layers_without_gradient_and_unused_ones() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fixed, self.unused, self.head = nn.Linear(4, 3), nn.Linear(2, 2), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                h = torch.tanh(self.fixed(x))
            return self.head(h)

    blind = {"fixed.weight", "fixed.bias", "unused.weight", "unused.bias"}
    check(Half().double(), randn(3, 2, 4), blind)


def test_frozen_parameters_are_left_out() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    module[0].weight.requires_grad_(False)
    with pytest.warns(UserWarning, match="held constant"):
        forward = Forward(module)
    coverage = cover(forward, forward.params(), randn(3, 2, 4))
    assert set(coverage.covered) == {"0.bias", "2.weight", "2.bias"}
    found = jacobian(coverage, forward.params(), randn(3, 2, 4))
    truth = true_jacobian(forward, forward.params(), randn(3, 2, 4))
    for name in truth:
        torch.testing.assert_close(found[name], truth[name])


def test_zero_initialised_head_hides_nothing() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    nn.init.zeros_(module[2].weight)
    check(module, randn(3, 2, 4), set())


def test_small_contributions_from_elsewhere_are_found_in_float32() -> None:
    class Leak(nn.Module):
        """The weight's second use is 1e-5 of its first: below what float32 gradients could tell apart."""

        def __init__(self) -> None:
            super().__init__()
            self.mix, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.mix(x))
            return self.head(h + 1e-5 * F.linear(h, self.mix.weight))

    forward = Forward(Leak())
    assert forward.params()["mix.weight"].dtype == torch.float32
    assert cover(forward, forward.params(), randn(3, 1, 4).float()).uncovered == ("mix.weight",)


def test_a_network_that_insists_on_float32_is_checked_in_float32() -> None:
    class Insists(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.scale = nn.Linear(4, 2), torch.ones(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.mix(x) @ self.scale

    forward = Forward(Insists())
    coverage = cover(forward, forward.params(), randn(3, 1, 4).float())
    assert set(coverage.covered) == {"mix.weight", "mix.bias"}


def test_routing_by_values_is_seen_or_refused() -> None:
    class Router(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.expert, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            chosen = x[:, 0] > 0
            h = x.clone()
            h[chosen] = self.expert(x[chosen])
            return self.head(h)

    forward = Forward(Router().double())
    xs = randn(4, 1, 3).abs()
    coverage = cover(forward, forward.params(), xs)
    assert "expert.weight" in coverage.covered
    mixed = torch.cat([xs[:3], -xs[3:]])
    with pytest.raises(InputError, match=r"layer 'expert' to see 1 rows .* 3 rows of 4 examples"):
        capture(coverage, forward.params(), mixed)
    assert "expert.weight" in cover(forward, forward.params(), mixed).uncovered


def test_cotangents_several_at_once_and_reuse() -> None:
    c = case("residual")
    forward = Forward(c.make())
    params, xs = forward.params(), c.inputs(3, 2)
    captured = capture(cover(forward, params, xs), params, xs)
    v = randn(3, 4, 5)
    many = per_example_gradients(captured, v)
    for k in range(5):
        one = per_example_gradients(captured, v[:, :, k])
        for name in one:
            torch.testing.assert_close(many[name][:, k], one[name])
    for site, gradient in zip(captured.sites, output_gradients(captured, v[:, :, 0]), strict=True):
        assert gradient.shape == site.output.shape


def test_nothing_is_left_behind() -> None:
    c = case("cnn")
    forward = Forward(c.make())
    params, xs = forward.params(), c.inputs(3, 2)
    before = torch.get_rng_state()
    captured = capture(cover(forward, params, xs), params, xs)
    assert torch.equal(before, torch.get_rng_state())
    assert not any(m._forward_hooks for m in forward.module.modules())
    assert not any(w.requires_grad for w in params.values())
    grads = per_example_gradients(captured, torch.ones(3, 3, dtype=torch.float64))
    assert not any(g.requires_grad for g in grads.values())


@pytest.mark.parametrize(
    "name", ["mlp", "cnn", "group_norm", "batch_norm", "scaled_dot_product", "repeated", "lstm", "attention"]
)
def test_results_are_differentiable_in_inputs_cotangents_and_weights(name: str) -> None:
    """Gradients of a function of per-example gradients, against central differences, in a direction of each."""
    c = case(name)
    forward = Forward(c.make())
    xs, params = c.inputs(2, 2), forward.params()
    coverage = cover(forward, params, xs)
    v = randn(2, c.outputs)
    direction = {n: torch.randn(w.shape, generator=generator(5, n), dtype=w.dtype) for n, w in params.items()}

    def value(eta: Tensor, *, create_graph: bool) -> Tensor:
        point = {n: w + eta[2] * direction[n] for n, w in params.items()}
        x = xs * (1 + eta[0] * torch.cos(xs))
        captured = capture(coverage, point, x)
        grads = per_example_gradients(captured, v * (1 + eta[1]), create_graph=create_graph)
        rest = fallback_jacobian(coverage, point, x, coverage.uncovered, create_graph=create_graph)
        total = sum(g.square().sum(tuple(range(1, g.ndim))).log().sum() for g in grads.values())
        return torch.as_tensor(total) + sum((j.square().sum() + 1).log() for j in rest.values())

    eta = torch.tensor([0.1, 0.2, -0.1], dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(value(eta, create_graph=True), eta)
    step = 1e-5
    for i in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[i] = step
        high, low = (value(eta.detach() + s * shift, create_graph=False) for s in (1, -1))
        assert float(found[i]) == pytest.approx(float((high - low) / (2 * step)), rel=1e-5, abs=1e-7)


def test_graphs_of_all_batches_start_from_the_same_tensors() -> None:
    c = case("mlp")
    forward = Forward(c.make())
    params, xs = forward.params(), c.inputs(4, 1)
    coverage = cover(forward, params, xs)
    v = torch.ones(2, 3, dtype=torch.float64)
    for part in xs.split(2):
        grads = per_example_gradients(capture(coverage, params, part), v, create_graph=True)
        total = torch.stack([g.square().sum() for g in grads.values()]).sum()
        (g,) = torch.autograd.grad(total, [coverage.anchor], allow_unused=True)
        assert g is None or float(g) == 0


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    "kernel, stride, padding, dilation",
    [
        ((2, 3), (1, 2), (1, 0), (1, 1)),
        ((3, 2), (2, 1), (2, 1), (1, 2)),
        ((3, 2), (1, 1), "same", (1, 2)),
        ((1, 3), (3, 1), "valid", (1, 1)),
    ],
)
def test_unfold_is_the_convolution(
    mode: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int] | str,
    dilation: tuple[int, int],
) -> None:
    layer = nn.Conv2d(3, 4, kernel, stride, padding, dilation, padding_mode=mode, bias=False).double()  # type: ignore[arg-type]
    x = randn(2, 3, 7, 6)
    found = layer.weight.flatten(1) @ unfold(x, layer)
    torch.testing.assert_close(found, layer(x).flatten(2))
    if mode == "zeros" and not isinstance(padding, str):
        torch.testing.assert_close(unfold(x, layer), F.unfold(x, kernel, dilation, padding, stride))


@pytest.mark.parametrize(("size", "positions"), [((3, 5), 2), ((9, 10), 30)])
def test_grouped_convolutions_of_small_and_large_images(size: tuple[int, int], positions: int) -> None:
    """Few positions are multiplied over all copies at once, many of them copy by copy."""
    layer = nn.Conv2d(4, 6, (2, 3), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)
    net = nn.Sequential(layer, nn.Tanh(), nn.Flatten(), nn.Linear(6 * positions, 5)).double()
    assert layer(randn(1, 4, *size)).flatten(2).shape[2] == positions
    inputs, columns = 2 * 2 * 3, 5 * 3
    assert (inputs * columns <= positions * (inputs + columns)) == (positions == 30)
    check(net, randn(3, 2, 4, *size), set())
