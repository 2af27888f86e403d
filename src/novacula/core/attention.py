"""Attention from plain operations, in the place of kernels that lack a derivative or a rule for many networks.

In eval mode `nn.TransformerEncoder`, its layers and `nn.MultiheadAttention` leave their own operations for one fused
kernel, which has no derivative under `torch.func.vmap`; the fast kernels of ``scaled_dot_product_attention`` have no
second derivative, and no rule for vmap on every device. All compute one formula, which plain operations compute too,
up to rounding.

torch chooses by settings of the process. They are changed while the first of several threads needs it and are put back
after the last.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

_FUSED = (nn.MultiheadAttention, nn.TransformerEncoder, nn.TransformerEncoderLayer)
_LOCK = threading.Lock()
_UNDO = ExitStack()  # puts the settings back; in use while _users is not 0
_users = 0


def has_attention(module: nn.Module) -> bool:
    """Whether a module holds layers that torch may run by a fused kernel of theirs."""
    return any(isinstance(layer, _FUSED) for layer in module.modules())


@contextmanager
def plain_attention() -> Iterator[None]:
    """Compute attention from plain operations for as long as this lasts."""
    global _users
    with _LOCK:
        if _users == 0:
            _UNDO.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
            torch.backends.mha.set_fastpath_enabled(False)
            _UNDO.enter_context(sdpa_kernel(SDPBackend.MATH))
        _users += 1
    try:
        yield
    finally:
        with _LOCK:
            _users -= 1
            if _users == 0:
                _UNDO.close()
