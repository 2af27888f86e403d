"""How a posterior is asked for predictions, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from novacula.core.errors import NonFiniteError
from novacula.core.params import Params
from novacula.core.rng import derive, generator
from novacula.posteriors.linearised import Rule
from novacula.target import Target
from novacula.target.copies import member_outputs

Kind: TypeAlias = Literal["plug-in", "linearised", "mixture"]
SAMPLES = 128
"""Draws where nobody asked for a number."""
_MOST = 512


@dataclass(frozen=True)
class How:
    """How outputs are asked for."""

    kind: Kind  # the way of prediction, see `novacula.prediction.predict`
    copies: int = 1  # transformed copies S of each input
    samples: int | None = None  # draws; None for as many as the posterior thinks right
    rule: Rule | None = None  # how a linearised predictive is made; None for the likelihood's default
    average: Literal["outputs", "probabilities"] = "outputs"
    seed: int = 0  # seed of the transformations and draws
    chunk: int | None = None  # inputs at once; None for as many as fit

    def draws(self, size: int | None) -> int:
        """How many weights to draw of a posterior of so many points; None where there are any number."""
        return self.samples or (SAMPLES if size is None else min(size, _MOST))

    def rng(self) -> torch.Generator:
        """The stream of the weights that are drawn."""
        return generator(derive(self.seed, "weights"))

    def outputs(self, target: Target, weights: Params, x: Tensor) -> Tensor:
        """Outputs ``(M, N, C)`` of M networks; of every copy, ``(M · S, N, C)``, if these are averaged later."""
        joint = self.average == "outputs"
        f = member_outputs(target, weights, x, copies=self.copies, seed=self.seed, chunk=self.chunk, average=joint)
        return f if joint else f.movedim(2, 1).flatten(0, 1)


class Answer(NamedTuple):
    """Outputs of equally weighted networks, ``(S, N, C)``, or a Gaussian's mean ``(1, N, C)`` and covariance.

    ``way`` is how they were made: the kind, or the rule of a linearised network.
    """

    values: Tensor
    way: str
    covariance: Tensor | None = None


def finite(f: Tensor) -> Tensor:
    """Refuse outputs ``(..., N, C)`` that are not finite."""
    bad = ~torch.isfinite(f).all(-1).reshape(-1, f.shape[-2]).all(0)
    if bad.any():
        raise NonFiniteError(
            "finite network outputs",
            f"NaN or infinity for the input in row {int(bad.nonzero()[0, 0])}",
            "check the weights and the inputs' scale",
        )
    return f
