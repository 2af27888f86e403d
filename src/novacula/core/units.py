"""The scales between a network and its data: inputs of about unit size go in, outputs in the data's own units come out.

Priors and optimisers presume inputs and targets of about unit size. With

    f(w, x) = y_mean + y_sd · net(w, (x − x_mean)/x_sd)

they meet them, while outputs, noise and evidence are in the units that the data came in: where ``x → a x + b`` and
``y → c y + d``, f follows, and nothing else changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from novacula.core.brief import brief


def _nothing() -> Tensor:
    return torch.empty(0)


@dataclass(frozen=True, eq=False)
class Units:
    """An affine map before a network and one after it; an empty tensor stands for none.

    Example:
        >>> Units(y_mean=torch.tensor([1.0]), y_sd=torch.tensor([2.0])).outward(torch.tensor([[3.0]]))
        tensor([[7.]])
    """

    x_mean: Tensor = field(default_factory=_nothing)  # broadcasts against an input
    x_sd: Tensor = field(default_factory=_nothing)  # the same; positive
    y_mean: Tensor = field(default_factory=_nothing)  # shape ``(C,)``, or ``(1,)`` for all
    y_sd: Tensor = field(default_factory=_nothing)  # the same; positive

    __repr__ = brief

    def inward(self, x: Tensor) -> Tensor:
        """Inputs as the network sees them, ``(N, …)``."""
        if not self.x_sd.numel() or not x.is_floating_point():
            return x
        return (x - self.x_mean.to(x)) / self.x_sd.to(x)

    def outward(self, f: Tensor) -> Tensor:
        """The network's outputs in the data's units, ``(…, C)``."""
        return f * self.y_sd.to(f) + self.y_mean.to(f) if self.y_sd.numel() else f

    def steepened(self, v: Tensor) -> Tensor:
        """Cotangents of the outputs as those of the network's own: v ``(B, C, K)``."""
        return v * self.y_sd.to(v).unsqueeze(-1) if self.y_sd.numel() else v

    def scaled(self, factor: float, outputs: int = 1) -> Self:
        """The same with outputs times a factor: logits over a temperature; one scale may stand for all outputs."""
        sd = self.y_sd if self.y_sd.numel() else torch.ones(outputs, dtype=torch.float64)
        mean = self.y_mean if self.y_sd.numel() else torch.zeros(outputs, dtype=torch.float64)
        return replace(self, y_mean=mean * factor, y_sd=sd * factor)

    def tensors(self) -> dict[str, Tensor]:
        """All four by name."""
        return {"x_mean": self.x_mean, "x_sd": self.x_sd, "y_mean": self.y_mean, "y_sd": self.y_sd}
