"""Gaussian processes: the log evidence, its maximum over what a kernel can learn, and predictions.

Outputs are independent a priori, of one kernel. Observed are measurements, with one standard deviation that is learned
too; classes as the Gaussians on logits of `novacula.likelihoods.Dirichlet`, whose noise differs from one to the next;
or classes by the softmax, by Laplace's method (see `novacula.kernels.observed`). A step costs ``O(C N³)`` and, of an
invariant kernel, ``N² S²`` kernel values: up to a few thousand examples. For more there is `inducing`.

References:
    Gaussian Processes for Machine Learning. C. E. Rasmussen, C. K. I. Williams, 2006, chapter 2 and section 5.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.checks.numbers import check_positive, check_whole
from novacula.data.data import Data
from novacula.data.given import DataLike, as_data
from novacula.kernels.ascent import ascend
from novacula.kernels.invariant import Kernel
from novacula.kernels.observed import Classes, Gaussians, Model, observed

K = TypeVar("K", bound=Kernel)


@dataclass(frozen=True, eq=False)
class Process(Generic[K]):
    """A Gaussian process given data.

    Args:
        kernel: K.
        data: The examples, inputs in float64.
        observed: What was observed of the outputs: `Gaussians` (means and noise) or `Classes`.
        history: The log evidence at every step of learning.
    """

    kernel: K
    data: Data
    observed: Gaussians | Classes
    history: tuple[float, ...] = ()

    __repr__ = brief

    @property
    def log_evidence(self) -> float:
        """In nats: exact of Gaussians (also of the logits), Laplace's of classes."""
        with torch.no_grad():
            return float(self.observed.evidence(self.kernel(self.data.x, self.data.x)))

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
        return self.observed.outputs(known, cross, variances(self.kernel, x))


def process(
    kernel: K,
    data: DataLike,
    *,
    classes: Model = "dirichlet",
    alpha: float = 0.01,
    noise: float = 0.1,
    steps: int = 100,
    lr: float = 0.05,
) -> Process[K]:
    """Learn what a kernel can learn, by the gradient of the log evidence, and condition on the data.

    Args:
        kernel: The kernel as it starts, `Invariant` or any other.
        data: Measurements, or classes (also soft labels), of at most a few thousand examples.
        classes: How labels are taken: ``"dirichlet"``, as Gaussians on the logits, whose evidence is exact and one of
            logits; or ``"laplace"``, as draws of the softmax, whose evidence is one of labels, as a network's is.
        alpha: α of the `Dirichlet` model.
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
    for name, number in (("alpha", alpha), ("noise", noise), ("lr", lr)):
        check_positive(name, number)
    data = as_data(data).to(dtype=torch.float64)
    seen = observed(data, classes, alpha, noise)

    def value(free: dict[str, Tensor], _: int) -> Tensor:
        return seen.with_learnable(free).evidence(kernel.with_learnable(of_kernel(free))(data.x, data.x))

    values, history = ascend(value, {**kernel.learnable(), **seen.learnable()}, steps=steps, lr=lr)
    return Process(kernel.with_learnable(of_kernel(values)), data, seen.with_learnable(values), history)


def of_kernel(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """What of learned values is the kernel's."""
    return {k: v for k, v in values.items() if k != "log_noise"}


def variances(kernel: Kernel, x: Tensor) -> Tensor:
    """``K(x, x)`` of each input; x ``(M, …)`` to ``(M,)``."""
    return torch.stack([kernel(one, one)[0, 0] for one in x.split(1)])
