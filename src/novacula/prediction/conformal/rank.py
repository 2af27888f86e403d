"""Which order statistic conformal prediction takes; in exact arithmetic, as one rank too few breaks the promise."""

from __future__ import annotations

import math
from fractions import Fraction

from novacula.core.checks.numbers import check_within
from novacula.core.errors import InputError


def check_alpha(alpha: float) -> Fraction:
    """The share of labels that may be missed, as the decimal that its user wrote."""
    check_within("alpha", alpha)
    return Fraction(repr(float(alpha)))


def rank(n: int, alpha: float, where: str = "") -> int:
    """``⌈(n + 1)(1 − α)⌉``, which of n scores bounds the sets, counted from 1 and from the smallest.

    Returns:
        A number from 1 to n.

    Raises:
        InputError: If it would be n + 1: so few scores promise nothing but the set of all labels.

    Example:
        >>> rank(9, 0.1), rank(19, 0.1), rank(20, 0.1)
        (9, 18, 19)
    """
    exact = check_alpha(alpha)
    k = math.ceil((n + 1) * (1 - exact))
    if k > n:
        least = math.ceil(1 / exact) - 1
        raise InputError(
            f"at least {least} calibration examples{where} for alpha={alpha:g}",
            f"{n}",
            f"add examples, or use alpha={1 / (n + 1):.2g} or more" if n else "add examples",
        )
    return k
