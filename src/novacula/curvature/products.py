"""Products with the Jacobian of one batch and its transpose, without forming it.

Both run in reverse mode: ``Jᵀq`` is one backward pass, and ``Jv`` is the derivative of the linear map ``q ↦ Jᵀq`` in
the direction v, one backward pass through the first. Unlike forward mode this works for whatever autograd can
differentiate twice (attention and in-place layers included); it costs about as much, as all vectors share the forward
pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from novacula.core.params import flatten, unflatten
from novacula.curvature.jacobian import Plan


@dataclass(frozen=True, eq=False)
class Linearised:
    """The network around a point, on one batch.

    Args:
        plan: Gives network and weights.
        outputs: ``f̄ (B, C)`` with a graph to the plan's leaves, and to whatever the inputs depend on if they were kept.
        dummy: A cotangent q of the outputs, zero.
        pulled: ``Jᵀq`` as a function of it.
    """

    plan: Plan
    outputs: Tensor
    dummy: Tensor
    pulled: tuple[Tensor, ...]

    def pull(self, cotangents: Sequence[Tensor], *, create_graph: bool = False) -> Tensor:
        """``Jᵀ q`` for several q.

        Args:
            cotangents: n tensors ``(B, C)``.
            create_graph: Whether the result can be differentiated.

        Returns:
            Shape ``(n, P)``.
        """
        found = [self._pull(q, create_graph) for q in cotangents]
        return torch.stack([flatten(dict(zip(self.plan.names, parts, strict=True))) for parts in found])

    def push(self, vectors: Tensor) -> Tensor:
        """``J v`` for several v.

        Args:
            vectors: Shape ``(n, P)``.

        Returns:
            Shape ``(n, B, C)``, without a graph.
        """
        used = [i for i, g in enumerate(self.pulled) if g.requires_grad]
        nodes = [self.pulled[i] for i in used]
        found = []
        for vector in vectors.detach().to(self.plan.dtype):
            parts = list(unflatten(vector, self.plan.leaves).values())
            directions = [parts[i] for i in used]
            (pushed,) = torch.autograd.grad(nodes, self.dummy, directions, retain_graph=True, materialize_grads=True)
            found.append(pushed)
        return torch.stack(found)

    def _pull(self, q: Tensor, create_graph: bool) -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            self.outputs,
            list(self.plan.leaves.values()),
            q,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
            materialize_grads=True,
        )


def linearise(made: Plan, xs: Tensor, *, keep: bool = False) -> Linearised:
    """Evaluate the network on a batch, ready for products.

    Args:
        made: The plan.
        xs: Inputs ``(B, S, …)``.
        keep: Whether to keep the graph behind ``xs`` (and other tensors), for derivatives of the products.

    Returns:
        The linearised network.
    """
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # the other attention kernels have no second derivative
        outputs = made.problem.forward.average({**made.problem.params, **made.leaves}, xs if keep else xs.detach())
        dummy = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(
            outputs, list(made.leaves.values()), dummy, create_graph=True, allow_unused=True, materialize_grads=True
        )
    return Linearised(made, outputs, dummy, pulled)
