"""Small networks of all kinds that read words of bits, each with one linear layer at its end.

References:
    Neural arithmetic units. A. Madsen, A. R. Johansen, 2020. arXiv:2001.05016 (sums with weights in ±1, and products
    ``Π_i (w_i x_i + 1 − w_i)`` with weights from 0 to 1).
    Attention is all you need. A. Vaswani et al., 2017. arXiv:1706.03762.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.networks.mlp import mlp

_TURNS = 4  # of the layer that is used again


class _Recurrent(nn.Module):
    """``h ← tanh(W h + u x_t + b)`` over the bits of a word; the last h is read."""

    def __init__(self, bits: int, outputs: int, width: int) -> None:
        super().__init__()
        self.step, self.out = nn.Linear(width + 1, width), nn.Linear(width, outputs)
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.width)
        for t in range(x.shape[1]):
            h = torch.tanh(self.step(torch.cat([h, x[:, t : t + 1]], 1)))
        return self.out(h)


class _Tied(nn.Module):
    """``h ← relu(W h + U x + b)``, four times with the same weights: depth that is repeated."""

    def __init__(self, bits: int, outputs: int, width: int) -> None:
        super().__init__()
        self.step, self.out = nn.Linear(width + bits, width), nn.Linear(width, outputs)
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.width)
        for _ in range(_TURNS):
            h = torch.relu(self.step(torch.cat([h, x], 1)))
        return self.out(h)


class _Attention(nn.Module):
    """One head of attention over the bits, which know their places, and a layer of ReLUs at each."""

    def __init__(self, bits: int, outputs: int, width: int) -> None:
        super().__init__()
        self.into = nn.Linear(bits + 1, width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.hidden, self.out = nn.Linear(width, width), nn.Linear(bits * width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        place = torch.eye(x.shape[1], dtype=x.dtype, device=x.device).expand(len(x), -1, -1)
        h = self.into(torch.cat([x[..., None], place], 2))
        scores = self.query(h) @ self.key(h).transpose(1, 2) / math.sqrt(h.shape[2])
        h = h + scores.softmax(2) @ self.value(h)
        return self.out((h + torch.relu(self.hidden(h))).flatten(1))


class _Arithmetic(nn.Module):
    """Sums with weights in ±1 beside products with weights from 0 to 1, of the bits; both are read."""

    def __init__(self, bits: int, outputs: int, width: int) -> None:
        super().__init__()
        self.sums, self.products = (nn.Linear(bits, width, bias=False) for _ in range(2))
        self.out = nn.Linear(2 * width, outputs)
        self.gain = 2 * math.sqrt(bits)  # so that weights of the size 1/√bits reach both ends of their range

    def forward(self, x: Tensor) -> Tensor:
        w = torch.sigmoid(self.gain * self.products.weight)
        products = (w * x[:, None] + 1 - w).prod(2)
        return self.out(torch.cat([x @ torch.tanh(self.gain * self.sums.weight).T, products], 1))


def _cnn(bits: int, outputs: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, bits)),
        nn.Conv1d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv1d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(bits * width, outputs),
    )


NETWORKS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "mlp": lambda bits, outputs, width: mlp((bits,), outputs, width=width, depth=2, activation="relu"),
    "cnn": _cnn,
    "recurrent": _Recurrent,
    "tied": _Tied,
    "attention": _Attention,
    "arithmetic": _Arithmetic,
}


def network(name: str, bits: int, outputs: int, *, width: int = 32) -> nn.Module:
    """A network that reads words.

    Args:
        name: One of `NETWORKS`.
        bits: How many bits a word has.
        outputs: How many bits are answered.
        width: Units of each hidden layer.

    Returns:
        A module from ``(N, bits)`` to ``(N, outputs)``.

    Raises:
        InputError: If the network is unknown or a size is not positive.
    """
    for key, value in (("bits", bits), ("outputs", outputs), ("width", width)):
        check_whole(key, value)
    if name not in NETWORKS:
        raise InputError(f"a network among {', '.join(NETWORKS)}", repr(name), "network('mlp', 4, 1)")
    return NETWORKS[name](bits, outputs, width)
