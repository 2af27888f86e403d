"""Exact Gaussian processes: the log evidence, its maximum over what a kernel can learn, and predictions.

Outputs are independent and observed with Gaussian noise: measurements with one standard deviation that is learned too,
or classes as the Gaussians on logits of `novacula.likelihoods.Dirichlet`, whose noise differs from example to example.
With means ``m_c`` and variances ``s_c²`` of the observations,

    log evidence = Σ_c log N(m_c; 0, K + diag(s_c²)),

in ``O(C N³)`` and ``N² S²`` kernel values: up to a few thousand examples.

References:
    Gaussian Processes for Machine Learning. C. E. Rasmussen, C. K. I. Williams, 2006, chapter 2 and section 5.4.
    Dirichlet-based Gaussian processes for large-scale calibrated classification. D. Milios, R. Camoriano, P. Michiardi,
        L. Rosasco, M. Filippone, 2018. arXiv:1805.10915.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.checks.numbers import check_positive, check_whole
from novacula.core.errors import InputError, NonFiniteError
from novacula.data.data import Data
from novacula.data.given import DataLike, as_data
from novacula.kernels.invariant import Kernel
from novacula.likelihoods import Dirichlet

K = TypeVar("K", bound=Kernel)
_JITTER, _WORST = 1e-8, 1e12


@dataclass(frozen=True, eq=False)
class Process(Generic[K]):
    """A Gaussian process given data.

    Args:
        kernel: K.
        data: The examples, inputs in float64.
        mean: What was observed of the outputs, ``(N, C)``, float64.
        noise: Its standard deviations, ``(N, C)``.
        history: The log evidence at every step of learning.
    """

    kernel: K
    data: Data
    mean: Tensor
    noise: Tensor
    history: tuple[float, ...] = ()

    __repr__ = brief

    @property
    def log_evidence(self) -> float:
        """In nats, exact for this kernel and noise."""
        with torch.no_grad():
            return float(log_evidence(self.kernel(self.data.x, self.data.x), self.mean, self.noise))

    @torch.no_grad()
    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs at other inputs.

        Args:
            x: Inputs, shape ``(M, …)``.

        Returns:
            Means and variances without noise, each ``(M, C)``: of classes, those of logits.
        """
        x = x.double()
        known, cross = self.kernel(self.data.x, self.data.x), self.kernel(self.data.x, x)
        own = torch.stack([self.kernel(one, one)[0, 0] for one in x.split(1)])
        means, variances = [], []
        for m, s in zip(self.mean.T, self.noise.T, strict=True):
            factor = torch.linalg.cholesky(_noisy(known, s))
            half = torch.linalg.solve_triangular(factor, cross, upper=False)
            means.append(half.T @ torch.linalg.solve_triangular(factor, m[:, None], upper=False)[:, 0])
            variances.append((own - half.square().sum(0)).clamp(min=0))
        return torch.stack(means, 1), torch.stack(variances, 1)


def log_evidence(kernel: Tensor, mean: Tensor, noise: Tensor) -> Tensor:
    """``Σ_c log N(m_c; 0, K + diag(s_c²))``.

    Args:
        kernel: K, shape ``(N, N)``.
        mean: m, shape ``(N, C)``.
        noise: s, shape ``(N, C)``.

    Returns:
        A scalar in nats, differentiable in all.
    """
    total = kernel.new_zeros(())
    for m, s in zip(mean.T, noise.T, strict=True):
        factor = torch.linalg.cholesky(_noisy(kernel, s))
        half = torch.linalg.solve_triangular(factor, m[:, None], upper=False)
        total = total - 0.5 * half.square().sum() - factor.diagonal().log().sum()
    return total - 0.5 * mean.numel() * math.log(2 * math.pi)


def process(
    kernel: K, data: DataLike, *, alpha: float = 0.01, noise: float = 0.1, steps: int = 100, lr: float = 0.05
) -> Process[K]:
    """Learn what a kernel can learn, by the gradient of the exact log evidence, and condition on the data.

    Args:
        kernel: The kernel as it starts, `Invariant` or any other.
        data: Measurements, or classes (also soft labels), of at most a few thousand examples.
        alpha: α of the `Dirichlet` model of classes.
        noise: The standard deviation of measurements at the start; it is learned.
        steps: Steps of Adam; 0 keeps the kernel as it is.
        lr: Its learning rate, of logarithms and extents alike.

    Returns:
        The process at the best step.

    Raises:
        InputError: If the task is neither regression nor classification, or a number is not positive.
        NonFiniteError: If the evidence is not finite at the start.

    Example:
        >>> from novacula.kernels import SquaredExponential
        >>> x = torch.linspace(0, 3, 20, dtype=torch.float64)[:, None]
        >>> start = SquaredExponential(torch.zeros(()).double(), torch.zeros(()).double())
        >>> found = process(start, (x, torch.sin(2 * x)), steps=20)
        >>> found.history[-1] > found.history[0]
        True
    """
    check_whole("steps", steps, least=0)
    for name, value in (("alpha", alpha), ("noise", noise), ("lr", lr)):
        check_positive(name, value)
    data = as_data(data).to(dtype=torch.float64)
    measured = data.task == "regression"
    if measured:
        mean, fixed = data.y, None
    elif data.task == "classification":
        mean, fixed = Dirichlet(alpha).observed(data.y, Dirichlet(alpha).outputs(data.y))
        mean = mean - mean.mean()  # the softmax does not see a shift, and the prior mean is nought
    else:
        raise InputError("measurements or classes", data.task, "take one column of labels at a time")
    free = {k: v.detach().double().clone().requires_grad_() for k, v in kernel.learnable().items()}
    log_noise = torch.tensor(math.log(noise), dtype=torch.float64, requires_grad=measured)
    optimiser = torch.optim.Adam([*free.values(), *([log_noise] if measured else [])], lr=lr)
    history: list[float] = []
    best = (-math.inf, {k: v.detach().clone() for k, v in free.items()}, math.log(noise))
    for step in range(steps + 1):
        sd = log_noise.exp().expand_as(mean) if fixed is None else fixed
        value = log_evidence(kernel.with_learnable(free)(data.x, data.x), mean, sd)
        if not bool(torch.isfinite(value)) and step == 0:
            raise NonFiniteError("a finite log evidence at the start", str(float(value)), "raise the noise")
        history.append(float(value.detach()))
        if history[-1] > best[0]:
            best = (history[-1], {k: v.detach().clone() for k, v in free.items()}, float(log_noise.detach()))
        if step < steps:
            optimiser.zero_grad()
            (-value).backward()
            optimiser.step()
    _, values, log_sd = best
    noise_of = torch.full_like(mean, math.exp(log_sd)) if fixed is None else fixed
    return replace(Process(kernel.with_learnable(values), data, mean, noise_of), history=tuple(history))


def _noisy(kernel: Tensor, noise: Tensor) -> Tensor:
    return kernel + torch.diag_embed(noise.square() + _JITTER * kernel.diagonal().mean())
