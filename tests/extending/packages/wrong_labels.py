"""A likelihood: classes of which some share was written down wrongly, ``p(y | f) = (1 − e) softmax(f)_y + e / C``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from novacula.likelihoods import Categorical, Likelihood
from novacula.runs.catalogue import LikelihoodRow


@dataclass(frozen=True, eq=False)
class WrongLabels(Likelihood):
    """Classes, a share of which is another at random."""

    share: float = 0.1
    task: ClassVar[Literal["classification"]] = "classification"

    def mean(self, f: Tensor) -> Tensor:
        return (1 - self.share) * f.softmax(-1) + self.share / f.shape[-1]

    def log_prob(self, f: Tensor, y: Tensor) -> Tensor:
        return self.mean(f).gather(-1, y.long()[:, None])[:, 0].log()

    def factor(self, f: Tensor, y: Tensor) -> Tensor:
        p = f.softmax(-1)
        slope = (1 - self.share) * (torch.diag_embed(p) - p[:, :, None] * p[:, None, :])
        return slope * self.mean(f).rsqrt()[:, None, :]

    def sample(self, f: Tensor, rng: torch.Generator) -> Tensor:
        return torch.multinomial(self.mean(f), 1, generator=rng)[:, 0]

    def outputs(self, y: Tensor) -> int:
        return Categorical().outputs(y)

    def validate(self, y: Tensor, outputs: int, *, training: bool = True) -> Tensor:
        return Categorical().validate(y, outputs, training=training)


ROW = LikelihoodRow("wrong-labels", WrongLabels, "classification", help="some labels are wrong")
