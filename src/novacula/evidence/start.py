"""Checks of what an estimator is given, before any long computation."""

from __future__ import annotations

import torch

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.data.data import Data
from novacula.data.given import DataLike, as_data
from novacula.posteriors.base import Posterior, posterior_of, weights_of
from novacula.target import Target
from novacula.target.given import TargetLike, prepared


def bound(target: TargetLike, data: DataLike) -> tuple[Target, Data]:
    """Target and data that fit together (see `Target.prepare`)."""
    data = as_data(data)
    whole, checked = prepared(target, data)
    # The same tensor is the same data, whose fingerprint may be known already.
    return whole, data if checked.y is data.y else checked


def weights_for(target: Target, start: Params | Posterior) -> tuple[Target, Params]:
    """The weights that a start names, and the target whose network holds the statistics that belong to them.

    A network evaluated at weights of other names would silently use its own instead.

    Returns:
        The target, and detached weights in the network's order.

    Raises:
        InputError: If they are not the target's: a name is missing or unknown, or a shape is another.
    """
    weights = weights_of(start)
    target, params = target.at({**_held(target, start), **weights})
    module, frozen = target.forward.module, set(target.forward.frozen)
    wanted = {name: w for name, w in module.named_parameters() if name not in frozen}
    hint = "start from weights of this target's network, for example a posterior of nv.infer"
    for name, w in wanted.items():
        if name not in params:
            raise InputError(f"weights for {', '.join(wanted)}", f"none for {name!r}", hint)
        if params[name].shape != w.shape:
            raise InputError(f"weights {name!r} of shape {tuple(w.shape)}", f"shape {tuple(params[name].shape)}", hint)
    unknown = sorted(params.keys() - wanted.keys())
    if unknown:
        raise InputError(f"weights for {', '.join(wanted)}", f"also {unknown[0]!r}", hint)
    return target, {name: params[name].detach() for name in wanted}


def _held(target: Target, start: Params | Posterior) -> Params:
    # Statistics that the network of a posterior holds and the target's does not.
    other = None if isinstance(start, dict) else posterior_of(start).target
    if not isinstance(other, Target):
        return {}
    own, theirs = (dict(t.forward.module.named_buffers()) for t in (target, other))
    alike = [k for k, b in own.items() if k in theirs and theirs[k].shape == b.shape and not b.requires_grad]
    return {k: theirs[k] for k in alike if not torch.equal(own[k], theirs[k].to(own[k]))}
