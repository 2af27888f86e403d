"""Every test begins with the same global random state, so that none depends on the order in which they run.

Novacula itself never uses that state; tests that build modules of torch do.
"""

from __future__ import annotations

import os
import signal

import pytest
import torch

# A shell that starts tests in the background has them ignore Ctrl-C, and the commands that they start inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores; more threads than cores wait for each other.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_start() -> None:
    torch.manual_seed(0)
