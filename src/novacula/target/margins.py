"""Margins: by how much the outputs of networks are on the side of the labels.

A network fits labels where all margins are above zero. Outputs that tie are no fit, and neither are NaNs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.data.data import Data
from novacula.data.meaning.soft import check_hard
from novacula.target.copies import member_outputs
from novacula.target.target import Target

FITS = math.inf
"""The `closeness` of networks that fit all labels."""


def margins(f: Tensor, y: Tensor) -> Tensor:
    """``f_y − max_{c≠y} f_c`` of classes ``y (N,)``, or ``±f`` of 0-1 labels ``y (N, C)``: f ``(M, N, C)``."""
    if y.ndim == 2:
        return (f * (2.0 * (y > 0).to(f) - 1)).flatten(1)
    own = y[None, :, None].expand(len(f), -1, 1)
    others = f.scatter(2, own, -math.inf).amax(2)
    return f.gather(2, own)[..., 0] - others


def closeness(f: Tensor, y: Tensor) -> Tensor:
    """How close networks are to fitting all labels: f ``(M, N, C)`` to ``(M,)`` in float64.

    Returns:
        ``FITS`` for those that do; of the others minus the mean hinge of their margins, ``max(0, −margin)``, over the
        root mean square of their outputs, which does not depend on the outputs' scale; minus infinity for outputs that
        are no numbers, or whose squares are none.
    """
    f = f.double()
    each = margins(f, y)
    centred = f - f.mean(2, keepdim=True) if y.ndim == 1 else f
    size = torch.linalg.vector_norm(centred, dim=(1, 2)) / math.sqrt(f.shape[1] * f.shape[2])
    score = each.clamp(max=0).mean(1) / size
    # Of ties alone no hinge tells: they are just below a fit.
    score = torch.where(score < 0, score, torch.where(score == 0, -torch.finfo(f.dtype).tiny, score))
    score = torch.where(each.amin(1) > 0, FITS, score)
    # What is no number spreads to the size: that of the margins alone would do but for infinite ones.
    return torch.where(torch.isfinite(size), score.nan_to_num(-math.inf, posinf=FITS), -math.inf)


def closeness_of(target: Target, params: dict[str, Tensor], data: Data, *, seed: int) -> Tensor:
    """`closeness` of many networks to the labels of all data, ``(M,)`` on the CPU; params ``(M, *shape)``."""
    f = member_outputs(target, params, data.x, copies=target.copies.evidence, seed=seed)
    return closeness(f, data.y).cpu()


def check_fittable(target: Target, data: Data) -> None:
    """Refuse labels that have no margins, and those that no function fits: equal inputs with different ones."""
    if target.likelihood.task not in ("classification", "multilabel"):
        raise InputError(
            "labels that are classes",
            f"a likelihood for {target.likelihood.task}, {type(target.likelihood).__name__}",
            "use a Categorical or Bernoulli likelihood; for regression, nv.evidence.SMC",
        )
    if target.likelihood.task == "classification":
        check_hard(data.y, "margins of the labels")
    _, index = torch.unique(data.x.flatten(1), dim=0, return_inverse=True)
    first: dict[int, int] = {}
    for row, group in enumerate(index.tolist()):
        other = first.setdefault(group, row)
        if not torch.equal(data.y[other], data.y[row]):
            raise InputError(
                "labels that some function fits",
                f"rows {other} and {row}, the same input with different labels",
                "leave one of them out: no network fits both",
            )
