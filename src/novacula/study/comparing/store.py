"""The folder that keeps what a comparison has found so far, and belongs to it alone."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch

from novacula.core.errors import InputError
from novacula.core.storage.atomic import write_json
from novacula.target import Target

_PLAN = "comparison.json"


def claim(store: Path, told: dict[str, Any]) -> None:
    """Take the folder for what is told of a comparison; refuse it where it is another's."""
    store.mkdir(parents=True, exist_ok=True)
    path = store / _PLAN
    if not path.is_file():
        write_json(path, told)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError("the plan of a comparison", f"{path}: {error}", "choose another folder") from error
    other = [k for k in told if not isinstance(before, dict) or before.get(k) != told[k]]
    if other:
        got = f"other {', '.join(other)} than when it began"
        raise InputError(f"the same data, models and options as in {store}", got, "choose another folder")


def identity(target: Target) -> str:
    """A digest of a model's parts, first weights and buffers."""
    parts = (target.network, target.likelihood, target.prior, target.invariance, target.copies)
    numbers = (target.temperature, target.likelihood_temperature)
    digest = hashlib.sha256(repr([plain(p) for p in (*parts, *numbers)]).encode())
    buffers = dict(target.forward.module.named_buffers())
    for name, tensor in sorted({**buffers, **target.params(), **target.learnable()}.items()):
        flat = tensor.detach().cpu().reshape(-1).contiguous()
        digest.update(name.encode() + flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def plain(value: object) -> str:
    """A value in words that are the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
