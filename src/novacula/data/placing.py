"""Data where a network is: small ones are moved whole, of large ones each batch as it is asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from novacula.data.data import Data
from novacula.data.lazy import LARGE, LazyRows, fingerprint_of


@dataclass(frozen=True, eq=False)
class _Held:
    """Rows that lie in memory, as a source of rows."""

    x: Tensor
    workers: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.x.shape)

    def read(self, rows: np.ndarray) -> Tensor:
        return self.x[torch.from_numpy(rows)]

    def digest(self) -> str:
        return hashlib.blake2b(fingerprint_of(self.x), digest_size=16).hexdigest()


@dataclass(frozen=True)
class _Onto:
    """Rows on a device."""

    device: torch.device

    def __call__(self, x: Tensor) -> Tensor:
        return x.to(self.device)


def placed(data: Data, device: torch.device) -> Data:
    """The same data for a network on a device, to which all of them (below half a GiB), or each batch, are moved."""
    if data.x.device == device and data.y.device == device:
        return data
    return data.with_values(placed_rows(data.x, device), data.y.to(device))


def placed_rows(x: Tensor, device: torch.device) -> Tensor:
    """Inputs for a network on a device, ``(N, …)``, as `placed` has them."""
    if x.device == device or isinstance(x, LazyRows) or x.device.type != "cpu":
        return x.to(device)
    return x.to(device) if x.numel() * x.dtype.itemsize < LARGE else LazyRows(_Held(x), _Onto(device))
