"""A network from a name, or from a function in a person's own file.

The weights are drawn under a seed, and the global generators are left as they were.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from novacula.core.checks.numbers import check_whole, shown
from novacula.core.errors import InputError
from novacula.core.rng import derive, lent
from novacula.networks.cnn import cnn
from novacula.networks.mlp import as_shape, linear, mlp
from novacula.networks.resnet import resnet
from novacula.networks.table import table
from novacula.networks.user import from_file

BUILT_IN: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet": resnet,
    "linear": linear,
    "table": table,
}
_SMALLEST_IMAGE = 8


def make(name: str, x_shape: Sequence[int], outputs: int, seed: int = 0, **options: object) -> nn.Module:
    """Make a network.

    Args:
        name: ``"mlp"``, ``"cnn"``, ``"resnet"``, ``"table"`` or ``"linear"``; ``"auto"`` for "cnn" where inputs are
            images of at least 8×8 pixels, "table" where they are rows of a table, and "mlp" elsewhere; or
            ``"file.py:name"``, where ``name`` is a function of ``(x_shape, outputs)`` or of nothing that returns an
            `nn.Module`, a module class that can be called so, or a module.
        x_shape: The shape of one input, ``data.x_shape``.
        outputs: The number of outputs C.
        seed: Seed of the initial weights.
        options: For built-in networks, their own options (``width``, ``depth`` …).

    Returns:
        The network, in train mode as it was made.

    Raises:
        InputError: If the name or an option is unknown, the network does not fit the inputs, or the file fails; the
            message names the file and its line.

    Example:
        >>> a, b = (make("mlp", (3,), 2, seed=1, width=4)[1].weight for _ in range(2))
        >>> torch.equal(a, b)
        True
    """
    shape = as_shape(x_shape)
    check_whole("outputs", outputs)
    if not isinstance(name, str):
        raise InputError(f"a network among {', '.join(BUILT_IN)}, auto, or file.py:function", shown(name), "'mlp'")
    if name == "auto":
        image = len(shape) == 3 and min(shape[1:]) >= _SMALLEST_IMAGE
        name = "cnn" if image else "table" if len(shape) == 1 else "mlp"
    if name in BUILT_IN:
        _check_options(name, options)
        with seeded(seed):
            return BUILT_IN[name](shape, outputs, **options)
    if ".py" not in name:
        close = difflib.get_close_matches(name, [*BUILT_IN, "auto"], n=1)
        hint = f"{close[0]!r}" if close else "'auto'"
        raise InputError(f"a network among {', '.join(BUILT_IN)}, auto, or file.py:function", repr(name), hint)
    if options:
        raise InputError("no options for a network from a file", f"{options}", "set them in the file's function")
    with seeded(seed):
        return from_file(name, shape, outputs)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's global generators under a seed, and put them back as they were.

    PyTorch initialises weights from its global generators; this is how to make that a function of a seed.

    Args:
        seed: The seed.

    Yields:
        Nothing.
    """
    # CUDA's generators are included only where CUDA runs already, so that it is not started here.
    count = torch.cuda.device_count() if torch.cuda.is_initialized() else 0
    with lent(*(torch.device("cuda", i) for i in range(count)), seed=derive(seed, "network")):
        yield


def _check_options(name: str, options: dict[str, object]) -> None:
    known = list(inspect.signature(BUILT_IN[name]).parameters)[2:]
    unknown = [key for key in options if key not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        listed = ", ".join(known) or "none"
        raise InputError(f"options of {name!r}: {listed}", repr(unknown[0]), close[0] if close else "leave it out")
