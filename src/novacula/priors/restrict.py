"""The prior of some of a network's weights, the others being held fixed."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.priors.base import Prior
from novacula.priors.gaussian import Gaussian


def restricted(prior: Prior, params: Params, names: Mapping[str, str], places: Params | None = None) -> Prior:
    """The prior of the tensors that ``names`` has, or of their entries at ``places``, under the names it gives them."""
    if not prior.gaussian:
        return prior.restrict(params, names)
    # With the precisions that it has now, as a part may hold some of a tensor's entries, in another shape.
    precision = prior.precision(params)
    for k in names:
        if precision[k].numel() != 1:
            raise InputError(f"one precision for all of {k}", f"{precision[k].numel()}", "give each tensor one")
    logs = [precision[k].detach().double().log().reshape(()) for k in names]
    mean = None
    if (centre := prior.centre(params)) is not None:
        mean = {a: centre[k] if places is None else centre[k].flatten()[places[k]] for k, a in names.items()}
    return Gaussian(log_precision=torch.stack(logs), names=tuple(names.values()), mean=mean)
