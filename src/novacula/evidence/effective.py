"""How many parameters the data determine, tensor by tensor.

With the curvature H at the weights and the prior's precisions Λ, parameter i counts for

    γ_i = [H (H + Λ)⁻¹]_ii = 1 − λ_i [(H + Λ)⁻¹]_ii,        0 ≤ γ_i ≤ 1,

one where the data decide it and nought where the prior does. The sum over a tensor says how much of a layer is used.

References:
    Bayesian interpolation. D. J. C. MacKay, 1992.
"""

from __future__ import annotations

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params, flatten
from novacula.core.rng import derive, generator
from novacula.curvature.structures.names import Structure, build, check_structure
from novacula.data.given import DataLike
from novacula.evidence.common import check_counts
from novacula.evidence.laplace import stream_of
from novacula.evidence.start import bound, weights_for
from novacula.posteriors.base import Posterior
from novacula.target.given import TargetLike


def effective(
    target: TargetLike,
    data: DataLike,
    start: Params | Posterior,
    *,
    structure: Structure = "kron",
    subset: int | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """The effective number of parameters of each tensor of weights.

    Args:
        target: The model, with a Gaussian prior.
        data: The training data.
        start: Trained weights, or a posterior whose mode is used.
        structure: The curvature: ``"kron"`` and ``"diag"`` take tensors for independent; ``"exact"`` does not, for a
            few thousand weights.
        subset: Take H from so many random examples, scaled to N; None for all.
        seed: Seed of everything random.

    Returns:
        ``Σ_i γ_i`` by the tensor's name.

    Raises:
        InputError: If the prior is not Gaussian, or the structure is unknown or has no spectrum.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]])
        >>> from novacula.likelihoods import Normal
        >>> from novacula.target import Target
        >>> model = Target(torch.nn.Linear(2, 1, bias=False), Normal())
        >>> found = effective(model, (x, x[:, :1]), model.params(), structure="exact")
        >>> round(found["weight"], 3)  # 6/(6 + 1): the second column is not looked at
        0.857
    """
    check_structure(structure)
    check_counts("use effective(…, subset=1000)", subset=subset)
    target, data = bound(target, data)
    if not target.prior.gaussian:
        raise InputError("a Gaussian prior", type(target.prior).__name__, "use nv.Gaussian() or nv.FanIn()")
    target, params = weights_for(target, start)
    stream, few = stream_of(seed, 0), data
    if subset is not None and subset < data.n:
        few = data.subset(torch.randperm(data.n, generator=generator(stream, "subset"))[:subset])
    with torch.no_grad():
        problem = target.problem(params, few, seed=stream, total=data.n)
        curvature = build(structure, problem, seed=derive(stream, "probes"))
        precision = {k: v.double() for k, v in target.prior.precision(problem.params).items()}
        blocks = curvature.eigenvalues(precision)
        if blocks is None:
            raise InputError("a structure with a spectrum", structure, "use structure='kron'")
        if all(len(names) == 1 for names in blocks):
            return {names[0]: float((h / (1 + h)).sum()) for names, h in blocks.items()}
        whole = {k: precision[k].expand(params[k].shape) for k in curvature.names}
        found = _determined(curvature.dense().double(), flatten(whole))
    sizes = [params[k].numel() for k in curvature.names]
    return {k: float(part.sum()) for k, part in zip(curvature.names, found.split(sizes), strict=True)}


def _determined(matrix: Tensor, precision: Tensor) -> Tensor:
    # γ_i, (P,), of H (P, P) and λ (P,).
    root = precision.rsqrt()
    scaled = root[:, None] * matrix * root
    return 1 - torch.linalg.inv(scaled + torch.eye(len(root), dtype=scaled.dtype)).diagonal()
