"""Eigenvalues by Lanczos: dense matrices, sums of functions, bounds of the ends, indefinite Hessians."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import novacula as nv
from novacula import InputError
from novacula.paths import spectrum


def case() -> tuple[nv.Target, nv.Data]:
    rng = torch.Generator().manual_seed(0)
    data = nv.Data(torch.randn(40, 3, generator=rng).double(), torch.randint(3, (40,), generator=rng))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    return nv.Target(net), data


def dense(target: nv.Target, data: nv.Data, matrix: str) -> np.ndarray:
    """All eigenvalues, of the matrix written out."""
    point = target.params()
    made, rows = target.prepare(data)
    if matrix == "ggn":
        return np.linalg.eigvalsh(nv.curvature.exact(made.problem(point, rows, seed=0)).dense().numpy())

    def loss(flat: torch.Tensor) -> torch.Tensor:
        weights = nv.core.params.unflatten(flat, point)
        return nn.functional.cross_entropy(
            torch.func.functional_call(target.network, weights, (data.x,)), data.y, reduction="sum"
        )

    return np.linalg.eigvalsh(torch.autograd.functional.hessian(loss, nv.core.params.flatten(point)).numpy())


@pytest.mark.parametrize("matrix", ["ggn", "hessian"])
def test_eigenvalues_and_sums_are_those_of_the_dense_matrix(matrix: str) -> None:
    """Sums lie within 4 standard errors of 12 probes (false alarm of Student's t below .003 each)."""
    target, data = case()
    wanted = dense(target, data, matrix)
    found = spectrum(target, data, matrix=matrix, probes=12, steps=len(wanted))  # type: ignore[arg-type]
    assert found.masses.sum(1) == pytest.approx(np.ones(12))
    assert [v for v, _ in found.largest[:5]] == pytest.approx(wanted[::-1][:5], rel=1e-8)
    assert found.smallest[0][0] == pytest.approx(wanted[0], abs=1e-8)
    assert (wanted[0] < -0.1) == (matrix == "hessian")
    for value, truth in (
        (found.trace, wanted.sum()),
        (found.effective_dimension(0.7), (wanted.clip(0) / (wanted.clip(0) + 0.7)).sum()),
        (found.sum(np.square), (wanted**2).sum()),
    ):
        assert abs(value[0] - truth) < 4 * value[1]


def test_early_ends_lie_within_their_bounds() -> None:
    """After ten steps each node has an eigenvalue within its residual, and the largest is nearly there."""
    target, data = case()
    wanted = dense(target, data, "hessian")
    found = spectrum(target, data, matrix="hessian", probes=2, steps=10)
    nearest = np.abs(found.nodes[..., None] - wanted).min(-1)
    assert (nearest <= found.residuals + 1e-8).all()
    assert found.residuals.max() > 0.01
    assert found.largest[0][0] == pytest.approx(wanted[-1], rel=1e-3)


def test_a_matrix_of_lower_rank_ends_early() -> None:
    """A linear network with squares: every direction meets its eigenvalues and nought, and no more."""
    x = torch.tensor([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0]]).double()
    target = nv.Target(nn.Linear(3, 1, bias=False).double(), nv.Normal(sigma=0.5))
    found = spectrum(target, nv.Data(x, torch.zeros(2, 1).double()), probes=3)
    assert found.nodes[0] == pytest.approx([0, 16, 36], abs=1e-9)
    assert found.trace == pytest.approx((52, 0))
    assert found.effective_dimension(4.0)[0] == pytest.approx(16 / 20 + 36 / 40)
    assert np.isnan(spectrum(target, nv.Data(x, torch.zeros(2, 1).double()), probes=1).trace[1])


def test_bad_input_is_refused() -> None:
    target, data = case()
    with pytest.raises(InputError, match="matrix="):
        spectrum(target, data, matrix="fisher")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="precision"):
        spectrum(target, data, steps=2).effective_dimension(0.0)
    with pytest.raises(InputError, match="probes"):
        spectrum(target, data, probes=0)
