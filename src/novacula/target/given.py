"""A target and data as they are given to a verb, where what is meant is plain."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from novacula.core.device import device_of, on_device
from novacula.core.errors import InputError, NovaculaWarning
from novacula.data.data import Data
from novacula.data.given import DataLike, as_data
from novacula.likelihoods.choose import likelihood_of
from novacula.target.target import Target

TargetLike = Target | nn.Module
"""A target, or a network: with the likelihood of the data's task, and the default prior."""
MANY = 10_000
"""Labels that are looked at."""


def prepared(target: TargetLike, data: DataLike, *, device: str | torch.device | None = None) -> tuple[Target, Data]:
    """Target and data that fit together, from what a verb was given.

    Args:
        target: A target; or a network, which is taken with the likelihood of the data's task: `Categorical` for
            classes, `Bernoulli` for several yes/no labels, `Normal` for measurements.
        data: The training data, see `as_data`.
        device: Where to compute, see `novacula.core.device`; by default where the network is.

    Returns:
        As `Target.prepare`.

    Raises:
        InputError: If they are no such things, or do not fit together.
    """
    data = as_data(data)
    made = as_target(target, data)
    return on_device(made, device, now=device_of(made.params())).prepare(data)


def as_target(target: TargetLike, data: Data) -> Target:
    """A target, of a network with the likelihood of the data's task; refuses what is neither."""
    if isinstance(target, nn.Module):
        if (
            data.task == "regression"
            and data.y.shape[1:] == (1,)
            and torch.unique(data.y[:MANY]).tolist() == [0.0, 1.0]
        ):
            said = (
                "the labels are 0.0 and 1.0 in a column: taken as measurements; for classes pass task='classification'"
            )
            warnings.warn(f"{said}, or a target with a likelihood", NovaculaWarning, stacklevel=3)
        target = Target(target, likelihood=likelihood_of(data.task))
    if not isinstance(target, Target):
        got = f"the class {target.__name__}" if isinstance(target, type) else f"a {type(target).__name__}"
        raise InputError("a target or a network", got, "nv.Target(network, likelihood=nv.Categorical())")
    return target
