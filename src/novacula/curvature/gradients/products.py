"""Products with the Jacobian of one batch and its transpose, without forming it.

Both run in reverse mode: ``Jᵀq`` is one backward pass, and ``Jv`` is the derivative of the linear map ``q ↦ Jᵀq`` in
the direction v, one backward pass through the first. Unlike forward mode this works for whatever autograd can
differentiate twice (attention and in-place layers included); it costs about as much, as all vectors share the forward
pass.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from novacula.core.attention import plain_attention
from novacula.core.params import flatten, unflatten
from novacula.core.rng import generator
from novacula.curvature.gradients.jacobian import Plan

GROUP = 16
"""Vectors that are multiplied at once where that works and is worth it."""

SMALL = 2**16
"""Weights up to which it is worth it: larger products take no time for bookkeeping, and memory counts."""


@dataclass(frozen=True, eq=False)
class Linearised:
    """The network around a point, on one batch."""

    plan: Plan  # gives network and weights
    outputs: Tensor
    dummy: Tensor  # A cotangent q of the outputs, zero
    pulled: tuple[Tensor, ...]  # ``Jᵀq`` as a function of it

    def pull(self, cotangents: Sequence[Tensor], *, create_graph: bool = False) -> Tensor:
        """``Jᵀ q`` for several q: cotangents ``(B, C)`` to ``(n, P)``."""
        if not self.plan.batched:
            found = [self._pull(q, create_graph, batched=False) for q in cotangents]
            return torch.stack([flatten(dict(zip(self.plan.names, parts, strict=True))) for parts in found])
        groups = torch.stack(list(cotangents)).split(GROUP)
        joined = [dict(zip(self.plan.names, self._pull(q, create_graph, batched=True), strict=True)) for q in groups]
        return torch.cat([flatten(parts, batch_dims=1) for parts in joined])

    def push(self, vectors: Tensor) -> Tensor:
        """``J v`` for several v: vectors ``(n, P)`` to ``(n, B, C)``."""
        used = [i for i, g in enumerate(self.pulled) if g.requires_grad]
        nodes = [self.pulled[i] for i in used]
        batched = self.plan.batched
        found = []
        vectors = vectors.detach().to(self.plan.dtype)
        for part in vectors.split(GROUP) if batched else vectors.unbind(0):
            parts = list(unflatten(part, self.plan.leaves).values())
            directions = [parts[i] for i in used]
            (pushed,) = torch.autograd.grad(
                nodes, self.dummy, directions, retain_graph=True, materialize_grads=True, is_grads_batched=batched
            )
            found.append(pushed)
        return torch.cat(found) if batched else torch.stack(found)

    def _pull(self, q: Tensor, create_graph: bool, batched: bool) -> tuple[Tensor, ...]:
        leaves = list(self.plan.leaves.values())
        found = torch.autograd.grad(
            self.outputs,
            leaves,
            q,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
            is_grads_batched=batched,
        )
        # Zeros for weights that the outputs do not depend on, for every q: autograd's own lack this axis.
        lead = q.shape[:1] if batched else ()
        return tuple(w.new_zeros(*lead, *w.shape) if g is None else g for g, w in zip(found, leaves, strict=True))


def linearise(made: Plan, xs: Tensor, *, keep: bool = False) -> Linearised:
    """Evaluate the network on a batch, ready for products; xs ``(B, S, …)``."""
    with torch.enable_grad(), plain_attention():  # the kernels that it replaces have no second derivative
        outputs = made.problem.forward.average({**made.problem.params, **made.leaves}, xs if keep else xs.detach())
        dummy = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(
            outputs, list(made.leaves.values()), dummy, create_graph=True, allow_unused=True, materialize_grads=True
        )
    return Linearised(made, outputs, dummy, pulled)


def can_batch(made: Plan) -> bool:
    """Whether several vectors can be multiplied at once: the network is small, and vmap covers its derivatives."""
    if made.weights > SMALL:
        return False
    xs, _ = next(made.chunks())
    one = linearise(made, xs[:1])
    both = replace(one, plan=replace(made, batched=True))
    vectors = torch.randn(2, made.weights, generator=generator(0, "vectors")).to(made.leaves[made.names[0]])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # vmap warns where it falls back to a slow loop of its own
            pushed = both.push(vectors)
            pulled = both.pull(pushed.unbind(0), create_graph=True)
    except (RuntimeError, UserWarning):
        return False
    tolerance = torch.finfo(pushed.dtype).eps ** 0.5
    expected = one.push(vectors)
    return all(
        bool((found - true).norm() <= tolerance * true.norm())
        for found, true in ((pushed, expected), (pulled, one.pull(expected.unbind(0))))
    )
