"""A network's weights from a file: safetensors, or a state dict of ``torch.save``, read without running code."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from novacula.core.errors import InputError

_WRAPPED = ("state_dict", "model_state_dict", "model", "weights")
_COUNT = "num_batches_tracked"  # by BatchNorm, in state dicts since PyTorch 0.4.1
_SHOWN = 3


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Put the weights of a file into a network.

    A checkpoint that holds the state dict beside other things (under ``state_dict``, ``model_state_dict``, ``model`` or
    ``weights``), is understood, and so are names with a prefix that wrappers leave (``module.``, ``_orig_mod.``,
    ``model.`` …), beside what else these hold (the weights of a loss, say); and the weights of a part that holds all
    parameters, as where a layer that normalises was put before. Counts of batches that norms have seen may be missing:
    a network in eval mode does not look at them.

    Args:
        network: The network, changed in place.
        path: A ``.safetensors`` file, or one of ``torch.save``, which is read with ``weights_only=True``.

    Raises:
        InputError: If the file cannot be read, holds no state dict, or one of another network.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError("a file of weights that exists", str(path), "check the path")
    state = _state(_read(path), path)
    own = network.state_dict()
    names = set(own)
    state = _of(state, network, path)
    state = _inside(state, network)
    missing, unknown = sorted(k for k in names - set(state) if not k.endswith(_COUNT)), sorted(set(state) - names)
    wrong = [k for k in names & set(state) if own[k].shape != state[k].shape]
    if missing or unknown or wrong:
        got = [f"none of {_listed(missing)}"] if missing else []
        got += [f"{_listed(unknown)}, which it has not"] if unknown else []
        got += [f"{k} of shape {tuple(state[k].shape)} for {tuple(own[k].shape)}" for k in sorted(wrong)[:1]]
        raise InputError(
            f"the weights of this {type(network).__name__}",
            f"{'; '.join(got)}, in {path}",
            "make the network as it was when they were saved",
        )
    network.load_state_dict({**own, **state})


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Old files declare lengths that are allocated before they are read, unless they are read from memory.
        source = path if zipfile.is_zipfile(path) else io.BytesIO(path.read_bytes())
        return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # damage leads torch's reader to errors of many kinds
        raise InputError(
            "weights: a .safetensors file, or torch.save(network.state_dict(), path)",
            f"{path}: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}",
            "save the state dict, not the network: pickled objects are not read, as that could run code",
        ) from error


def _state(found: Any, path: Path) -> dict[str, Tensor]:
    for key in _WRAPPED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found or not all(isinstance(w, Tensor) for w in found.values()):
        kind = f"a {type(found).__name__}" if not isinstance(found, Mapping) else "a dictionary of other things"
        raise InputError(
            "a state dict, names to tensors", f"{kind} in {path}", "torch.save(network.state_dict(), path)"
        )
    return {str(k): w for k, w in found.items()}


def _of(state: dict[str, Tensor], network: nn.Module, path: Path) -> dict[str, Tensor]:
    # The weights under the one prefix, perhaps none, at which the network's own names stand.
    needed = {k for k in network.state_dict() if not k.endswith(_COUNT)}
    if not needed or needed <= set(state):
        return state
    some = max(needed, key=len)
    found = [k.removesuffix(some) for k in state if k.endswith(f".{some}")]
    found = [prefix for prefix in found if all(prefix + k in state for k in needed)]
    if len(found) > 1:
        hint = "save the state dict of one of them"
        raise InputError("the weights of one network", f"those under {' and '.join(found[:2])} in {path}", hint)
    return {k.removeprefix(p): w for p in found for k, w in state.items() if k.startswith(p)} or state


def _inside(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    # Weights of a part under the names that the whole has for them, where it has no others: constants of its own stay.
    own, first = network.state_dict(), next(iter(state))
    needed = {k for k, _ in network.named_parameters(remove_duplicate=False)}
    for name in own:
        prefix = name.removesuffix(first)
        named = {prefix + k: w for k, w in state.items()}
        if name.endswith(f".{first}") and needed <= named.keys() <= own.keys():
            return {**own, **named}
    return state


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
