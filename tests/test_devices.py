"""Computation on another device, tried on a pretended one (`tests/devices.py`), in a process of its own.

Autograd makes its queues for the devices that there are when it is first used: in a process that has used it, a new
kind of device comes too late.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_devices() -> None:
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(here / "devices.py")]
    ended = subprocess.run(
        command, cwd=here.parent, env=dict(os.environ), capture_output=True, text=True, timeout=1_500, check=False
    )
    assert ended.returncode == 0, ended.stdout[-6_000:] + ended.stderr[-2_000:]
    assert "[100%]" in ended.stdout
