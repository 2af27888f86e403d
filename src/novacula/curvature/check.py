"""A self-check: any structure against the dense GGN on a few examples, by the plainest route there is.

The reference differentiates one example and one output at a time with `torch.autograd.grad`, in float64 and without
hooks, vmap or chunks, so that it shares nothing with what it checks. It also compares outputs of a batch with those of
single examples, since no per-example curvature exists for a network that mixes them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from novacula.core.attention import plain_attention
from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.curvature.problem import Curvature, Problem


@dataclass(frozen=True)
class Errors:
    """Relative errors of one parameter's block (or of all).

    Args:
        trace: Of the block's trace.
        diagonal: Of the diagonal, in norm.
        log_det: Of ``log |H + Λ| − log |Λ|`` restricted to the block, beyond four standard errors of an estimate.
    """

    trace: float
    diagonal: float
    log_det: float

    def worst(self) -> tuple[str, float]:
        """The largest.

        Returns:
            Its name and value.
        """
        return max((("trace", self.trace), ("diagonal", self.diagonal), ("log-det", self.log_det)), key=lambda e: e[1])


@dataclass(frozen=True)
class Check:
    """What a self-check found.

    Args:
        structure: The structure that was checked.
        examples: On how many examples.
        tolerance: What counts as exact.
        total: Errors of the whole matrix.
        errors: Errors of each parameter's block.
        mixing: How much an example's outputs depend on the rest of its batch, relative to their size.
    """

    structure: str
    examples: int
    tolerance: float
    total: Errors
    errors: dict[str, Errors]
    mixing: float

    @property
    def exact(self) -> bool:
        """Whether nothing is off."""
        return self.mixing <= self.tolerance and all(
            e.worst()[1] <= self.tolerance for e in (self.total, *self.errors.values())
        )

    def off(self) -> dict[str, Errors]:
        """What is off.

        Returns:
            Errors of the parameters beyond the tolerance, the worst first.
        """
        found = {name: e for name, e in self.errors.items() if e.worst()[1] > self.tolerance}
        return dict(sorted(found.items(), key=lambda item: -item[1].worst()[1]))

    def __str__(self) -> str:
        if self.exact:
            return f"{self.structure}: exact to {self.tolerance:.0e} on {self.examples} examples"
        lines = [f"{self.structure}: differs from the dense GGN on {self.examples} examples"]
        if self.mixing > self.tolerance:
            lines.append(f"  outputs of one example depend on the others in its batch ({self.mixing:.2g})")
        for name, error in {"all parameters together": self.total, **self.off()}.items():
            parts = (("trace", error.trace), ("diagonal", error.diagonal), ("log-det", error.log_det))
            found = [f"{what} off by {e:.2g}" for what, e in parts if e > self.tolerance]
            if found:
                lines.append(f"  {name}: {', '.join(found)}")
        return "\n".join(lines)


def self_check(
    structure: Callable[[Problem], Curvature],
    problem: Problem,
    *,
    examples: int = 8,
    precision: Params | None = None,
    tolerance: float = 1e-6,
) -> Check:
    """Compare a structure with the dense GGN.

    Args:
        structure: Builds the curvature, e.g. `exact` or ``lambda p: kron(p, sharing="reduce")``.
        problem: The problem; its first examples are used, and its weights and inputs in float64.
        examples: How many.
        precision: The prior's, one number for each parameter; by default such that the prior weighs about as much as
            the data.
        tolerance: Relative error up to which a number counts as exact.

    Returns:
        The comparison. Structures that approximate by design (``kron``, ``diag``) show by how much.

    Raises:
        InputError: If there is no example.
    """
    small = _in_double(_head(problem, examples))
    found = structure(small)
    params = {name: small.params[name] for name in found.names}
    rows, mixing = _reference(small, params)
    blocks = dict(zip(params, rows.split([w.numel() for w in params.values()], 1), strict=True))
    if precision is None:
        precision = {name: g.square().sum(0).mean().clamp(min=1e-6) for name, g in blocks.items()}
    scales = {name: precision[name].detach().double().reshape(-1)[0] for name in params}
    with torch.no_grad():
        diagonal = found.diagonal()
        mine = {name: diagonal[name].double().flatten() for name in params}
        errors = {
            name: _errors(mine[name], g, scales[name], *found.log_det(_only(scales, name)))
            for name, g in blocks.items()
        }
        whitened = torch.cat([g * scales[name].rsqrt() for name, g in blocks.items()], 1)
        one = torch.ones((), dtype=torch.float64)
        total = _errors(torch.cat(list(mine.values())), rows, one, *found.log_det(scales), whitened=whitened)
    return Check(found.structure, small.size, tolerance, total, errors, mixing)


def _errors(
    mine: Tensor, rows: Tensor, precision: Tensor, log_det: Tensor, stderr: float, whitened: Tensor | None = None
) -> Errors:
    true = rows.square().sum(0)
    g = rows * precision.rsqrt() if whitened is None else whitened
    expected = torch.logdet(torch.eye(len(g), dtype=g.dtype, device=g.device) + g @ g.T)
    return Errors(
        _relative((mine.sum() - true.sum()).abs(), true.sum()),
        _relative((mine - true).norm(), true.norm()),
        _relative(((log_det - expected).abs() - 4 * stderr).clamp(min=0), expected),
    )


def _relative(error: Tensor, size: Tensor) -> float:
    # A block that is zero must be found to be zero.
    return float(error / size.clamp(min=1e-12))


def _only(precision: Params, name: str) -> Params:
    # A prior that holds all other parameters fixed leaves the block's own log-determinant.
    return {k: p if k == name else p * 1e14 for k, p in precision.items()}


def _head(problem: Problem, examples: int) -> Problem:
    kept: list[tuple[Tensor, Tensor]] = []
    left = examples
    for xs, y in problem.batches():
        if left <= 0:
            break
        kept.append((xs[:left].detach(), y[:left]))
        left -= len(kept[-1][0])
    if not kept:
        raise InputError("at least one example to check on", "none", "pass a non-empty data set")
    size = examples - max(left, 0)
    return replace(problem, batches=lambda: iter(kept), size=size, scale=1.0, differentiable=False)


def _in_double(problem: Problem) -> Problem:
    # The problem in float64, or as it is if the network or its factor insist on a dtype.
    forward = problem.forward.over(copy.deepcopy(problem.forward.module).double())
    kept = [(xs.double() if xs.is_floating_point() else xs, y) for xs, y in problem.batches()]

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        return iter(kept)

    params = {name: w.double() for name, w in problem.params.items()}
    double = replace(problem, forward=forward, params=params, batches=batches)
    try:
        with torch.no_grad():
            f = forward.average(params, kept[0][0])
            factor = problem.factor(f, kept[0][1])
    except (RuntimeError, TypeError):
        return problem
    return double if f.dtype == factor.dtype == torch.float64 else problem


def _reference(problem: Problem, params: Params) -> tuple[Tensor, float]:
    # All rows (N · K, P) in float64, and how much batches mix examples.
    leaves = {name: w.detach().requires_grad_() for name, w in params.items()}
    rows, mixing, size = [], 0.0, 0.0
    for xs, y in problem.batches():
        with torch.no_grad():
            together = problem.forward.average(problem.params, xs)
        for n in range(len(xs)):
            with torch.enable_grad(), plain_attention():
                f = problem.forward.average({**problem.params, **leaves}, xs[n : n + 1])
                factor = problem.factor(f.detach(), y[n : n + 1]).detach()
            mixing = max(mixing, float((together[n] - f[0].detach()).abs().max()))
            size = max(size, float(f.detach().abs().max()))
            for column in factor.unbind(-1):
                grads = torch.autograd.grad(
                    f, list(leaves.values()), column, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                rows.append(torch.cat([g.double().flatten() for g in grads]))
    return torch.stack(rows), mixing / max(size, 1e-12)
