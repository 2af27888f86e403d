"""What a run keeps of the weights that its predictions average over.

| posterior | what is kept |
| --- | --- |
| a point | the weights |
| Laplace | structure and temperature; the curvature is computed again from the training data |
| draws of a sampler | at most 128 of them, evenly spread, and at most 256 MiB |
| a Gaussian, other weights that can be drawn | as many draws |
| dropout | weights and shares; masks are drawn again |
| a mixture of any of these but Laplace | its components, which share the draws |

What is kept is also what the run's own test predictions are made with, so that a run predicts on any day what it
predicted when it was written.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from novacula.core.params import Params, count, flatten
from novacula.core.rng import derive, generator
from novacula.posteriors.base import Point, Posterior
from novacula.posteriors.draws import Draws
from novacula.posteriors.dropout import DropoutPosterior
from novacula.posteriors.laplace import LaplacePosterior
from novacula.posteriors.mixture import Mixture, mixture
from novacula.target import Target

MOST_DRAWS = 128
MOST_BYTES = 2**28


def bounded(posterior: Posterior) -> Posterior:
    """A posterior that a run can keep: of at most 128 draws, and at most 256 MiB."""
    parts = posterior.components if isinstance(posterior, Mixture) else (posterior,)
    if any(isinstance(p, LaplacePosterior) for p in parts):
        return posterior
    size = count(parts[0].mode) * next(iter(parts[0].mode.values())).element_size()
    room = max(1, min(MOST_DRAWS, MOST_BYTES // size))
    parts = parts[:room]
    return mixture([_bounded(p, room // len(parts)) for p in parts])


def size_of(posterior: Posterior) -> int:
    """How many weight draws a bounded posterior is made of."""
    if isinstance(posterior, Mixture):
        return sum(size_of(p) for p in posterior.components)
    return posterior.size if isinstance(posterior, Draws) else int(isinstance(posterior, Point))


def tensors_of(posterior: Posterior) -> dict[str, Tensor] | None:
    """What a run writes of a bounded posterior."""
    found: dict[str, Tensor] = {}
    for i, part in enumerate(posterior.components if isinstance(posterior, Mixture) else (posterior,)):
        if isinstance(part, LaplacePosterior):
            return None
        if isinstance(part, Draws):
            found |= {f"{i}/draws/{k}": w.movedim(0, 1) for k, w in part.chains.items()}
            found[f"{i}/log_density"] = part.log_density
        elif isinstance(part, DropoutPosterior):
            found |= {f"{i}/dropout/{k}": w for k, w in part.mode.items()}
            found[f"{i}/shares"] = torch.tensor([p.p for p in part.masks.places], dtype=torch.float64)
        else:
            found |= {f"{i}/point/{k}": w for k, w in part.mode.items()}
    return found


def _bounded(part: Posterior, room: int) -> Posterior:
    if isinstance(part, Point | DropoutPosterior):
        return part
    if isinstance(part, Draws):
        k, m = part.flat.shape[:2]
        if k * m <= room:
            return part
        rows, chains = _spread(k, max(1, room // m)), _spread(m, min(m, room))
        flat, logs = part.flat[rows][:, chains], part.log_density[rows][:, chains]
        return dataclasses.replace(part, flat=flat, log_density=logs, known=part.warnings)
    # As many draws as predictions of the posterior itself would take, and by the same stream.
    drawn = flatten(part.sample(room, generator(derive(0, "weights"))), batch_dims=1)
    nothing = torch.full((room, 1), math.nan, dtype=drawn.dtype)
    return Draws(part.target, drawn.unsqueeze(1), nothing, part.mode, known=part.warnings)


def _spread(n: int, k: int) -> Tensor:
    # k of n, evenly, the last among them.
    return (torch.arange(1, k + 1) * n) // k - 1


def check_tensors(target: Target, params: Params, like: Tensor) -> dict[str, Tensor]:
    """Fixed inputs and the network's outputs there, by which a network that is built again is known."""
    shape = (2, *like.shape[1:])
    x = torch.zeros(shape, dtype=like.dtype)
    if like.is_floating_point():
        x = torch.rand(shape, generator=generator(0, "check"), dtype=like.dtype)
    with torch.no_grad():
        outputs = target.forward(params, x.to(like.device))
    return {"check/inputs": x, "check/outputs": outputs}
