"""Prior precisions as curvatures use them: one number for each weight, in float64, checked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params


def check_precision(precision: Params, params: Params, names: Sequence[str]) -> Params:
    """Precisions by parameter, in float64."""
    checked = {}
    for name in names:
        if name not in precision:
            raise InputError(
                f"a prior precision for {name!r}", f"only {', '.join(precision) or 'none'}", "name all parameters"
            )
        value, shape = precision[name].to(torch.float64), params[name].shape
        try:
            fits = torch.broadcast_shapes(value.shape, shape) == shape
        except RuntimeError:
            fits = False
        if not fits:
            raise InputError(
                f"a precision that broadcasts to {name!r} of shape {tuple(shape)}",
                f"shape {tuple(value.shape)}",
                "give one number for each tensor, or one for each weight",
            )
        if not bool((torch.isfinite(value) & (value > 0)).all()):
            raise InputError(
                f"a positive, finite precision for {name!r}",
                f"values from {float(value.detach().min()):.3g} to {float(value.detach().max()):.3g}",
                "bound log_precision, or lower the learning rate of the hyperparameters",
            )
        checked[name] = value
    return checked


def precision_vector(precision: Params, params: Params, names: Sequence[str]) -> Tensor:
    """Λ's diagonal over some parameters.

    Returns:
        Shape ``(P,)``, float64, flat in the order of ``names``, with its graph.

    Example:
        >>> w = {"a": torch.zeros(2, 2), "b": torch.zeros(1)}
        >>> precision_vector({"a": torch.tensor(3.0), "b": torch.ones(1)}, w, ("a", "b")).tolist()
        [3.0, 3.0, 3.0, 3.0, 1.0]
    """
    checked = check_precision(precision, params, names)
    return torch.cat([value.expand(params[name].shape).reshape(-1) for name, value in checked.items()])
