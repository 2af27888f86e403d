"""Networks whose examples influence each other are refused by the layer's name; others pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.forward import Forward


class Centred(nn.Module):
    """Takes the batch's mean from every example."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Squeezed(nn.Module):
    """Loses the axis of a batch of one."""

    def forward(self, x: Tensor) -> Tensor:
        return x.squeeze()


class Last(nn.Module):
    """A recurrent layer's, or attention's, outputs at the last position; ``turn`` puts time first and back."""

    def __init__(self, body: nn.Module, *, turn: bool = False) -> None:
        super().__init__()
        self.body, self.out, self.turn = body, nn.Linear(6, 2), turn

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1) if self.turn else x
        f = self.body(x, x, x) if isinstance(self.body, nn.MultiheadAttention) else self.body(x)
        f = f[0] if isinstance(f, tuple) else f
        return self.out((f.transpose(0, 1) if self.turn else f)[:, -1])


def bare() -> nn.Module:
    return nn.BatchNorm1d(8, track_running_stats=False)


MIXING: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "batch norm": (lambda: nn.Sequential(nn.Linear(6, 8), bare(), nn.Linear(8, 2)), "'1'", "track_running_stats=True"),
    "batch norm, one deeper": (
        lambda: nn.Sequential(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), bare()), nn.Linear(8, 2)),
        "'0.2'",
        "GroupNorm",
    ),
    "batch norm, over positions": (
        lambda: nn.Sequential(
            nn.Conv1d(5, 8, 2), nn.BatchNorm1d(8, track_running_stats=False), nn.Flatten(), nn.Linear(40, 2)
        ),
        "'1'",
        "track_running_stats=True",
    ),
    "centring": (lambda: nn.Sequential(nn.Linear(6, 8), Centred(), nn.Linear(8, 2)), "'1'", "that example alone"),
    "softmax over the batch": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.Softmax(0), nn.Linear(8, 2)),
        "'1'",
        "that example alone",
    ),
    "lstm": (lambda: Last(nn.LSTM(6, 6)), "'body'", "batch_first=True"),
    "gru": (lambda: Last(nn.GRU(6, 6)), "'body'", "batch_first=True"),
    "attention": (lambda: Last(nn.MultiheadAttention(6, 2)), "'body'", "batch_first=True"),
    "transformer": (
        lambda: Last(nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0)),
        "body.self_attn",
        "batch_first=True",
    ),
    "squeeze": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2), Squeezed()), "'2'|Sequential", "alone"),
}
SEPARATE: dict[str, Callable[[], nn.Module]] = {
    "batch norm that tracks": lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)).eval(),
    "layer norm": lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 2)),
    "group norm": lambda: nn.Sequential(nn.Linear(6, 8), nn.GroupNorm(2, 8), nn.Linear(8, 2)),
    "instance norm": lambda: nn.Sequential(nn.InstanceNorm1d(5), nn.Flatten(), nn.Linear(30, 2)),
    "lstm": lambda: Last(nn.LSTM(6, 6, batch_first=True)),
    "lstm, turned": lambda: Last(nn.LSTM(6, 6), turn=True),
    "attention, turned": lambda: Last(nn.MultiheadAttention(6, 2), turn=True),
    "in place": lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 2)),
}
_OF_SEQUENCES = ("lstm", "gru", "attention", "transformer", "over positions", "instance")


def made(kind: str, make: Callable[[], nn.Module]) -> tuple[Forward, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = (7, 5, 6) if any(word in kind for word in _OF_SEQUENCES) else (7, 6)
        return Forward(make().eval()), torch.randn(shape)


@pytest.mark.parametrize("kind", MIXING)
def test_a_network_that_mixes_examples_is_refused(kind: str) -> None:
    make, layer, hint = MIXING[kind]
    f, x = made(kind, make)
    before = {k: v.clone() for k, v in f.module.state_dict().items()}
    with pytest.raises(InputError, match=layer) as refusal:
        f.check(x)
    assert hint in str(refusal.value)
    assert all(torch.equal(v, before[k]) for k, v in f.module.state_dict().items())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in f.module.modules())


@pytest.mark.parametrize("kind", SEPARATE)
def test_a_network_that_takes_examples_one_by_one_passes(kind: str) -> None:
    f, x = made(kind, SEPARATE[kind])
    assert f.check(x) == 2
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in f.module.modules())
