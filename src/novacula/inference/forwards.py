"""Functions of a network's weights that are made of another network's, without repeating its warnings."""

from __future__ import annotations

import warnings

from torch import nn

from novacula.core.errors import NovaculaWarning
from novacula.core.forward import Forward


def quiet_forward(module: nn.Module) -> Forward:
    """A network as a function; what it says of frozen weights has been said, or is meant.

    Args:
        module: The network, which is copied.

    Returns:
        The function.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NovaculaWarning)
        return Forward(module)
