"""Draws in ArviZ's form, for its plots, summaries and comparisons.

The package itself is optional (``pip install 'novacula[arviz]'``) and is imported when a function is called.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from novacula.core.errors import InputError


class ChainsOfDraws(Protocol):
    """What is exported: `novacula.inference.Draws` and whatever has these."""

    @property
    def chains(self) -> Mapping[str, Tensor]:
        """The draws, by parameter: shape ``(M, K, *shape)``."""
        ...

    @property
    def log_density(self) -> Tensor:
        """Log-densities, shape ``(K, M)``; NaN where they are not known."""
        ...


def to_arviz(draws: ChainsOfDraws, *, log_likelihood: Tensor | None = None) -> Any:
    """Draws as an ArviZ object: group ``posterior``, and ``sample_stats`` with ``lp`` where log-densities are known.

    Args:
        draws: The draws of a sampler.
        log_likelihood: Log-likelihoods of N examples, shape ``(M, K, N)``, for ``arviz.loo``.

    Returns:
        An ``InferenceData`` (ArviZ before 1.0) or a ``DataTree``.

    Raises:
        InputError: If ArviZ is not installed, or the log-likelihoods have another shape.
    """
    try:
        arviz: Any = importlib.import_module("arviz")
    except ImportError:
        raise InputError("ArviZ to export draws", "none installed", "pip install 'novacula[arviz]'") from None
    groups = groups_of(draws, log_likelihood)
    # Since 1.0 the groups are one dictionary; before, each is an argument.
    together = next(iter(inspect.signature(arviz.from_dict).parameters)) != "posterior"
    return arviz.from_dict(groups) if together else arviz.from_dict(**groups)


def groups_of(draws: ChainsOfDraws, log_likelihood: Tensor | None = None) -> dict[str, dict[str, np.ndarray]]:
    """What `to_arviz` hands over, as plain arrays."""
    found = {"posterior": {name: _array(w) for name, w in draws.chains.items()}}
    shape = draws.log_density.T.shape
    logs = _array(draws.log_density.T)
    if np.isfinite(logs).any():
        found["sample_stats"] = {"lp": logs}
    if log_likelihood is not None:
        if log_likelihood.ndim != 3 or log_likelihood.shape[:2] != shape:
            raise InputError(
                f"log-likelihoods of shape ({shape[0]}, {shape[1]}, N)",
                f"shape {tuple(log_likelihood.shape)}",
                "one number for each chain, draw and example",
            )
        found["log_likelihood"] = {"y": _array(log_likelihood)}
    return found


def _array(t: Tensor) -> np.ndarray:
    return np.ascontiguousarray(t.detach().cpu().numpy())
