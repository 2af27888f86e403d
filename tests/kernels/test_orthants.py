"""Gaussian orthants against quadrature, closed forms and scipy's integrals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import log_ndtr
from scipy.stats import ks_2samp, multivariate_normal

from novacula.core.errors import InputError
from novacula.kernels import orthant, orthant_draws
from novacula.kernels.orthants.orthant import OrthantMethod

LN10 = math.log(10)
METHODS: tuple[OrthantMethod, ...] = ("ep", "tilting")


def equicorrelated(n: int, rho: float, up: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Covariance, signs with ``up`` of them positive, and log10 of the orthant's probability by quadrature."""
    signs = np.where(np.arange(n) < up, 1.0, -1.0)
    a = math.sqrt(rho / (1 - rho))

    def log_density(u: float | np.ndarray) -> np.ndarray:
        return up * log_ndtr(a * u) + (n - up) * log_ndtr(-a * u) - 0.5 * u * u - 0.5 * math.log(2 * math.pi)

    grid = np.linspace(-8, 8, 20_001)
    middle = grid[log_density(grid).argmax()]
    top = float(log_density(middle))
    area, _ = quad(lambda u: math.exp(float(log_density(u)) - top), -9, 9, points=[middle], limit=500, epsabs=0)
    return np.where(np.eye(n) > 0, 1.0, rho), signs, (top + math.log(area)) / LN10


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "rho", "known"), [(100, 0.95, -31.644), (300, 0.8, -91.751)])
def test_equicorrelated_orthants_of_many_dimensions(method: OrthantMethod, n: int, rho: float, known: float) -> None:
    k, signs, exact = equicorrelated(n, rho, n // 2)
    assert exact == pytest.approx(known, abs=5e-4)
    found = orthant(k, signs, method=method, seed=1, draws=20_000)  # standard error .002 dex: 5 σ, 6e-7
    assert float(found) / LN10 == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("up", [3, 11])
def test_signs_that_are_not_balanced(method: OrthantMethod, up: int) -> None:
    k, signs, exact = equicorrelated(17, 0.4, up)
    found = orthant(k, signs, method=method, seed=0)
    assert float(found) / LN10 == pytest.approx(exact, abs=0.02)  # 5e-3 of expectation propagation
    if method == "tilting":
        assert abs(float(found) / LN10 - exact) < 4.5 * found.stderr / LN10  # 7e-6
        assert found.parts["bound"] > exact * LN10
        assert 0.3 < found.parts["effective"] <= 1


@pytest.mark.parametrize("method", METHODS)
def test_independent_and_two_dimensional_orthants_are_closed_forms(method: OrthantMethod) -> None:
    scales = np.diag([0.5, 3.0, 40.0])
    assert float(orthant(scales, [1, -1, 1], method=method)) == pytest.approx(3 * math.log(0.5), abs=1e-9)
    for rho in (-0.9, 0.2, 0.99):
        exact = math.log(0.25 + math.asin(rho) / (2 * math.pi))
        found = float(orthant(np.array([[4.0, 2 * rho], [2 * rho, 1.0]]), [-1, -1], method=method, seed=3))
        # Expectation propagation counts what two nearly equal coordinates say twice.
        assert found == pytest.approx(exact, abs=0.1 if method == "ep" and rho > 0.9 else 0.02)


def test_the_parts_of_a_product_are_taken_one_by_one() -> None:
    rng = np.random.default_rng(4)
    a, b = (m @ m.T for m in (rng.normal(size=(3, 4)), rng.normal(size=(4, 6))))
    both = np.block([[a, np.zeros((3, 4))], [np.zeros((4, 3)), b]])
    signs = np.array([1, -1, -1, 1, 1, -1, 1])
    whole, first, second = (
        float(orthant(k, s, method="ep")) for k, s in ((both, signs), (a, signs[:3]), (b, signs[3:]))
    )
    assert whole == pytest.approx(first + second, abs=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_small_orthants_are_those_of_scipy(method: OrthantMethod) -> None:
    rng = np.random.default_rng(0)
    for n in (3, 5):
        m = rng.normal(size=(n, n + 2))
        signs = rng.choice([-1, 1], n)
        k = m @ m.T
        turned = signs[:, None] * k * signs
        law = multivariate_normal(mean=np.zeros(n), cov=turned, abseps=1e-8, releps=1e-8, maxpts=10**6)  # type: ignore[arg-type]
        exact = math.log(float(law.cdf(np.zeros(n))))
        found = orthant(k, signs, method=method, seed=2, draws=50_000)
        assert float(found) == pytest.approx(exact, abs=0.03 if method == "ep" else 0.01)


def test_neighbours_of_a_markov_chain_by_quadrature() -> None:
    # AR(1): P(z_1 > 0, …, z_n > 0) by passing the density on along a grid.
    n, rho = 12, -0.6
    k = rho ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    grid, width = np.linspace(0, 10, 2_001, retstep=True)
    weights = np.full(len(grid), width)
    weights[[0, -1]] /= 2
    sd = math.sqrt(1 - rho**2)
    step = np.exp(-0.5 * ((grid[:, None] - rho * grid) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))
    density = np.exp(-0.5 * grid**2) / math.sqrt(2 * math.pi)
    for _ in range(n - 1):
        density = step @ (weights * density)
    exact = math.log(weights @ density)
    found = orthant(k, np.ones(n), seed=0)
    assert abs(float(found) - exact) < 4.5 * found.stderr + 1e-4  # 7e-6


def test_coordinates_that_repeat_count_once_and_contradictions_have_no_probability() -> None:
    k = np.array([[1.0, 0.5, 2.0], [0.5, 1.0, 1.0], [2.0, 1.0, 4.0]])
    assert float(orthant(k, [1, 1, 1], method="ep")) == float(orthant(k[:2, :2], [1, 1], method="ep"))
    never = orthant(torch.tensor(k), torch.tensor([1, 1, -1]))
    assert float(never) == -math.inf
    assert never.kind == "exact"


def test_intervals_of_tilting_cover() -> None:
    k, signs, exact = equicorrelated(20, 0.6, 10)
    hits = 0
    for seed in range(200):
        found = orthant(k, signs, seed=seed, draws=300)
        hits += abs(float(found) - exact * LN10) < 1.96 * found.stderr
    assert 178 <= hits <= 199  # outside with a probability below 1e-3


@pytest.mark.parametrize(
    ("k", "signs", "said"),
    [
        ([[1.0, 2.0], [2.0, 1.0]], [1, 1], "positive definite"),
        ([[1.0, 0.0]], [1], "square"),
        ([[1.0, 0.5], [0.0, 1.0]], [1, 1], "symmetric"),
        ([[1.0, math.nan], [math.nan, 1.0]], [1, 1], "finite"),
        ([[1.0, 0.0], [0.0, 0.0]], [1, 1], "above zero"),
        ([[1.0]], [0], "signs"),
        ([[1.0]], [1, 1], "signs"),
    ],
)
def test_what_is_no_orthant_is_refused(k: list[list[float]], signs: list[int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        orthant(np.array(k), signs)
    with pytest.raises(InputError, match="fewer draws"):
        orthant(np.eye(2), [1, 1], draws=10**13)


def test_draws_of_an_orthant_are_those_that_rejection_keeps() -> None:
    root = np.random.default_rng(3).normal(size=(5, 7))
    k, signs = root @ root.T, np.array([1.0, -1, -1, 1, 1])
    z, estimate = orthant_draws(k, signs, 4_000, seed=2)
    free = np.random.default_rng(4).multivariate_normal(np.zeros(5), k, size=200_000)
    kept = free[(free * signs > 0).all(1)]
    assert len(kept) > 2_000
    assert abs(float(estimate) - math.log(len(kept) / 200_000)) < 5 * math.hypot(estimate.stderr, len(kept) ** -0.5)
    for i in range(5):  # two samples of each coordinate: one p-value of ten is below 1e-5 in one of 10,000 seeds
        assert ks_2samp(z[:, i].numpy(), kept[:, i])[1] > 1e-5
        other = (i + 1) % 5
        assert ks_2samp((z[:, i] / z[:, other]).numpy(), kept[:, i] / kept[:, other])[1] > 1e-5
    with pytest.raises(InputError, match="raise most"):
        orthant_draws(k, signs, 4_000, most=100)
    with pytest.raises(InputError, match="positive definite"):
        orthant_draws(np.ones((2, 2)), [1, 1], 3)
