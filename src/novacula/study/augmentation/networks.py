"""One network of the comparison: trained in one way without one fold, and what it says of that fold.

Networks of all arms share the folds, the first weights and the order of minibatches, which follow from fold and start.
In training each image meets one random transformation a step. Predictions are of images as they are: the comparison is
of ways to train, and an average over transformed copies would be another change.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from novacula.core.rng import derive
from novacula.core.storage.atomic import write_bytes
from novacula.core.storage.seal import digest
from novacula.data.data import Data
from novacula.inference.loop import run
from novacula.inference.optimising.map import MAP
from novacula.inference.starts import initial_weights
from novacula.study.augmentation.arms import Arm
from novacula.target import Copies, Target
from novacula.target.many import outputs

_LR = 4e-3
_AT_ONCE = 512
_DIGEST = 64  # characters of the sum at a file's end


@dataclass(frozen=True, eq=False)
class Network:
    """All that decides what a network will be, and where its predictions are kept."""

    module: nn.Module
    data: Data
    folds: Tensor
    arm: Arm
    fold: int
    start: int
    steps: int
    batch_size: int
    seed: int
    store: Path | None = None

    def __repr__(self) -> str:
        return f"{self.arm.key}, fold {self.fold}, start {self.start}"

    @property
    def path(self) -> Path | None:
        """Its predictions on disk."""
        return None if self.store is None else self.store / f"{self.arm.key}-{self.fold}-{self.start}.npy"


def train(network: Network) -> Tensor:
    """The outputs for the fold that the network has not seen, shape ``(n, C)``; read where they are stored whole."""
    stored = None if network.path is None else _stored(network.path)
    if stored is not None:
        return torch.from_numpy(stored)
    f = _train(network)
    if network.path is not None:
        buffer = io.BytesIO()
        np.save(buffer, f.numpy())
        content = buffer.getvalue()
        write_bytes(network.path, content + digest(content).encode())
    return f


def _stored(path: Path) -> np.ndarray | None:
    # What is not as it was written is trained again: that costs seconds, and other numbers would be believed.
    content = path.read_bytes() if path.is_file() else b""
    content, written = content[:-_DIGEST], content[-_DIGEST:]
    return np.load(io.BytesIO(content)) if written == digest(content).encode() else None


def _train(network: Network) -> Tensor:
    n, unseen = network, network.folds == network.fold
    target = Target(n.module, invariance=n.arm.invariance(), copies=Copies(train=1, evidence=1, predict=1))
    (first,) = initial_weights(target, 1, derive(n.seed, "first", n.fold, n.start))
    outcome = run(
        MAP(lr=_LR),
        target,
        n.data.subset(~unseen),
        start={k: w.unsqueeze(0) for k, w in first.items()},
        steps=n.steps,
        batch_size=n.batch_size,
        seed=derive(n.seed, "network", n.fold, n.start),
    )
    return torch.cat([outputs(target, outcome.state.points, x)[0] for x in n.data.x[unseen].split(_AT_ONCE)]).cpu()
