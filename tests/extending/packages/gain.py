"""An invariance: inputs are multiplied by a random factor."""

from __future__ import annotations

import torch
from torch import Tensor

from novacula.invariances import Custom
from novacula.runs.catalogue import Extent, InvarianceRow


def _louder(x: Tensor, noise: Tensor, eta: Tensor) -> Tensor:
    return x * (eta * noise).exp().reshape(-1, *[1] * (x.ndim - 1))


def gain() -> Custom:
    """Factors from ``exp(−eta)`` to ``exp(eta)``."""
    return Custom(_louder, torch.tensor([0.1]), names=("gain",))


LOUDNESS = Extent("gain", "changes of loudness", "factor", natural=0.5, least=0.001)
ROW = InvarianceRow("gain", gain, help="louder and softer", extents={"gain": LOUDNESS})
