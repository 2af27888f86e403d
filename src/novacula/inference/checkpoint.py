"""Saving a running inference: one safetensors file holds the state's tensors and, as metadata, everything else.

The file is replaced atomically at the end of an epoch, so that a killed process loses at most the current epoch. All
randomness is a function of (seed, step), so a resumed run ends bit-identical to an unbroken one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.storage.atomic import write_bytes

T = TypeVar("T")
VERSION = 3


def pack(value: object, prefix: str = "state") -> tuple[dict[str, Tensor], dict[str, object]]:
    """Take a state apart."""
    if isinstance(value, Tensor):
        return {prefix: value.detach().contiguous()}, {}
    if dataclasses.is_dataclass(value):
        items = [
            (f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.metadata.get("checkpoint", True)
        ]
    elif isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, tuple):
        items = list(enumerate(value))
    else:
        return {}, {prefix: value}
    tensors: dict[str, Tensor] = {}
    plain: dict[str, object] = {}
    for name, item in items:
        t, p = pack(item, f"{prefix}/{name}")
        tensors |= t
        plain |= p
    return tensors, plain


def unpack(template: T, tensors: dict[str, Tensor], plain: dict[str, object], prefix: str = "state") -> T:
    """Put a state together again."""
    value: Any = template
    if isinstance(value, Tensor):
        return tensors[prefix].to(value.device, copy=True)  # type: ignore[return-value]
    if dataclasses.is_dataclass(value):
        fields = [f.name for f in dataclasses.fields(value) if f.metadata.get("checkpoint", True)]
        restored = {name: unpack(getattr(value, name), tensors, plain, f"{prefix}/{name}") for name in fields}
        return dataclasses.replace(value, **restored)  # type: ignore[type-var]
    if isinstance(value, dict):
        return {k: unpack(v, tensors, plain, f"{prefix}/{k}") for k, v in value.items()}  # type: ignore[return-value]
    if isinstance(value, tuple):
        return tuple(unpack(v, tensors, plain, f"{prefix}/{i}") for i, v in enumerate(value))  # type: ignore[return-value]
    return plain[prefix]  # type: ignore[return-value]


def save_checkpoint(
    path: Path, state: object, *, step: int, history: list[dict[str, float]], done: bool, run_key: str
) -> None:
    """Write a checkpoint atomically."""
    tensors, plain = pack(state)
    # The file's format refuses tensors that share memory, and a run may go on elsewhere.
    tensors = {k: t.cpu().clone() for k, t in tensors.items()}
    meta = {"version": VERSION, "step": step, "history": history, "done": done, "plain": plain, "run_key": run_key}
    text = json.dumps(meta)
    write_bytes(path, save(tensors, metadata={"novacula": text, "checksum": _sum(tensors, text)}))


def load_checkpoint(path: Path, template: T, *, run_key: str) -> tuple[T, int, list[dict[str, float]], bool]:
    """Read a checkpoint."""
    try:
        meta, tensors = _read(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(
            "a readable checkpoint", f"{path}: {error}", "delete the run folder and start again without --resume"
        ) from error
    if meta.get("version") != VERSION or meta.get("run_key") != run_key:
        raise InputError(
            "a checkpoint of the same run",
            f"{path}, written with other settings, data, seed or version",
            "resume with the options of the first run, or choose another --output folder",
        )
    try:
        return unpack(template, tensors, meta["plain"]), meta["step"], meta["history"], meta["done"]
    except KeyError as error:
        raise InputError(
            "a checkpoint of the same network", f"{path}: no entry {error}", "use the same --net"
        ) from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    # A run that goes on from other numbers than it was stopped at would be wrong in silence.
    with safe_open(path, framework="pt") as file:
        about = file.metadata() or {}
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118  (not a dict)
    text = about.get("novacula")
    meta = None if text is None else json.loads(text)
    if not isinstance(meta, dict):
        raise ValueError("no checkpoint of Novacula")
    if meta.get("version") == VERSION and about.get("checksum") != _sum(tensors, str(text)):
        raise ValueError("damaged: its checksum is not that of what was written")
    return meta, tensors


def _sum(tensors: dict[str, Tensor], text: str) -> str:
    # Of names, types, shapes and bytes, in an order that no writer chooses, and of everything else.
    found = hashlib.sha256(text.encode())
    for name, w in sorted(tensors.items()):
        found.update(f"\0{name} {w.dtype} {tuple(w.shape)}\0".encode())
        found.update(w.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
