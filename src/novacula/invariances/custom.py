"""Any differentiable function of ``(x, noise, eta)`` as an invariance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.invariances import checks
from novacula.invariances.noise import DISTRIBUTIONS, Distribution, symmetric, working_dtype


@dataclass(frozen=True, eq=False)
class Custom:
    """A random transformation of the user's own.

    Args:
        function: ``T(x, noise, eta)``, given inputs ``(n, …)``, noise ``(n, *noise_shape)`` and extents ``(K,)``;
            returns the transformed inputs with the same leading axis, differentiable in ``eta``. ``eta = 0`` should be
            the identity, and the transformation of one input must not depend on the others.
        eta: Extents, shape ``(K,)``.
        noise_shape: The shape of one draw of noise; by default ``(K,)``, one number for each extent.
        names: A name for each extent; by default ``eta_0, eta_1, …``.
        distribution: Noise ``"uniform"`` in [−1, 1], or ``"gaussian"`` with the same standard deviation, 1/√3.
        limits: The smallest and the largest admissible extent.
        unit: The extents at which a transformation is as strong as it may sensibly be, shape ``(K,)``: steps and
            thresholds are parts of them. By default `learn` finds them by trying, as those at which inputs are twice
            their spread from where they were.
        signed: Of each extent, whether its sign carries a meaning. By default `learn` finds out by trying.

    Raises:
        InputError: If an argument is not as described.

    Example:
        >>> gain = Custom(lambda x, u, eta: x * (eta * u).exp(), eta=torch.tensor([0.5]), names=("gain",))
        >>> gain.describe()
        {'gain': 0.5}
        >>> gain(torch.ones(2, 3), torch.zeros(2, 1))
        tensor([[1., 1., 1.],
                [1., 1., 1.]])
    """

    function: Callable[[Tensor, Tensor, Tensor], Tensor]
    eta: Tensor
    noise_shape: tuple[int, ...] | None = None
    names: tuple[str, ...] = ()
    distribution: Distribution = "uniform"
    limits: tuple[float, float] = (-math.inf, math.inf)
    unit: Tensor | None = None
    signed: tuple[bool, ...] = ()
    learnable: ClassVar[tuple[str, ...]] = ("eta",)
    averages_predictions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InputError(
                "a function of (x, noise, eta)", f"a {type(self.function).__name__}", "pass the function itself"
            )
        checks.option("distribution", self.distribution, DISTRIBUTIONS)
        size = self.eta.numel() if isinstance(self.eta, Tensor) else 1
        if isinstance(self.names, str) or len(set(self.names)) < len(self.names):
            raise InputError(
                "names as a tuple of different strings", repr(self.names), 'write names=("first", "second")'
            )
        names = tuple(self.names) or tuple(f"eta_{k}" for k in range(size))
        shape = (size,) if self.noise_shape is None else tuple(self.noise_shape)
        if not self.limits[0] <= self.limits[1]:
            raise InputError("limits (smallest, largest)", str(self.limits), "swap them, or leave them out")
        if self.unit is not None and (self.unit.shape != (size,) or not bool((self.unit > 0).all())):
            got = f"{self.unit.tolist()}"
            raise InputError(f"a positive unit for each of {size} extents", got, "leave it out to have it measured")
        if self.signed and len(self.signed) != size:
            hint = "leave it out to have it found by trying"
            raise InputError(f"whether each of {size} extents is signed", f"{len(self.signed)} answers", hint)
        object.__setattr__(self, "eta", checks.extents(self.eta, [], names))
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "noise_shape", shape)

    def noise(self, n: int, x: Tensor, rng: torch.Generator) -> Tensor:
        """Draw the randomness of ``n`` transformations: x ``(N, …)`` to ``(n, *noise_shape)``."""
        return symmetric(n, self._shape, x, rng, self.distribution)

    def __call__(self, x: Tensor, noise: Tensor) -> Tensor:
        """Apply the function; x ``(n, …)``, noise ``(n, *noise_shape)``."""
        checks.noise(noise, (x.shape[0], *self._shape))
        dtype = working_dtype(x)
        out = self.function(x, noise.to(x.device, dtype), self.eta.to(x.device, dtype))
        if not isinstance(out, Tensor) or out.shape[:1] != x.shape[:1]:
            raise InputError(
                f"the function to return {x.shape[0]} transformed inputs",
                f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}",
                "return a tensor whose leading axis is that of x",
            )
        return out.to(x.dtype)

    def project(self, eta: Tensor) -> Tensor:
        """Limit the extents; eta ``(K,)``."""
        return eta.clamp(*self.limits)

    def magnitude(self, eta: Tensor) -> Tensor:
        """Extents without the signs that carry no meaning; eta ``(K,)``."""
        if not self.signed:
            return eta
        return torch.where(torch.tensor(self.signed, device=eta.device), eta, eta.abs())

    def describe(self) -> dict[str, float]:
        """The extents by name."""
        return dict(zip(self.names, self.eta.detach().tolist(), strict=True))

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.noise_shape or ()
