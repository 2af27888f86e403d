"""A network for tables: each column goes through smooth hinges of its own before columns are mixed.

A perceptron sees a column only in sums with all others, so that a step in one of them costs it many units; trees cut
one column at a time, and are hard to beat on tables for it. Hinges of each column by itself give a network that choice.

References:
    On embeddings for numerical features in tabular deep learning. Y. Gorishniy, I. Rubachev, A. Babenko, 2022.
    arXiv:2203.05556.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from novacula.core.checks.numbers import check_whole
from novacula.networks.mlp import Activation, as_shape, mlp

_HINGES, _MOST = 16, 256
"""Hinges of a column by default, and of all columns together."""
_STEEP = 2.0


class Hinges(nn.Module):
    """``h_jk(x) = GELU(a_jk x_j + b_jk)`` of each column j, beside the columns themselves: D to D·(K + 1) numbers.

    At first ``a_jk ~ N(0, 2²)`` and ``b_jk = −a_jk q_k``, with the quantiles ``q_k`` of a standard normal at
    ``(k + ½)/K``: the kinks lie where values of a standardised column do. Both are learned.

    Args:
        columns: D.
        hinges: K.

    Attributes:
        slopes: a, shape ``(D, K)``.
        shifts: b, shape ``(D, K)``.
    """

    def __init__(self, columns: int, hinges: int) -> None:
        super().__init__()
        self.slopes = nn.Parameter(torch.empty(columns, hinges))
        self.shifts = nn.Parameter(torch.empty(columns, hinges))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw both anew."""
        hinges = self.slopes.shape[1]
        with torch.no_grad():
            levels = (torch.arange(hinges).to(self.slopes) + 0.5) / hinges
            self.slopes.normal_(0, _STEEP)
            self.shifts.copy_(-self.slopes * torch.special.ndtri(levels))

    def forward(self, x: Tensor) -> Tensor:
        """Rows ``(N, D)`` to ``(N, D·(K + 1))``."""
        bent = functional.gelu(x.unsqueeze(-1) * self.slopes + self.shifts)
        return torch.cat([x, bent.flatten(1)], dim=1)

    def extra_repr(self) -> str:
        """Sizes, as torch's own layers show them."""
        columns, hinges = self.slopes.shape
        return f"columns={columns}, hinges={hinges}"


def table(
    x_shape: Sequence[int],
    outputs: int,
    *,
    width: int = 128,
    depth: int = 1,
    hinges: int | None = None,
    activation: Activation = "gelu",
) -> nn.Sequential:
    """A perceptron on hinges of each column, for tables; inputs are meant to be standardised, as `learn` does.

    Args:
        x_shape: The shape of one input; inputs are flattened to D columns.
        outputs: The number of outputs C.
        width: Units in each hidden layer.
        depth: The number of hidden layers.
        hinges: Hinges K of each column; by default 16, or fewer where there would be more than 256 in all, and none
            from 257 columns on: then it is an `mlp`.
        activation: The nonlinearity of the hidden layers.

    Returns:
        A module from ``(N, *x_shape)`` to ``(N, C)``.

    Raises:
        InputError: If a size is not positive or the activation is unknown.

    Example:
        >>> table((8,), 1)[1]
        Hinges(columns=8, hinges=16)
    """
    columns = math.prod(as_shape(x_shape))
    if hinges is None:
        hinges = min(_HINGES, _MOST // columns)
    check_whole("hinges", hinges, least=0)
    if not hinges:
        return mlp(x_shape, outputs, width=width, depth=depth, activation=activation)
    body = mlp((columns * (hinges + 1),), outputs, width=width, depth=depth, activation=activation)
    return nn.Sequential(nn.Flatten(), Hinges(columns, hinges), *list(body)[1:])
