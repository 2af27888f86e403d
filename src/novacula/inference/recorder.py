"""Recording draws of a sampler as its run goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params, count, flatten
from novacula.data.data import Data
from novacula.inference.method import Start
from novacula.posteriors.base import overparameterised
from novacula.posteriors.draws import Draws
from novacula.target import Density, Target

_PROBES = 32
_LARGEST = 2**32  # bytes of recorded draws


def check_room(draws: int, chains: int, weights: int, like: Tensor, *, hint: str) -> None:
    """Refuse so many draws of each chain, before there is room for them, where they do not fit in memory."""
    if (size := draws * chains * weights * like.element_size()) > _LARGEST:
        got = f"{draws:,} draws of {chains} chains of {weights:,} weights, {size / 2**30:,.1f} GiB"
        raise InputError("draws that fit in 4 GiB", got, hint)


@dataclass(frozen=True, eq=False)
class Recorder:
    """Room for K draws of M chains, filled in place as the run goes on; flat ``(K, M, P)``, log_density ``(K, M)``."""

    flat: Tensor  # weights as vectors, shape ``(K, M, P)``
    log_density: Tensor  # shape ``(K, M)``; NaN where the method does not know it
    count: int  # how many are filled
    first: int  # the step whose result is the first that may be recorded
    steps: int  # over how many steps from there the draws are spread, as evenly as whole steps allow

    @classmethod
    def of(cls, start: Start, *, warmup: int, keep: int) -> Recorder:
        """Room for what a run will leave."""
        left = start.steps - warmup
        if left < 1 or keep < 1 or warmup < 0:
            raise InputError(
                "steps after the warm-up, and draws to keep",
                f"{start.steps} steps, {warmup} of them warm-up, keep={keep}",
                "take more steps, or a shorter warm-up",
            )
        k = min(keep, left)
        like = next(iter(start.params.values()))
        p = count(start.params) // start.members
        check_room(k, start.members, p, like, hint="set keep= to fewer draws")
        flat = torch.zeros(k, start.members, p, dtype=like.dtype, device=like.device)
        logs = torch.full((k, start.members), math.nan, dtype=like.dtype, device=like.device)
        return cls(flat, logs, 0, warmup, left)

    def record(self, step: int, weights: Tensor | Params, log_density: Tensor | None = None) -> Recorder:
        """Record the result of a step, if its turn has come; weights ``(M, P)``, log_density ``(M,)``."""
        since = step + 1 - self.first
        room = len(self.flat)
        turn = since * room // self.steps > (since - 1) * room // self.steps
        if since <= 0 or not turn or self.count == room:
            return self
        self.flat[self.count] = weights if isinstance(weights, Tensor) else flatten(weights, batch_dims=1)
        if log_density is not None:
            self.log_density[self.count] = log_density
        return Recorder(self.flat, self.log_density, self.count + 1, self.first, self.steps)


def draws_of(
    target: Density,
    recorder: Recorder,
    data: Data | None,
    *,
    stats: dict[str, Tensor] | None = None,
    warnings: Sequence[str] = (),
) -> Draws:
    """The posterior of recorded draws; stats ``(M,)``."""
    if recorder.count == 0:
        raise InputError("recorded draws", "none yet", "take more steps")
    # Evenly spaced over the data, whose order may mean something.
    probe = None if data is None else data.x[torch.linspace(0, data.n - 1, min(_PROBES, data.n)).long()]
    k, like = recorder.count, target.params()
    said = tuple(warnings)
    if data is not None and isinstance(target, Target):
        said += target.forward.held
        said += overparameterised(target, like, data.n, target.temperature, "draws")
    return Draws(target, recorder.flat[:k], recorder.log_density[:k], like, probe, stats or {}, said)
