"""A restored image, what it rests on, and how sure each pixel is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.checks.numbers import check_within


@dataclass(frozen=True, eq=False)
class Restored:
    """What `restore` found.

    Attributes:
        image: The image, ``(C, H, W)`` between 0 and 1: of the average over draws or of the stopped run, whichever has
            the smaller risk.
        sd: The standard deviation of each pixel's error, ``(C, H, W)``; how well the risk is known is in it.
        kept: ``"draws"`` or ``"stopped"``.
        stopped: The average at which fitting was stopped.
        draws: Images of the posterior's draws, ``(S, C, H, W)``.
        noise: The standard deviation of the noise that was assumed.
        step: The step at which fitting was stopped.
        trace: The risk, the mean squared error of clean pixels as it is estimated, at every step.
        errors: That of ``"stopped"`` and of ``"draws"``.
        wbic: The widely applicable Bayesian information criterion: minus the log evidence by draws at the temperature
            log n, in nats; None where it was not asked for.
        warnings: Reservations a reader must know.
    """

    image: Tensor
    sd: Tensor
    kept: str
    stopped: Tensor
    draws: Tensor
    noise: float
    step: int
    trace: tuple[float, ...]
    errors: dict[str, float]
    wbic: float | None = None
    warnings: tuple[str, ...] = ()

    __repr__ = brief

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Intervals of the clean image's pixels.

        Args:
            level: The probability inside, between 0 and 1.

        Returns:
            Lower and upper ends within 0 and 1, each ``(C, H, W)``.
        """
        check_within("level", level)
        z = math.sqrt(2) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64)))
        return (self.image - z * self.sd).clamp(0, 1), (self.image + z * self.sd).clamp(0, 1)
