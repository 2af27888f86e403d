"""A network from what an estimator's ``module`` is: a name, a class, a function, or a network itself."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from novacula.core.errors import InputError
from novacula.networks.make import make, seeded
from novacula.networks.user import COUNTS

PREFIX = "module__"
"""What parameters of the network begin with, as in skorch."""

_EXAMPLE = "module=MyModule, module__hidden=32"


def network_of(
    module: Any, options: Mapping[str, Any], x_shape: tuple[int, ...], outputs: int, seed: int, dtype: torch.dtype
) -> nn.Module:
    """Make the network of an estimator.

    A class or function is called with its options, and with ``x_shape`` and ``outputs`` (or ``num_classes``) where
    it has parameters of these names. What it makes is put into eval mode, as the library has no use for layers that
    draw random numbers or mix the examples of a batch. A network comes as it is, and is copied.

    Returns:
        A network of its own, in this dtype.

    Raises:
        InputError: If the module is none of these, or fails, or options do not fit it.
    """
    if module is None or isinstance(module, str):
        return make(module or "mlp", x_shape, outputs, seed, **options).eval().to(dtype)
    if isinstance(module, nn.Module):
        if options:
            raise InputError("no options for a network that is made already", _said(options), _EXAMPLE)
        return copy.deepcopy(module).to(dtype)
    if not callable(module):
        raise InputError("module= as a class, a function, a network or a name", repr(module), _EXAMPLE)
    made = _called(module, options, x_shape, outputs, seed)
    if not isinstance(made, nn.Module):
        raise InputError(f"an nn.Module from {_name(module)}", f"a {type(made).__name__}", "return the network")
    return made.eval().to(dtype)


def _called(
    make_net: Callable[..., Any], options: Mapping[str, Any], x_shape: tuple[int, ...], outputs: int, seed: int
) -> Any:
    try:
        signature = inspect.signature(make_net)
    except (ValueError, TypeError) as error:
        raise InputError("module= as a Python class or function", str(error), _EXAMPLE) from error
    given = {"x_shape": x_shape, **dict.fromkeys(COUNTS, outputs)}
    known = {k: v for k, v in given.items() if k in signature.parameters and k not in options}
    try:
        signature.bind(**known, **options)
    except TypeError as error:
        wanted = f"{_name(make_net)}{signature}"
        raise InputError(f"parameters {PREFIX}… of {wanted}", f"{_said(options)}: {error}", _EXAMPLE) from error
    try:
        with seeded(seed):
            return make_net(**known, **options)
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        raise InputError(f"{_name(make_net)} to make a network", got, "correct its parameters") from error


def _said(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{PREFIX}{k}={v!r}" for k, v in options.items()) or "none"


def _name(make_net: Callable[..., Any]) -> str:
    return getattr(make_net, "__name__", type(make_net).__name__)
