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

import torch
from torch import Tensor

from novacula.core.params import Params, count
from novacula.core.rng import generator
from novacula.posteriors.base import Posterior
from novacula.posteriors.draws import drawn
from novacula.posteriors.mixture import mixture
from novacula.target import Target

MOST_DRAWS = 128
MOST_BYTES = 2**28


def bounded(posterior: Posterior) -> Posterior:
    """A posterior that a run can keep: of at most 128 draws, and at most 256 MiB."""
    parts = posterior.parts
    size = count(parts[0].mode) * next(iter(parts[0].mode.values())).element_size()
    room = max(1, min(MOST_DRAWS, MOST_BYTES // size))
    share = room // len(parts[:room])
    kept = [drawn(p, share) if (own := p.bounded(share)) is None else own for p in parts[:room]]
    return posterior if any(p.pack() is None for p in kept) else mixture(kept)


def size_of(posterior: Posterior) -> int:
    """How many weight draws a bounded posterior is made of."""
    return sum(p.size or 0 for p in posterior.parts)


def tensors_of(posterior: Posterior) -> dict[str, Tensor] | None:
    """What a run writes of a bounded posterior."""
    found: dict[str, Tensor] = {}
    for i, part in enumerate(posterior.parts):
        if (packed := part.pack()) is None:
            return None
        found |= packed.tensors(i)
    return found


def check_tensors(target: Target, params: Params, like: Tensor) -> dict[str, Tensor]:
    """Fixed inputs and the network's outputs there, by which a network that is built again is known."""
    shape = (2, *like.shape[1:])
    x = torch.zeros(shape, dtype=like.dtype)
    if (parts := target.forward.parts) is not None:
        x = parts.example(2, like, generator(0, "check"))
    elif like.is_floating_point():
        x = torch.rand(shape, generator=generator(0, "check"), dtype=like.dtype)
    with torch.no_grad():
        outputs = target.forward(params, x.to(like.device))
    return {"check/inputs": x, "check/outputs": outputs}
