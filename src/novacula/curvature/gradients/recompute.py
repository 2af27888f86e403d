"""The two-pass hypergradient: the gradient of a sum over batches in the memory of one batch.

A curvature is a sum over the data, ``F(θ) = Σ_b F_b(θ)``, and its gradient with respect to hyperparameters θ needs the
graph of every ``F_b``, which does not fit in memory for a large network. The chain rule lets it be taken one batch at a
time: the first pass sums values and keeps no graph; once the cotangent ``F̄`` is known, the second computes each ``F_b``
again with its graph, adds ``F̄ · ∂F_b/∂θ`` to the gradient and drops the graph. The price is one more evaluation.

`torch.utils.checkpoint` would do the same, but does not work under `torch.func` transforms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from novacula.core.errors import InputError

T = TypeVar("T")
R = TypeVar("R")
Combine = Literal["sum", "cat"]


def leaves_of(tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """The tensors that a computation started from and that require a gradient.

    Args:
        tensors: Results, with or without a graph.

    Returns:
        Every leaf that their graph reaches, each once, in the order of discovery.

    Example:
        >>> a = torch.ones(2, requires_grad=True)
        >>> [leaf is a for leaf in leaves_of([(a * 2).sum(), a.exp()])]
        [True]
    """
    leaves: dict[int, Tensor] = {}
    stack: list[Any] = []
    for tensor in tensors:
        if tensor.grad_fn is not None:
            stack.append(tensor.grad_fn)
        elif tensor.requires_grad:
            leaves.setdefault(id(tensor), tensor)
    seen = set(stack)
    while stack:
        node = stack.pop()
        variable = getattr(node, "variable", None)  # only AccumulateGrad nodes have one
        if variable is not None:
            leaves.setdefault(id(variable), variable)
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return tuple(leaves.values())


def recompute(
    function: Callable[[T], Sequence[Tensor]],
    batches: Callable[[], Iterable[T]],
    leaves: Sequence[Tensor] | None = None,
    *,
    combine: Combine = "sum",
    values: Sequence[Tensor] | None = None,
    shrink: Callable[[], bool] | None = None,
    ignore: Sequence[Tensor] = (),
) -> tuple[Tensor, ...]:
    """Sum a function over batches, with a gradient that is computed batch by batch.

    Where there is a single batch, its graph is kept and there is no second pass.

    Args:
        function: From one batch to tensors, of the same shapes for every batch (but for the first axis with ``"cat"``).
        batches: Called anew for each pass; must yield the same values every time. Batches may carry graphs of their
            own.
        leaves: The tensors that shall receive gradients; those that the first batch's graph starts from where not
            given. They need not be leaves of the graph: tensors on the way cut it there.
        combine: Whether to sum the results or to join them along their first axis.
        values: The results, where they are known already; the first pass then only looks for the leaves.
        shrink: Called when a pass runs out of memory. It may make the batches smaller and return true, for another try.
        ignore: Leaves of the function's own making, which need no gradient.

    Returns:
        The combined results. They carry first-order gradients to ``leaves``; none where there are no leaves.

    Raises:
        InputError: If there is no batch. In the backward pass, if a batch's graph starts from a tensor that the first's
            did not, or if the second pass does not repeat the first.

    Example:
        >>> a = torch.tensor(3.0, requires_grad=True)
        >>> (total,) = recompute(lambda x: [a * x.sum()], lambda: [torch.ones(2), torch.ones(5)])
        >>> total.backward(); total.item(), a.grad.item()
        (21.0, 7.0)
    """
    wanted = None if leaves is None else tuple(leaf for leaf in leaves if leaf.requires_grad)
    recorded = torch.is_grad_enabled() and wanted != ()
    combined, found = retry(lambda: _first_pass(function, batches, combine, values, recorded), shrink)
    if not recorded or found is None:
        return combined
    ignored = {id(leaf) for leaf in ignore}
    wanted = tuple(leaf for leaf in found if id(leaf) not in ignored) if wanted is None else wanted
    if not wanted:
        return combined
    marks = [(float(v.sum(dtype=torch.float64)), float(v.abs().sum(dtype=torch.float64))) for v in combined]
    job = _Job(function, batches, combine, None if leaves is not None else found, tuple(marks), shrink)
    return _Recompute.apply(job, combined, *wanted)


def retry(run: Callable[[], R], shrink: Callable[[], bool] | None) -> R:
    """Run, and run again with less at once while memory does not suffice."""
    while True:
        try:
            return run()
        except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's allocator raises it plain.
            about_memory = isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
            if not about_memory or shrink is None or not shrink():
                raise


def _first_pass(
    function: Callable[[T], Sequence[Tensor]],
    batches: Callable[[], Iterable[T]],
    combine: Combine,
    values: Sequence[Tensor] | None,
    recorded: bool,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...] | None]:
    """Evaluate without a graph, but for the first batch's, where one is wanted, to find its leaves."""
    iterator = iter(batches())
    with torch.set_grad_enabled(recorded):
        batch = next(iterator, _END)
        if batch is _END:
            raise InputError(
                "at least one batch", "none", "pass a function that returns a fresh iterator at every call"
            )
        results: Sequence[Tensor] = function(batch)  # type: ignore[arg-type]
    with torch.no_grad():
        batch = next(iterator, _END)
        if batch is _END:
            return tuple(results), None
        leaves = leaves_of(results) if recorded else ()
        results = [r.detach() for r in results]
        if values is not None:
            return tuple(v.detach() for v in values), leaves
        # The function may return tensors that it still needs, so sums start from copies.
        totals = [[r] if combine == "cat" else [r.clone()] for r in results]
        while batch is not _END:
            for total, r in zip(totals, function(batch), strict=True):  # type: ignore[arg-type]
                if combine == "cat":
                    total.append(r)
                else:
                    total[0].add_(r)
            batch = next(iterator, _END)
    return tuple(torch.cat(total) if combine == "cat" else total[0] for total in totals), leaves


_END: Any = object()


@dataclass(frozen=True, eq=False)
class _Job:
    """What the second pass needs: the computation, the leaves to expect, and the sums that tell a repetition."""

    function: Callable[[Any], Sequence[Tensor]]
    batches: Callable[[], Iterable[Any]]
    combine: Combine
    expected: tuple[Tensor, ...] | None
    marks: tuple[tuple[float, float], ...]
    shrink: Callable[[], bool] | None


class _Recompute(torch.autograd.Function):
    """Gives the values of the first pass, and runs the second when the cotangents arrive."""

    @staticmethod
    def forward(ctx: Any, job: _Job, values: tuple[Tensor, ...], *leaves: Tensor) -> tuple[Tensor, ...]:
        ctx.job = job
        # Saved rather than kept, so that a leaf that is changed in place before the second pass is an error.
        ctx.save_for_backward(*leaves)
        ctx.set_materialize_grads(False)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        job: _Job = ctx.job
        leaves: tuple[Tensor, ...] = ctx.saved_tensors
        with torch.enable_grad():
            gradients, sums = retry(lambda: _second_pass(job, leaves, cotangents), job.shrink)
        for total, (mark, size) in zip(sums, job.marks, strict=True):
            # Loose enough for another order of summation in single precision.
            if math.isfinite(mark) and abs(total - mark) > 1e-4 * size:
                raise InputError(
                    "the same values in both passes over the batches",
                    f"a sum of {mark:.6g} first and {total:.6g} then",
                    "fix the seed of every batch, and leave hyperparameters alone until backward() has run",
                )
        return None, None, *gradients


def _second_pass(
    job: _Job, leaves: Sequence[Tensor], cotangents: Sequence[Tensor | None]
) -> tuple[list[Tensor | None], list[float]]:
    """Contract each batch's graph with the cotangents."""
    gradients: list[Tensor | None] = [None] * len(leaves)
    sums = [0.0] * len(job.marks)
    expected = None if job.expected is None else {id(leaf) for leaf in job.expected}
    offset = 0
    for batch in job.batches():
        results = job.function(batch)
        if expected is not None and any(id(leaf) not in expected for leaf in leaves_of(results)):
            raise InputError(
                "the same tensors behind every batch",
                "a batch that depends on a tensor that the first batch does not depend on",
                "name all tensors that need gradients: recompute(…, leaves=[…])",
            )
        sums = [s + float(r.detach().sum(dtype=torch.float64)) for s, r in zip(sums, results, strict=True)]
        start, offset = offset, offset + (len(results[0]) if job.combine == "cat" else 0)
        pairs = [
            (r, g[start:offset] if job.combine == "cat" else g)
            for r, g in zip(results, cotangents, strict=True)
            if g is not None and r.requires_grad
        ]
        if pairs:
            _accumulate(gradients, pairs, leaves)
        del results, pairs  # and with them the graph, before the next batch is built
    return gradients, sums


def _accumulate(
    gradients: list[Tensor | None], pairs: Sequence[tuple[Tensor, Tensor]], leaves: Sequence[Tensor]
) -> None:
    """Add one batch's share to the gradients."""
    results, cotangents = zip(*pairs, strict=True)
    # The graph above the batches (say, sigma = log_sigma.exp(), made once) is shared and must survive this call.
    parts = torch.autograd.grad(results, leaves, cotangents, retain_graph=True, allow_unused=True)
    for i, part in enumerate(parts):
        if part is not None:
            total = gradients[i]
            gradients[i] = part if total is None else total + part
