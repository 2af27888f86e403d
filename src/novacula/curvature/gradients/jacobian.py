"""The rows of the GGN's square root: every example's gradients ``g_nk = J_nᵀ L_n[:, k]``, with ``H = Σ_nk g_nk g_nkᵀ``.

Each structure is a way to combine these rows: their outer products (exact), their squares (diagonal), their inner
products (dual, NTK). They come from hooks where these are known to be right (`capture`), and from `torch.func.vmap` of
a vector-Jacobian product, or a plain loop over examples where vmap does not work, for all other parameters. Inputs were
transformed before, so any transformation may be behind ``xs``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.func import vjp, vmap

from novacula.core.attention import plain_attention
from novacula.core.errors import InputError, NonFiniteError, NovaculaWarning
from novacula.core.params import Params, flatten
from novacula.curvature.gradients.capture import Captured, Coverage, capture, cover, per_example_gradients
from novacula.curvature.gradients.fallback import with_graph
from novacula.curvature.gradients.recompute import Combine, recompute
from novacula.curvature.problem import Problem

Factor = Callable[[Tensor, Tensor], Tensor]

BUDGET = 2**28
"""Bytes that the rows of one chunk of examples may take."""


@dataclass(frozen=True, eq=False)
class Plan:
    """How the rows of a problem are computed."""

    problem: Problem  # the problem
    names: tuple[str, ...]  # the parameters to differentiate in
    coverage: Coverage  # which of them the hooks cover
    outputs: int  # C
    columns: int  # K, the columns of the factor
    leaves: Params  # the parameters again, as leaves of graphs that need them; always the same ones
    chunk: list[int]  # the size of the chunks of examples, in a list of one so that it can shrink when memory runs out
    batched: bool = False  # whether products take several vectors at once (see `products`)
    formed: bool = False  # whether they need the Jacobian itself

    @property
    def weights(self) -> int:
        """P, the weights in ``names``."""
        return sum(self.problem.params[name].numel() for name in self.names)

    @property
    def internal(self) -> tuple[Tensor, ...]:
        """Leaves that graphs of rows may start from and that are nobody's hyperparameter."""
        return (self.coverage.anchor, *self.leaves.values())

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the rows."""
        return self.problem.params[self.names[0]].dtype

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over the data in pieces that fit."""
        for xs, y in self.problem.batches():
            size = self.chunk[0]
            if len(xs) <= size:
                yield xs, y
            else:
                yield from zip(xs.split(size), y.split(size), strict=True)

    def shrink(self) -> bool:
        """Halve the chunks, with a warning."""
        size = min(self.chunk[0], self.problem.size)
        if size < 2:
            return False
        self.chunk[0] = size // 2
        warnings.warn(
            f"out of memory with {size} examples at once: going on with {size // 2}", NovaculaWarning, stacklevel=2
        )
        return True

    def reduce(
        self, function: Callable[[Tensor, Tensor], Sequence[Tensor]], combine: Combine = "sum"
    ) -> tuple[Tensor, ...]:
        """Sum or join a function of chunks ``(xs, y)`` over a pass, recomputed where the problem is differentiable."""
        with torch.set_grad_enabled(self.problem.differentiable and torch.is_grad_enabled()):
            return recompute(
                lambda batch: function(*batch), self.chunks, combine=combine, shrink=self.shrink, ignore=self.internal
            )


def plan(
    problem: Problem, names: Sequence[str] | None = None, *, columns: int | None = None, budget: int = BUDGET
) -> Plan:
    """Find out how to compute the rows of a problem.

    Args:
        problem: The problem.
        names: The parameters to differentiate in; all by default.
        columns: K where the rows are not those of the problem's factor.
        budget: Bytes that one chunk's rows may take.

    Returns:
        The plan.

    Raises:
        InputError: If a name is unknown, there is no data, or the factor does not have the shape ``(B, C, K)``.
        NonFiniteError: If outputs or factor are NaN or infinite.
    """
    chosen = tuple(problem.params) if names is None else tuple(name for name in problem.params if name in set(names))
    unknown = () if names is None else sorted(set(names) - set(chosen))
    if unknown or not chosen:
        raise InputError(
            f"names among {', '.join(problem.params)}",
            ", ".join(unknown) or "none",
            "use names of the network's parameters",
        )
    with torch.no_grad():
        first = next(iter(problem.batches()), None)
        if first is None:
            raise InputError("at least one batch", "none", "pass a non-empty data set")
        some = first[0][:16]
        xs, y = some[:3], first[1][:3]
        f = problem.forward.average(problem.params, xs)
        factor = problem.factor(f, y)
    if factor.ndim != 3 or factor.shape[:2] != f.shape:
        raise InputError(
            f"a factor of shape ({len(f)}, {f.shape[1]}, K)",
            str(tuple(factor.shape)),
            "return L with L Lᵀ the Fisher of f",
        )
    for what, value in (("network outputs", f), ("entries of the likelihood's factor", factor)):
        if not torch.isfinite(value).all():
            raise NonFiniteError(f"finite {what}", "NaN or infinity", "check the weights and the inputs")
    k = factor.shape[2] if columns is None else columns
    weights = sum(problem.params[name].numel() for name in chosen)
    size = max(1, budget // (weights * k * problem.params[chosen[0]].element_size()))
    leaves = {name: problem.params[name].detach().requires_grad_() for name in chosen}
    return Plan(problem, chosen, coverage_of(problem, some), f.shape[1], k, leaves, [size])


def coverage_of(problem: Problem, xs: Tensor) -> Coverage:
    """`cover`, measured once for each network, shape of inputs and set of parameters."""
    known = problem.forward.notes.coverage  # without the network, which would keep itself alive
    key = (tuple(xs.shape[2:]), next(iter(problem.params.values())).dtype, tuple(problem.params))
    if key not in known:
        found = cover(problem.forward, problem.params, xs)
        known[key] = {f.name: getattr(found, f.name) for f in fields(found) if f.name != "forward"}
    return Coverage(forward=problem.forward, **known[key])


def rows(
    problem: Problem | Plan, xs: Tensor, y: Tensor, *, names: Sequence[str] | None = None, factor: Factor | None = None
) -> Tensor:
    """Per-example gradients of the outputs' factor columns with respect to the weights.

    Args:
        problem: The problem, or the plan made from it.
        xs: Inputs ``(B, S, …)``, transformed already.
        y: Labels of the B examples.
        names: The parameters to differentiate in, where no plan says so; all by default.
        factor: From ``(f (B, C), y)`` to cotangents ``(B, C, K)``, instead of the problem's.

    Returns:
        ``G (B, K, P)``, ``G[n, k] = J_nᵀ L_n[:, k]``, flat in the order of the parameters, without ``problem.scale``.
        Carries a graph to whatever ``xs`` and the factor depend on if the problem is differentiable.
    """
    made = problem if isinstance(problem, Plan) else plan(problem, names)
    return flatten(rows_by_name(made, xs, y, factor=factor), batch_dims=2)


def rows_by_name(made: Plan, xs: Tensor, y: Tensor, *, factor: Factor | None = None) -> Params:
    """`rows`, parameter by parameter: xs ``(B, S, …)`` to ``(B, K, *shape)``."""
    captured, v = capture_rows(made, xs, y, factor=factor)
    graph = made.problem.differentiable and torch.is_grad_enabled()
    covered = [name for name in captured.covered if name in made.names]
    found = per_example_gradients(captured, v, names=covered, create_graph=graph) | uncovered_rows(made, xs, v)
    return {name: found[name] for name in made.names}


def capture_rows(made: Plan, xs: Tensor, y: Tensor, *, factor: Factor | None = None) -> tuple[Captured, Tensor]:
    """Run the network once under hooks, and find the cotangents of its outputs: xs ``(B, S, …)`` to ``(B, C, K)``."""
    graph = made.problem.differentiable and torch.is_grad_enabled()
    captured = capture(made.coverage, made.problem.params, xs if graph else xs.detach())
    with torch.set_grad_enabled(graph):
        v = (made.problem.factor if factor is None else factor)(captured.outputs, y)
    return captured, v


def uncovered_rows(made: Plan, xs: Tensor, v: Tensor) -> Params:
    """The rows of all other parameters, by vmap or by a loop, ``(B, K, *shape)``."""
    names = tuple(name for name in made.names if name in made.coverage.uncovered)
    if not names:
        return {}
    graph = made.problem.differentiable and torch.is_grad_enabled()
    xs = xs if graph else xs.detach()
    with torch.set_grad_enabled(graph), plain_attention():
        if made.coverage.vmaps:
            return _by_vmap(made.problem, {name: made.problem.params[name] for name in names}, xs, v)
        return _by_loop(made.problem, {name: made.leaves[name] for name in names}, xs, v, graph)


def _by_vmap(problem: Problem, some: Params, xs: Tensor, v: Tensor) -> Params:
    def one(x: Tensor, cotangents: Tensor) -> Params:
        def output(part: Params) -> Tensor:
            return problem.forward.average({**problem.params, **part}, x.unsqueeze(0))[0]

        pullback = vjp(output, some)[1]
        return vmap(lambda c: pullback(c)[0], in_dims=1)(cotangents)

    return vmap(one)(xs, v)


def _by_loop(problem: Problem, leaves: Params, xs: Tensor, v: Tensor, graph: bool) -> Params:
    found: list[list[tuple[Tensor, ...]]] = []
    for n in range(len(xs)):
        with torch.enable_grad():
            f = with_graph(problem.forward.average({**problem.params, **leaves}, xs[n : n + 1]), leaves)
        found.append(
            [
                torch.autograd.grad(
                    f,
                    list(leaves.values()),
                    c,
                    retain_graph=True,
                    create_graph=graph,
                    allow_unused=True,
                    materialize_grads=True,
                )
                for c in v[n : n + 1].unbind(-1)
            ]
        )
    return {name: torch.stack([torch.stack([k[i] for k in n]) for n in found]) for i, name in enumerate(leaves)}


def unit_factor(f: Tensor, y: Tensor) -> Tensor:
    """The factor for which the rows are the Jacobian: f ``(B, C)`` to ``(B, C, C)``."""
    return torch.eye(f.shape[1], dtype=f.dtype, device=f.device).expand(len(f), -1, -1)


def jacobian(made: Plan, xs: Tensor) -> Tensor:
    """The Jacobian of the averaged outputs; xs ``(B, S, …)``."""
    return rows(made, xs, torch.empty(0), factor=unit_factor)
