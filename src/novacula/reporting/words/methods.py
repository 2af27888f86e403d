"""How methods of inference read to people: their names, what their runs side by side are called, what they average."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from novacula.reporting.words.numbers import count
from novacula.runs.catalogue.methods import METHODS, Words

# Methods that have no name on the command line.
_OTHERS = {
    "map": Words("MAP", "network", "the most probable weights"),
    "laplace": Words("Laplace", "run", "a Gaussian with the curvature at the most probable weights"),
}
_KINDS = {**_OTHERS, **{row.name.replace("-", ""): row.report for row in METHODS.own}}


def kind_of(found: Mapping[str, Any]) -> Words:
    """The method of a posterior.

    Returns:
        What its run says of it, where another package made it; else what is known here. A `Subnetwork` is of its
        method's kind.

    Example:
        >>> kind_of({"method": "SGLD(lr=0.1)"}).noun, kind_of({"method": "mean-field"}).name
        ('chain', 'MeanField')
    """
    if said := found.get("words"):
        return Words(**said)
    name = str(found.get("method") or "")
    if _key(name) == "sgld" and (found.get("settings") or {}).get("cycles"):
        return _KINDS["csgld"]
    if _key(name) == "subnetwork":
        inner = kind_of({"method": _inner(found)})
        return Words(f"{inner.name or 'Subnetwork'} on some of the weights", inner.noun, inner.what)
    if _key(name) == "ensemble" and _key(_inner(found)) == "swag":
        return _KINDS["multiswag"]
    return _KINDS.get(_key(name), Words(name))


def chose_point(record: Mapping[str, Any]) -> bool:
    """Whether the predictive that was chosen is the point estimate as it was trained."""
    found = record.get("predictive") or {}
    return found.get("structure") == "point" and found.get("calibration", 1) == 1


def is_point(found: Mapping[str, Any]) -> bool:
    """Whether a posterior is one point, over which nothing is averaged."""
    return kind_of(found).name == "MAP" and int(found.get("chains") or 1) <= 1


def averaged(record: Mapping[str, Any]) -> str:
    """What predictions average over, to stand in a sentence.

    Returns:
        For instance ``"4 chains of SGLD"``; empty without a posterior, or for a point.

    Example:
        >>> averaged({"posterior": {"method": "NUTS", "chains": 4}})
        '4 chains of NUTS'
    """
    found = record.get("posterior") or {}
    if not found.get("method") or is_point(found):
        return ""
    kind, runs = kind_of(found), int(found.get("chains") or 0)
    if kind.noun == "network":
        members = runs * int((found.get("settings") or {}).get("members") or 1) if runs else 0
        inner = kind_of({"method": "SWAG" if kind.name == "MultiSWAG" else _inner(found)}).name
        if inner in {"", "MAP", "Ensemble"}:
            return f"an ensemble of {count(members, 'network')}" if members else "an ensemble of networks"
        return f"an ensemble of {count(members, 'posterior') if members else 'posteriors'} of {inner}"
    if runs > 1:
        return f"{count(runs, kind.noun)} of {kind.name}"
    return f"the posterior of {kind.name}" if kind.noun == "run" else f"one {kind.noun} of {kind.name}"


def _key(name: str) -> str:
    return re.sub(r"[^a-z]", "", re.split(r"[(:]", name, maxsplit=1)[0].lower())


def _inner(found: Mapping[str, Any]) -> str:
    # The method within a method: as it is written in the name, or among the settings.
    written = re.match(r"\w+\((?:method=)?(\w+)", str(found.get("method") or ""))
    value = (found.get("settings") or {}).get("method")
    value = value.get("name") if isinstance(value, Mapping) else value
    return written[1] if written else str(value or "")
