"""Networks as people build them: in-place layers, fused attention, and layers that mix the examples of a batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.core.forward import Forward


class InPlace(nn.Module):
    """Changes its input in a way that no layer tells."""

    def __init__(self, change: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.change, self.head = change, nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.change(x.view(-1, 4))
        return self.head(x)


def data(*shape: int) -> nv.Data:
    x = torch.randn(48, *(shape or (4,)), generator=torch.Generator().manual_seed(0))
    return nv.Data(x, (x.flatten(1)[:, 0] > 0).long())


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2)),
        nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True), nn.Linear(4, 2)),
        InPlace(lambda x: x.mul_(2)),
        InPlace(lambda x: x.clamp_(min=0)),
    ],
)
@pytest.mark.parametrize("method", [nv.MAP(), nv.Ensemble(nv.MAP(), members=2), nv.Laplace("kron"), nv.SWAG()])
def test_in_place_layers_never_touch_the_users_tensors(net: nn.Module, method: nv.inference.Method) -> None:
    own = data()
    before, fingerprint = own.x.clone(), own.fingerprint
    post = nv.infer(method, nv.Target(net), own, steps=6, batch_size=16)
    nv.predict(post, own.x).mean()
    assert torch.equal(own.x, before)
    assert nv.Data(own.x, own.y).fingerprint == fingerprint


class Attention(nn.Module):
    def __init__(self, *, batch_first: bool = True) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=batch_first)
        self.encoder, self.head = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


@pytest.mark.parametrize(
    "method",
    [nv.Ensemble(nv.MAP(), members=2), nv.SGLD(warmup=2), nv.HMC(warmup=2, leapfrogs=2, step_size=0.01)],
)
def test_fused_attention_trains_in_every_method(method: nv.inference.Method) -> None:
    with nv.networks.seeded(0):
        net = Attention().eval()
    enabled = torch.backends.mha.get_fastpath_enabled()
    chains = 1 if isinstance(method, nv.Ensemble) else 2
    post = nv.infer(method, nv.Target(net), data(5, 8), steps=4, batch_size=16, chains=chains)
    assert torch.isfinite(nv.predict(post, data(5, 8).x[:3]).mean()).all()
    assert torch.backends.mha.get_fastpath_enabled() == enabled


def test_the_unfused_way_gives_the_same_numbers() -> None:
    with nv.networks.seeded(0):
        net = Attention().eval().double()
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1)).double()
    forward = Forward(net)
    with torch.no_grad():
        torch.testing.assert_close(forward(forward.params(), x), net(x), rtol=1e-12, atol=1e-12)


class Centred(nn.Module):
    """Centres over the batch in its own forward, in no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x - x.mean(0))


class Recurrent(nn.Module):
    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.cells, self.head = nn.LSTM(8, 6, batch_first=batch_first), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x)[0][:, -1])


@pytest.mark.parametrize(
    ("net", "shape", "named"),
    [
        (
            nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8, track_running_stats=False)).eval(),
            (4,),
            "'1' (BatchNorm1d)",
        ),
        (
            nn.Sequential(
                nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten(), nn.Linear(48, 2)
            ).eval(),
            (1, 6, 6),
            "'1' (BatchNorm2d)",
        ),
        (Recurrent(batch_first=False), (5, 8), "'cells' (LSTM)"),
        (Attention(batch_first=False).eval(), (5, 8), "self_attn"),
        (Centred(), (4,), "'head' (Linear)"),
    ],
)
def test_layers_that_mix_examples_are_refused_by_name(net: nn.Module, shape: tuple[int, ...], named: str) -> None:
    with pytest.raises(nv.InputError, match="every example by itself") as error:
        nv.infer(nv.MAP(), nv.Target(net), data(*shape), steps=2)
    assert named in str(error.value)


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)).eval(), (4,)),
        (nn.Sequential(nn.Conv2d(1, 3, 3), nn.InstanceNorm2d(3), nn.Flatten(), nn.Linear(48, 2)), (1, 6, 6)),
        (Recurrent(batch_first=True), (5, 8)),
        (Attention().eval(), (5, 8)),
    ],
)
def test_others_are_not(net: nn.Module, shape: tuple[int, ...]) -> None:
    nv.infer(nv.MAP(), nv.Target(net), data(*shape), steps=2)
