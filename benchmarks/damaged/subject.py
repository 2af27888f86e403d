"""What is damaged, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Subject:
    """What is damaged, and how it is read.

    Args:
        name: Its name in the result.
        path: The file that is damaged.
        read: What is read of it, as bytes that tell two results apart.
        sealed: Whether the format has checksums, so that other numbers are a fault.
    """

    name: str
    path: Path
    read: Callable[[], bytes]
    sealed: bool
