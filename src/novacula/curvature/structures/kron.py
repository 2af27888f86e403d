"""The Kronecker-factored curvature (KFAC), with exact blocks for every parameter that is no matrix of a linear map.

A linear or convolution layer that is applied at R positions of an example has the per-example gradient
``Σ_r b_r a_rᵀ``, with layer inputs ``a_r (I,)`` and backpropagated columns of ``Jᵀ L``, ``b_r (O,)`` (see `sites`).
H's block for the weight is the sum over examples n and columns k of the outer products of these gradients. It is
approximated by ``B ⊗ A``, in two ways (Eschenhagen et al. 2023):

    expand:  A = 1/(N R) Σ_nr a_nr a_nrᵀ,            B = Σ_nkr b_nkr b_nkrᵀ,
    reduce:  A = 1/N Σ_n ā_n ā_nᵀ, ā_n = 1/R Σ_r a_nr,   B = Σ_nk b̂_nk b̂_nkᵀ, b̂_nk = Σ_r b_nkr.

For R = 1 both are the same, and exact in networks of linear layers with a Gaussian likelihood. ``reduce`` is exact in
linear networks whose outputs are averages over positions (pooling) that count alike.

**Transformed copies are always reduced.** The outputs are averages over the S copies of an input by definition,
which is the reduce setting: ``a`` is averaged and ``b`` summed over the copies, at each position, before ``sharing``
deals with the positions. S equal copies then count exactly as one. Were copies expanded, the block of S equal copies
would be 1/S of the block of one, and an evidence would favour many copies rather than invariance.

Calls of one layer, or of layers that share a weight, are further positions, always expanded: they see different inputs.

Biases of such layers have exact blocks. So have all other parameters (scales of norm layers, attention's packed
projections, embeddings, recurrent weights, bare parameters), or only their diagonals when they are large;
`Kron.fallback` names them. Blocks are independent of one another, which is an approximation of its own.

References:
    Optimizing neural networks with Kronecker-factored approximate curvature. J. Martens and R. Grosse, 2015.
    arXiv:1503.05671.
    Kronecker-factored approximate curvature for modern neural network architectures. R. Eschenhagen, A. Immer,
    R. Turner, F. Schneider and P. Hennig, 2023. arXiv:2311.00636.
    Invariance learning in deep neural networks with differentiable Laplace approximations. A. Immer, T. van der
    Ouderaa, G. Rätsch, V. Fortuin and M. van der Wilk, 2022. arXiv:2202.10638.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError, NonFiniteError
from novacula.core.params import Params
from novacula.curvature.gradients.capture import Coverage, cover
from novacula.curvature.gradients.recompute import recompute
from novacula.curvature.precision import check_precision
from novacula.curvature.problem import Leverage, LogDet, Problem
from novacula.curvature.structures.kron_blocks import Block
from novacula.curvature.structures.kron_covariance import KronCovariance
from novacula.curvature.structures.kron_factors import Sharing, plan


@dataclass(frozen=True, eq=False)
class Kron:
    """A block-diagonal H (see the module's docstring); made by `kron`.

    Args:
        coverage: What `cover` found out about the network.
        params: The point ``w``.
        blocks: One block for each parameter.
        fallback: ``"exact block"`` or ``"diagonal"`` for the parameters that have no Kronecker product, except
            biases of linear and convolution layers with an exact block.
        sharing: How positions were treated.
    """

    leverage: ClassVar[Leverage] = "approximate"
    coverage: Coverage
    params: Params
    blocks: Mapping[str, Block]
    fallback: dict[str, str]
    sharing: Sharing

    __repr__ = brief

    @property
    def structure(self) -> str:
        """``"kron"``."""
        return "kron"

    @property
    def names(self) -> tuple[str, ...]:
        """All parameters."""
        return tuple(self.blocks)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Which parameters have no more than a diagonal."""
        names = [name for name, kind in self.fallback.items() if kind == "diagonal"]
        return (f"only the diagonal of the curvature is used for {', '.join(names)}",) if names else ()

    def eigenvalues(self, precision: Params) -> dict[tuple[str, ...], Tensor]:
        """Those of each parameter's block."""
        return {(k,): block.relative(precision[k], k).flatten() for k, block in self.blocks.items()}

    def log_det(self, precision: Params, *, scale: float | Tensor = 1.0) -> LogDet:
        """``log |scale·H + Λ| − log |Λ|``, exact for this H; the eigendecomposition is computed once and kept."""
        checked = check_precision(precision, self.params, self.names)
        terms = [(scale * block.relative(checked[name], name)).log1p().sum() for name, block in self.blocks.items()]
        return LogDet(torch.stack(terms).sum(), 0.0)

    def covariance(self, precision: Params, *, scale: float = 1.0) -> KronCovariance:
        """``(scale·H + Λ)⁻¹``, from the eigendecomposition that `log_det` uses."""
        checked = check_precision(precision, self.params, self.names)
        detached = {name: p.detach() for name, p in checked.items()}
        return KronCovariance.build(self.coverage, self.params, self.blocks, detached, float(scale))

    def diagonal(self) -> Params:
        """The diagonal of H."""
        return {name: block.diagonal() for name, block in self.blocks.items()}

    def dense(self) -> Tensor:
        """H as a matrix, block-diagonal in the order of `names`, ``(P, P)``."""
        return torch.block_diag(*(block.dense() for block in self.blocks.values()))


def kron(
    problem: Problem,
    *,
    sharing: Sharing = "expand",
    fallback: Literal["exact", "diagonal"] = "exact",
    exact_up_to: int = 1_500,
    factors_up_to: int = 8_192,
    two_pass: bool = False,
) -> Kron:
    """Accumulate the Kronecker factors over the data.

    Each batch costs one forward pass and as many backward passes as L has columns.

    Args:
        problem: The network, point and data.
        sharing: How the positions of convolutions and sequences are treated.
        fallback: What parameters that are no matrices of linear maps get: the exact block, or its diagonal.
        exact_up_to: The largest parameter (in weights) to get an exact block; larger ones get the diagonal.
        factors_up_to: The largest side of a factor; weights with larger ones are treated as the fallback says.
        two_pass: For differentiable problems, whether to drop every batch's graph and compute it again in the backward
            pass, which takes twice the time and the memory of one batch.

    Returns:
        The curvature. It carries a graph where the problem is differentiable and depends on something.

    Raises:
        InputError: If there are no data, or an option is unknown.
        NonFiniteError: If the network's outputs or gradients are NaN or infinite.
    """
    if sharing not in ("expand", "reduce"):
        raise InputError(
            "sharing 'expand' or 'reduce'", repr(sharing), "use 'expand' unless the network pools linearly"
        )
    if fallback not in ("exact", "diagonal"):
        raise InputError("fallback 'exact' or 'diagonal'", repr(fallback), "use 'exact' unless memory is short")
    first = next(iter(problem.batches()), None)
    if first is None or problem.size < 1:
        raise InputError("at least one example", "none", "pass data")
    coverage = cover(problem.forward, problem.params, first[0])
    layout = plan(
        problem,
        coverage,
        first[0][:2],
        sharing=sharing,
        fallback=fallback,
        exact_up_to=exact_up_to,
        factors_up_to=factors_up_to,
    )
    with torch.set_grad_enabled(problem.differentiable):
        if two_pass or not problem.differentiable:
            sums = recompute(lambda batch: layout.factors_of_batch(*batch), problem.batches)
        else:
            shares = [layout.factors_of_batch(xs, y) for xs, y in problem.batches()]
            sums = tuple(torch.stack(parts).sum(0) for parts in zip(*shares, strict=True))
    blocks = layout.blocks(sums)
    broken = [name for name, block in blocks.items() if not torch.isfinite(block.diagonal()).all()]
    if broken:
        raise NonFiniteError(
            "a finite curvature",
            f"NaN or infinity for {', '.join(broken)}",
            "check the data and whether training diverged",
        )
    words = {"exact": "exact block", "diagonal": "diagonal"}
    named = {
        name: words[kind]
        for name, kind in layout.kinds.items()
        if kind == "diagonal" or (kind == "exact" and name not in layout.biases)
    }
    return Kron(coverage, problem.params, blocks, named, sharing)
