"""What a posterior's draws say about their own quality, in words and as a table.

References:
    Rank-normalization, folding, and localization: an improved R̂ for assessing convergence of MCMC. A. Vehtari,
    A. Gelman, D. Simpson, B. Carpenter, P.-C. Bürkner, 2021. arXiv:1903.08008 (R̂ below 1.01, 400 effective draws).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from novacula.reporting.words.methods import kind_of
from novacula.reporting.words.numbers import count, number, significant

Found = Mapping[str, Any]
"""The record of a posterior, ``run.json``'s ``posterior``."""

AIM_RHAT, MOST_RHAT = 1.01, 1.05
"""R-hat that one wants, and above which chains are said to disagree."""
AIM_ESS, LEAST_ESS = 400, 100
"""Effective draws that one wants, and below which summaries are said to be uncertain."""

_STATS = {
    "step_size": ("Step size", "mean over the chains"),
    "leapfrogs": ("Leapfrog steps", "gradients a transition, on average"),
    "depth": ("Tree depth", "doublings a transition, on average"),
    "log_evidence": ("Log evidence", "mean over the populations, in nats"),
    "beta": ("Likelihood entered", "1 is all of it"),
}
_SHOWN_APART = frozenset({"max_rhat", "median_rhat", "min_ess", "examined", "divergences", "accept"})


@dataclass(frozen=True)
class Row:
    """A row of the table of diagnostics."""

    label: str  # what was measured
    explains: str  # what that means
    value: str  # its value
    wanted: str = ""  # what one wants it to be; empty where anything will do
    bad: bool = False  # whether it is so far from that that the draws cannot be relied on


def facts(found: Found, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The diagnostics that were recorded, completed from the arrays."""
    known = {k: v for k, v in (found.get("diagnostics") or {}).items() if v is not None}
    rhat = arrays.get("sampler/rhat", np.zeros(0))
    if "max_rhat" not in known and not np.isnan(rhat).all():
        known |= {"max_rhat": float(np.nanmax(rhat)), "median_rhat": float(np.nanmedian(rhat))}
    sizes = np.concatenate([arrays.get(f"sampler/ess_{k}", np.zeros(0)).ravel() for k in ("bulk", "tail")])
    if "min_ess" not in known and not np.isnan(sizes).all():
        known["min_ess"] = float(np.nanmin(sizes))
    return known


def judgement(found: Found, known: Mapping[str, Any]) -> str:
    """The diagnostics in words."""
    rhat, ess, divergences = (known.get(k) for k in ("max_rhat", "min_ess", "divergences"))
    noun = kind_of(found).noun
    sentences: list[str] = []
    if rhat is not None:
        sentences.append(_agreement(found, rhat, known.get("examined")))
    if ess is not None:
        worth = f"worth {count(round(ess), 'independent draw')}"
        if ess < LEAST_ESS:
            sentences.append(f"The least certain is only {worth}: too few to rely on.")
        else:
            sentences.append(
                f"The least certain is {worth}" + (f"; {AIM_ESS} or more is what one wants." if ess < AIM_ESS else ".")
            )
    if not sentences and (noun in {"chain", "population"} or known):
        sentences.append(f"Whether the {noun}s agree could not be judged.")
    if divergences:
        sentences.append(
            f"{count(divergences, 'transition')} diverged, so sharply curved parts of the posterior may be missing "
            "from the draws."
        )
    return " ".join(sentences)


def rows(found: Found, known: Mapping[str, Any]) -> list[Row]:
    """The table of diagnostics."""
    if not known:
        return []
    table: list[Row] = []
    noun = kind_of(found).noun
    if runs := found.get("chains"):
        table.append(Row(f"{noun[0].upper()}{noun[1:]}s", "side by side, from different starts", f"{int(runs):,}"))
    if draws := found.get("draws"):
        table.append(Row("Draws", "kept after the warm-up, of all together", f"{int(draws):,}"))
    if (rhat := known.get("max_rhat")) is not None:
        of = f", of {count(known['examined'], 'quantity', 'quantities')}" if known.get("examined") else ""
        explains = f"spread between {noun}s against that within{of}"
        table.append(Row("R-hat, largest", explains, rhat_text(rhat), f"at most {AIM_RHAT}", rhat > MOST_RHAT))
    if (median := known.get("median_rhat")) is not None:
        table.append(Row("R-hat, median", "", rhat_text(median), f"at most {AIM_RHAT}", median > MOST_RHAT))
    if (ess := known.get("min_ess")) is not None:
        explains = "independent draws that would say as much"
        table.append(Row("Effective draws, fewest", explains, f"{round(ess):,}", f"{AIM_ESS} or more", ess < LEAST_ESS))
    if (gone := known.get("divergences")) is not None:
        table.append(Row("Divergences", "transitions that went astray", f"{int(gone):,}", "none", gone > 0))
    if (accept := known.get("accept")) is not None:
        table.append(Row("Acceptance", "share of proposals taken, on average", number(accept, 2)))
    for key, value in known.items():
        if key not in _SHOWN_APART and isinstance(value, (int, float)) and not isinstance(value, bool):
            label, explains = _STATS.get(key, (key.replace("_", " ").capitalize(), ""))
            table.append(Row(label, explains, significant(value)))
    return table


def rhat_text(value: float) -> str:
    """An R-hat as people read it.

    Returns:
        Three decimals near 1, two beyond.

    Example:
        >>> rhat_text(1.00312), rhat_text(2.718), rhat_text(math.inf)
        ('1.003', '2.72', 'infinite')
    """
    return "infinite" if math.isinf(value) else number(value, 3 if value < 1.1 else 2)


def _agreement(found: Found, rhat: float, examined: float | None) -> str:
    noun, runs = kind_of(found).noun, int(found.get("chains") or 0)
    group = f"parts of the {noun}" if runs == 1 else f"{noun}s"
    what = str(found.get("examined") or "").rstrip(".")
    what = what or (count(examined, "quantity", "quantities") if examined else "")
    over = f" over {what}" if what else ""
    if rhat > MOST_RHAT:
        reaches = "is infinite" if math.isinf(rhat) else f"reaches {rhat_text(rhat)}"
        return (
            f"The {group} disagree: R-hat {reaches}{over}, and beyond {MOST_RHAT} what is averaged "
            "still depends on where they started. More steps are needed."
        )
    if rhat > AIM_RHAT:
        return (
            f"The {group} nearly agree: R-hat is at most {rhat_text(rhat)}{over}; {AIM_RHAT} or less is what one wants."
        )
    return f"The {group} agree: R-hat is at most {rhat_text(rhat)}{over}."
