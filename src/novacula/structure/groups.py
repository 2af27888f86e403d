"""Which weights stand or fall together: each weight, the row of a unit, a unit with its bias, or a head of attention.

A grouping is a whole number for every weight: weights of one number are one group, and −1 marks weights that are never
taken away. So whatever is asked of groups is a sum by index, whether a group spans one tensor or several.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.params import Params

By: TypeAlias = Literal["weight", "row", "unit", "head"]


def grouped(module: nn.Module, params: Params, by: By) -> Params:
    """The group of each weight, int64 tensors of the weights' shapes.

    Tensors with fewer than two axes (biases, scales) are never taken away, but for the bias of a ``"unit"``. The last
    matrix of the network keeps its rows, one an output, and so do matrices of one row.

    Args:
        module: The network.
        params: Its weights by name.
        by: What is a group.

    Returns:
        The groups, numbered from 0; −1 where weights stay.

    Raises:
        InputError: If ``by`` is unknown, or there is nothing to take away.
    """
    if by not in get_args(By):
        raise InputError(f"by as one of {', '.join(get_args(By))}", repr(by), "by='weight'")
    found = {k: torch.full(w.shape, -1, dtype=torch.int64) for k, w in params.items()}
    matrices = [k for k, w in params.items() if w.ndim >= 2]
    if by == "head":
        count = _heads(module, found)
    else:
        count = 0
        for name in matrices if by == "weight" else matrices[:-1]:
            w = params[name]
            if by == "weight":
                found[name] = torch.arange(count, count + w.numel()).reshape(w.shape)
                count += w.numel()
            elif len(w) > 1:
                rows = torch.arange(count, count + len(w))
                found[name] = rows.reshape(-1, *[1] * (w.ndim - 1)).expand(w.shape).clone()
                bias = f"{name.removesuffix('weight')}bias"
                if by == "unit" and name.endswith("weight") and bias in found and found[bias].shape == (len(w),):
                    found[bias] = rows
                count += len(w)
    if count == 0:
        raise InputError(f"a network with a {by} to take away", type(module).__name__, "by='weight'")
    return found


def sums(values: Params, groups: Params) -> Tensor:
    """The sum of a number for each weight over its group, ``(G,)`` in float64."""
    number = 1 + max(int(g.max()) for g in groups.values())
    total = torch.zeros(number, dtype=torch.float64)
    for k, g in groups.items():
        inside = g >= 0
        total.index_add_(0, g[inside], values[k].detach().double().cpu().expand(g.shape)[inside])
    return total


def spread(values: Tensor, groups: Params, otherwise: Params) -> Params:
    """A number of each group ``(G,)`` for each of its weights; ``otherwise`` has those of weights in none."""
    return {
        k: torch.where(g >= 0, values[g.clamp(min=0)].to(otherwise[k]), otherwise[k].expand(g.shape))
        for k, g in groups.items()
    }


def _heads(module: nn.Module, found: Params) -> int:
    # A head's queries, keys, values and its columns of the projection that follows.
    count = 0
    for name, layer in module.named_modules():
        own = f"{name}." if name else ""
        if not isinstance(layer, nn.MultiheadAttention) or f"{own}in_proj_weight" not in found:
            continue
        heads = torch.arange(count, count + layer.num_heads).repeat_interleave(layer.head_dim)
        whole = found[f"{own}in_proj_weight"].shape
        found[f"{own}in_proj_weight"] = heads.repeat(3)[:, None].expand(whole).clone()
        found[f"{own}out_proj.weight"] = heads.expand(found[f"{own}out_proj.weight"].shape).clone()
        count += layer.num_heads
    return count
