"""Weights as ``dict[str, Tensor]``, and the little algebra that everything above needs.

A point in weight space is a dictionary from parameter names to tensors, as `torch.func.functional_call` takes it.
Samples add one leading axis S to every tensor. Nothing here knows what a network is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from novacula.core.errors import InputError

Params: TypeAlias = dict[str, Tensor]


def count(params: Mapping[str, Tensor]) -> int:
    """The number of weights P."""
    return sum(w.numel() for w in params.values())


def flatten(params: Mapping[str, Tensor], *, batch_dims: int = 0) -> Tensor:
    """Concatenate the tensors into vectors.

    Args:
        params: Weights, each of shape ``(*batch, *shape)``.
        batch_dims: How many leading axes are batch axes, kept as they are.

    Returns:
        A tensor of shape ``(*batch, P)``, in the dictionary's order.

    Example:
        >>> flatten({"a": torch.ones(2, 2), "b": torch.zeros(1)})
        tensor([1., 1., 1., 1., 0.])
    """
    return torch.cat([w.flatten(batch_dims) if w.ndim > batch_dims else w.unsqueeze(-1) for w in params.values()], -1)


def unflatten(vector: Tensor, like: Mapping[str, Tensor]) -> Params:
    """Undo `flatten`: ``(*batch, P)`` to views ``(*batch, *shape)``, with names, shapes and order of ``like``."""
    if vector.shape[-1] != count(like):
        raise InputError(
            f"a vector of {count(like)} weights", f"shape {tuple(vector.shape)}", "flatten weights of the same network"
        )
    parts = vector.split([w.numel() for w in like.values()], dim=-1)
    return {k: p.reshape((*vector.shape[:-1], *w.shape)) for (k, w), p in zip(like.items(), parts, strict=True)}


def stack(points: Sequence[Mapping[str, Tensor]]) -> Params:
    """Stack points into samples.

    Args:
        points: S points with the same names and shapes.

    Returns:
        One dictionary whose tensors have a leading axis S.
    """
    return {k: torch.stack([p[k] for p in points]) for k in points[0]}


def unstack(samples: Mapping[str, Tensor]) -> list[Params]:
    """Undo `stack`: tensors with a leading axis S to a list of S points (views)."""
    size = next(iter(samples.values())).shape[0]
    return [{k: w[i] for k, w in samples.items()} for i in range(size)]


def detach(params: Mapping[str, Tensor]) -> Params:
    """Clones of the weights that share no memory and carry no gradient."""
    return {k: w.detach().clone() for k, w in params.items()}


def add(a: Mapping[str, Tensor], b: Mapping[str, Tensor], *, scale: float = 1.0) -> Params:
    """``a + scale · b``, name by name; leading sample axes broadcast."""
    return {k: w + scale * b[k] for k, w in a.items()}


def dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    """The inner product of two points with the same names and shapes, a scalar tensor."""
    return torch.stack([(w * b[k]).sum() for k, w in a.items()]).sum()
