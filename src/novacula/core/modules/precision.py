"""The number format that a network computes in while it trains.

In bfloat16, matrix products and convolutions are computed from inputs and weights that are rounded to 8 bits, by
`torch.autocast`; weights, optimiser, statistics, likelihood and prior stay in the weights' own type, and so does all
that is scored. It needs no scaling of losses, as bfloat16 has the range of float32.

References:
    Mixed precision training. P. Micikevicius, S. Narang, J. Alben, G. Diamos, E. Elsen, D. Garcia, B. Ginsburg,
    M. Houston, O. Kuchaiev, G. Venkatesh, H. Wu, 2018. arXiv:1710.03740.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

Precision: TypeAlias = Literal["full", "bfloat16"]


def computing(precision: Precision, x: Tensor) -> torch.autocast:
    """A context in which networks compute in a format, where ``x`` lies; "full" is the weights' own type."""
    return torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def widened(f: Tensor) -> Tensor:
    """Outputs that were computed in a shorter type of `torch.autocast`, in float32, of which alone it makes them."""
    short = torch.is_autocast_enabled(f.device.type) and f.dtype == torch.get_autocast_dtype(f.device.type)
    return f.float() if short else f
