"""Files that say whether they are as they were written: SHA-256 sums of bytes, and JSON objects that carry their own.

A sum tells damage, not malice: who can write the file can write its sum.

References:
    FIPS 180-4, Secure Hash Standard. National Institute of Standards and Technology, 2015.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from novacula.core.storage.atomic import write_json

CHECKSUM = "checksum"


def digest(content: bytes) -> str:
    """The SHA-256 of bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the sum of its other entries; the order of keys and the spaces between them do not count.

    Args:
        content: The entries.

    Returns:
        The entries and their sum.

    Example:
        >>> is_whole(sealed({"seed": 3})), is_whole({**sealed({"seed": 3}), "seed": 4}), is_whole({"seed": 3})
        (True, False, True)
    """
    return {**content, CHECKSUM: _sum(content)}


def is_whole(content: Mapping[str, Any]) -> bool:
    """Whether an object is as it was sealed; one that was never sealed cannot be told from a whole one."""
    return CHECKSUM not in content or content[CHECKSUM] == _sum(content)


def write_sealed(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with its sum, atomically."""
    write_json(path, sealed(content))


def read_sealed(path: Path, *, earlier: bool = False) -> dict[str, Any]:
    """A JSON object from a file, less its sum; one without, of an earlier version, if ``earlier``. Else ValueError."""
    found = parse(path.read_bytes())
    if not is_whole(found):
        raise ValueError("its entries do not fit its checksum")
    if CHECKSUM not in found and not earlier:
        raise ValueError("it has no checksum")
    return {key: value for key, value in found.items() if key != CHECKSUM}


def parse(content: bytes) -> dict[str, Any]:
    """A JSON object: strict, so without NaN, infinities, or whole numbers of more digits than Python reads."""
    try:
        found = json.loads(content.decode("utf-8"), parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def _sum(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != CHECKSUM}
    # Surrogates of a damaged escape have no UTF-8; they are passed through, as the sum will differ anyway.
    return digest(json.dumps(rest, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
