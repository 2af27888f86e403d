"""Every test begins with the same global random state, so that none depends on the order in which they run.

Novacula itself never uses that state; tests that build modules of torch do.
"""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_start() -> None:
    torch.manual_seed(0)
