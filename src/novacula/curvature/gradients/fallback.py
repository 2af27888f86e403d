"""Per-example Jacobians of any network and any parameter, where hooks do not reach."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from novacula.core.attention import plain_attention
from novacula.core.forward import Forward
from novacula.core.params import Params
from novacula.curvature.gradients.hooks import start


def jacobian_by_vmap(
    forward: Forward, params: Params, xs: Tensor, names: Sequence[str], *, create_graph: bool, chunk: int
) -> Params:
    """`torch.func.jacrev` of one example, mapped over examples: xs ``(B, S, …)`` to ``(B, C, *shape)``."""

    def one(some: Params, x: Tensor) -> Tensor:
        return forward.average({**params, **some}, x.unsqueeze(0))[0]

    some = {name: params[name] for name in names}
    xs = xs if create_graph else xs.detach()
    with torch.set_grad_enabled(create_graph), plain_attention():
        return vmap(jacrev(one), in_dims=(None, 0), chunk_size=chunk)(some, xs)


def with_graph(f: Tensor, leaves: Params) -> Tensor:
    """Outputs with a graph to leaves, also where none of these has a part in them (behind `torch.inference_mode`)."""
    return f if f.requires_grad else f + sum(0 * leaf.sum() for leaf in leaves.values())


def jacobian_by_loop(
    forward: Forward, params: Params, xs: Tensor, names: Sequence[str], anchor: Tensor, *, create_graph: bool
) -> Params:
    """Backward passes for every output of every example: xs ``(B, S, …)`` to ``(B, C, *shape)``."""
    rows: list[Params] = []
    with torch.enable_grad(), plain_attention():
        some = {name: params[name] if params[name].requires_grad else start(anchor, params[name]) for name in names}
        nodes = list(some.values())
        for n in range(xs.shape[0]):
            x = (xs if create_graph else xs.detach())[n : n + 1]
            f = with_graph(forward.average({**params, **some}, x), some)[0]
            columns = [
                torch.autograd.grad(
                    fc, nodes, retain_graph=True, create_graph=create_graph, allow_unused=True, materialize_grads=True
                )
                for fc in f
            ]
            rows.append({name: torch.stack(c) for name, c in zip(names, zip(*columns, strict=True), strict=True)})
    return {name: torch.stack([row[name] for row in rows]) for name in names}
