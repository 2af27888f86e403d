"""Perturb data for experiments: rotate, translate or shrink every image by an amount of its own.

A data set that was upright becomes one whose true invariance is known, so that what is learned can be compared with
it. All perturbations of an image make one affine map and one bilinear interpolation, on a background of zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.invariances import checks
from novacula.invariances.noise import working_dtype
from novacula.invariances.warp import affine_warp, rotation

Kind = Literal["rotate", "translate", "scale"]
# The admissible amounts: what they mean, the bounds, whether the lower bound itself is admissible, an example.
_KINDS: dict[str, tuple[str, float, float, bool, str]] = {
    "rotate": ("degrees from 0 to 180", 0.0, 180.0, True, "rotate=180"),
    "translate": ("a fraction of the width and height from 0 to 1", 0.0, 1.0, True, "translate=0.3"),
    "scale": ("a smallest factor above 0 and at most 1", 0.0, 1.0, False, "scale=0.5"),
}
_USAGE = "write rotate=DEGREES, translate=FRACTION or scale=SMALLEST, for instance rotate=180"
_CHUNK = 2**20


@dataclass(frozen=True)
class Perturbation:
    """One kind of perturbation.

    Args:
        kind: ``"rotate"``: by an angle uniform within ± amount degrees. ``"translate"``: by shifts uniform within ±
            amount of the width, and independently of the height. ``"scale"``: shrunk by a factor uniform in
            [amount, 1].
        amount: Degrees in [0, 180], a fraction in [0, 1], or a smallest factor in (0, 1].

    Raises:
        InputError: If the kind is unknown or the amount out of range.

    Example:
        >>> print(Perturbation("rotate", 90.0))
        rotate=90
    """

    kind: Kind
    amount: float

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise InputError("a perturbation among rotate, translate and scale", repr(self.kind), _USAGE)
        meaning, low, high, closed, example = _KINDS[self.kind]
        amount = float(self.amount)
        if not (low <= amount <= high and (closed or amount > low)):
            raise InputError(f"{self.kind} to give {meaning}", f"{amount:g}", f"use {example}")
        object.__setattr__(self, "amount", amount)

    def __str__(self) -> str:
        return f"{self.kind}={repr(self.amount).removesuffix('.0')}"


def parse(text: str) -> Perturbation:
    """Read a perturbation as the command line writes it.

    Args:
        text: ``rotate=DEGREES``, ``translate=FRACTION`` or ``scale=SMALLEST``.

    Returns:
        The perturbation.

    Raises:
        InputError: If the text has another form, the kind is unknown, or the amount is no number or out of range.

    Example:
        >>> parse("translate=0.3")
        Perturbation(kind='translate', amount=0.3)
    """
    kind, equals, number = (part.strip() for part in text.partition("="))
    if kind not in _KINDS or not equals:
        raise InputError("a perturbation kind=amount, of kind rotate, translate or scale", repr(text), _USAGE)
    try:
        amount = float(number)
    except ValueError:
        raise InputError(f"a number after {kind}=", repr(number), f"use {_KINDS[kind][-1]}") from None
    if not math.isfinite(amount):
        raise InputError(f"a finite number after {kind}=", repr(number), f"use {_KINDS[kind][-1]}")
    return Perturbation(kind, amount)  # type: ignore[arg-type]  # checked above


def perturb(x: Tensor, perturbations: Sequence[Perturbation], seed: int) -> Tensor:
    """Perturb each image of ``(N, C, H, W)`` by a fresh draw, which depends on its place and on the list alone."""
    checks.images(x)
    if not perturbations:
        return x.clone()
    with torch.autocast(x.device.type, enabled=False), torch.autocast("cpu", enabled=False):
        inverse, shift = _draw(x, perturbations, seed)
        size = max(1, _CHUNK // math.prod(x.shape[-2:]))
        pieces = zip(x.split(size), inverse.split(size), shift.split(size), strict=True)
        return torch.cat([affine_warp(*piece) for piece in pieces])


def _draw(x: Tensor, perturbations: Sequence[Perturbation], seed: int) -> tuple[Tensor, Tensor]:
    # One map p' = A p + t for each image: A⁻¹ (N, 2, 2), and t (N, 2) in units of half the sides.
    # Drawn in double precision, so that a seed means the same in every dtype. Shifts are kept in pixels, in which maps
    # compose whatever the aspect ratio.
    n, (height, width), dtype = x.shape[0], x.shape[-2:], torch.float64
    matrix, shift = torch.eye(2, dtype=dtype).expand(n, 2, 2), torch.zeros(n, 2, dtype=dtype)
    half = torch.tensor([width / 2, height / 2], dtype=dtype)
    for k, p in enumerate(perturbations):
        u = torch.rand(n, 2, generator=generator(seed, "perturb", k, p.kind), dtype=dtype)
        if p.kind == "translate":
            shift = shift + (2 * u - 1) * (2 * p.amount * half)
            continue
        if p.kind == "rotate":
            step = rotation(torch.deg2rad((2 * u[:, 0] - 1) * p.amount))
        else:
            step = (p.amount + (1 - p.amount) * u[:, 0])[:, None, None] * torch.eye(2, dtype=dtype)
        matrix, shift = step @ matrix, (step @ shift.unsqueeze(-1)).squeeze(-1)
    return torch.linalg.inv(matrix).to(x.device, working_dtype(x)), (shift / half).to(x.device, working_dtype(x))
