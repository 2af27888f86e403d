"""Where members start: the network as it came, and fresh draws of its own initialisation."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.params import Params, detach, stack
from novacula.core.rng import derive, generator
from novacula.target import Density, LogDensity, Target

_TRIES = 20


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
