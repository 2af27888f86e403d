"""The network for tables against loops, and where its hinges bend."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm
from torch import nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.inference.starts import starts
from novacula.networks import Hinges, make, mlp, table
from novacula.networks.make import seeded


def gelu(value: float) -> float:
    return value * float(norm.cdf(value))


def test_hinges_are_those_of_loops() -> None:
    with seeded(3):
        layer = Hinges(3, 2).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    for row, found in zip(x.tolist(), layer(x).tolist(), strict=True):
        bent = [
            gelu(row[j] * layer.slopes[j, k].item() + layer.shifts[j, k].item()) for j in range(3) for k in range(2)
        ]
        assert found == pytest.approx([*row, *bent], abs=1e-12)


def test_kinks_lie_at_quantiles_of_standard_columns() -> None:
    layer = Hinges(2, 5).double()
    layer.reset_parameters()
    kinks = (-layer.shifts / layer.slopes).detach()
    assert norm.cdf(kinks[1].tolist()) == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9], abs=1e-9)


@pytest.mark.parametrize(("columns", "hinges"), [(1, 16), (16, 16), (17, 15), (100, 2), (256, 1)])
def test_number_of_hinges(columns: int, hinges: int) -> None:
    assert table((columns,), 1)[1].slopes.shape == (columns, hinges)


def test_many_columns_have_none() -> None:
    wide = table((257,), 2)
    assert [tuple(w.shape) for w in wide.parameters()] == [tuple(w.shape) for w in mlp((257,), 2).parameters()]


def test_options_and_shapes() -> None:
    net = make("table", (4,), 3, width=7, depth=2, hinges=3)
    sizes = [tuple(w.shape) for w in net.parameters()]
    assert sizes == [(4, 3), (4, 3), (7, 16), (7,), (7, 7), (7,), (3, 7), (3,)]
    assert isinstance(make("table", (4,), 3, activation="tanh")[3], nn.Tanh)
    with pytest.raises(InputError, match="hinges"):
        table((4,), 1, hinges=-1)


def test_members_start_at_fresh_draws() -> None:
    target = nv.Target(make("table", (2,), 1, seed=1, width=4), likelihood=nv.Normal())
    slopes = starts(target, 2, seed=0)["1.slopes"]
    assert float((slopes[0] - slopes[1]).abs().max()) > 0.5


@pytest.mark.parametrize("structure", ["kron", "diag"])
def test_evidence_of_every_structure(structure: str) -> None:
    """Kronecker-factored and diagonal evidence stand beside the exact one: none skips the hinges."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, generator=rng)
    data = nv.Data(x, x[:, :1].sign() + 0.1 * torch.randn(40, 1, generator=rng), task="regression")
    target = nv.Target(make("table", (2,), 1, width=4, hinges=3).double(), likelihood=nv.Normal(sigma=0.3))
    data = data.with_values(data.x.double(), data.y.double())
    weights = target.params()
    exact = float(nv.evidence.Laplace(structure="exact")(target, data, weights, seed=0).value)
    found = float(nv.evidence.Laplace(structure=structure)(target, data, weights, seed=0).value)
    assert math.isfinite(found)
    assert found == pytest.approx(exact, rel=0.25)
