"""Intervals of extents, as wide as independent searches end apart.

The curvature of what unseen examples say, at fixed weights, tells how well they determine an extent for these networks.
Another search has other networks, which have learned to bear other extents, and ends elsewhere by more than that. The K
networks that are blind to a fold each searched by themselves; the variance ``b_e`` of the mean of their extents, beside
the ``w_e`` of the curvature, gives the factor by which all standard errors are too small,

    r² = mean over e of b_e / w_e        (at least 1; with E (K − 1) degrees of freedom),

the scale factor of meta-analysis. Extents whose curvature tells nothing have their own ``b_e``, with K − 1 degrees of
freedom. Intervals are of an independent repetition, √2 times as wide as of the truth.

The folds then try other extents, by training on (`novacula.study.learning.each`): what they could not tell from the
best, another run may end at. An interval holds these, too.

References:
    The calculation of errors by the method of least squares. R. T. Birge, Physical Review 40, 1932.
    Review of particle physics, introduction, section 5.2.2: unconstrained averaging. Particle Data Group, 2022.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from scipy.stats import t
from torch import Tensor

from novacula.study.learning.hyper import Z

_HELD = 0.95  # below the upper end of an interval, as many above the lower


def as_apart(
    found: Mapping[str, dict[str, Any]], names: tuple[str, ...], apart: Tensor, networks: int
) -> dict[str, dict[str, Any]]:
    """Hyperparameters with intervals as wide as searches end apart.

    Args:
        found: Extents by name, with the intervals of a curvature at fixed weights, which may be None.
        names: Their names, E of them.
        apart: The standard deviation of what each network found, shape ``(E,)``.
        networks: K, at least 2.

    Returns:
        The same with other intervals; extents that no network moved keep theirs.

    Example:
        >>> import torch
        >>> found = {"rotation": {"value": 0.5, "interval": [0.4, 0.6]}}
        >>> wider = as_apart(found, ("rotation",), torch.tensor([0.1]), 3)["rotation"]["interval"]
        >>> [round(end, 2) for end in wider]
        [0.26, 0.74]
    """
    between = {name: float(a) ** 2 / networks for name, a in zip(names, apart, strict=True)}
    within = {k: ((v["interval"][1] - v["value"]) / Z) ** 2 for k, v in found.items() if k in between and v["interval"]}
    ratios = [between[k] / w for k, w in within.items() if w > 0]
    factor = math.sqrt(max(1.0, sum(ratios) / len(ratios))) if ratios else 1.0
    many, few = (float(t.ppf(_HELD, n * (networks - 1))) for n in (max(1, len(ratios)), 1))
    result = dict(found)
    for name in between.keys() & found.keys():
        spread = many * factor * math.sqrt(within[name]) if name in within else few * math.sqrt(between[name])
        if spread > 0:
            value, half = found[name]["value"], math.sqrt(2) * spread
            result[name] = {**found[name], "interval": [max(0.0, value - half), value + half]}
    return result


def spanning(entry: dict[str, Any], values: tuple[float, ...]) -> dict[str, Any]:
    """An extent whose interval holds other values, where it has one."""
    if entry["interval"] is None:
        return entry
    low, high = entry["interval"]
    return {**entry, "interval": [min(low, *values), max(high, *values)] if values else [low, high]}
