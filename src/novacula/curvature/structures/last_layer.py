"""The exact GGN of the last linear layer, all other weights held fixed.

With features ``φ(x)``, averaged over the transformed copies, and ``f̄ = W φ̄ + b``, the rows are
``L_n[:, k] ⊗ (φ̄_n, 1)``: one forward pass gives them. The features may carry a graph to whatever the inputs depend on.
A layer may also be called for every position of a sequence, of whose outputs the network takes one, or their mean: φ is
then the sum of the positions' features with the weights that the outputs give them, which one backward pass to the
layer's outputs tells. That a layer is last is checked by values, and the rows are checked against autograd's; where
they disagree (the weight is tied to another layer, say), per-example gradients are used instead and the result says so.

References:
    Being Bayesian, even just a bit, fixes overconfidence in ReLU networks. A. Kristiadi, M. Hein, P. Hennig, 2020.
    arXiv:2002.10118.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.core.layers import calls, first_names, last_linear
from novacula.core.params import Params
from novacula.curvature.gradients.jacobian import BUDGET, Plan, jacobian, plan, rows, unit_factor
from novacula.curvature.problem import Leverage, LogDet, Problem
from novacula.curvature.structures.exact import Exact, ExactCovariance, affordable, assemble


@dataclass(frozen=True, eq=False)
class Head:
    """The last layer of a network."""

    made: Plan  # the plan for its parameters
    layer: str  # its name in the network
    weight: str | None  # the weight's name among the parameters; None where it is frozen
    bias: str | None  # the same for the bias; None where there is none
    positions: bool = False  # whether outputs are made of those at several positions

    def run(self, xs: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate the network: xs ``(B, S, …)`` to ``(B, D)``."""
        problem = self.made.problem
        graph = problem.differentiable and torch.is_grad_enabled()
        with torch.set_grad_enabled(graph):
            xs = xs if graph else xs.detach()
            found, f = calls(problem.forward, problem.params, xs, self.layer, connected=self.positions)
            x = found[-1].input
            x = torch.cat(([x] if self.weight else []) + ([torch.ones_like(x[..., :1])] if self.bias else []), -1)
            if self.positions:
                phi = found[-1].weighted(x, problem.forward, f, xs, graph=graph)
                return (phi, f) if graph else (phi.detach(), f.detach())
            return x.unflatten(0, xs.shape[:2]).mean(1), f

    def rows(self, xs: Tensor, y: Tensor, factor: Callable[[Tensor, Tensor], Tensor] | None = None) -> Tensor:
        """The rows of the layer's parameters: xs ``(B, S, …)`` to ``(B, K, P)``."""
        phi, v = self.parts(xs, y, factor)
        with torch.set_grad_enabled(self.made.problem.differentiable and torch.is_grad_enabled()):
            products = torch.einsum("bck,bd->bkcd", v, phi).flatten(2)
        return products[:, :, self.order().argsort()]

    def parts(
        self, xs: Tensor, y: Tensor, factor: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features and factor of a chunk, whose products the rows are: ``(B, D)`` and ``(B, C, K)``."""
        phi, f = self.run(xs)
        with torch.set_grad_enabled(self.made.problem.differentiable and torch.is_grad_enabled()):
            v = (self.made.problem.factor if factor is None else factor)(f, y)
            return phi, self.made.problem.forward.units.steepened(v)

    def gram(self) -> Tensor:
        """``Gᵀ G = Σ_n L_n L_nᵀ ⊗ φ_n φ_nᵀ``, ``(P, P)`` in float64: K times less work than the product of the rows."""
        phi, v = (part.double() for part in self.made.reduce(self.parts, "cat"))
        c, d = v.shape[1], phi.shape[1]
        size = max(1, BUDGET // (8 * (c * c + d * d)))
        found = torch.zeros(c * c, d * d, dtype=torch.float64, device=phi.device)
        for p, w in zip(phi.split(size), v.split(size), strict=True):
            found = found + (w @ w.mT).flatten(1).T @ (p[:, :, None] * p[:, None, :]).flatten(1)
        place = self.order().argsort().to(phi.device)
        return found.view(c, c, d, d).transpose(1, 2).reshape(c * d, c * d)[place][:, place]

    def order(self) -> Tensor:
        """Where the entry of output c and feature d stands among the P weights, ``(C · D,)``."""
        params, offset, columns = self.made.problem.params, 0, {}
        for name in self.made.names:
            size = params[name].numel()
            columns[name] = torch.arange(offset, offset + size).reshape(self.made.outputs, -1)
            offset += size
        return torch.cat([columns[name] for name in (self.weight, self.bias) if name is not None], 1).flatten()


@dataclass(frozen=True, eq=False)
class LastLayer:
    """The exact GGN of the last layer.

    Args:
        exact: The matrix.
        head: The layer; None where its rows come from autograd.
    """

    leverage: ClassVar[Leverage] = "part"
    exact: Exact
    head: Head | None

    @property
    def structure(self) -> str:
        """``"last_layer"``."""
        return self.exact.structure

    @property
    def names(self) -> tuple[str, ...]:
        """The layer's parameters."""
        return self.exact.names

    @property
    def fallback(self) -> dict[str, str]:
        """Parameters whose rows come from autograd."""
        return self.exact.fallback

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reservations."""
        return self.exact.warnings

    def log_det(self, precision: Params, *, scale: float | Tensor = 1.0) -> LogDet:
        """``log |scale·H + Λ| − log |Λ|`` of the layer's parameters; see `Exact.log_det`."""
        return self.exact.log_det(precision, scale=scale)

    def covariance(self, precision: Params, *, scale: float = 1.0) -> ExactCovariance | LastLayerCovariance:
        """Factorise ``scale·H + Λ``."""
        inner = self.exact.covariance(precision, scale=scale)
        return inner if self.head is None else LastLayerCovariance(inner, inner.matrix(), self.head)

    def diagonal(self) -> Params:
        """The diagonal of H."""
        return self.exact.diagonal()

    def eigenvalues(self, precision: Params) -> dict[tuple[str, ...], Tensor]:
        """Those of the layer's parameters together."""
        return self.exact.eigenvalues(precision)

    def dense(self) -> Tensor:
        """H of the layer, ``(P, P)``."""
        return self.exact.dense()


@dataclass(frozen=True, eq=False)
class LastLayerCovariance:
    """The covariance of the last layer's weights, with predictions at the price of a forward pass.

    Args:
        exact: The factorised matrix.
        matrix: The covariance itself, ``(P, P)``.
        head: The layer.
    """

    exact: ExactCovariance
    matrix: Tensor
    head: Head

    __repr__ = brief

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Draw deviations, ``(n, *shape)``."""
        return self.exact.sample(n, rng)

    def solve(self, v: Params) -> Params:
        """Apply the covariance."""
        return self.exact.solve(v)

    def apply(self, vectors: Tensor) -> Tensor:
        """Apply the covariance to many vectors, ``(n, P)``."""
        return self.exact.apply(vectors)

    @torch.no_grad()
    def variance(self, xs: Tensor) -> Tensor:
        """``J Σ Jᵀ``, from the features alone: xs ``(B, S, …)`` to ``(B, C, C)``."""
        c = self.head.made.outputs
        order = self.head.order()
        blocks = self.matrix[order][:, order].unflatten(0, (c, -1)).unflatten(2, (c, -1))  # (C, D, C, D)
        blocks = blocks.permute(1, 0, 2, 3)
        size = max(1, BUDGET // (8 * c * c * blocks.shape[0]))
        found = []
        for x in xs.split(size):
            phi, _ = self.head.run(x)
            half = (phi.to(blocks) @ blocks.flatten(1)).unflatten(1, blocks.shape[1:])
            found.append((half @ phi.to(blocks)[:, None, :, None]).squeeze(-1).to(phi.dtype))
        units = self.head.made.problem.forward.units
        return units.steepened(units.steepened(torch.cat(found)).mT)


def last_layer(problem: Problem, name: str | None = None) -> LastLayer:
    """The GGN of the network's last layer.

    Args:
        problem: The problem.
        name: The layer's name in the network; by default the `nn.Linear` whose output is the network's.

    Returns:
        The curvature of the layer's parameters, with gradients where the problem is differentiable.

    Raises:
        InputError: If no linear layer's output is the network's, or the layer has no trainable parameter.
    """
    xs, y = next(iter(problem.batches()))
    xs, y = xs[:2].detach(), y[:2]
    modules = dict(problem.forward.module.named_modules())
    if name is not None and name not in modules:
        raise InputError("the name of a layer", repr(name), f"use one of {', '.join(n for n in modules if n)}")
    head = _detect(problem, xs, y) if name is None else _head(problem, name)
    made = head.made
    affordable(made)
    if isinstance(modules[head.layer], nn.Linear) and (plain := _plain(head, xs, y)) is not None:
        of_outputs = partial(plain.rows, y=y, factor=unit_factor)
        return LastLayer(assemble(made, plain.rows, of_outputs, structure="last_layer", gram=plain.gram), plain)
    found = assemble(made, partial(rows, made), partial(jacobian, made), structure="last_layer")
    why = f"{head.layer!r} is not a plain last layer: exact block from per-example gradients"
    return LastLayer(replace(found, fallback=dict.fromkeys(made.names, why)), None)


def _head(problem: Problem, layer: str) -> Head:
    aliases = first_names(problem.forward.module)
    module = problem.forward.module.get_submodule(layer)
    own = {key: aliases[f"{layer}.{key}" if layer else key] for key, _ in module.named_parameters()}
    own = {key: alias for key, alias in own.items() if alias in problem.params}
    if not own:
        raise InputError(f"trainable parameters in layer {layer!r}", "none", "name another layer, or unfreeze this one")
    return Head(plan(problem, tuple(own.values())), layer, own.get("weight"), own.get("bias"))


def _plain(head: Head, xs: Tensor, y: Tensor) -> Head | None:
    # The head whose features give the rows that autograd gives, if there is one.
    problem = head.made.problem
    found, f = calls(problem.forward, problem.params, xs, head.layer)
    if len(found) != 1 or found[0].output.shape[-1] != f.shape[1] or len(found[0].output) != xs.shape[0] * xs.shape[1]:
        return None
    head = replace(head, positions=not found[0].gives(problem.forward, f, xs))
    with torch.no_grad():
        mine, true = head.rows(xs, y), rows(head.made, xs, y)
    return head if bool((mine - true).norm() <= torch.finfo(true.dtype).eps ** 0.5 * true.norm()) else None


def _detect(problem: Problem, xs: Tensor, y: Tensor) -> Head:
    # The layer whose output is the network's; or the one whose outputs at several positions make it up.
    last, among = last_linear(problem.forward, problem.params, xs)
    if last is not None:
        return _head(problem, last)
    modules = dict(problem.forward.module.named_modules())
    called = {call.layer for call in calls(problem.forward, problem.params, xs)[0]}
    wide = [name for name in called if modules[name].out_features == plan(problem).outputs]
    trained = [name for name in wide if any(w.requires_grad for w in modules[name].parameters())]
    heads = [head for name in sorted(trained) if _plain(head := _head(problem, name), xs, y) is not None]
    if len(heads) != 1:
        raise InputError(
            "a network whose output is that of an nn.Linear layer",
            f"{type(problem.forward.module).__name__}, whose output is that of none of its {among} linear layers",
            "name a layer (its exact block is used), or choose structure='kron'",
        )
    return heads[0]
