"""A sample of functions in plain values: which come often, how simple they are, how much was not seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.functions.lz import lz_bits
from novacula.functions.result import FunctionSample
from novacula.functions.slope import complexity_bound


def summary(found: FunctionSample, top: int = 10, *, least: int = 10) -> dict[str, Any]:
    """What `FunctionSample.to_dict` says, with complexities.

    Args:
        found: The sample.
        top: How many functions are listed.
        least: How often a function must have been drawn to count for the bound.

    Returns:
        Plain JSON values: those of the sample; ``top``, a dictionary for each function, with its complexity by
        `lz_bits`; and ``bound``, slope and intercept of `complexity_bound` among functions drawn ``least`` times, None
        where these are too few or too much alike.
    """
    check_whole("top", top)
    first = found.top(top)
    bits = lz_bits(found.labels_of(slice(0, top)))
    listed = [
        {"labels": s.labels, "count": s.count, "probability": list(s.probability), "lz_bits": float(b)}
        for s, b in zip(first, bits, strict=True)
    ]
    often = found.counts >= least
    bound = None
    if often.any():
        kept = replace(found, counts=found.counts[often], keys=found.keys[often])
        try:
            bound = complexity_bound(kept, lz_bits(kept.labels), least=least)._asdict()
        except InputError:
            bound = None  # of fewer than two complexities
    return {**found.to_dict(), "top": listed, "bound": bound}
