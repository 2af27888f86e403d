"""Sequences that random networks write, symbol after symbol.

A network reads the last ``context`` symbols, as −1 and 1, and says what comes next: 1 with probability
``σ(f/temperature)``, or where f is above zero. Its weights are drawn once for each sequence. Beside `Coins`, under
which all sequences are alike, that shows what random networks prefer among strings, as `sample` shows it of functions.

References:
    The no free lunch theorem, Kolmogorov complexity, and the role of inductive biases in machine learning. M. Goldblum,
    M. Finzi, K. Rowan, A. G. Wilson, 2023. arXiv:2304.05366.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from novacula.core.brief import brief
from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError, NonFiniteError
from novacula.core.forward import Forward
from novacula.core.many import over_members
from novacula.functions.samplers.weights import Drawn, Normals, drawing

_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Sequences:
    """A sampler of binary sequences: of N inputs only the number counts, which is the sequences' length.

    Args:
        network: Any module from ``(B, context)`` to one output.
        context: How many symbols it sees. Those before the first are tosses of a coin.
        prior: A prior over weights, or anything with its ``sample``; None for the network's own initialisation.
        temperature: Of the logit of the next symbol; 0 takes the likelier one.

    Raises:
        InputError: If the network does not take such contexts or has several outputs, or a number is out of range.

    Example:
        >>> import novacula as nv
        >>> drawn = Sequences(nn.Linear(8, 1), 8, nv.FanIn())
        >>> drawn(torch.zeros(50, 1), 3, torch.Generator().manual_seed(0)).shape
        torch.Size([3, 50])
    """

    network: nn.Module
    context: int
    prior: Drawn | None = None
    temperature: float = 0.0

    __repr__ = brief

    def __post_init__(self) -> None:
        check_whole("context", self.context)
        if not 0 <= self.temperature < math.inf:
            raise InputError("a temperature of 0 or more", f"{self.temperature}", "0 takes the likelier symbol")
        if (found := Forward(self.network).check(torch.ones(2, self.context))) != 1:
            raise InputError("a network with one output", f"{found}", "nn.Linear(…, 1) as its last layer")

    @torch.no_grad()
    def __call__(self, inputs: Tensor, n: int, rng: torch.Generator) -> Tensor:
        """Labels ``(n, N)``."""
        forward = Forward(self.network)
        own = forward.params()
        draw, source, parts = drawing(self.prior, self.network, own), Normals(rng), []
        for first in range(0, n, _AT_ONCE):
            size = min(_AT_ONCE, n - first)
            weights = draw(size, source)
            seen = 2.0 * (torch.rand(size, self.context, generator=rng) < 0.5) - 1
            for _ in range(len(inputs)):
                each = {**weights, "": seen[:, None, -self.context :]}
                f = over_members(lambda w: forward({k: w[k] for k in own}, w[""]), each, forward.notes).flatten()
                if not bool(torch.isfinite(f).all()):
                    raise NonFiniteError("finite outputs", "NaN or infinity", "use a prior with smaller weights")
                chance = torch.sigmoid(f / self.temperature) if self.temperature else (f > 0).float()
                seen = torch.cat([seen, 2.0 * (torch.rand(size, generator=rng) < chance)[:, None] - 1], 1)
            parts.append(seen[:, self.context :] > 0)
        return torch.cat(parts)
