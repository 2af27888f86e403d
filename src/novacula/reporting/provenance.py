"""Where a run came from: what someone needs to repeat it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from novacula.reporting.words.numbers import MISSING, duration

Entries = list[tuple[str, str]]


def provenance(record: Mapping[str, Any]) -> dict[str, Any]:
    """Collect what is needed to repeat a run."""
    data, seconds = record["data"], record["seconds"]
    shape = data.get("input_shape")
    facts: Entries = [
        ("Data", str(data.get("name") or MISSING)),
        *(("Taken for" if i == 0 else "", text) for i, text in enumerate(data.get("meaning") or [])),
        ("Data fingerprint", str(data.get("fingerprint") or MISSING)),
        ("Input shape", " × ".join(map(str, shape)) if shape else MISSING),
        ("Task", str(data.get("task") or MISSING)),
        ("Seed", str(record.get("seed", MISSING))),
        ("Time", _time(seconds)),
        ("Run folder", str(record.get("output_dir") or MISSING)),
    ]
    facts.append(("Versions", ", ".join(f"{name} {v}" for name, v in record["versions"].items())))
    settings = [(name.replace("_", " "), setting(v)) for name, v in (record.get("settings") or {}).items()]
    return {"command": record.get("command") or "", "facts": facts, "settings": settings}


def _time(seconds: Mapping[str, Any]) -> str:
    total, hyper = seconds.get("total"), seconds.get("hyper")
    if total and hyper is not None:
        share = f"{duration(hyper)} ({100 * hyper / total:.0f}\u00a0%)"
        return f"{duration(total)}, of which {share} on the prior and the invariance"
    return duration(total)


def setting(value: Any) -> str:
    """A setting as people read it.

    Returns:
        Words.

    Example:
        >>> setting(None), setting({"a": [1, 2]}), setting(True)
        ('default', 'a 1, 2', 'true')
    """
    if value is None:
        return "default"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {setting(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(setting, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value)
