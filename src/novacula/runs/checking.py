"""What a run's tensors must be like: held against its record before anything is predicted with them.

A run with checksums holds what was written. For one of an earlier version this is all that can be told, and for both it
is what keeps a lost tensor from being read as one that was never there.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from novacula.core.storage.run import POSTERIOR, WEIGHTS, Run

SCALING = ("x_mean", "x_sd", "y_mean", "y_sd")
_KINDS = frozenset({"weights", "statistics", "centre", "learned", "check", "scaling", "units"})
_NAMES = {"check": ("inputs", "outputs"), "scaling": SCALING, "units": SCALING}  # kinds that hold these alone
_OWN = frozenset({"point", "draws", "dropout"})  # kinds that hold all weights of the network, each


def check_weights(run: Run, saved: Mapping[str, np.ndarray]) -> None:
    """Refuse weights whose names, number, shapes or values do not fit the record; the tensor is named."""
    _check_values(run, WEIGHTS, {k: a for k, a in saved.items() if k.partition("/")[0] != "units"})
    if strange := sorted(name for name in saved if not _is_known(name)):
        raise run.damaged(WEIGHTS, f"a tensor {strange[0]!r}, which no run has")
    for part in "xy":
        if len(pair := {f"units/{part}_mean", f"units/{part}_sd"} & saved.keys()) == 1:
            raise run.damaged(WEIGHTS, f"{pair.pop()} alone")
        if pair and saved[f"units/{part}_mean"].shape != saved[f"units/{part}_sd"].shape:
            raise run.damaged(WEIGHTS, f"units/{part}_mean and units/{part}_sd of two shapes")
    shape = (run.record.get("data") or {}).get("input_shape")
    if shape is not None and "units/x_sd" in saved and saved["units/x_sd"].size not in (0, 1, shape[-1]):
        raise run.damaged(WEIGHTS, f"units/x_sd of {saved['units/x_sd'].size} columns for inputs of shape {shape}")
    if "check/outputs" in saved and "check/inputs" not in saved:
        raise run.damaged(WEIGHTS, "no check/inputs")
    own = {name: a for name, a in saved.items() if name.startswith("weights/")}
    wanted, found = run.record["weights"], sum(a.size for a in own.values())
    if own and wanted != found:
        raise run.damaged(WEIGHTS, f"{found:,} weights in {len(own)} tensors, where {run.folder} has {wanted:,}")
    scaling = {name: saved.get(f"scaling/{name}") for name in SCALING}
    standard = (run.record.get("noise") or {}).get("sigma_standardised") is not None
    if lost := [name for name, a in scaling.items() if a is None]:
        if len(lost) < len(SCALING) or standard:
            raise run.damaged(WEIGHTS, f"no scaling/{lost[0]}")
        return
    x_mean, x_sd, y_mean, y_sd = (np.asarray(scaling[name]) for name in SCALING)
    for name, mean, sd in (("x", x_mean, x_sd), ("y", y_mean, y_sd)):
        if mean.shape != sd.shape or not (sd > 0).all():
            raise run.damaged(WEIGHTS, f"scaling/{name}_sd of shape {sd.shape}, or not above 0")


def check_posterior(run: Run, stored: Mapping[str, np.ndarray], saved: Mapping[str, np.ndarray]) -> None:
    """Refuse a stored posterior whose weights are not all the network's, in number and shape; the tensor is named."""
    _check_values(run, POSTERIOR, {k: a for k, a in stored.items() if k.count("/") > 1})  # a log-density may be −∞
    if not stored:
        if (run.record.get("predictive") or {}).get("structure") == "ensemble" and not run.record.get("posterior"):
            raise run.damaged(POSTERIOR, "missing, though the run predicts by an ensemble")
        return
    shapes = _shapes(saved, "weights/")
    statistics = _shapes(saved, "statistics/")  # which a part has of its own, or shares with the run's network
    parts: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, a in stored.items():
        place, _, rest = key.partition("/")
        kind, slash, name = rest.partition("/")
        if not place.isdecimal() or not rest:
            raise run.damaged(POSTERIOR, f"a tensor {key!r}, which no posterior has")
        own = parts.setdefault(place, {})
        if slash and kind in _OWN:
            own[name] = a.shape
    places = sorted(map(int, parts))
    if places != list(range(len(places))):
        raise run.damaged(POSTERIOR, f"parts {', '.join(map(str, places))}")
    for place, found in parts.items():
        held = {k: s for k, s in statistics.items() if k in found}
        if found and (wrong := _misfit(found, {**shapes, **held})) is not None:
            raise run.damaged(POSTERIOR, f"part {place}: {wrong}")


def _is_known(name: str) -> bool:
    kind, _, rest = name.partition("/")
    return kind in _KINDS and rest in _NAMES.get(kind, (rest,))


def _shapes(saved: Mapping[str, np.ndarray], prefix: str) -> dict[str, tuple[int, ...]]:
    return {k.removeprefix(prefix): a.shape for k, a in saved.items() if k.startswith(prefix)}


def _misfit(found: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    # Weights, or draws of them (draws, chains, …), all of one number.
    if lost := sorted(set(found) ^ set(shapes)):
        return f"{lost[0]} is {'one too many' if lost[0] in found else 'missing'}"
    leading: set[tuple[int, ...]] = set()
    for name, shape in found.items():
        split = len(shape) - len(shapes[name])
        if split not in (0, 1, 2) or shape[split:] != shapes[name]:
            return f"{name} of shape {shape}, where the network has {shapes[name]}"
        leading.add(shape[:split])
    return None if len(leading) == 1 else "different numbers of draws"


def _check_values(run: Run, name: str, found: Mapping[str, np.ndarray]) -> None:
    for key, a in found.items():
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise run.damaged(name, f"numbers of {key} that are not finite")
