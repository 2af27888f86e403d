"""Mirror images, left to right or top to bottom, with learned probabilities.

The average over a flip with probability p is ``f̄ = (1 − p) f(x) + p f(x̃)`` with x̃ the mirror image, and
``∂f̄/∂p = f(x̃) − f(x)``. A transformed input is one of the two, so it cannot carry this derivative. It can carry an
estimate: along the straight line from x to x̃,

    f(x̃) − f(x) = ∫₀¹ ∇f(x + tΔ)·Δ dt,      Δ = x̃ − x,

and the gradients that back-propagation meets, at x or at x̃, are the two ends of the trapezoid rule for that integral.
So the drawn copy carries p with a weight, ``x' = x + Δ·(b + c_b (p − stop(p)))`` with b ~ Bernoulli(p) and
``c_b = 1/(2 P(b))``. (With c = 1 this is the usual straight-through estimator, whose ends are weighted by 1 − p and p
instead of ½ and ½.)

**Bias.** Values are exact. The gradient in p is exact for outputs that are linear or quadratic in the input, and for
others biased by the trapezoid rule's error, ``−φ'''/12`` with ``φ(t) = f(x + tΔ)`` for some t: it is an estimate that
usually has the right sign, not a derivative. It is independent of p, so it never vanishes because p happens to be near
a special value. Below p = 0.05, where mirrored copies are too rare, their weight is held and the rest goes to x, which
ends at the one-sided, first-order rule at p = 0.

References:
    Estimating or propagating gradients through stochastic neurons for conditional computation. Y. Bengio, N. Léonard,
    A. Courville, 2013. arXiv:1308.3432.
    Bridging discrete and backpropagation: straight-through and beyond. L. Liu, C. Dong, X. Liu, B. Yu, J. Gao, 2023.
    arXiv:2304.08612.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from novacula.invariances import checks
from novacula.invariances.base import Chosen
from novacula.invariances.noise import unit, working_dtype

FlipName = Literal["flip", "flip_vertical"]
FLIP_NAMES: tuple[FlipName, ...] = ("flip", "flip_vertical")
_AXIS = {"flip": -1, "flip_vertical": -2}
_RARE = 0.05


@dataclass(frozen=True, eq=False)
class Flip(Chosen):
    """Mirror images ``(n, C, H, W)`` left to right, top to bottom, or both, each with a probability p of its own.

    Args:
        eta: The probabilities p in [0, 1/2], shape ``(K,)``, in the order of ``only``: 0 is the identity, 1/2 the whole
            group. Values outside act as the nearest one inside.
        only: ``"flip"`` exchanges left and right, ``"flip_vertical"`` top and bottom.
        init: Where every p starts when ``eta`` is absent.

    Raises:
        InputError: If an argument is not as described.

    Example:
        >>> Flip(eta=torch.tensor([0.5])).describe()
        {'flip_probability': 0.5}
    """

    eta: Tensor = None  # type: ignore[assignment]  # filled in below
    only: tuple[FlipName, ...] = ("flip",)
    init: float = 0.25
    known: ClassVar[tuple[str, ...]] = FLIP_NAMES

    def noise(self, n: int, x: Tensor, rng: torch.Generator) -> Tensor:
        """Draw the randomness of ``n`` flips: x ``(N, C, H, W)`` to ``(n, K)``."""
        checks.images(x)
        return unit(n, (len(self.only),), x, rng)

    def __call__(self, x: Tensor, noise: Tensor) -> Tensor:
        """Mirror the images whose noise is below p; x ``(n, C, H, W)``, noise ``(n, K)``."""
        checks.images(x)
        checks.noise(noise, (x.shape[0], len(self.only)))
        eta = self.eta.to(x.device, working_dtype(x))
        p = self.project(eta.detach())
        flipped = noise.to(x.device, p.dtype) < p
        c_flipped = 0.5 / p.clamp(min=_RARE)
        weight = torch.where(flipped, c_flipped, (1 - p * c_flipped) / (1 - p))
        carrier = (weight * (eta - eta.detach()))[..., None, None, None].to(x.dtype)
        for k, name in enumerate(self.only):
            mirror = x.flip(_AXIS[name])
            out = torch.where(flipped[:, k, None, None, None], mirror, x)
            x = out + (mirror - x) * carrier[:, k] if eta.requires_grad else out
        return x

    def project(self, eta: Tensor) -> Tensor:
        """Limit p to [0, 1/2]; eta ``(K,)``."""
        return eta.clamp(0, 0.5)

    def magnitude(self, eta: Tensor) -> Tensor:
        """Extents without the signs that carry no meaning; eta ``(K,)``."""
        return eta

    def describe(self) -> dict[str, float]:
        """The probability of each flip."""
        values = self.project(self.eta.detach()).tolist()
        return {f"{name}_probability": v for name, v in zip(self.only, values, strict=True)}
