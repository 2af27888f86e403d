"""Which training examples a prediction rests on: what would happen to its loss if one had not been there.

At the mode of ``Σ_n ℓ_n(w) − log p(w)`` an example that is left out moves the weights, to first order in its weight, by
``A⁻¹ ∇ℓ_n`` with ``A = H + Λ``, H the generalised Gauss–Newton matrix and Λ the prior's precision (Koh, Liang, 2017).
A step of Newton on what is left moves them by ``(A − H_n)⁻¹ ∇ℓ_n``, which is exact for quadratic losses. By Woodbury's
identity, with ``r_n`` the loss's gradient in the outputs, ``W_n = L_n L_nᵀ`` and ``V_n = J_n A⁻¹ J_nᵀ``,

    Δ_mn = ∇ℓ_mᵀ A⁻¹ J_nᵀ (I − W_n V_n)⁻¹ r_n,

the change of the loss of example m to first order in the weights. Structures whose variances are not those of the
whole matrix leave the factor out. Of networks that have not reached a mode, this is what a few steps from where they
are would do rather than what training anew would (Bae and others, 2022); how near that comes is measured in
``benchmarks.influence``.

References:
    Understanding black-box predictions via influence functions. P. W. Koh, P. Liang, 2017. arXiv:1703.04730.
    If influence functions are the answer, then what is the question? J. Bae, N. Ng, A. Lo, M. Ghassemi, R. Grosse,
    2022. arXiv:2209.05364.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.core.params import Params, flatten
from novacula.curvature import Covariance, Problem, plan
from novacula.curvature.gradients.jacobian import Plan, rows_by_name
from novacula.curvature.structures.names import Structure, build, check_structure
from novacula.data.data import Data
from novacula.data.given import DataLike, as_data
from novacula.paths.barrier import point_of
from novacula.posteriors.base import Learned, Posterior
from novacula.target import Target
from novacula.target.given import TargetLike, prepared


@dataclass(frozen=True, eq=False)
class Influence:
    """What predictions rest on.

    Attributes:
        values: By how much the loss of an example (row, M) would rise, in nats, if a training example (column, N) were
            left out; shape ``(M, N)``, float64. Above nought, it helps.
        structure: The curvature that was used.
        corrected: Whether each example's own curvature was taken out.
        warnings: Reservations of the curvature.
    """

    values: Tensor
    structure: str
    corrected: bool
    warnings: tuple[str, ...]

    __repr__ = brief

    def most(self, example: int, count: int = 5) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The training examples that help a prediction most, and those that harm it most, by number.

        Args:
            example: The row.
            count: How many of each.

        Returns:
            Both, the strongest first.

        Raises:
            InputError: If there is no such row, or not so many columns.
        """
        if not 0 <= example < len(self.values) or not 0 < count <= self.values.shape[1]:
            got = f"row {example}, {count} examples, of shape {tuple(self.values.shape)}"
            raise InputError("an example that was asked about, and no more examples than there are", got, "count=5")
        order = self.values[example].argsort(descending=True).tolist()
        return tuple(order[:count]), tuple(order[::-1][:count])


def influence(
    target: TargetLike,
    data: DataLike,
    start: Params | Posterior | Learned | None,
    examples: DataLike,
    *,
    structure: Structure = "kron",
    seed: int = 0,
) -> Influence:
    """Say by how much losses would rise if training examples were left out.

    Args:
        target: The network, or a target; its prior's precision keeps weights that the data do not determine.
        data: The training data.
        start: The trained weights; None for the network's own.
        examples: Those whose losses are asked about, with their labels.
        structure: The curvature: ``"exact"`` for small networks, ``"kron"``, ``"diag"``, ``"last_layer"`` (the weights
            of the last layer alone) or ``"matrix_free"``.
        seed: Seed of transformed copies and of what structures draw.

    Returns:
        The changes of the losses.

    Raises:
        InputError: If the data do not fit the network, or the structure is unknown.

    Example:
        >>> import novacula as nv
        >>> data = nv.load("digits").subset(range(60))
        >>> net = nv.networks.make("linear", data.x_shape, 10)
        >>> run = nv.infer(nv.MAP(lr=0.05), net, data, steps=100)
        >>> found = influence(net, data, run, data.subset(range(2)), structure="exact")
        >>> 0 in found.most(0, 3)[0]  # an example helps its own label
        True
    """
    check_structure(structure)
    check_whole("seed", seed, least=0)
    made, train = prepared(target, data)
    asked = made.prepare(as_data(examples))[1]
    there, point = made.at(made.params() if start is None else point_of(made, start))
    problem = there.problem(point, train, seed=seed)
    curvature = build(structure, problem, seed=seed)
    covariance = curvature.covariance(there.prior.precision(problem.params))
    corrected = curvature.leverage in {"whole", "solved"}
    slopes = torch.cat([*_slopes(there, problem, asked, curvature.names, None, seed)])
    moved = covariance.apply(slopes).double()
    own = _slopes(there, problem, train, curvature.names, covariance if corrected else None, seed)
    values = torch.cat([moved @ g.double().T for g in own], 1) * problem.scale
    return Influence(values, curvature.structure, corrected, curvature.warnings)


def _slopes(
    target: Target, problem: Problem, data: Data, names: tuple[str, ...], covariance: Covariance | None, seed: int
) -> Iterator[Tensor]:
    # ∇ℓ of each example, (B, P) a batch; with a covariance, as if its own curvature were not in it.
    there = replace(problem, batches=target.problem(problem.params, data, seed=seed).batches, size=data.n)
    made: Plan = plan(there, names, columns=1)
    for xs, y in made.chunks():
        variance = None if covariance is None else covariance.variance(xs)

        def residual(f: Tensor, y: Tensor, variance: Tensor | None = variance) -> Tensor:
            with torch.enable_grad():
                leaf = f.detach().requires_grad_()
                (r,) = torch.autograd.grad(-target.likelihood.log_prob(leaf, y).sum(), leaf)
            if variance is not None:
                factor = target.likelihood.factor(f, y).detach()
                own = problem.scale * factor @ factor.mT @ variance.to(factor)
                r = torch.linalg.solve(torch.eye(f.shape[1]).to(own) - own, r)
            return r.unsqueeze(2)

        found = rows_by_name(made, xs, y, factor=residual)
        yield flatten({k: found[k] for k in names}, batch_dims=2)[:, 0]
