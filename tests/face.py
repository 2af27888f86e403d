"""Misuses of the Python face: by name, what somebody might well write. `tests/test_face.py` says what comes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from scipy import sparse
from torch import Tensor, nn

import novacula as nv

N, D, C = 12, 3, 2

Case = Callable[[], Any]


def inputs() -> Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(0))


def labels() -> Tensor:
    return torch.arange(N) % C


def data() -> nv.Data:
    return nv.Data(inputs(), labels())


def net(outputs: int = C) -> nn.Module:
    return nv.networks.make("linear", (D,), outputs, seed=0)


def target(**parts: Any) -> nv.Target:
    return nv.Target(net(), **parts)


def measured() -> nv.Data:
    return nv.Data(inputs(), inputs() @ torch.tensor([[1.0], [2.0], [0.5]]))


def fit(**options: Any) -> Any:
    return nv.learn(target(), data(), **{"epochs": 1, "folds": 0, **options})


def point() -> Any:
    return nv.study.LearnResult.point.fget(fit())  # type: ignore[attr-defined]


class Acts(nn.Module):
    """A network whose forward does something else."""

    def __init__(self, act: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.act = nn.Linear(D, C), act

    def forward(self, x: Tensor) -> Any:
        return self.act(self.layer(x))


class Own(Exception):
    """An error of the user's own."""


def raising(error: Exception) -> Callable[[Tensor], Any]:
    def act(f: Tensor) -> Any:
        raise error

    return act


def quantised() -> Tensor:
    return torch.quantize_per_tensor(inputs(), 0.1, 0, torch.qint8)


def nested() -> Tensor:
    return torch.nested.nested_tensor(list(inputs()))


STRANGE_TENSORS: dict[str, Case] = {
    "sparse coo": lambda: inputs().to_sparse(),
    "sparse csr": lambda: inputs().to_sparse_csr(),
    "meta": lambda: inputs().to("meta"),
    "quantised": quantised,
    "nested": nested,
    "complex": lambda: inputs() + 0j,
    "scipy sparse": lambda: sparse.csr_matrix(inputs().numpy()),
    "a scalar": lambda: torch.tensor(1.0),
    "a number": lambda: 3.0,
    "None": lambda: None,
    "a string": lambda: "data.csv",
    "an empty dictionary": dict,
    "a set": lambda: {1.0, 2.0},
    "a generator": lambda: (row for row in inputs()),
    "an object": object,
    "a function": lambda: inputs,
    "ragged rows": lambda: [[1.0, 2.0], [3.0]],
    "no rows": lambda: torch.empty(0, D),
    "no columns": lambda: torch.empty(N, 0),
    "NaN": lambda: torch.full((N, D), torch.nan),
}
"""What is no batch of inputs."""


class Shaken(nn.Linear):
    """A layer with noise that is no train-time noise."""

    def forward(self, input: Tensor) -> Tensor:
        f = super().forward(input)
        return f + torch.randn_like(f)


OUTPUTS: dict[str, Callable[[Tensor], Any]] = {
    "complex": lambda f: f + 0j,
    "whole numbers": lambda f: f.round().long(),
    "booleans": lambda f: f > 0,
    "detached": lambda f: f.detach(),
    "constant": torch.zeros_like,
    "of NumPy": lambda f: f.detach().numpy(),
    "a tuple": lambda f: (f, f),
    "a dictionary": lambda f: {"scores": f},
    "None": lambda f: None,
    "a list": lambda f: f.tolist(),
    "one axis": lambda f: f[:, 0],
    "three axes": lambda f: f[:, None],
    "transposed": lambda f: f.T,
    "summed over the batch": lambda f: f.sum(0),
    "no columns": lambda f: f[:, :0],
    "sparse": lambda f: f.to_sparse(),
    "meta": lambda f: f.to("meta"),
    "NaN": lambda f: f / 0 * 0,
    "ValueError": raising(ValueError("mine")),
    "KeyError": raising(KeyError("mine")),
    "AttributeError": raising(AttributeError("mine")),
    "AssertionError": raising(AssertionError("mine")),
    "ZeroDivisionError": raising(ZeroDivisionError("mine")),
    "NotImplementedError": raising(NotImplementedError("mine")),
    "StopIteration": raising(StopIteration("mine")),
    "an error of its own": raising(Own("mine")),
}
"""What a forward does that no likelihood can use."""


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(C))


def with_weights(change: Callable[[Tensor], Tensor]) -> nn.Module:
    layer = nn.Linear(D, C)
    layer.weight = nn.Parameter(change(layer.weight.detach()))
    return layer


NETWORKS: dict[str, Case] = {
    "None": lambda: None,
    "a class": lambda: nn.Linear,
    "a function": lambda: lambda x: x,
    "its output": lambda: net()(inputs()),
    "its weights": lambda: list(net().parameters()),
    "its state": lambda: net().state_dict(),
    "a name": lambda: "mlp",
    "a list of layers": lambda: [nn.Linear(D, C)],
    "no layers": lambda: nn.Sequential(),
    "no forward": lambda: nn.ModuleList([nn.Linear(D, C)]),
    "lazy": lazy,
    "complex weights": lambda: with_weights(lambda w: w + 0j),
    "weights without values": lambda: nn.Linear(D, C, device="meta"),
    "weights of NaN": lambda: with_weights(lambda w: w * torch.nan),
    "other inputs": lambda: nn.Linear(D + 1, C),
    "other dtype": lambda: nn.Linear(D, C).double(),
    "embedding": lambda: nn.Sequential(nn.Embedding(9, C), nn.Flatten()),
    "two inputs": lambda: nn.Bilinear(D, D, C),
    "random": lambda: Shaken(D, C),
    "a target": target,
}
"""What is no network for these data."""

NUMBERS: dict[str, tuple[Any, ...]] = {
    "epochs": (0, -1, 1.5, "3", True, torch.nan, [1]),
    "folds": (-1, 1, 1.5, "3", True, 100),
    "seed": ("a", 1.5, None, [0], torch.nan),
    "batch_size": (0, -1, 1.5, "3", True),
    "lr": (0.0, -1.0, "fast", torch.nan, torch.inf, True),
    "seconds": (0, -1, "long", torch.nan, True),
}
"""Numbers of the wrong type or sign, by the option of `learn`."""
