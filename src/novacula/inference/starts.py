"""Where members start: the network as it came, and fresh draws of its own initialisation."""

from __future__ import annotations

import copy
import math
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.params import Params, detach, stack
from novacula.core.rng import derive, generator
from novacula.data.data import Data
from novacula.target import Density, LogDensity, Target

From: TypeAlias = Literal["auto", "fresh", "given"]
NOISE = 0.1
"""The noise at most that tells members apart which start at the same weights, in units of each tensor's size."""
_TRIES = 20
_FRESH, _LOOKED_AT, _GAIN = 8, 256, 0.1  # draws, examples and nats an example


def starts(target: Density, members: int, seed: int) -> Params:
    """First weights of M members.

    The first member starts at the target's own weights. The others of a network start at fresh draws of its
    initialisation, by the ``reset_parameters`` of its layers; those of a plain log-density at ``init`` plus uniform
    noise in ±1, halved until the density is finite there.

    Returns:
        Stacked weights, shape ``(M, *shape)``.

    Raises:
        InputError: If ``members`` is not positive.
    """
    if members < 1:
        raise InputError("at least one chain or member", str(members), "use 1 or more")
    own = target.params()
    if isinstance(target, Target):
        others = initial_weights(target, members - 1, seed)
    else:
        others = [_jittered(target, own, generator(seed, "start", i)) for i in range(1, members)]
    return stack([own, *others])


def members_of_network(target: Target, data: Data | None, own: Params, members: int, how: From, seed: int) -> Params:
    """First weights of M members of a network whose own weights may have been trained before.

    Args:
        target: The target.
        data: The training data, by which trained weights are told from fresh ones.
        own: The weights of the first member.
        members: M.
        how: Where the others start: at ``"fresh"`` draws of the initialisation, near the ``"given"`` weights, or as
            they seem to be: near them where they explain the data far better than any of eight fresh draws.
        seed: Seed of draws and noise.

    Returns:
        Stacked weights, shape ``(M, *shape)``.

    Warns:
        NovaculaWarning: If the weights were found to be trained.
    """
    fit = None if data is None else _Fit(target, data, seed)
    if members > 1 and how == "auto" and fit is not None and _trained(fit, own):
        how = "given"
        warnings.warn(
            "the given weights explain the data far better than fresh ones: all members start near them; for fresh "
            "draws, Ensemble(…, start='fresh')",
            NovaculaWarning,
            stacklevel=3,
        )
    if how != "given":
        return stack([own, *initial_weights(target, members - 1, seed)])
    return stack([own, *(_near(own, fit, generator(seed, "near", i)) for i in range(1, members))])


@dataclass(frozen=True)
class _Fit:
    """The mean log-likelihood of some examples."""

    target: Target
    data: Data
    seed: int

    def __call__(self, w: Params) -> float:
        rng, rows = generator(self.seed, "fit"), slice(0, _LOOKED_AT)
        with torch.no_grad():
            return float(self.target.log_likelihood(w, self.data.x[rows], self.data.y[rows], 1, rng).double().mean())


def _near(own: Params, fit: _Fit | None, rng: torch.Generator) -> Params:
    # Noise in units of each tensor's size, halved until it costs no more than a tenth of a nat an example.
    noise = {k: torch.randn(w.shape, generator=rng, dtype=w.dtype).to(w.device) for k, w in own.items()}
    least = -math.inf if fit is None else fit(own) - _GAIN
    scale = NOISE
    for _ in range(_TRIES):
        point = {k: w + scale * w.square().mean().sqrt() * noise[k] for k, w in own.items()}
        if fit is None or fit(point) >= least:
            return point
        scale /= 2
    return own


def _trained(fit: _Fit, own: Params) -> bool:
    # Fresh weights are as good as other fresh ones: to lie four standard deviations of eight others above their mean
    # has a probability of .3 % (Student's t with seven degrees of freedom).
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NovaculaWarning)
        fresh = [fit(w) for w in initial_weights(fit.target, _FRESH, derive(fit.seed, "compare"))]
    return fit(own) > max(max(fresh) + _GAIN, statistics.mean(fresh) + 4 * statistics.stdev(fresh))


def initial_weights(target: Target, n: int, seed: int) -> list[Params]:
    """Fresh draws of a network's initialisation."""
    if n == 0:
        return []
    module = copy.deepcopy(target.forward.module)
    resets: list[Callable[[], object]] = []
    reset_names: set[str] = set()
    for name, layer in module.named_modules():
        reset = _reset_of(layer)
        if reset is not None:
            resets.append(reset)
            # A layer's reset speaks for the parameters below it too (attention holds a projection of its own).
            reset_names |= {f"{name}.{k}" if name else k for k, _ in layer.named_parameters()}
    own = target.params()
    if kept := [name for name in own if name not in reset_names]:
        warnings.warn(
            f"members share the first values of {', '.join(kept)}: their layers have no reset_parameters()",
            NovaculaWarning,
            stacklevel=2,
        )
    found: list[Params] = []
    devices = sorted({w.device.index or 0 for w in own.values() if w.device.type == "cuda"})
    for i in range(n):
        # Initialisations draw from the global generator; forking it leaves the caller's stream untouched.
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            torch.manual_seed(derive(seed, "fresh", i) % 2**63)
            for reset in resets:
                reset()
        named = dict(module.named_parameters())
        found.append(detach({k: named[k] for k in own}))
    return found


def _reset_of(layer: nn.Module) -> Callable[[], object] | None:
    for name in ("reset_parameters", "_reset_parameters"):
        reset = getattr(layer, name, None)
        if callable(reset):
            return reset
    return None


def _jittered(target: LogDensity, own: Params, rng: torch.Generator) -> Params:
    noise = {k: 2 * torch.rand(w.shape, generator=rng, dtype=w.dtype) - 1 for k, w in own.items()}
    scale = 1.0
    for _ in range(_TRIES):
        point: dict[str, Tensor] = {k: w + scale * noise[k].to(w.device) for k, w in own.items()}
        with torch.no_grad():
            if torch.isfinite(target.log_density(point)):
                return point
        scale /= 2
    return own
