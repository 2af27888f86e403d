"""Invariant kernels against sums by hand and known processes; extents recovered where the truth is turned.

All is drawn from fixed seeds; no check is one of chance but the recovered extent, whose seed is fixed too.
"""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

import novacula as nv
from novacula.kernels import Invariant, SquaredExponential, process
from novacula.kernels.observed import Classes, Gaussians


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _kernel(length: float = 1.5, amplitude: float = 0.8) -> SquaredExponential:
    return SquaredExponential(*(torch.tensor(math.log(v), dtype=torch.float64) for v in (length, amplitude)))


def _images(n: int) -> torch.Tensor:
    return torch.rand(n, 1, 6, 6, generator=_rng(), dtype=torch.float64)


def test_evidence_and_predictions_are_those_of_scikit_learn() -> None:
    x = torch.randn(12, 2, generator=_rng(), dtype=torch.float64)
    y, new = torch.sin(x.sum(1, keepdim=True)), torch.randn(5, 2, generator=_rng(1), dtype=torch.float64)
    ours = process(_kernel(), (x, y), noise=0.2, steps=0)
    theirs = GaussianProcessRegressor(ConstantKernel(0.64) * RBF(1.5), alpha=0.04, optimizer=None)  # pyright: ignore[reportArgumentType]
    theirs = theirs.fit(x, y[:, 0])
    assert ours.log_evidence == pytest.approx(theirs.log_marginal_likelihood_value_, rel=1e-6)
    mean, sd = theirs.predict(new, return_std=True)
    found, variance = ours.outputs(new)
    torch.testing.assert_close(found[:, 0], torch.from_numpy(mean), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(variance[:, 0].sqrt(), torch.from_numpy(sd), atol=1e-6, rtol=1e-5)


def test_the_average_is_the_one_by_hand() -> None:
    x, y = _images(3), _images(5)[3:]
    turned = nv.Affine(eta=torch.tensor([0.1, 0.0, 0.7, 0.0, 0.0, 0.0]).double())
    kernel = Invariant(_kernel(), turned, copies=4, seed=2)
    left, right = kernel._copies(x, "same").unflatten(0, (3, 4)), kernel._copies(y, "other").unflatten(0, (2, 4))
    for i in range(3):
        for j in range(2):
            torch.testing.assert_close(kernel(x, y)[i, j], _kernel()(left[i], right[j]).mean())
    whole = kernel(x, x)
    torch.testing.assert_close(whole, whole.T)
    assert float(torch.linalg.eigvalsh(whole).min()) > 0


def test_without_extents_the_kernel_is_itself() -> None:
    x = _images(4)
    still = nv.Affine(eta=torch.zeros(6).double())
    torch.testing.assert_close(Invariant(_kernel(), still, copies=3)(x, x), _kernel()(x, x), atol=1e-6, rtol=1e-6)


def test_gradients_of_the_evidence_are_finite_differences() -> None:
    x, mean = _images(5), torch.randn(5, 2, generator=_rng(3), dtype=torch.float64)
    noise = 0.1 + torch.rand(5, 2, generator=_rng(4), dtype=torch.float64)
    start = torch.tensor([0.1, 0.05, 0.3, 0.1, 0.1, 0.02], dtype=torch.float64)
    kernel = Invariant(_kernel(), nv.Affine(eta=start), copies=3)

    def value(eta: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        learnable = {**kernel.learnable(), "eta": eta, "log_length": length}
        return Gaussians(mean, noise).evidence(kernel.with_learnable(learnable)(x, x))

    length = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    # Bilinear interpolation has kinks: few directions of small steps cross one.
    assert torch.autograd.gradcheck(value, (start.clone().requires_grad_(), length), eps=1e-7, atol=1e-4, rtol=1e-3)


def test_the_evidence_of_independent_outputs_is_a_sum() -> None:
    x, mean = _images(4), torch.randn(4, 3, generator=_rng(5), dtype=torch.float64)
    noise = 0.2 + torch.rand(4, 3, generator=_rng(6), dtype=torch.float64)
    k = _kernel()(x, x)
    expected = sum(
        torch.distributions.MultivariateNormal(torch.zeros(4).double(), k + noise[:, c].square().diag()).log_prob(
            mean[:, c]
        )
        for c in range(3)
    )
    torch.testing.assert_close(Gaussians(mean, noise).evidence(k), expected, atol=1e-5, rtol=1e-6)


def test_classes_are_learned() -> None:
    data = nv.load("digits").subset(range(120))
    found = process(_kernel(2.0, 2.0), data.subset(range(100)), steps=30, lr=0.1)
    assert found.log_evidence > found.history[0]
    assert found.log_evidence == pytest.approx(max(found.history), abs=1e-3)
    mean, _ = found.outputs(data.x[100:])
    assert float((mean.argmax(1) == data.y[100:]).double().mean()) > 0.7
    with pytest.raises(nv.InputError, match="measurements or classes"):
        process(_kernel(), (data.x[:4], torch.eye(4, 3).long() + torch.eye(4, 3).long().flip(1) > 0))
    with pytest.raises(nv.InputError, match="copies"):
        Invariant(_kernel(), nv.Affine(), copies=0)


def test_laplace_of_classes_is_the_one_of_the_whole_matrix() -> None:
    # Newton's mode by a plain optimiser, and the determinant of the N·C matrix by itself.
    x, c = torch.randn(7, 2, generator=_rng(2), dtype=torch.float64), 3
    y = torch.softmax(2 * torch.randn(7, c, generator=_rng(3), dtype=torch.float64), 1)
    y[:4] = torch.eye(c).double()[[0, 1, 2, 0]]
    k = _kernel(1.2, 1.5)(x, x) + 0.05 * torch.eye(7).double()
    f = torch.zeros(7, c).double().requires_grad_()
    whole = torch.block_diag(*[k] * c)  # class by class

    def density(f: torch.Tensor) -> torch.Tensor:
        flat = f.T.flatten()
        return (y * f.log_softmax(1)).sum() - 0.5 * flat @ torch.linalg.solve(whole, flat)

    tight = {"tolerance_grad": 1e-12, "tolerance_change": 1e-16}
    search = torch.optim.LBFGS([f], max_iter=500, line_search_fn="strong_wolfe", **tight)

    def closure() -> torch.Tensor:
        search.zero_grad()
        loss = -density(f)
        loss.backward()
        return loss

    search.step(closure)
    mode = f.detach()
    torch.testing.assert_close(Classes(y).mode(k)[0], mode, atol=1e-5, rtol=1e-5)
    p = mode.softmax(1)
    pi = torch.cat([p[:, i].diag() for i in range(c)])
    w = p.T.flatten().diag() - pi @ pi.T
    expected = density(mode) - 0.5 * torch.linalg.slogdet(torch.eye(7 * c).double() + whole @ w)[1]
    torch.testing.assert_close(Classes(y).evidence(k), expected, atol=1e-6, rtol=1e-7)
    cross, own = torch.rand(7, 2, generator=_rng(5), dtype=torch.float64) * 0.1, torch.tensor([2.0, 3.0]).double()
    wide = torch.block_diag(*[cross] * c)
    inner = w @ torch.linalg.inv(torch.eye(7 * c).double() + whole @ w)  # (K + W⁻¹)⁻¹, though W has no inverse
    variance = torch.block_diag(*[own.diag()] * c) - wide.T @ inner @ wide
    mean, found = Classes(y).outputs(k, cross, own)
    torch.testing.assert_close(found, variance.diagonal().reshape(c, 2).T, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mean, cross.T @ (y - p), atol=1e-5, rtol=1e-5)


def test_laplace_gradients_are_finite_differences() -> None:
    x, y = torch.randn(6, 2, generator=_rng(4), dtype=torch.float64), torch.eye(3).double()[[0, 1, 2, 2, 1, 1]]

    def value(length: torch.Tensor, amplitude: torch.Tensor) -> torch.Tensor:
        return Classes(y).evidence(SquaredExponential(length, amplitude)(x, x))

    points = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.2, 0.6)]
    assert torch.autograd.gradcheck(value, points, eps=1e-5, atol=1e-6)


def test_laplace_learns_classes() -> None:
    data = nv.load("digits").subset(range(120))
    found = process(_kernel(2.0, 2.0), data.subset(range(80)), classes="laplace", steps=8, lr=0.1)
    assert found.history[0] < found.log_evidence < 0
    mean, variance = found.outputs(data.x[80:])
    assert float((mean.argmax(1) == data.y[80:]).double().mean()) > 0.7
    assert variance.shape == mean.shape
    with pytest.raises(nv.InputError, match="measurements or classes"):
        process(_kernel(), (data.x[:4], torch.eye(4, 3) > 0), classes="laplace")
    with pytest.raises(nv.InputError, match="'dirichlet' or 'laplace'"):
        process(_kernel(), data, classes="ep")  # type: ignore[arg-type]
