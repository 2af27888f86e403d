"""Shifts and changes of tempo of one-dimensional signals.

The content moves as ``τ' = exp(η_s u_s) τ + η_t u_t``, with τ the time from the signal's middle in units of half its
length. Values in between come from linear interpolation, which is differentiable in both extents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from novacula.invariances import checks
from novacula.invariances.base import Chosen
from novacula.invariances.noise import Distribution, symmetric, working_dtype
from novacula.invariances.warp import Padding, centres, sample

TimeName = Literal["time_shift", "time_scale"]
TIME_NAMES: tuple[TimeName, ...] = ("time_shift", "time_scale")


@dataclass(frozen=True, eq=False)
class TimeWarp(Chosen):
    """Random shifts and tempos of signals ``(n, C, T)``.

    Positive directions, for ``u > 0`` and a positive extent: a shift moves the content later, a scale makes it slower.

    Args:
        eta: Extents, shape ``(K,)``, in the order of ``only``. Shift: 1 is ± half the length. Scale: a log factor.
        only: Which of the two vary.
        distribution: ``"uniform"`` within ± the extent, or ``"gaussian"`` with the same standard deviation, extent/√3.
        padding: What lies outside the signal.
        init: Where every extent starts when ``eta`` is absent.

    Raises:
        InputError: If an argument is not as described.

    Example:
        >>> TimeWarp(eta=torch.tensor([0.5, 0.25])).describe()
        {'time_shift': 0.25, 'time_scale': 0.25}
    """

    eta: Tensor = None  # type: ignore[assignment]  # filled in below
    only: tuple[TimeName, ...] = TIME_NAMES
    distribution: Distribution = "uniform"
    padding: Padding = "zeros"
    init: float = 0.1
    known: ClassVar[tuple[str, ...]] = TIME_NAMES

    def noise(self, n: int, x: Tensor, rng: torch.Generator) -> Tensor:
        """Draw the randomness of ``n`` warps: x ``(N, C, T)`` to ``(n, K)``."""
        checks.signals(x)
        return symmetric(n, (len(self.only),), x, rng, self.distribution)

    def __call__(self, x: Tensor, noise: Tensor) -> Tensor:
        """Move the content of each signal in time; x ``(n, C, T)``, noise ``(n, K)``."""
        checks.signals(x)
        checks.noise(noise, (x.shape[0], len(self.only)))
        dtype = working_dtype(x)
        values = noise.to(x.device, dtype) * self.eta.to(x.device, dtype)
        part = dict(zip(self.only, values.unbind(1), strict=True))
        at = centres(x.shape[-1], values).expand(x.shape[0], -1)
        if "time_shift" in part:
            at = at - part["time_shift"].unsqueeze(1)
        if "time_scale" in part:
            at = at * part["time_scale"].neg().exp().unsqueeze(1)
        # An image of height one, read along its middle, is a signal.
        grid = torch.stack([at, torch.zeros_like(at)], -1).unsqueeze(1)
        return sample(x.unsqueeze(2), grid, self.padding).squeeze(2)

    def describe(self) -> dict[str, float]:
        """The extents for people."""
        values = self.eta.detach().abs().tolist()
        return {name: v / 2 if name == "time_shift" else v for name, v in zip(self.only, values, strict=True)}
