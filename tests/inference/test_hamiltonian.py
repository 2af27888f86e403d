"""Hamiltonian kernels and samplers: against naive trajectories, a naive recursive tree, and closed forms."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.special import digamma, polygamma

from novacula.core.errors import InputError, NonFiniteError
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.diagnostics import ess, mcse
from novacula.inference import infer
from novacula.inference.hamiltonian.adaptation import DualAveraging, Schedule, WarmUp, reasonable_step_size
from novacula.inference.hamiltonian.chains import ChainState
from novacula.inference.hamiltonian.hmc import HMC
from novacula.inference.hamiltonian.mass import DiagonalMass, LowRankMass, Mass, diagonal_mass, low_rank_mass, unit_mass
from novacula.inference.hamiltonian.nuts import NUTS
from novacula.inference.hamiltonian.nuts_tree import grow, nuts
from novacula.inference.hamiltonian.trajectory import Place, Transition, energy_at, hmc, leapfrog, normal, place_at
from novacula.inference.method import Info, Start
from novacula.likelihoods import Normal
from novacula.posteriors.draws import Draws
from novacula.priors import Gaussian
from novacula.target import LogDensity, Target
from novacula.target.batch import Batch

F64 = torch.float64
Potential = Callable[[Tensor], tuple[Tensor, Tensor]]


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


# ---------------------------------------------------------------------------- closed forms, with exact draws

MEAN = t(1.0, -2.0, 3.0, 5.0)
ROOT = torch.diag(t(0.1, 1.0, 3.0, 10.0)) @ (
    torch.eye(4, dtype=F64) + 0.3 * torch.randn(4, 4, generator=generator(3), dtype=F64)
)
COVARIANCE = ROOT @ ROOT.T
PRECISION = torch.linalg.inv(COVARIANCE)
SHAPES = t(0.7, 2.0, 9.0)
BEND, WIDE, NARROW = 0.5, 1.5, 0.7


def gaussian(q: Tensor) -> tuple[Tensor, Tensor]:
    g = -(q - MEAN) @ PRECISION
    return 0.5 * ((q - MEAN) * g).sum(1), g


def log_gamma(q: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of gamma variates, each on a scale of its own: skewed to the left."""
    x = q / t(1.0, 5.0, 0.2)
    return (SHAPES * x - x.exp()).sum(1), (SHAPES - x.exp()) / t(1.0, 5.0, 0.2)


def banana(q: Tensor) -> tuple[Tensor, Tensor]:
    x, y = q[:, 0], q[:, 1]
    r = (y - BEND * (x**2 - WIDE**2)) / NARROW**2
    value = -0.5 * (x / WIDE) ** 2 - 0.5 * r**2 * NARROW**2
    return value, torch.stack([-x / WIDE**2 + r * 2 * BEND * x, -r], 1)


def gaussian_draws(n: int, rng: torch.Generator) -> Tensor:
    return MEAN + torch.randn(n, 4, generator=rng, dtype=F64) @ ROOT.T


def log_gamma_draws(n: int, rng: torch.Generator) -> Tensor:
    """Marsaglia and Tsang's method would do; the sum of exponentials and a beta power is simpler for these shapes."""
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**31, (), generator=rng)))
        return torch._standard_gamma(SHAPES.expand(n, 3)).log() * t(1.0, 5.0, 0.2)


def banana_draws(n: int, rng: torch.Generator) -> Tensor:
    z = torch.randn(n, 2, generator=rng, dtype=F64)
    x = WIDE * z[:, 0]
    return torch.stack([x, BEND * (x**2 - WIDE**2) + NARROW * z[:, 1]], 1)


def gaussian_moments(q: Tensor) -> tuple[Tensor, Tensor]:
    """Functions of draws ``(…, 4)`` and their expectations."""
    d = q - MEAN
    products = (d.unsqueeze(-1) * d.unsqueeze(-2)).flatten(-2)
    return torch.cat([q, products], -1), torch.cat([MEAN, COVARIANCE.flatten()])


def log_gamma_moments(q: Tensor) -> tuple[Tensor, Tensor]:
    mean = digamma(SHAPES)
    d = q / t(1.0, 5.0, 0.2) - mean
    expected = [torch.zeros(3, dtype=F64), polygamma(1, SHAPES), polygamma(2, SHAPES)]
    return torch.cat([d, d**2, d**3], -1), torch.cat(expected)


def banana_moments(q: Tensor) -> tuple[Tensor, Tensor]:
    x, y = q[..., 0], q[..., 1]
    expected = t(0, 0, WIDE**2, NARROW**2 + 2 * BEND**2 * WIDE**4, 2 * BEND * WIDE**4, 0)
    return torch.stack([x, y, x**2, y**2, x**2 * y, x * y], -1), expected


Moments = Callable[[Tensor], tuple[Tensor, Tensor]]
# The density, exact draws, moments, the scales of the coordinates, and a step size for these scales.
FORMS: dict[str, tuple[Potential, Callable[..., Tensor], Moments, Tensor, float]] = {
    "gaussian": (gaussian, gaussian_draws, gaussian_moments, COVARIANCE.diagonal().sqrt(), 0.2),
    "log gamma": (log_gamma, log_gamma_draws, log_gamma_moments, t(1.5, 4.0, 0.07), 0.5),
    "banana": (banana, banana_draws, banana_moments, t(1.5, 1.8), 0.25),
}


def some_low_rank(p: int) -> LowRankMass:
    scale = torch.linspace(0.5, 2.0, p, dtype=F64)
    u = torch.linalg.qr(torch.randn(p, 2, generator=generator(8), dtype=F64)).Q
    return LowRankMass(scale, torch.cat([u, torch.zeros(p, 1, dtype=F64)], 1), t(6.0, 0.2, 1.0))


def dense(mass: Mass, p: int) -> Tensor:
    """L, from the definition of each mass."""
    if isinstance(mass, DiagonalMass):
        return torch.diag(mass.scale)
    root = torch.diag(mass.variances.sqrt() - 1)
    return torch.diag(mass.scale) @ (torch.eye(p, dtype=F64) + mass.directions @ root @ mass.directions.T)


# ---------------------------------------------------------------------------- masses


@pytest.mark.parametrize("mass", [DiagonalMass(t(0.5, 2.0, 3.0, 0.1)), some_low_rank(4)])
def test_a_mass_moves_by_its_factor(mass: Mass) -> None:
    rng = generator(1)
    q, z, g = (torch.randn(3, 4, generator=rng, dtype=F64) for _ in range(3))
    step_size, factor = t(0.1, -0.7, 2.0), dense(mass, 4)
    stepper = mass.stepper(step_size)
    moved = q.clone()
    stepper.drift_(moved, z)
    torch.testing.assert_close(moved, q + step_size[:, None] * (z @ factor.T))
    torch.testing.assert_close(stepper.force(g), step_size[:, None] * (g @ factor))
    if isinstance(mass, LowRankMass):
        middle = mass.directions @ torch.diag(mass.variances - 1) @ mass.directions.T
        root = torch.diag(mass.scale)
        inverse = root @ (torch.eye(4, dtype=F64) + middle) @ root
        torch.testing.assert_close(factor @ factor.T, inverse)


def test_variances_are_shrunk_as_stan_does() -> None:
    mass = diagonal_mass(t(4.0, 1e-8), 20)
    torch.testing.assert_close(mass.scale**2, t((20 * 4 + 5e-3) / 25, (20e-8 + 5e-3) / 25))


def test_low_rank_mass_finds_planted_directions_and_no_others() -> None:
    """Directions with entries of one size, so that standardising keeps them: variances to 12 %, sds to 8 %.

    A variance from 6,000 draws has a standard error of 1.8 %, the median of 16 a little more. With more weights than
    draws and nothing planted, no direction is kept: the variance along one from the other half has a standard error of
    √(2/100), so 2 lies 7 of them away (false-alarm rate of all below 1e-5).
    """
    rng, p = generator(2), 16
    hadamard = torch.ones(1, 1, dtype=F64)
    for _ in range(4):
        hadamard = torch.cat([torch.cat([hadamard, hadamard], 1), torch.cat([hadamard, -hadamard], 1)])
    u, planted = hadamard[:, [3, 6, 13]] / 4, t(9.0, 1 / 25, 1 / 16)
    root = torch.eye(p, dtype=F64) + u @ torch.diag(planted.sqrt() - 1) @ u.T
    scale = torch.linspace(0.1, 10, p, dtype=F64)
    x = torch.randn(3, 4000, p, generator=rng, dtype=F64) @ root * scale + torch.arange(3.0)[:, None, None] * 50
    variance = x.var(1).mean(0)
    mass = low_rank_mass(x, variance, 12000, rank=5)
    torch.testing.assert_close(mass.variances[:3], planted[[1, 2, 0]], rtol=0.12, atol=0)
    torch.testing.assert_close(mass.variances[3:], torch.ones(2, dtype=F64))
    assert float((mass.directions[:, :3] * u[:, [1, 2, 0]]).sum(0).abs().min()) > 0.98
    assert float(mass.directions[:, 3:].abs().max()) == 0
    torch.testing.assert_close(mass.scale, scale, rtol=0.08, atol=0)
    fewer = low_rank_mass(x, variance, 12000, rank=2)
    torch.testing.assert_close(fewer.variances, mass.variances[:2])

    noise = torch.randn(4, 50, 300, generator=rng, dtype=F64)
    nothing = low_rank_mass(noise, noise.flatten(0, 1).var(0), 200, rank=5)
    torch.testing.assert_close(nothing.variances, torch.ones(5, dtype=F64))
    assert float(nothing.directions.abs().max()) == 0
    still = low_rank_mass(torch.ones(2, 20, 3, dtype=F64), torch.zeros(3, dtype=F64), 40, rank=2)
    assert float(still.scale.min()) > 0
    torch.testing.assert_close(still.variances, torch.ones(2, dtype=F64))


# ---------------------------------------------------------------------------- trajectories


def start_at(potential: Potential, q: Tensor, seed: int = 0) -> tuple[Place, Tensor]:
    return place_at(potential, q), normal(q, generator(seed, "momentum"))


@pytest.mark.parametrize("mass", [unit_mass(torch.zeros(1, 2, dtype=F64)), some_low_rank(2)])
def test_leapfrog_is_the_naive_one(mass: Mass) -> None:
    """Three chains with steps of their own, one of them backwards, step by step in the momenta of the textbook."""
    place, z = start_at(banana, banana_draws(3, generator(5)))
    step_size, factor = t(0.1, 0.25, -0.17), dense(mass, 2)
    end, end_z = leapfrog(banana, place, z, step_size, mass, 7)
    for i in range(3):
        q, p, eps = place.position[i].clone(), torch.linalg.solve(factor.T, z[i]), step_size[i]
        for _ in range(7):
            p = p + eps / 2 * banana(q[None])[1][0]
            q = q + eps * factor @ factor.T @ p
            p = p + eps / 2 * banana(q[None])[1][0]
        torch.testing.assert_close(end.position[i], q)
        torch.testing.assert_close(end_z[i], factor.T @ p)
        torch.testing.assert_close(end.log_density[i], banana(q[None])[0][0])
        torch.testing.assert_close(end.gradient[i], banana(q[None])[1][0])


def test_leapfrog_is_reversible_and_keeps_volume() -> None:
    """Back by negative steps to rounding; the determinant by central differences, each point a chain of its own."""
    mass = some_low_rank(2)
    place, z = start_at(banana, t(1.2, -0.4)[None])
    end, end_z = leapfrog(banana, place, z, t(0.2), mass, 11)
    back, back_z = leapfrog(banana, end, end_z, t(-0.2), mass, 11)
    torch.testing.assert_close(back.position, place.position, rtol=0, atol=1e-12)
    torch.testing.assert_close(back_z, z, rtol=0, atol=1e-12)
    nudges = torch.cat([torch.eye(4, dtype=F64), -torch.eye(4, dtype=F64)]) * 1e-5
    both = torch.cat([place.position, z], 1) + nudges
    moved, moved_z = leapfrog(banana, place_at(banana, both[:, :2]), both[:, 2:], t(*[0.2] * 8), mass, 11)
    images = torch.cat([moved.position, moved_z], 1)
    jacobian = (images[:4] - images[4:]) / 2e-5
    assert float(torch.linalg.det(jacobian)) == pytest.approx(1, abs=1e-6)
    assert float((jacobian - torch.eye(4, dtype=F64)).abs().max()) > 0.5


def test_energy_error_is_of_second_order() -> None:
    place, z = start_at(banana, banana_draws(6, generator(6)))
    errors = []
    for steps in (40, 80, 160):
        end, end_z = leapfrog(banana, place, z, torch.full((6,), 1.0 / steps, dtype=F64), some_low_rank(2), steps)
        errors.append(energy_at(end, end_z) - energy_at(place, z))
    for ratio in (errors[0] / errors[1], errors[1] / errors[2]):
        assert float((ratio - 4).abs().max()) < 0.2


def walled(rows: list[Tensor]) -> Potential:
    """A Gaussian that does not exist below −1, and a record of where it was asked."""

    def potential(q: Tensor) -> tuple[Tensor, Tensor]:
        assert torch.isfinite(q).all()
        rows.append(q.clone())
        inside = q[:, 0] > -1
        nan = torch.full_like(q, math.nan)
        value = torch.where(inside, -0.5 * q.square().sum(1), torch.where(q[:, 0] > -2, -math.inf, math.nan))
        return value, torch.where(inside[:, None], -q, nan)

    return potential


@pytest.mark.parametrize("kernel", ["hmc", "nuts"])
def test_no_density_is_a_divergence_and_is_not_asked_about_again(kernel: str) -> None:
    """Chains that run into the wall are dropped from the rows, and stay where a density is."""
    rows: list[Tensor] = []
    potential = walled(rows)
    q = torch.rand(40, 3, generator=generator(7), dtype=F64)
    place = place_at(potential, q)
    rows.clear()
    step_size, mass, rng = torch.full((40,), 0.4, dtype=F64), unit_mass(q), generator(9)
    if kernel == "hmc":
        done = hmc(potential, place, step_size, mass, rng, leapfrogs=6)
        assert torch.equal(done.place.position[done.divergent], q[done.divergent])
        torch.testing.assert_close(done.accept[done.divergent], torch.zeros(int(done.divergent.sum()), dtype=F64))
    else:
        done = nuts(potential, place, step_size, mass, rng)
    assert 5 < int(done.divergent.sum()) < 35
    outside = [r[r[:, 0] <= -1] for r in rows]
    assert sum(len(r) for r in outside) == int(done.divergent.sum())
    assert torch.isfinite(done.place.log_density).all()
    assert torch.isfinite(done.place.gradient).all()
    assert (done.place.position[:, 0] > -1).all()
    gone = hmc(potential, place, torch.full((40,), 50.0, dtype=F64), mass, generator(1), leapfrogs=3)
    assert torch.isfinite(gone.place.position).all()


# ---------------------------------------------------------------------------- the tree


@dataclasses.dataclass
class Naive:
    """What a recursive tree came to; leaves are known by their place in time, 0 at the start."""

    depth: int
    diverged: bool
    drawn: int
    chances: dict[int, float]  # of leaves to be drawn


@dataclasses.dataclass
class Leaves:
    """One chain's leaves on both sides of the start, one leapfrog step apart."""

    q: dict[int, np.ndarray]
    z: dict[int, np.ndarray]
    energy: dict[int, float]


def paths(potential: Potential, place: Place, z: Tensor, step_size: Tensor, mass: Mass, reach: int) -> list[Leaves]:
    at, found = {0: (place, z)}, [Leaves({}, {}, {}) for _ in z]
    for way in (1, -1):
        for k in range(1, reach + 1):
            here, momentum = at[way * (k - 1)]
            at[way * k] = leapfrog(potential, here, momentum, way * step_size, mass, 1)
    for k, (here, momentum) in at.items():
        for i, (energy, path) in enumerate(zip(energy_at(here, momentum).tolist(), found, strict=True)):
            path.q[k], path.z[k], path.energy[k] = here.position[i].numpy(), momentum[i].numpy(), energy
    return found


def turned(zs: list[np.ndarray]) -> bool:
    rho = sum(zs)
    return not (rho @ zs[0] > 0 and rho @ zs[-1] > 0)


def turned_at_the_seam(left: list[np.ndarray], right: list[np.ndarray], extra: bool) -> bool:
    return turned(left + right) or (extra and (turned([*left, right[0]]) or turned([left[-1], *right])))


def invalid(zs: list[np.ndarray], extra: bool) -> bool:
    if len(zs) == 1:
        return False
    left, right = zs[: len(zs) // 2], zs[len(zs) // 2 :]
    return invalid(left, extra) or invalid(right, extra) or turned_at_the_seam(left, right, extra)


def naive_tree(path: Leaves, u: list[list[float]], *, extra: bool = True) -> Naive:
    """The recursion over explicit lists, with the uniform numbers of each doubling, and the chances of all draws.

    Without ``extra``, halves are not looked at together with the first point of the other half.
    """
    first = last = drawn = 0
    total, chances = 1.0, {0: 1.0}
    for depth, numbers in enumerate(u):
        forwards = numbers[0] < 0.5
        new = [last + 1 + k if forwards else first - 1 - k for k in range(2**depth)]
        gains = [path.energy[k] - path.energy[0] for k in new]
        for k in range(len(new)):
            if not gains[k] > -1000:
                return Naive(depth, True, drawn, chances)
            # Later leaves are not seen where a stretch turned before them.
            if any(invalid([path.z[i] for i in sorted(part)], extra) for part in complete(new[: k + 1])):
                return Naive(depth, False, drawn, chances)
        weights = [math.exp(gain) for gain in gains]
        pick, so_far = new[0], 0.0
        for leaf, weight, number in zip(new, weights, numbers[2:], strict=True):
            so_far += weight
            if number * so_far < weight:
                pick = leaf
        share = min(1.0, so_far / total)
        if numbers[1] < share:
            drawn = pick
        chances = {i: p * (1 - share) for i, p in chances.items()}
        chances |= {leaf: share * weight / so_far if share else 0.0 for leaf, weight in zip(new, weights, strict=True)}
        total += so_far
        old, both = list(range(first, last + 1)), sorted(new)
        first, last = min(first, new[-1]), max(last, new[-1])
        halves = [[path.z[i] for i in part] for part in ((old, both) if forwards else (both, old))]
        if turned_at_the_seam(*halves, extra):
            return Naive(depth + 1, False, drawn, chances)
    return Naive(len(u), False, drawn, chances)


def complete(leaves: list[int]) -> list[list[int]]:
    """The stretches of two, four, … leaves that the last one closes."""
    n, found, size = len(leaves), [], 2
    while n % size == 0:
        found.append(leaves[n - size :])
        size *= 2
    return found


SPRINGS = t(1.0, 0.1, 0.12)


def springs(q: Tensor) -> tuple[Tensor, Tensor]:
    """One soft and two stiff springs: stretches turn in all ways they can."""
    return -0.5 * (q / SPRINGS).square().sum(1), -q / SPRINGS**2


TREES = {
    "banana": (banana, banana_draws(200, generator(11)), unit_mass(torch.zeros(1, 2, dtype=F64)), (0.01, 4.0)),
    "banana, low rank": (banana, banana_draws(100, generator(12)), some_low_rank(2), (0.01, 4.0)),
    "springs": (
        springs,
        torch.randn(300, 3, generator=generator(13), dtype=F64) * SPRINGS,
        unit_mass(torch.zeros(1, 3, dtype=F64)),
        (0.05, 0.2),
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_the_iterative_tree_is_the_recursive_one(name: str) -> None:
    """Step sizes from tiny to divergent, the same momenta and uniform numbers: same depth, divergence and leaf.

    A half that is seen to turn with the first point of the next is given up at once, so that a divergence which would
    have come later is not met: a few chains that the recursion calls divergent are not.
    """
    potential, q, mass, (low, high) = TREES[name]
    m, max_depth = len(q), 5
    place, z = start_at(potential, q, 12)
    step_size = torch.logspace(math.log10(low), math.log10(high), m, dtype=F64)
    numbers = [torch.rand(m, 2**d + 2, generator=generator(13, d), dtype=F64) for d in range(max_depth)]
    done = grow(potential, place, step_size, mass, z, lambda d: numbers[d], max_depth=max_depth)
    decisive = unmet = 0
    for i, path in enumerate(paths(potential, place, z, step_size, mass, 2**max_depth - 1)):
        u = [n[i].tolist() for n in numbers]
        naive = naive_tree(path, u)
        assert naive.depth == int(done.depth[i])
        assert naive.diverged or not done.divergent[i]
        unmet += naive.diverged and not done.divergent[i]
        torch.testing.assert_close(done.place.position[i], torch.from_numpy(path.q[naive.drawn]), rtol=1e-9, atol=1e-9)
        decisive += naive.depth != naive_tree(path, u, extra=False).depth
    torch.testing.assert_close(done.place.log_density, potential(done.place.position)[0])
    torch.testing.assert_close(done.place.gradient, potential(done.place.position)[1])
    assert (done.leapfrogs[done.depth == max_depth] == 2**max_depth - 1).all()
    assert unmet < 0.05 * m
    if name == "springs":
        assert decisive > 10
    else:
        assert set(done.depth.tolist()) == set(range(max_depth + 1))
        assert done.divergent.any()


def test_leaves_are_drawn_with_their_probabilities() -> None:
    """6,000 chains of one trajectory of 15 steps: a chi-square of at most 16 leaves below its 1e-5 quantile (50)."""
    m, depth = 6000, 4
    place, z = start_at(banana, t(1.0, 0.3)[None].expand(m, 2).contiguous())
    z = z[:1].expand(m, 2).contiguous()
    numbers = [torch.rand(m, 2**d + 2, generator=generator(15, d), dtype=F64) for d in range(depth)]
    for d, number in enumerate((0.1, 0.9, 0.2, 0.8)):
        numbers[d][:, 0] = number
    mass = unit_mass(place.position)
    done = grow(banana, place, t(*[0.05] * m), mass, z, lambda d: numbers[d], max_depth=depth)
    assert (done.depth == depth).all()
    start = place_at(banana, place.position[:1])
    path = paths(banana, start, z[:1], t(0.05), mass, 2**depth - 1)[0]
    naive = naive_tree(path, [n[0].tolist() for n in numbers])
    assert sum(naive.chances.values()) == pytest.approx(1)
    statistic = 0.0
    for k, p in naive.chances.items():
        here = torch.from_numpy(path.q[k])
        count = int(((done.place.position - here).abs().amax(1) < 1e-9).sum())
        statistic += (count - m * p) ** 2 / (m * p) if p > 0 else float(count)
    assert statistic < 50


def test_chains_in_lockstep_are_the_chains_alone() -> None:
    m = 9
    place, z = start_at(log_gamma, log_gamma_draws(m, generator(16)), 17)
    mass, step_size = DiagonalMass(t(1.0, 5.0, 0.2)), torch.linspace(0.05, 0.9, m, dtype=F64)
    numbers = [torch.rand(m, 2**d + 2, generator=generator(18, d), dtype=F64) for d in range(8)]
    together = grow(log_gamma, place, step_size, mass, z, lambda d: numbers[d], max_depth=8)
    for i in range(m):
        one = slice(i, i + 1)
        own = Place(place.position[one], place.log_density[one], place.gradient[one])
        alone = grow(log_gamma, own, step_size[one], mass, z[one], lambda d, one=one: numbers[d][one], max_depth=8)
        for a, b in zip(
            (alone.place.position, alone.accept, alone.depth, alone.leapfrogs),
            (together.place.position, together.accept, together.depth, together.leapfrogs),
            strict=True,
        ):
            torch.testing.assert_close(a, b[one], rtol=1e-10, atol=1e-12)
    assert len(set(together.depth.tolist())) > 2


# ---------------------------------------------------------------------------- invariance, from exact draws


def kernels(scale: Tensor, size: float) -> dict[str, Callable[[Potential, Place, torch.Generator], Transition]]:
    def steps(place: Place, factor: float) -> Tensor:
        return torch.full_like(place.log_density, factor * size)

    diagonal = DiagonalMass(scale)
    u = torch.linalg.qr(torch.randn(len(scale), 1, generator=generator(19), dtype=F64)).Q
    low = LowRankMass(scale, u, t(3.0))
    return {
        "hmc": lambda f, at, rng: hmc(f, at, steps(at, 1), diagonal, rng, leapfrogs=10, jitter=0.3),
        "hmc, low rank": lambda f, at, rng: hmc(f, at, steps(at, 0.7), low, rng, leapfrogs=10),
        "nuts": lambda f, at, rng: nuts(f, at, steps(at, 1), diagonal, rng, max_depth=6),
        "nuts, low rank": lambda f, at, rng: nuts(f, at, steps(at, 0.7), low, rng, max_depth=6),
        "nuts, three doublings": lambda f, at, rng: nuts(f, at, steps(at, 0.8), diagonal, rng, max_depth=3),
    }


@pytest.mark.parametrize("kernel", ["hmc", "hmc, low rank", "nuts", "nuts, low rank", "nuts, three doublings"])
@pytest.mark.parametrize("form", FORMS)
def test_transitions_leave_the_posterior_as_it_is(form: str, kernel: str) -> None:
    """3,000 chains start from exact draws; after two transitions they are still independent exact draws.

    All moments within 4.5 standard errors: 20 at most for each of 15 cases; the false-alarm rate of all is below 2e-3
    for normal errors. Chains must have moved, on average by .4 sd.
    """
    potential, draws, moments, scale, size = FORMS[form]
    rng = generator(20, form, kernel)
    q = draws(3000, rng)
    place = place_at(potential, q)
    for _ in range(2):
        place = kernels(scale, size)[kernel](potential, place, rng).place
    values, expected = moments(place.position)
    z = (values.mean(0) - expected) / (values.std(0) / math.sqrt(len(values)))
    assert float(z.abs().max()) < 4.5
    assert float(((place.position - q).abs().mean(0) / q.std(0)).min()) > 0.4


# ---------------------------------------------------------------------------- adaptation


def test_schedule_is_stans_and_fits_any_length() -> None:
    assert Schedule.of(1000) == Schedule(1000, 75, (100, 150, 250, 450, 950))
    assert Schedule.of(2000).ends == (100, 150, 250, 450, 850, 1950)
    assert Schedule.of(100) == Schedule(100, 15, (80,))
    assert Schedule.of(49).ends == ()
    for warmup in range(700):
        s = Schedule.of(warmup)
        steps = [s.window(i) for i in range(warmup)]
        inside = [i for i, w in enumerate(steps) if w is not None]
        assert inside == (list(range(s.start, s.ends[-1])) if s.ends else [])
        assert all(b - a >= 12 for a, b in {w for w in steps if w is not None})
        assert s.longest == max([b - a for a, b in {w for w in steps if w is not None}], default=0)
        assert not s.ends or 20 <= warmup - s.ends[-1] <= 50


def test_dual_averaging_reaches_the_acceptance_wanted() -> None:
    """Acceptance exp(−(ε/s)²) plus noise of sd .1, s over four decades: within .03 of .8 and of .6 after 600 updates.

    The average over the last updates has a standard error below .01.
    """
    scale, rng = t(0.01, 0.3, 2.0, 100.0), generator(21)
    for target in (0.8, 0.6):
        state = DualAveraging.of(torch.ones(4, dtype=F64))
        for _ in range(600):
            met = torch.exp(-((state.log_step.exp() / scale) ** 2))
            noisy = (met + 0.1 * torch.randn(4, generator=rng, dtype=F64)).clamp(0, 1)
            state = state.updated(noisy, target)
        reached = torch.exp(-((state.log_average.exp() / scale) ** 2))
        assert float((reached - target).abs().max()) < 0.03


def test_first_step_sizes_follow_the_scale() -> None:
    """A one-step acceptance near .8, by definition within a factor of two, wherever the search begins."""
    scale = t(1e-3, 1.0, 400.0)

    def potential(q: Tensor) -> tuple[Tensor, Tensor]:
        s = scale[: len(q), None] if len(q) == 3 else current
        return -0.5 * (q / s).square().sum(1), -q / s**2

    for i in range(3):
        current = scale[i : i + 1, None]
        place = place_at(potential, current * torch.ones(1, 5, dtype=F64))
        for begin in (1e-4, 30.0):
            step_size = reasonable_step_size(potential, place, unit_mass(place.position), t(begin), generator(22, i))
            assert 0.1 < float(step_size / scale[i]) < 4
    flat = place_at(lambda q: (torch.zeros(len(q), dtype=F64), torch.zeros_like(q)), torch.ones(2, 3, dtype=F64))
    with pytest.raises(InputError, match="no step size for 2 of 2 chains"):
        reasonable_step_size(
            lambda q: (torch.zeros(len(q), dtype=F64), torch.zeros_like(q)),
            flat,
            unit_mass(flat.position),
            torch.ones(2, dtype=F64),
            generator(0),
        )


@pytest.mark.parametrize("kind", ["diagonal", "low_rank"])
def test_warm_up_learns_scales_within_chains(kind: str) -> None:
    """Windows are fed independent draws of chains in modes of their own: scales to 15 %.

    That is 4.2 standard errors of the last window's 400 draws: the false-alarm rate of all 8 is below 3e-4.
    """
    scale = t(0.1, 1.0, 3.0, 10.0)
    warm_up = WarmUp(Schedule.of(300), kind, 2, 0.8)  # type: ignore[arg-type]
    rng = generator(23)

    def potential(q: Tensor) -> tuple[Tensor, Tensor]:
        d = q - 200 * (q / 200).round()  # a mode at every multiple of 200
        return -0.5 * (d / scale).square().sum(1), -d / scale**2

    centre = 200 * torch.arange(4.0, dtype=F64)[:, None]
    now = warm_up.begin(potential, place_at(potential, centre + torch.ones(4, 4, dtype=F64)), rng)
    for step in range(300):
        before = now
        q = centre + scale * torch.randn(4, 4, generator=rng, dtype=F64)
        now = warm_up.next(now, step, potential, place_at(potential, q), torch.full((4,), 0.8), rng)
        if step + 1 in warm_up.schedule.ends:
            assert now.mass is not before.mass
            assert now.count == 0
    assert isinstance(now.mass, LowRankMass if kind == "low_rank" else DiagonalMass)
    torch.testing.assert_close(now.mass.scale, scale, rtol=0.15, atol=0)
    torch.testing.assert_close(now.step_size, now.averaging.log_average.exp())
    assert warm_up.next(now, 300, potential, place_at(potential, centre + 0 * scale), t(*[0.0] * 4), rng) is now


# ---------------------------------------------------------------------------- the methods


def density_of(potential: Potential, p: int) -> LogDensity:
    return LogDensity(lambda w: potential(w["w"][None])[0][0], {"w": torch.zeros(p, dtype=F64)})


def drive(
    method: NUTS | HMC, potential: Potential, p: int, steps: int, *, chains: int = 4, seed: int = 3
) -> tuple[Draws, list[Info], ChainState]:
    """What the loop does, with the closed form's own gradient in the place of the recorded one, which is slower."""
    start = Start({"w": torch.rand(chains, p, generator=generator(seed, "start"), dtype=F64)}, steps)
    target = density_of(potential, p)
    state = method.init(target, None, generator(seed, "init"), start)
    state, infos = dataclasses.replace(state, potential=potential), []  # type: ignore[arg-type]
    nothing = torch.zeros(0)
    for step in range(steps):
        state, info = method.step(target, state, Batch(nothing, nothing, 1, step, steps), generator(seed, step))
        infos.append(info)
    return method.posterior(target, state), infos, state


@pytest.mark.parametrize(
    ("form", "method"),
    [
        ("gaussian", NUTS(warmup=149, max_depth=6)),
        ("gaussian", NUTS(warmup=149, mass="low_rank", rank=2, max_depth=6)),
        ("log gamma", NUTS(warmup=149, max_depth=6)),
        ("log gamma", HMC(leapfrogs=6)),
        ("banana", NUTS(target_accept=0.95)),
        ("banana", HMC(leapfrogs=8, target_accept=0.95, mass="unit")),
    ],
)
def test_samplers_find_the_moments(form: str, method: NUTS | HMC) -> None:
    """Every moment within 5 Monte-Carlo standard errors of the closed form.

    There are up to 20 a case, 84 in all: the false-alarm rate would be 5e-5 for normal errors. Those of third moments
    are skewed and their standard errors uncertain; 1e-2 is a safe bound.
    """
    potential, _, moments, scale, _ = FORMS[form]
    post, _, _ = drive(method, potential, len(scale), 600 if form == "banana" else 400)
    values, expected = moments(post.flat.transpose(0, 1))
    z = (values.mean((0, 1)) - expected) / mcse(values)
    assert float(z.abs().max()) < 5
    d = post.diagnostics
    assert d.max_rhat < 1.05
    assert d.min_ess > 90
    assert method.target_accept - 0.1 < d.stats["accept"] < 0.99


def test_low_rank_mass_takes_fewer_leapfrogs_a_draw() -> None:
    """One direction of sd 30 that no coordinate follows: at most a third of the leapfrogs for an effective draw.

    Seen: a fiftieth.
    """
    p = 12
    u = torch.ones(p, dtype=F64) / math.sqrt(p)

    def potential(q: Tensor) -> tuple[Tensor, Tensor]:
        g = -q + (1 - 1 / 900) * (q @ u)[:, None] * u
        return 0.5 * (q * g).sum(1), g

    cost = {}
    for mass in ("diagonal", "low_rank"):
        post, _, _ = drive(NUTS(mass=mass, rank=3, max_depth=6), potential, p, 240)  # type: ignore[arg-type]
        values = torch.cat([post.flat, (post.flat @ u)[..., None]], -1).transpose(0, 1)
        cost[mass] = post.diagnostics.stats["leapfrogs"] * 480 / float(ess(values).min())
        z = (values.mean((0, 1)) / mcse(values)).abs().max()
        assert float(z) < 4.5  # 13 of them, twice: false-alarm rate below 1e-3
    assert cost["low_rank"] < cost["diagonal"] / 3


def test_a_funnel_is_found_out() -> None:
    """Neal's funnel in 5 dimensions: divergences are counted, and warned of with what to try."""

    def funnel(q: Tensor) -> tuple[Tensor, Tensor]:
        v, x = q[:, :1], q[:, 1:]
        inner = x * (-v).exp()
        value = -(v.square() / 18).sum(1) - 0.5 * (x * inner).sum(1) - 2 * v[:, 0]
        return value, torch.cat([-v / 9 + 0.5 * (x * inner).sum(1, keepdim=True) - 2, -inner], 1)

    post, infos, state = drive(NUTS(target_accept=0.6, max_depth=6), funnel, 5, 200)
    count = int(state.tally.divergences.sum())
    assert count > 1
    assert post.diagnostics.stats["divergences"] == count
    assert infos[-1].metrics["divergences"] == count
    assert any(f"{count} of 400 transitions" in w and "target_accept" in w for w in post.warnings)


def test_trajectories_that_may_not_grow_and_steps_that_are_too_large_are_warned_of() -> None:
    wide = lambda q: (-0.5 * (q / 50).square().sum(1), -q / 2500)  # noqa: E731
    post, infos, _ = drive(NUTS(max_depth=2, mass="unit", warmup=10), wide, 3, 30)
    assert any("reached max_depth=2" in w for w in post.warnings)
    assert infos[-1].metrics["depth"] == 2
    post, infos, _ = drive(HMC(step_size=1.9, warmup=0, leapfrogs=3, jitter=0), gaussian, 4, 20)
    assert any("far below target_accept=0.8" in w and "smaller step_size" in w for w in post.warnings)
    assert all(info.metrics["step_size"] == pytest.approx(1.9) for info in infos)
    post, _, _ = drive(NUTS(warmup=100), lambda q: (-0.5 * q.square().sum(1), -q), 3, 400)
    assert post.reservations == ()


def test_a_step_reports_where_the_chains_stand() -> None:
    post, infos, state = drive(HMC(warmup=30, leapfrogs=3, keep=5), log_gamma, 3, 50)
    assert post.flat.shape == (5, 4, 3)
    torch.testing.assert_close(state.place.log_density, log_gamma(state.place.position)[0])
    assert infos[-1].loss == pytest.approx(-float(state.place.log_density.mean()))
    assert set(infos[-1].metrics) == {"accept", "step_size", "leapfrogs", "divergences"}
    torch.testing.assert_close(post.flat[-1], state.place.position)
    torch.testing.assert_close(post.log_density[-1], state.place.log_density)


# ---------------------------------------------------------------------------- through `infer`


@pytest.mark.parametrize("method", [NUTS(mass="low_rank", rank=2), HMC(leapfrogs=3)])
def test_an_interrupted_run_ends_as_an_unbroken_one(method: NUTS | HMC, tmp_path: Path) -> None:
    def log_density(w: dict[str, Tensor]) -> Tensor:
        return -0.5 * ((w["a"] - 1).square().sum() + (w["b"] / torch.tensor([[0.3, 2.0]])).square().sum())

    init = {"a": torch.zeros(()), "b": torch.ones(1, 2)}

    def go(**more: Any) -> Draws:
        post = infer(method, log_density, init=init, steps=120, chains=2, seed=5, **more)
        assert isinstance(post, Draws)
        return post

    def stop(done: int, of: int, record: dict[str, float]) -> None:
        if record["step"] == 82:
            raise KeyboardInterrupt

    whole = go()
    with pytest.raises(KeyboardInterrupt):
        go(checkpoint=tmp_path / "c", progress=stop)
    resumed = go(checkpoint=tmp_path / "c", resume=True)
    assert whole.flat.dtype == torch.float32
    assert torch.equal(whole.flat, resumed.flat)
    assert torch.equal(whole.log_density, resumed.log_density)
    assert whole.diagnostics.stats == resumed.diagnostics.stats


def test_a_network_is_sampled() -> None:
    """Linear regression with known noise: mean and covariance of the weights against the closed form (|z| < 4.5)."""
    rng = generator(30)
    x = torch.randn(25, 3, generator=rng, dtype=F64)
    y = x @ t(1.0, -2.0, 0.5)[:, None] + 0.4 * torch.randn(25, 1, generator=rng, dtype=F64)
    net = torch.nn.Linear(3, 1).double()
    target = Target(net, Normal(sigma=0.4), Gaussian(log_precision=torch.tensor(0.5, dtype=F64)))
    post = infer(NUTS(), target, Data(x, y), steps=500, chains=2, seed=6)
    assert isinstance(post, Draws)
    design = torch.cat([x, torch.ones(25, 1, dtype=F64)], 1)
    covariance = torch.linalg.inv(design.T @ design / 0.16 + math.exp(0.5) * torch.eye(4, dtype=F64))
    mean = covariance @ design.T @ y[:, 0] / 0.16
    d = post.flat.transpose(0, 1) - mean
    values = torch.cat([d, (d.unsqueeze(-1) * d.unsqueeze(-2) - covariance).flatten(-2)], -1)
    assert float((values.mean((0, 1)) / mcse(values)).abs().max()) < 4.5
    assert post.warnings == ()
    assert post.diagnostics.names[-1] == "log_density"


def test_a_start_without_density_is_refused() -> None:
    start = Start({"a": torch.tensor([[1.0], [-1.0]])}, 10)
    with pytest.raises(NonFiniteError, match="nan at the start of chain 1"):
        NUTS().init(LogDensity(lambda w: w["a"].log().sum(), {"a": torch.ones(1)}), None, generator(0), start)
    with pytest.raises(NonFiniteError, match="gradient"):
        infer(NUTS(), lambda w: -w["a"].abs().sqrt().sum(), init={"a": torch.zeros(2)}, steps=10)
    with pytest.raises(InputError, match="after the warm-up"):
        infer(NUTS(warmup=10), lambda w: -w["a"].square().sum(), init={"a": torch.zeros(2)}, steps=10)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: NUTS(target_accept=1.0),
        lambda: NUTS(max_depth=0),
        lambda: NUTS(mass="dense"),  # type: ignore[arg-type]
        lambda: NUTS(rank=0),
        lambda: HMC(step_size=0.0),
        lambda: HMC(leapfrogs=0),
        lambda: HMC(jitter=1.0),
    ],
)
def test_bad_settings_are_refused(bad: Callable[[], object]) -> None:
    with pytest.raises(InputError, match="Try"):
        bad()
