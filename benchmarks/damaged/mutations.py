"""Ways to change a file once: the new bytes, or None for a file that is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np


def _flip(raw: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(raw)
    for place in rng.integers(0, max(1, len(raw)), rng.integers(1, 4)):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _truncate(raw: bytes, rng: np.random.Generator) -> bytes:
    return raw[: int(rng.integers(0, len(raw)))]


def _piece(raw: bytes, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(0, len(raw)))
    return start, min(len(raw), start + int(rng.integers(1, 65)))


def _delete(raw: bytes, rng: np.random.Generator) -> bytes:
    start, end = _piece(raw, rng)
    return raw[:start] + raw[end:]


def _duplicate(raw: bytes, rng: np.random.Generator) -> bytes:
    start, end = _piece(raw, rng)
    return raw[:end] + raw[start:end] + raw[end:]


def _splice(raw: bytes, rng: np.random.Generator) -> bytes:
    start, end = _piece(raw, rng)
    at = int(rng.integers(0, len(raw)))
    return raw[:at] + raw[start:end] + raw[at + end - start :]


def _overwrite(raw: bytes, rng: np.random.Generator) -> bytes:
    # Bytes that mean much: ends of ranges, quotes, digits, escapes.
    words = [
        b"\xff" * 4,
        b"\0" * 8,
        b"\x7f\xff\xff\xff",
        b"9" * 400,
        b"nan",
        b"1e999",
        b'"',
        b"\x1b[2J",
        "\u202e".encode(),
    ]
    word, at = words[int(rng.integers(len(words)))], int(rng.integers(0, len(raw)))
    return raw[:at] + word + raw[at + len(word) * int(rng.integers(2)) :]


def _json(raw: bytes, rng: np.random.Generator) -> bytes:
    # Drop an entry of a JSON object, or give it a value of another kind.
    try:
        whole = json.loads(raw)
    except ValueError:
        return _flip(raw, rng)
    places: list[tuple[dict[str, Any], str]] = []

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            places.extend((value, key) for key in value)
            for item in value.values():
                visit(item)
        elif isinstance(value, list):
            for item in value:
                visit(item)

    visit(whole)
    if not places:
        return _flip(raw, rng)
    owner, key = places[int(rng.integers(len(places)))]
    values = [None, -1, 1e308, "", [], {}, "x" * 100, True, [[1]], 10**30]
    which = int(rng.integers(-len(values), len(values)))
    if which < 0:
        del owner[key]
    else:
        owner[key] = values[which]
    return json.dumps(whole).encode()


MUTATIONS: dict[str, Callable[[bytes, np.random.Generator], bytes | None]] = {
    "flip": _flip,
    "truncate": _truncate,
    "delete": _delete,
    "duplicate": _duplicate,
    "splice": _splice,
    "overwrite": _overwrite,
    "json": _json,
    "lose": lambda raw, rng: None,
}
