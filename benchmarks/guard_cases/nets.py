"""Networks with layers that a curvature must look at twice: tied, repeated, grouped, normalised, bare."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import novacula as nv
from benchmarks.guard_cases import base


class Convolutional(nn.Module):
    """Two convolutions, one of them grouped and strided, a normalisation and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        with base.seeded(0):
            self.first, self.second = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 6, 2, stride=2, groups=2, bias=False)
            self.norm, self.head = nn.GroupNorm(2, 4), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.norm(self.first(x)))
        return self.head(torch.tanh(self.second(h)).flatten(1))


class Tied(nn.Module):
    """A convolution that is applied twice, and a linear layer whose weight is used again outside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.encode, self.head = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(8, 3), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = F.avg_pool2d(torch.tanh(self.conv(torch.tanh(self.conv(x)))), 2).flatten(1)
        return self.head(torch.tanh(F.linear(torch.tanh(self.encode(h)), self.encode.weight.t())))


class TiedModules(nn.Module):
    """Two linear layers that share one weight and have a bias each."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Bare(nn.Module):
    """Parameters that belong to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix, self.scale = nn.Parameter(torch.randn(4, 3)), nn.Parameter(1 + 0.1 * torch.randn(3))
        self.temperature, self.head = nn.Parameter(torch.tensor(0.7)), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.temperature * self.head(torch.tanh(x @ self.matrix) * self.scale)


class Attention(nn.Module):
    """`nn.MultiheadAttention` and a layer normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.norm = nn.MultiheadAttention(4, 2, batch_first=True), nn.LayerNorm(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.attention(x, x, x, need_weights=False)[0]).mean(1))


class Recurrent(nn.Module):
    """An LSTM's last state, then linear."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Embedded(nn.Module):
    """A language model's tie: the embedding is the output layer's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(6, 4), nn.Linear(4, 4), nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.mix(self.embed(x).mean(1))))


ODD: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], int]] = {
    "tied": (Tied, lambda: base.normal(12, 2, 4, 4, seed=6), 2),
    "tied_modules": (TiedModules, lambda: base.normal(12, 4, seed=6), 3),
    "bare": (Bare, lambda: base.normal(12, 4, seed=6), 2),
    "attention": (Attention, lambda: base.normal(12, 5, 4, seed=6), 3),
    "recurrent": (Recurrent, lambda: base.normal(12, 5, 3, seed=6), 2),
    "embedded": (Embedded, lambda: torch.randint(6, (12, 5), generator=base.rng(6)), 6),
}


def odd(name: str) -> tuple[nn.Module, nv.Data]:
    """A network and data for it."""
    make, inputs, outputs = ODD[name]
    with base.seeded(1):
        net = make().double().eval()
    x = inputs()
    return net, nv.Data(x, torch.arange(len(x)) % outputs, tokens=not x.is_floating_point())
