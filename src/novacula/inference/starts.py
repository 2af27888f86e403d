"""Where members start: the network as it came, and the others at fresh draws of its initialisation or near it.

An ensemble of a network that was made a moment ago wants members that differ: fresh draws. One of a network that was
trained before (fine-tuning) wants what it has learned: a fresh draw would throw that away. Which of the two it is
shows in the weights: those that no draw of their layers' initialisation explains have been trained, or set.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from inspect import signature

import torch
from torch import Tensor, nn

from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.params import Params, count, detach, stack
from novacula.core.rng import derive, generator, global_draws
from novacula.inference.method import Others
from novacula.target import Density, LogDensity, Target

_TRIES = 20
_DRAWS = {True: 64, False: 8}  # of small networks, whose draws say less each, and of others
_SMALL = 10_000
_BEYOND = 2.0
_FALSE_ALARMS = 1e-6
SPREAD = 0.02
"""How far members are put from a trained network: standard deviations, in root mean squares of a tensor."""

Names = Sequence[str]


def starts(
    target: Density,
    members: int,
    seed: int,
    *,
    others: Others = "auto",
    own: Params | None = None,
    redraw: Names = (),
    held: Params | None = None,
) -> Params:
    """First weights of M members.

    The first member starts at the target's own weights. The others of a network start at fresh draws of its
    initialisation, by the ``reset_parameters`` of its layers (and near the first in weights of layers that have none),
    or near the first; those of a plain log-density at ``init`` plus uniform noise in ±1, halved until the density is
    finite there.

    Args:
        target: The density.
        members: M.
        seed: Seed of the draws.
        others: Where the other members of a network start: ``"fresh"``; ``"near"`` the first, by normal noise of a
            fiftieth of each tensor's root mean square; or ``"auto"``, near it where its weights are no draw of its
            initialisation, which a warning says, and fresh otherwise.
        own: The first member's weights, where they are not the target's own; `infer` is told by ``init``.
        redraw: Names of parameters or layers that start at fresh draws though the others start near.
        held: The first member's running statistics, where they are not the network's own.

    Returns:
        Stacked weights, shape ``(M, *shape)``, and statistics where those of fresh draws are others than the first's.

    Raises:
        InputError: If ``members`` is not positive, or nothing has a name of ``redraw``.
    """
    if members < 1:
        raise InputError("at least one chain or member", str(members), "use 1 or more")
    given = own is not None
    own = target.params() if own is None else own
    if not isinstance(target, Target):
        return stack([own, *(_jittered(target, own, generator(seed, "start", i)) for i in range(1, members))])
    drawn = [k for k in own if any(k == name or k.startswith(f"{name}.") for name in redraw)]
    if len(redraw) and not drawn:
        raise InputError(f"parameters or layers named {', '.join(redraw)}", "none", f"use names among {', '.join(own)}")
    near = members > 1 and (others == "near" or len(drawn) > 0 or (others == "auto" and trained(target, own)))
    if near and others == "auto" and not given and not drawn:
        warnings.warn(
            f"the weights of {type(target.forward.module).__name__} are no draw of its initialisation, so all members "
            'start near them; Ensemble(start="fresh") draws members anew',
            NovaculaWarning,
            stacklevel=3,
        )
    held = held or {}
    if not near:
        drawn = initial_weights(target, members - 1, seed)
        kept = {k: own[k] for k in _resets(target.forward.module, own)[1]}
        fresh = ({**f, **_moved(kept, generator(seed, "near", i))} for i, f in enumerate(drawn, 1))
        return _stacked(target, [{**own, **held}, *fresh])
    fresh = initial_weights(target, members - 1, seed) if drawn else [own] * (members - 1)
    moved = [_moved(own, generator(seed, "near", i)) for i in range(1, members)]
    near_ones = ({**m, **held, **{k: f[k] for k in drawn}} for m, f in zip(moved, fresh, strict=True))
    return stack([{**own, **held}, *near_ones])


def _stacked(target: Target, points: list[Params]) -> Params:
    # Points of which some bring statistics; the others have the network's own.
    buffers = {k: b for k, b in target.forward.module.named_buffers() if any(k in p for p in points)}
    return stack([{**p, **{k: p.get(k, b) for k, b in buffers.items()}} for p in points])


def _moved(own: Params, rng: torch.Generator) -> Params:
    noise = {k: torch.randn(w.shape, generator=rng, dtype=w.dtype).to(w.device) for k, w in own.items()}
    return {k: w + SPREAD * w.square().mean().sqrt() * noise[k] for k, w in own.items()}


def blind_starts(target: Target, n: int, seed: int) -> list[Params]:
    """First weights of networks that must know nothing of the data: draws of the initialisation.

    Where the prior is centred at weights that were learned elsewhere, these are what is known before the data, and the
    networks start near them.

    Returns:
        N points.
    """
    centre = target.prior.centre(target.params())
    if centre is None:
        return initial_weights(target, n, seed)
    return [_moved(centre, generator(seed, "near", i)) for i in range(n)]


def trained(target: Target, own: Params) -> bool:
    """Whether some tensor of a network's weights is no draw of its layer's own initialisation.

    By Kolmogorov and Smirnov's test, which sees it in many weights; or, in a few, by one twice as large as all draws.

    Returns:
        True where it is told; a small network that was trained a little is not.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NovaculaWarning)
        drawn = stack(initial_weights(target, _DRAWS[count(own) < _SMALL], 0))
    for name, w in own.items():
        a, b = (v.cpu().double().flatten().sort().values for v in (w, drawn[name]))
        if bool((b == b[0]).all()):
            if not bool((a == b[0]).all()):
                return True
            continue
        if float(a.abs().max()) > _BEYOND * float(b.abs().max()):
            return True
        points = torch.cat([a, b])
        gap = torch.searchsorted(a, points, right=True) / len(a) - torch.searchsorted(b, points, right=True) / len(b)
        # Massart's bound on the false alarms of one tensor, in two samples.
        size = len(a) * len(b) / (len(a) + len(b))
        if 2 * math.exp(-2 * size * float(gap.abs().max()) ** 2) < _FALSE_ALARMS / len(own):
            return True
    return False


def initial_weights(target: Target, n: int, seed: int) -> list[Params]:
    """Fresh draws of a network's initialisation, with running statistics where these are reset to others."""
    if n == 0:
        return []
    module = copy.deepcopy(target.forward.module)
    own, buffers = target.params(), dict(target.forward.module.named_buffers())
    resets, kept = _resets(module, own)
    if kept:
        warnings.warn(
            f"members share the first values of {', '.join(kept)}, or start near them: their layers have no"
            " reset_parameters()",
            NovaculaWarning,
            stacklevel=2,
        )
    found: list[Params] = []
    devices = {w.device for w in own.values()}
    for i in range(n):
        with global_draws(*devices, seed=derive(seed, "fresh", i)), torch.no_grad():
            for reset in resets:
                reset()
        named = dict(module.named_parameters())
        reset_buffers = {k: b for k, b in module.named_buffers() if not torch.equal(b, buffers[k])}
        found.append(detach({**{k: named[k] for k in own}, **reset_buffers}))
    return found


def _resets(module: nn.Module, own: Params) -> tuple[list[Callable[[], object]], list[str]]:
    # What draws a network's weights anew, and the names of those that nothing draws.
    resets: list[Callable[[], object]] = []
    drawn: set[str] = set()
    for name, layer in module.named_modules():
        reset = _reset_of(layer)
        if reset is not None:
            resets.append(reset)
            # A layer's reset speaks for the parameters below it too (attention holds a projection of its own).
            drawn |= {f"{name}.{k}" if name else k for k, _ in layer.named_parameters()}
    whole, set_by_it = _own_initialisation(module)
    return [*resets, *whole], [name for name in own if name not in drawn | set_by_it]


def _own_initialisation(module: nn.Module) -> tuple[list[Callable[[], object]], set[str]]:
    # What a network does to its layers itself, after these have drawn: ``self.apply(self._init_weights)``, as models of
    # the transformers library and many others write it; and the names of what that sets.
    inner: set[int] = set()
    owners: list[nn.Module] = []
    for layer in module.modules():
        function = getattr(layer, "_init_weights", None)
        if id(layer) in inner or not callable(function) or not _takes_one(function):
            continue
        owners.append(layer)
        inner |= {id(m) for m in layer.modules()}  # outer ones speak for those inside

    def whole() -> None:
        for owner in owners:
            for layer in reversed(list(owner.modules())):  # a network after its layers
                owner._init_weights(layer)  # type: ignore[operator]

    if not owners:
        return [], set()
    parameters = dict(module.named_parameters())
    before = {k: w.detach().clone() for k, w in parameters.items()}
    with global_draws(*{w.device for w in before.values()}), torch.no_grad():
        for w in parameters.values():
            w.add_(1)
        try:
            whole()
        except Exception:  # whatever it is, it is no function of a layer
            owners.clear()
        found = {k for k, w in parameters.items() if owners and not torch.equal(w, before[k] + 1)}
        for k, w in parameters.items():
            w.copy_(before[k])
    return [whole], found


def _takes_one(function: Callable[..., object]) -> bool:
    try:
        needed = [p for p in signature(function).parameters.values() if p.default is p.empty]
    except (TypeError, ValueError):
        return False
    return len(needed) == 1 and needed[0].kind in (needed[0].POSITIONAL_ONLY, needed[0].POSITIONAL_OR_KEYWORD)


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
