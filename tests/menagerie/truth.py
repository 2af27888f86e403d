"""Naive answers: backward passes through a module itself, and dense linear algebra with what they give."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from novacula.core.params import Params, flatten, unflatten
from novacula.core.rng import generator
from novacula.curvature import MatrixFree
from novacula.curvature.problem import Curvature, Problem
from novacula.curvature.structures.kron import Kron
from novacula.curvature.structures.kron_blocks import Product
from zoo import Case, naive_rows


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-6) -> None:
    """Equal up to a part of the largest entry; some networks compute in float32 inside."""
    size = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * max(size, 1e-6))


def as_written(module: nn.Module) -> nn.Module:
    """What a module was compiled from."""
    return getattr(module, "_orig_mod", module)


def unchanged(module: nn.Module, before: nn.Module) -> None:
    """Assert that two modules hold the same weights and buffers, and ask for gradients of the same."""
    for (name, a), b in zip(module.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert [w.requires_grad for w in module.parameters()] == [w.requires_grad for w in before.parameters()]
    assert not module.training


def naive_gradient(
    module: nn.Module, weights: Params, x: Tensor, y: Tensor, *, total: int, precision: float
) -> tuple[Tensor, Params]:
    """A batch's mean loss, and the gradient of the negative log-posterior per example; weights go into the module."""
    module = as_written(module)
    own = dict(module.named_parameters())
    with torch.no_grad():
        for name, w in weights.items():
            own[name].copy_(w)
    loss = torch.zeros(())
    for row, label in zip(x, y, strict=True):
        mine = nn.functional.cross_entropy(module(row.unsqueeze(0).clone()), label.unsqueeze(0)) / len(x)
        mine.backward()
        loss = loss + mine.detach()
    grads = {}
    for name, w in weights.items():
        g = own[name].grad
        g = torch.zeros_like(w) if g is None else g.to_dense()
        grads[name] = g + precision * w / total
    return loss, grads


@dataclass(frozen=True, eq=False)
class Truth:
    """Rows ``R (N K, P)`` with ``H = Rᵀ R``, and a precision for each weight."""

    rows: Tensor
    precision: Params
    params: Params

    @classmethod
    def of(cls, problem: Problem) -> Truth:
        """The rows by one backward pass each."""
        rng = generator(2, "precision")
        precision = {k: 0.5 + torch.rand(w.shape, generator=rng, dtype=w.dtype) for k, w in problem.params.items()}
        return cls(naive_rows(problem).flatten(0, 1), precision, problem.params)

    def of_names(self, names: Iterable[str]) -> Truth:
        """Of some parameters."""
        keep, params = self.keep(names), {k: self.params[k] for k in names}
        return replace(self, rows=self.rows[:, keep], params=params)

    def keep(self, names: Iterable[str]) -> Tensor:
        wanted = set(names)
        return torch.cat([torch.full((w.numel(),), k in wanted) for k, w in self.params.items()])

    @property
    def vector(self) -> Tensor:
        return torch.cat([self.precision[k].flatten() for k in self.params])

    def covariance(self, v: Tensor) -> Tensor:
        """``v (RᵀR + Λ)⁻¹`` by Woodbury."""
        u = self.rows / self.vector
        inner = torch.eye(len(u), dtype=u.dtype) + u @ self.rows.T
        return v / self.vector - torch.linalg.solve(inner, u @ v.T).T @ u

    def check_diagonal(self, found: Params) -> None:
        close(flatten(found), self.rows.square().sum(0))

    def check_log_det(self, found: Curvature, *, whole: bool) -> None:
        """The log-determinant of the matrix, or of its diagonal."""
        value, stderr = found.log_det(self.precision)
        scaled = self.rows / self.vector.sqrt()
        gram = torch.eye(len(scaled), dtype=scaled.dtype) + scaled @ scaled.T
        close(value, torch.logdet(gram) if whole else scaled.square().sum(0).log1p().sum())
        assert stderr == 0

    def check_variance(self, found: Curvature, case: Case, jacobian: Tensor) -> None:
        """Solves and variances of outputs at two new inputs."""
        found = replace(found, tolerance=1e-10) if isinstance(found, MatrixFree) else found
        covariance = found.covariance(self.precision)
        v = flatten(self.params)
        close(flatten(covariance.solve(self.params)), self.covariance(v.unsqueeze(0))[0])
        j = jacobian[..., self.keep_of(found, case)]
        expected = j @ self.covariance(j.flatten(0, 1)).unflatten(0, j.shape[:2]).mT
        close(covariance.variance(case.inputs(2, 1)), expected)

    def keep_of(self, found: Curvature, case: Case) -> Tensor:
        params = case.problem(1, 1).params
        return torch.cat([torch.full((w.numel(),), k in found.names) for k, w in params.items()])

    def check_products(self, found: MatrixFree) -> None:
        v = torch.randn(2, self.rows.shape[1], generator=generator(0), dtype=torch.float64)
        close(found.product(v), v @ self.rows.T @ self.rows)


def columns(case: Case, problem: Problem) -> Tensor:
    """Jacobians ``(2, C, P)`` of the outputs at two inputs, one backward pass a row."""
    unit = lambda f, y: torch.eye(f.shape[1], dtype=f.dtype).expand(len(f), -1, -1)  # noqa: E731
    return naive_rows(case.problem(2, 1, factor=unit))


def products(case: Case, problem: Problem, truth: Truth, found: Kron) -> str:
    """Kronecker factors of one example: exact where a layer sees one position, else traces by sums of squares.

    For a weight of one position the block ``(b bᵀ) ⊗ (a aᵀ)`` is H's own, and so is every block that is no product.
    Otherwise the trace is ``1/R Σ_r |a_r|² · Σ_kr |b_kr|²``, in each group of a convolution, whose two sums are taken
    here by squares of what goes through the layers.
    """
    diagonal, exact = found.diagonal(), unflatten(truth.rows.square().sum(0), problem.params)
    factored = {name for name, block in found.blocks.items() if isinstance(block, Product)}
    traces, single = _traces(case, problem, factored)
    assert traces.keys() == factored
    for name in found.blocks:
        if name not in factored or name in single:
            close(diagonal[name], exact[name])
        if name in factored:
            close(diagonal[name].sum(), traces[name])
    sizes = {name: w.numel() for name, w in problem.params.items()}
    return f"{100 * sum(sizes[name] for name in factored) / sum(sizes.values()):.0f} %"


def _traces(case: Case, problem: Problem, names: set[str]) -> tuple[dict[str, Tensor], set[str]]:
    # By weight, the trace of its factors' product; and the weights of layers that see one position.
    module, first = as_written(case.make()), dict[int, str]()
    for name, w in module.named_parameters():
        first.setdefault(id(w), name)
    inputs: dict[str, list[Tensor]] = {}
    nodes: list[tuple[str, nn.Module, Tensor]] = []

    def hook(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not output.requires_grad:
            return output
        name = first[id(layer.weight)]
        inputs.setdefault(name, []).append(_squares(layer, args[0].detach()))
        nodes.append((name, layer, output))
        return output.clone()  # which the network may write on

    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d) and first.get(id(layer.weight)) in names:
            layer.register_forward_hook(hook)
    xs, y = next(iter(problem.batches()))
    f = module(xs[:, 0])
    calls = tuple(nodes)  # a backward pass may call layers again
    outputs: dict[str, Tensor] = {}
    for v in problem.factor(f, y)[0].detach().unbind(1) if calls else ():
        grads = torch.autograd.grad(
            f[0], [n for _, _, n in calls], v, retain_graph=True, materialize_grads=True, allow_unused=True
        )
        for (name, layer, _), g in zip(calls, grads, strict=True):
            if isinstance(layer, nn.Conv1d | nn.Conv2d):
                square = g.square().movedim(1, 0).reshape(layer.groups, -1).sum(1)
            else:
                square = g.square().sum().reshape(1)
            outputs[name] = outputs.get(name, torch.zeros_like(square)) + square
    found, single = {}, set()
    for name, parts in inputs.items():
        positions = sum(p.shape[1] for p in parts)
        found[name] = (torch.stack([p.sum(1) for p in parts]).sum(0) / positions * outputs[name]).sum()
        single |= {name} if positions == 1 else set()
    return found, single


def _squares(layer: nn.Module, x: Tensor) -> Tensor:
    # |a_r|² by group and position, (G, R).
    if isinstance(layer, nn.Linear):
        return x.square().sum(-1).reshape(1, -1)
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    ones = torch.ones(layer.groups, *layer.weight.shape[1:], dtype=x.dtype)
    return layer._conv_forward(x.square(), ones, None).movedim(1, 0).flatten(1)
