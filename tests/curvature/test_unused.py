"""Weights that no output depends on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from novacula.curvature.structures.matrix_free import MatrixFree
from novacula.curvature.structures.names import build
from novacula.data.data import Data
from novacula.target import Target


class Heads(nn.Module):
    """Two heads, of which the outputs use one; the other stands after, before or amid what is used."""

    body: nn.Module
    out: nn.Module

    def __init__(self, place: str) -> None:
        super().__init__()
        order = {"last": ("body", "out", "idle"), "first": ("idle", "body", "out"), "amid": ("body", "idle", "out")}
        layers = {"body": (3, 4), "out": (4, 2), "idle": (4, 3)}
        for name in order[place]:
            self.add_module(name, nn.Linear(*layers[name]))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.body(x)))


@pytest.mark.parametrize("place", ["last", "first", "amid"])
@pytest.mark.parametrize("structure", ["exact", "kron", "diag", "matrix_free"])
def test_weights_that_no_output_uses_keep_their_prior(structure: Any, place: str) -> None:
    torch.manual_seed(0)
    data = Data(torch.randn(10, 3), torch.arange(10) % 2)
    target, _ = Target(Heads(place)).prepare(data)
    found = build(structure, target.problem(target.params(), data, seed=0), probes=2)
    precision = {k: torch.full_like(w, 4.0) for k, w in target.params().items()}
    ones = {k: torch.ones_like(w) for k, w in target.params().items()}
    solved = found.covariance(precision).solve(ones)
    for name in ("idle.weight", "idle.bias"):
        assert float(found.diagonal()[name].abs().max()) == 0
        torch.testing.assert_close(
            solved[name], torch.full_like(solved[name], 0.25), rtol=1e-2, atol=0
        )  # that of the solves
    if isinstance(found, MatrixFree):
        v = torch.randn(3, sum(w.numel() for w in ones.values()))
        torch.testing.assert_close(found.product(v), v.double() @ found.dense().double(), rtol=1e-4, atol=1e-5)
    assert float(found.diagonal()["out.weight"].abs().max()) > 0
