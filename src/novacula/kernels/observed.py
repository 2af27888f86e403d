"""What is observed of a Gaussian process's outputs: Gaussians, exactly, or classes by Laplace's method.

**Gaussians** with means ``m_c`` and variances ``s_c²`` have the log evidence ``Σ_c log N(m_c; 0, K + diag(s_c²))``.

**Classes** ``y`` are drawn from ``softmax(f)``. At the mode f̂ the curvature of the log-likelihood is ``W = D − Π Πᵀ``,
with D the diagonal of the probabilities π and Π their ``(N C, N)`` blocks, and

    log evidence ≈ −½ f̂ᵀ K⁻¹ f̂ + log p(y | f̂) − ½ log |I + K W|,

    ½ log |I + K W| = Σ_c ½ log |I + D_c^½ K D_c^½| + ½ log |Σ_c E_c|,    E_c = D_c^½ (I + D_c^½ K D_c^½)⁻¹ D_c^½,

in ``O(C N³)``. Newton's method finds the mode. One more step of it from there carries the gradient: its own derivative
in the point it starts from is nought, so that its derivative in K is that of the mode.

References:
    Gaussian Processes for Machine Learning. C. E. Rasmussen, C. K. I. Williams, 2006, chapters 2 and 3.5 (whose
        algorithm 3.3 leaves out the last term of the determinant; the errata have it).
    Dirichlet-based Gaussian processes for large-scale calibrated classification. D. Milios, R. Camoriano, P. Michiardi,
        L. Rosasco, M. Filippone, 2018. arXiv:1805.10915.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.data.data import Data
from novacula.data.meaning.soft import beliefs
from novacula.likelihoods import Dirichlet

Model: TypeAlias = Literal["dirichlet", "laplace"]
JITTER = 1e-8
_NEWTON, _ENOUGH = 100, 1e-10


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Outputs observed as ``N(mean, noise²)``.

    Args:
        mean: Shape ``(N, C)``.
        noise: Standard deviations, ``(N, C)``.
        learned: Whether they are one number that is learned, by its logarithm.
    """

    mean: Tensor
    noise: Tensor
    learned: bool = False

    __repr__ = brief

    @property
    def deviation(self) -> float | None:
        """The noise where it is one number that is learned."""
        return float(self.noise.flatten()[0]) if self.learned else None

    def learnable(self) -> dict[str, Tensor]:
        """The logarithm of the noise, if it is learned."""
        return {"log_noise": self.noise.flatten()[0].log()} if self.learned else {}

    def with_learnable(self, values: dict[str, Tensor]) -> Gaussians:
        """The same with other noise, if it is learned."""
        return replace(self, noise=values["log_noise"].exp().expand_as(self.mean)) if self.learned else self

    def evidence(self, kernel: Tensor) -> Tensor:
        """The log evidence in nats, exact; kernel ``(N, N)``."""
        total = kernel.new_zeros(())
        for m, s in zip(self.mean.T, self.noise.T, strict=True):
            factor = torch.linalg.cholesky(firm(kernel, s.square()))
            half = torch.linalg.solve_triangular(factor, m[:, None], upper=False)
            total = total - 0.5 * half.square().sum() - factor.diagonal().log().sum()
        return total - 0.5 * self.mean.numel() * math.log(2 * math.pi)

    def outputs(self, kernel: Tensor, cross: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """Means and variances without noise, ``(M, C)``, at covariances ``cross (N, M)`` and variances ``own (M,)``."""
        means, variances = [], []
        for m, s in zip(self.mean.T, self.noise.T, strict=True):
            factor = torch.linalg.cholesky(firm(kernel, s.square()))
            half = torch.linalg.solve_triangular(factor, cross, upper=False)
            means.append(half.T @ torch.linalg.solve_triangular(factor, m[:, None], upper=False)[:, 0])
            variances.append((own - half.square().sum(0)).clamp(min=0))
        return torch.stack(means, 1), torch.stack(variances, 1)


@dataclass(frozen=True, eq=False)
class Classes:
    """Classes drawn from the softmax of outputs, by Laplace's method.

    Args:
        y: Probabilities of the classes, ``(N, C)``: ones and noughts of plain labels.
    """

    y: Tensor

    __repr__ = brief

    def learnable(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def with_learnable(self, values: dict[str, Tensor]) -> Classes:
        """Itself."""
        return self

    def mode(self, kernel: Tensor) -> tuple[Tensor, Tensor]:
        """f̂ and ``K⁻¹ f̂``, each ``(N, C)``, differentiable in the kernel ``(N, N)``."""
        k = firm(kernel)
        with torch.no_grad():
            f = a = torch.zeros_like(self.y)
            value = self._density(f, a)
            for _ in range(_NEWTON):
                new, step = self._newton(k, f), 1.0
                while (height := self._density(k @ (n := a + step * (new - a)), n)) < value and step > 1e-6:
                    step /= 2
                gain, value, a, f = float(height - value), height, n, k @ n
                if gain < _ENOUGH * (1 + abs(float(value))):
                    break
        a = self._newton(k, f)
        return k @ a, a

    def evidence(self, kernel: Tensor) -> Tensor:
        """Laplace's log evidence of the labels in nats; kernel ``(N, N)``."""
        f, a = self.mode(kernel)
        halves, _, whole = self._parts(firm(kernel), f.softmax(1))
        return self._density(f, a) - halves - torch.linalg.cholesky(whole).diagonal().log().sum()

    def outputs(self, kernel: Tensor, cross: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """Means and variances of the logits at the mode, each ``(M, C)``."""
        f, a = self.mode(kernel)
        _, each, whole = self._parts(firm(kernel), f.softmax(1))
        known = each @ cross  # (C, N, M)
        shared = torch.cholesky_solve(known, torch.linalg.cholesky(whole).expand(len(each), -1, -1))
        variance = own - (cross * known).sum(1) + (known * shared).sum(1)
        return cross.T @ a, variance.clamp(min=0).T

    def _density(self, f: Tensor, a: Tensor) -> Tensor:
        return -0.5 * (a * f).sum() + (self.y * f).sum() - (self.y.sum(1) * f.logsumexp(1)).sum()

    def _newton(self, k: Tensor, f: Tensor) -> Tensor:
        # ``K⁻¹`` of the next outputs, (N, C).
        p = f.softmax(1)
        _, each, whole = self._parts(k, p)
        b = p * f - p * (p * f).sum(1, keepdim=True) + self.y - p
        c = torch.einsum("cnm,mc->nc", each, k @ b)
        left = torch.cholesky_solve(c.sum(1, keepdim=True), torch.linalg.cholesky(whole))
        return b - c + torch.einsum("cnm,m->nc", each, left[:, 0])

    @staticmethod
    def _parts(k: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Σ_c ½ log |I + D^½ K D^½|, the E_c (C, N, N), and their sum.
        root = p.T.sqrt()
        eye = torch.eye(len(k), dtype=k.dtype)
        factor = torch.linalg.cholesky(eye + root[:, :, None] * k * root[:, None])
        half = torch.linalg.solve_triangular(factor, torch.diag_embed(root), upper=False)
        each = half.mT @ half
        return factor.diagonal(dim1=-2, dim2=-1).log().sum(), each, each.sum(0)


def observed(data: Data, classes: Model, alpha: float, noise: float) -> Gaussians | Classes:
    """What data say of outputs: measurements as Gaussians of that noise, classes as the model has them."""
    if classes not in get_args(Model):
        raise InputError("classes='dirichlet' or 'laplace'", repr(classes), "leave it out for 'dirichlet'")
    found = gaussians(data, alpha, noise)
    return found if found.learned or classes == "dirichlet" else Classes(beliefs(data.y, found.mean.shape[1]).double())


def gaussians(data: Data, alpha: float, noise: float) -> Gaussians:
    """Measurements as Gaussians of that noise, classes as those of their logits."""
    if data.task == "regression":
        return Gaussians(data.y, torch.full_like(data.y, noise), learned=True)
    if data.task != "classification":
        raise InputError("measurements or classes", data.task, "take one column of labels at a time")
    likelihood = Dirichlet(alpha)
    mean, noises = likelihood.observed(data.y, likelihood.outputs(data.y))
    return Gaussians(mean - mean.mean(), noises)  # the softmax does not see a shift, and the prior mean is nought


def firm(kernel: Tensor, variance: Tensor | float = 0.0) -> Tensor:
    """A matrix of variances ``(N, N)`` with more on its diagonal, ``(N,)``, and a little for rounding."""
    return kernel + torch.diag_embed(variance + JITTER * kernel.diagonal().mean().expand(len(kernel)))
