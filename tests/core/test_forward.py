"""A network as a function: inputs that it writes on, and attention that torch would fuse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.core.forward import Forward


class Writes(nn.Module):
    """Writes on its input by one operation of tensors, and goes on linearly."""

    def __init__(self, write: str) -> None:
        super().__init__()
        self.write, self.out = write, nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.write == "index":
            x[:, 0] = 0.0
        else:
            getattr(x, self.write)(*((2.0,) if self.write == "mul_" else ()))
        return self.out(x)


WRITING = {
    "relu": nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2)),
    "leaky, behind a view": nn.Sequential(nn.Flatten(), nn.LeakyReLU(inplace=True), nn.Linear(4, 2)),
    "dropout": nn.Sequential(nn.Dropout(inplace=True), nn.Hardtanh(inplace=True), nn.Linear(4, 2)).eval(),
    "mul_": Writes("mul_"),
    "exp_": Writes("exp_"),
    "index": Writes("index"),
}
METHODS = {
    "map": (nv.MAP(), 1),
    "ensemble": (nv.Ensemble(nv.MAP(), members=2), 1),
    "laplace": (nv.Laplace("kron"), 1),
    "matrix-free": (nv.Laplace("matrix_free"), 1),
    "last layer": (nv.Laplace("last_layer"), 1),
    "sgld": (nv.SGLD(), 2),
}


def twelve() -> Tensor:
    return torch.randn(12, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.filterwarnings("ignore::novacula.NovaculaWarning")
@pytest.mark.parametrize("network", WRITING)
@pytest.mark.parametrize("method", ["map", "ensemble", "laplace", "matrix-free"])
def test_inputs_stay_as_they_were(network: str, method: str) -> None:
    x = twelve()
    data = nv.Data(x, torch.arange(12) % 2)
    new, mark = x.clone(), data.fingerprint
    how, chains = METHODS[method]
    post = nv.infer(how, nv.Target(WRITING[network]), data, steps=2, chains=chains, seed=0)
    first = nv.predict(post, new).mean()
    assert torch.equal(x, twelve())
    assert torch.equal(new, twelve())
    assert mark == nv.Data(data.x, data.y).fingerprint
    assert torch.equal(first, nv.predict(post, new).mean())


@pytest.mark.parametrize("network", WRITING)
def test_gradients_reach_inputs_that_a_network_writes_on(network: str) -> None:
    x = twelve().requires_grad_()  # a leaf, on which torch lets no operation write
    f = Forward(WRITING[network])
    f(f.params(), x).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


class Twice(nn.Module):
    """One module under two names, and another whose weight is its."""

    def __init__(self) -> None:
        super().__init__()
        shared, other = nn.Linear(4, 4), nn.Linear(4, 4)
        other.weight = shared.weight
        self.first, self.second, self.third = nn.ModuleList([shared]), nn.ModuleList([shared]), other

    def forward(self, x: Tensor) -> Tensor:
        return self.first[0](x) + self.second[0](torch.tanh(self.third(x)))


def test_a_module_under_two_names_keeps_its_weights() -> None:
    net, x = Twice(), twelve()
    f = Forward(net)
    own = f.params()
    assert list(own) == ["first.0.weight", "first.0.bias", "third.bias"]
    moved = {k: w + 0.5 for k, w in own.items()}
    found = f(moved, x)
    assert all(torch.equal(f.params()[k], w) for k, w in own.items())
    with torch.no_grad():
        for w in net.parameters():
            w.add_(0.5)
        torch.testing.assert_close(found, net(x))


class Reads(nn.Module):
    """Attention of one kind over four positions, averaged."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.out = body, nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        f = self.body(x, x, x, need_weights=False)[0] if isinstance(self.body, nn.MultiheadAttention) else self.body(x)
        return self.out(f.mean(1))


class Own(nn.Module):
    """Attention by the function of torch, in a module of a person's own."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        parts = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in self.project(x).chunk(3, -1))
        return nn.functional.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2).flatten(2)


def layer(**options: object) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, **options)  # type: ignore[arg-type]


ATTENTION = {
    "layer": layer,
    "gelu, norm first": lambda: layer(activation="gelu", norm_first=True),
    "encoder": lambda: nn.TransformerEncoder(layer(), 2, enable_nested_tensor=False),
    "attention": lambda: nn.MultiheadAttention(8, 2, batch_first=True),
    "function": Own,
}


def attentive(kind: str) -> tuple[nn.Module, nv.Data]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, x = Reads(ATTENTION[kind]()).eval(), torch.randn(12, 4, 8)
    return network, nv.Data(x, torch.arange(12) % 2)


@pytest.mark.parametrize("kind", ATTENTION)
def test_attention_has_the_numbers_of_the_fused_kernel(kind: str) -> None:
    network, data = attentive(kind)
    with torch.no_grad():
        fused, f = network(data.x), Forward(network)
        torch.testing.assert_close(f(f.params(), data.x), fused)
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()


@pytest.mark.parametrize("kind", ATTENTION)
@pytest.mark.parametrize("method", ["ensemble", "sgld"])
def test_attention_in_eval_mode_trains_in_several_members(kind: str, method: str) -> None:
    network, data = attentive(kind)
    how, chains = METHODS[method]
    post = nv.infer(how, nv.Target(network), data, steps=4, batch_size=6, chains=chains, seed=0)
    assert torch.isfinite(nv.predict(post, data.x).mean()).all()


@pytest.mark.filterwarnings("ignore::novacula.NovaculaWarning")
@pytest.mark.parametrize("kind", ATTENTION)
@pytest.mark.parametrize("method", ["laplace", "matrix-free", "last layer"])
def test_attention_in_eval_mode_has_a_curvature(kind: str, method: str) -> None:
    network, data = attentive(kind)
    post = nv.infer(METHODS[method][0], nv.Target(network), data, steps=2, seed=0)
    assert torch.isfinite(nv.predict(post, data.x).mean()).all()
