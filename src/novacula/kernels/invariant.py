"""`Invariant`: a kernel averaged over a transformation, with extents that can be learned.

If ``f(x) = E_t g(t(x))`` with a Gaussian process g of kernel k, f is one too, with the kernel

    ``K(x, x') = E_{t,t'} k(t(x), t'(x'))``.

Here the expectation is over S fixed draws for each input, ``1/S² Σ k(t_s(x), t_s'(x'))``: positive semi-definite for
any S, and differentiable in the kernel's scales and in the extents. Its diagonal is too large by ``O(1/S)``, as a copy
is like itself: the process of an average over just these S copies.

References:
    Learning invariances using the marginal likelihood. M. van der Wilk, M. Bauer, S. John, J. Hensman, 2018.
        arXiv:1808.05563.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self

from torch import Tensor

from novacula.core.brief import brief
from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.core.rng import derive, generator
from novacula.invariances import Invariance


class Kernel(Protocol):
    """``K(a, b)`` of inputs, differentiable in the tensors of `learnable`."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Covariances ``(N, M)`` of inputs ``a (N, …)`` and ``b (M, …)``."""
        ...

    def learnable(self) -> dict[str, Tensor]:
        """What can be learned, by name."""
        ...

    def with_learnable(self, values: dict[str, Tensor]) -> Self:
        """The kernel with other values."""
        ...

    @property
    def inside(self) -> Kernel:
        """The kernel that is averaged over copies of inputs: itself, where none is."""
        return self

    def halves(self, x: Tensor, stream: int) -> tuple[Tensor, Tensor]:
        """Two independent sets of copies of each input: x ``(N, …)`` to ``(N, S', …)`` each."""
        return x[:, None], x[:, None]


@dataclass(frozen=True, eq=False)
class SquaredExponential(Kernel):
    """``a² exp(−‖x − x'‖²/(2 l²))`` over all entries of the inputs.

    Args:
        log_length: log l.
        log_amplitude: log a.

    Example:
        >>> import torch
        >>> k = SquaredExponential(torch.tensor(0.0), torch.tensor(0.0))
        >>> round(float(k(torch.zeros(1, 2), torch.ones(1, 2))), 4)
        0.3679
    """

    log_length: Tensor
    log_amplitude: Tensor

    __repr__ = brief

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Covariances, shape ``(N, M)``.

        Args:
            a: Inputs, shape ``(N, …)``.
            b: Inputs, shape ``(M, …)``.

        Returns:
            Shape ``(N, M)``.
        """
        # Not by cdist, whose derivative is infinite where inputs coincide.
        a, b = a.flatten(1), b.flatten(1)
        squares = a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T
        return (2 * self.log_amplitude - squares.clamp(min=0) / (2 * (2 * self.log_length).exp())).exp()

    def learnable(self) -> dict[str, Tensor]:
        """Both logarithms.

        Returns:
            Tensors by name.
        """
        return {"log_length": self.log_length, "log_amplitude": self.log_amplitude}

    def with_learnable(self, values: dict[str, Tensor]) -> SquaredExponential:
        """The kernel with other values.

        Args:
            values: Tensors by name.

        Returns:
            A kernel.
        """
        return replace(self, **values)


@dataclass(frozen=True, eq=False)
class Invariant(Kernel):
    """A kernel averaged over an invariance.

    Args:
        kernel: k.
        invariance: The transformation, with extents ``eta``.
        copies: S.
        seed: Seed of the draws: the i-th input of a call meets the same ones whatever the extents are.

    Raises:
        InputError: If the invariance is none, or ``copies`` is less than 1.
    """

    kernel: Kernel
    invariance: Invariance
    copies: int = 8
    seed: int = 0

    __repr__ = brief

    def __post_init__(self) -> None:
        check_whole("copies", self.copies)
        if not hasattr(self.invariance, "eta"):
            raise InputError("an invariance with extents", type(self.invariance).__name__, "nv.Affine()")

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Covariances, shape ``(N, M)``.

        Args:
            a: Inputs, shape ``(N, …)``.
            b: Inputs, shape ``(M, …)``; the same tensor for a matrix of variances.

        Returns:
            Shape ``(N, M)``.
        """
        s, left = self.copies, self._copies(a, "same")
        right = left if a is b else self._copies(b, "other")
        return self.kernel(left, right).unflatten(1, (-1, s)).unflatten(0, (-1, s)).mean((1, 3))

    def learnable(self) -> dict[str, Tensor]:
        """The kernel's tensors, and the extents as ``eta``.

        Returns:
            Tensors by name.
        """
        return {**self.kernel.learnable(), "eta": self.invariance.eta}

    def with_learnable(self, values: dict[str, Tensor]) -> Invariant:
        """The kernel with other values, extents brought to the nearest admissible ones.

        Args:
            values: Tensors by name.

        Returns:
            A kernel.
        """
        given = values["eta"]
        eta = given + (self.invariance.project(given.detach()) - given.detach())
        inner = self.kernel.with_learnable({k: v for k, v in values.items() if k != "eta"})
        return replace(self, kernel=inner, invariance=replace(self.invariance, eta=eta))  # type: ignore[type-var]

    @property
    def inside(self) -> Kernel:
        """The kernel that is averaged."""
        return self.kernel

    def halves(self, x: Tensor, stream: int) -> tuple[Tensor, Tensor]:
        """Two independent sets of copies: x ``(N, …)`` to ``(N, S/2, …)`` each."""
        half = max(1, self.copies // 2)
        one, two = (self._drawn(x, half, derive(stream, side)).unflatten(0, (-1, half)) for side in ("one", "two"))
        return one, two

    def _copies(self, x: Tensor, side: str) -> Tensor:
        # ``(N·S, …)``; training inputs and others have draws of their own.
        return self._drawn(x, self.copies, derive(self.seed, side))

    def _drawn(self, x: Tensor, copies: int, stream: int) -> Tensor:
        noise = self.invariance.noise(len(x) * copies, x, generator(stream, "copies"))
        return self.invariance(x.repeat_interleave(copies, 0), noise)
