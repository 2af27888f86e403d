"""Products with the Jacobian of one batch and its transpose, without forming it.

Both run in reverse mode: ``Jᵀq`` is one backward pass, and ``Jv`` is the derivative of the linear map ``q ↦ Jᵀq`` in
the direction v, one backward pass through the first. Unlike forward mode this works for whatever autograd can
differentiate twice (attention and in-place layers included); it costs about as much, as all vectors share the forward
pass.

Where a network's second derivative does not exist (`torch.cdist`, hard sigmoids, `nn.EmbeddingBag`) or is that of
another function (hooks that change gradients), as a comparison with per-example gradients shows, the Jacobian of each
batch is formed from these (`Formed`).
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
from novacula.curvature.gradients.jacobian import Plan, jacobian, plan, rows

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


@dataclass(frozen=True, eq=False)
class Formed:
    """The network around a point, on one batch, by its Jacobian."""

    outputs: Tensor
    matrix: Tensor  # ``(B, C, P)``

    def pull(self, cotangents: Sequence[Tensor], *, create_graph: bool = False) -> Tensor:
        """``Jᵀ q`` for several q: cotangents ``(B, C)`` to ``(n, P)``."""
        with torch.set_grad_enabled(create_graph):
            return torch.stack(list(cotangents)).flatten(1) @ self.matrix.flatten(0, 1)

    def push(self, vectors: Tensor) -> Tensor:
        """``J v`` for several v: vectors ``(n, P)`` to ``(n, B, C)``."""
        matrix = self.matrix.detach()
        return (vectors.detach().to(matrix) @ matrix.flatten(0, 1).T).unflatten(1, matrix.shape[:2])


def linearise(made: Plan, xs: Tensor, *, keep: bool = False) -> Linearised | Formed:
    """Evaluate the network on a batch, ready for products; xs ``(B, S, …)``."""
    if made.formed:
        with torch.set_grad_enabled(keep):
            point = {**made.problem.params, **made.leaves} if keep else made.problem.params
            outputs = made.problem.forward.average(point, xs if keep else xs.detach())
            return Formed(outputs, jacobian(made, xs))
    return _linearised(made, xs, keep=keep)


def _linearised(made: Plan, xs: Tensor, *, keep: bool = False) -> Linearised:
    with torch.enable_grad(), plain_attention():  # the kernels that it replaces have no second derivative
        outputs = made.problem.forward.average({**made.problem.params, **made.leaves}, xs if keep else xs.detach())
        dummy = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(
            outputs, list(made.leaves.values()), dummy, create_graph=True, allow_unused=True, materialize_grads=True
        )
    return Linearised(made, outputs, dummy, pulled)


def ready(made: Plan) -> Plan:
    """Find out how products of this network are computed.

    Args:
        made: The plan of all batches as they come.

    Returns:
        The plan, with what `Linearised` can be trusted with: several vectors at once, or one; or else with chunks of
        examples whose Jacobian fits into memory.
    """
    xs, y = (part[:1] for part in next(made.chunks()))
    rng, like = generator(0, "vectors"), made.leaves[made.names[0]]
    vectors, cotangents = (torch.randn(2, n, generator=rng).to(like) for n in (made.weights, made.outputs))
    pulled = rows(made, xs, y, factor=lambda f, _: cotangents.T.unsqueeze(0).to(f))[0].detach()
    for batched in (True, False) if made.weights <= SMALL else (False,):
        found = replace(made, batched=batched)
        if _agrees(found, xs, vectors, cotangents.unsqueeze(1), pulled):
            return found
    return replace(plan(made.problem, made.names, columns=made.outputs), formed=True)


def _agrees(made: Plan, xs: Tensor, vectors: Tensor, cotangents: Tensor, expected: Tensor) -> bool:
    # Whether products run, without warnings, and meet ``Jᵀ q`` as per-example gradients have it.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # vmap warns where it falls back to a slow loop of its own
            tangent = _linearised(made, xs)
            pushed = tangent.push(vectors)
            pulled = tangent.pull(cotangents.to(tangent.outputs).unbind(0), create_graph=True).detach()
    except (RuntimeError, NotImplementedError, UserWarning):
        return False
    tolerance = torch.finfo(pushed.dtype).eps ** 0.5
    pairs = ((pulled, expected), (pushed.flatten(1) @ cotangents.flatten(1).T.to(pushed), vectors @ expected.T))
    return all(bool((found - true).norm() <= tolerance * true.norm()) for found, true in pairs)
