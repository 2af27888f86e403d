"""Gaussian processes of many examples: inducing points, and unbiased estimates of averaged kernels.

What is known of the process g inside, before it is averaged, is kept as that of its values ``u = g(z)`` at M points.
With ``κ_n = E_t k(z, t(x_n))``, ``κ = E_tt' k(t(x_n), t'(x_n))``, ``w_n = K⁻¹ κ_n`` and a Gaussian q(u) with mean μ
and variances Σ, the log evidence is at least

    F = Σ_nc E_q log N(m_nc; f_nc, s_nc²) − KL(q(u) ‖ N(0, K)),    E_q[f] = w_nᵀ μ,    Var_q[f] = κ − w_nᵀ (K − Σ) w_n.

F is linear in κ and in products of two κ_n. The copies of an input are drawn in two independent halves, and the mean
over one times the mean over the other is unbiased: so is F, of the average over all transformations and not, as in
`process`, over S of them, and of any minibatch. The best q has ``Σ⁻¹ = K⁻¹ + Σ_n w_n w_nᵀ/s_n²`` and
``Σ⁻¹ μ = Σ_n w_n m_n/s_n²``. These two sums are kept as the *sites*: they speak of values and hardly depend on the
kernel, which q follows as it is learned. The points are copies of training inputs, each next one with the largest
variance that those before it leave.

References:
    Learning invariances using the marginal likelihood. M. van der Wilk, M. Bauer, S. John, J. Hensman, 2018.
        arXiv:1808.05563.
    Variational learning of inducing variables in sparse Gaussian processes. M. Titsias, 2009.
    Gaussian processes for big data. J. Hensman, N. Fusi, N. Lawrence, 2013. arXiv:1309.6835.
    Dual parameterization of sparse variational Gaussian processes. V. Adam, P. Chang, M. E. Khan, A. Solin, 2021.
        arXiv:2111.03412.
    Convergence of sparse variational inference in Gaussian processes regression. D. Burt, C. E. Rasmussen,
        M. van der Wilk, 2020 (the choice of points). arXiv:2008.00323.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.checks.numbers import check_positive, check_whole
from novacula.core.estimate import Estimate
from novacula.core.rng import derive, generator
from novacula.data.data import Data
from novacula.data.given import DataLike, as_data
from novacula.kernels.ascent import ascend
from novacula.kernels.invariant import Kernel
from novacula.kernels.observed import Gaussians, firm, gaussians
from novacula.kernels.process import of_kernel, variances

K = TypeVar("K", bound=Kernel)
_ROUNDS, _POOL, _REPEATS = 3, 4, 4  # choices of points; candidates for each; estimates of the bound at the end


@dataclass(frozen=True, eq=False)
class Sites:
    """What examples say of the values at the points: ``Σ_n w_n w_nᵀ/s_n²`` and ``Σ_n w_n m_n/s_n²``."""

    precision: Tensor  # (C, M, M)
    shift: Tensor  # (C, M)

    @classmethod
    def of(cls, reach: Tensor, weight: Tensor, mean: Tensor) -> Sites:
        """Of these examples alone: w ``(M, B)``, ``1/s²`` and m ``(B, C)``."""
        return cls(torch.stack([(reach * w) @ reach.T for w in weight.T]), (weight * mean).T @ reach.T)

    def replaced(self, old: Sites, new: Sites) -> Sites:
        """With what some examples say now in the place of what they said before."""
        return Sites(self.precision + (new.precision - old.precision), self.shift + (new.shift - old.shift))


@dataclass(frozen=True, eq=False)
class Belief:
    """q of ``L⁻¹ u``, which is standard a priori: ``K = L Lᵀ``; the outputs are ``vᵀ L⁻¹ u`` with ``v = L⁻¹ κ``."""

    root: Tensor  # L, (M, M)
    mean: Tensor  # (C, M)
    factor: Tensor  # the root of the precision, (C, M, M)

    @classmethod
    def of(cls, kernel: Kernel, z: Tensor, sites: Sites) -> Belief:
        """The best q for these sites; z ``(M, …)``."""
        root = torch.linalg.cholesky(firm(kernel.inside(z, z)))
        inner = root.mT @ sites.precision @ root
        factor = torch.linalg.cholesky(torch.eye(len(z), dtype=inner.dtype) + (inner + inner.mT) / 2)
        return cls(root, torch.cholesky_solve((sites.shift @ root)[:, :, None], factor)[:, :, 0], factor)

    def whitened(self, kappa: Tensor) -> Tensor:
        """``L⁻¹ κ``; κ ``(M, B)``."""
        return torch.linalg.solve_triangular(self.root, kappa, upper=False)

    def shrunk(self, v: Tensor) -> Tensor:
        """The root of what q leaves of the variance along v ``(M, B)``: ``(C, M, B)``."""
        return torch.linalg.solve_triangular(self.factor, v.expand(len(self.factor), -1, -1), upper=False)

    @property
    def divergence(self) -> Tensor:
        """``KL(q ‖ p)``, in nats."""
        eye = torch.eye(len(self.root), dtype=self.root.dtype)
        spread = torch.linalg.solve_triangular(self.factor, eye.expand_as(self.factor), upper=False).square().sum()
        volume = 2 * self.factor.diagonal(dim1=-2, dim2=-1).log().sum()
        return 0.5 * (spread + self.mean.square().sum() - self.mean.numel() + volume)


@dataclass(frozen=True, eq=False)
class Inducing(Generic[K]):
    """A Gaussian process given data, by what is known at a few points.

    Args:
        kernel: K.
        points: z, ``(M, …)``, float64.
        sites: What the examples say of the values there.
        bound: A lower bound of the log evidence, by an unbiased estimate, with the error of the copies drawn.
        noise: The standard deviation of measurements, as learned; None of classes.
        history: The estimate of the bound at every step of learning, of a minibatch each.
    """

    kernel: K
    points: Tensor
    sites: Sites
    bound: Estimate
    noise: float | None
    history: tuple[float, ...] = ()

    __repr__ = brief

    @torch.no_grad()
    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs at other inputs.

        Args:
            x: Inputs, shape ``(N, …)``.

        Returns:
            Means and variances without noise, each ``(N, C)``: of classes, those of logits.
        """
        q, found = Belief.of(self.kernel, self.points, self.sites), []
        for part in x.double().split(_at_once(self.points)):
            v = q.whitened(_kappa(self.kernel, self.points, part, 0))
            left = variances(self.kernel, part) - v.square().sum(0)
            found.append(((q.mean @ v).T, (left + q.shrunk(v).square().sum(1)).clamp(min=0).T))
        means, spreads = zip(*found, strict=True)
        return torch.cat(means), torch.cat(spreads)


def inducing(
    kernel: K,
    data: DataLike,
    *,
    points: int = 300,
    alpha: float = 0.01,
    noise: float = 0.1,
    steps: int = 150,
    lr: float = 0.05,
    batch_size: int = 200,
    seed: int = 0,
) -> Inducing[K]:
    """Learn what a kernel can learn by a bound of the log evidence, in minibatches, and condition on all data.

    A step costs ``O(C M³)`` and ``B S M`` kernel values for B examples with S copies, whatever N is. ``N M`` numbers
    are kept.

    Args:
        kernel: The kernel as it starts, `Invariant` or any that derives from `Kernel`.
        data: Measurements, or classes (also soft labels) as Gaussians on the logits (`Dirichlet`).
        points: M, how many points are kept. The bound rises to the log evidence with it.
        alpha: α of the `Dirichlet` model of classes.
        noise: The standard deviation of measurements at the start; it is learned.
        steps: Steps of Adam; 0 keeps the kernel as it is.
        lr: Its learning rate, of logarithms and extents alike.
        batch_size: B, examples a step.
        seed: Of points, minibatches and copies.

    Returns:
        The process.

    Raises:
        InputError: If the task is neither regression nor classification, or a number is not positive.
        NonFiniteError: If the bound is not finite at the start.

    Example:
        >>> from novacula.kernels import SquaredExponential, process
        >>> x = torch.linspace(0, 6, 100, dtype=torch.float64)[:, None]
        >>> kernel = SquaredExponential(torch.zeros(()).double(), torch.zeros(()).double())
        >>> found = inducing(kernel, (x, torch.sin(2 * x)), points=20, steps=0)
        >>> exact = process(kernel, (x, torch.sin(2 * x)), steps=0).log_evidence
        >>> abs(exact - float(found.bound)) < 1e-3  # twenty points say it all
        True
    """
    for name, number in (("points", points), ("batch_size", batch_size)):
        check_whole(name, number)
    check_whole("steps", steps, least=0)
    for name, value in (("alpha", alpha), ("noise", noise), ("lr", lr)):
        check_positive(name, value)
    data = as_data(data).to(dtype=torch.float64)
    run = _Run(data, gaussians(data, alpha, noise), min(points, data.n), min(batch_size, data.n), seed)
    history: tuple[float, ...] = ()
    for r in range(_ROUNDS if steps else 0):
        part = (r + 1) * steps // _ROUNDS - r * steps // _ROUNDS
        kernel, run, heights = run.learn(kernel, part, lr, r)
        history += heights
    z = run.choose(kernel, _ROUNDS)
    sites = Sites.of(run.reach(kernel, z, torch.arange(data.n), derive(seed, "sites")), run.weight, run.seen.mean)
    return Inducing(kernel, z, sites, run.bound(kernel, z, sites), run.seen.deviation, history)


@dataclass(frozen=True, eq=False)
class _Run:
    data: Data
    seen: Gaussians
    points: int
    batch: int
    seed: int

    def learn(self, kernel: K, steps: int, lr: float, r: int) -> tuple[K, _Run, tuple[float, ...]]:
        # Steps along the bound of a minibatch each, from points for the kernel as it is. What each example said when it
        # was last in a batch is kept: sites of a batch alone, scaled up, would move q about, and the kernel with it.
        z, mean = self.choose(kernel, r), self.seen.mean
        reach, weight = self.reach(kernel, z, torch.arange(self.data.n), derive(self.seed, "round", r)), self.weight
        sites = Sites.of(reach, weight, mean)

        def value(free: dict[str, Tensor], step: int) -> Tensor:
            nonlocal sites
            rows = torch.randperm(self.data.n, generator=generator(self.seed, "batch", r, step))[: self.batch]
            now, moved = self.with_seen(free), kernel.with_learnable(of_kernel(free))
            stream = derive(self.seed, "copies", r, step)
            with torch.no_grad():
                old = Sites.of(reach[:, rows], weight[rows], mean[rows])
                reach[:, rows], weight[rows] = now.reach(moved, z, rows, derive(stream, "sites")), now.weight[rows]
                sites = sites.replaced(old, Sites.of(reach[:, rows], weight[rows], mean[rows]))
            q = Belief.of(moved, z, sites)
            return now.fit(moved, z, q, rows, stream) * (self.data.n / len(rows)) - q.divergence

        start = {**kernel.learnable(), **self.seen.learnable()}
        values, heights = ascend(value, start, steps=steps, lr=lr, noisy=True)
        return kernel.with_learnable(of_kernel(values)), self.with_seen(values), heights

    @property
    def weight(self) -> Tensor:
        # ``1/s²``, (N, C).
        return self.seen.noise.detach() ** -2

    def with_seen(self, values: dict[str, Tensor]) -> _Run:
        # The same with other noise.
        return _Run(self.data, self.seen.with_learnable(values), self.points, self.batch, self.seed)

    @torch.no_grad()
    def choose(self, kernel: Kernel, r: int) -> Tensor:
        # z (M, …): pivots of a Cholesky factor of candidates' covariances.
        stream = derive(self.seed, "points", r)
        rows = torch.randperm(self.data.n, generator=generator(stream))[: _POOL * self.points]
        pool = kernel.halves(self.data.x[rows], stream)[0][:, 0]
        covariance = kernel.inside(pool, pool)
        left, columns, pivots = covariance.diagonal().clone(), covariance.new_zeros(self.points, len(pool)), list[int]()
        for i in range(self.points):
            pivots.append(int(left.argmax()))
            new = covariance[pivots[-1]] - columns[:i, pivots[-1]] @ columns[:i]
            columns[i] = new / left[pivots[-1]].clamp(min=1e-12).sqrt()
            left = (left - columns[i].square()).clamp(min=0)
            left[pivots] = 0
        return pool[pivots]

    @torch.no_grad()
    def reach(self, kernel: Kernel, z: Tensor, rows: Tensor, stream: int) -> Tensor:
        # ``K⁻¹ κ`` (M, B), by all copies.
        parts = enumerate(rows.split(_at_once(z)))
        found = torch.cat([_kappa(kernel, z, self.data.x[part], derive(stream, i)) for i, part in parts], 1)
        return torch.cholesky_solve(found, torch.linalg.cholesky(firm(kernel.inside(z, z))))

    def fit(self, kernel: Kernel, z: Tensor, q: Belief, rows: Tensor, stream: int) -> Tensor:
        # ``Σ E_q log N(m; f, s²)`` over these rows, unbiased.
        x, m, s = self.data.x[rows], self.seen.mean[rows], self.seen.noise[rows]
        halves = kernel.halves(x, stream)
        one, two = (q.whitened(_average(kernel, z, half)) for half in halves)
        own = torch.vmap(kernel.inside)(*halves).mean((1, 2))
        variance = (own - (one * two).sum(0)) + (q.shrunk(one) * q.shrunk(two)).sum(1)  # (C, B)
        f, g = q.mean @ one, q.mean @ two
        square = m.T.square() - m.T * (f + g) + f * g + variance
        return -0.5 * (square / s.T.square() + (2 * math.pi * s.T.square()).log()).sum()

    @torch.no_grad()
    def bound(self, kernel: Kernel, z: Tensor, sites: Sites) -> Estimate:
        # By fresh copies, on which q does not depend.
        q, found = Belief.of(kernel, z, sites), []
        for repeat in range(_REPEATS):
            parts = enumerate(torch.arange(self.data.n).split(_at_once(z)))
            fits = [self.fit(kernel, z, q, p, derive(self.seed, "bound", repeat, i)) for i, p in parts]
            found.append(torch.stack(fits).sum() - q.divergence)
        values = torch.stack(found)
        return Estimate(
            value=values.mean(),
            stderr=float(values.std()) / math.sqrt(_REPEATS),
            kind="lower bound",
            estimator=f"inducing({len(z)})",
            n=self.data.n,
            fingerprint=self.data.fingerprint,
            loss="normal" if self.seen.learned else "dirichlet",
        )


def _kappa(kernel: Kernel, z: Tensor, x: Tensor, stream: int) -> Tensor:
    # (M, B), by all copies.
    one, two = (_average(kernel, z, half) for half in kernel.halves(x, stream))
    return (one + two) / 2


def _average(kernel: Kernel, z: Tensor, copies: Tensor) -> Tensor:
    # κ (M, B) by these copies (B, S, …).
    return kernel.inside(z, copies.flatten(0, 1)).unflatten(1, copies.shape[:2]).mean(2)


def _at_once(z: Tensor) -> int:
    # Examples of which the kernel with all points is computed together.
    return max(1, 2**18 // len(z))
