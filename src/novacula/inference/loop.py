"""The one loop: it iterates, checks for non-finite values, reports progress and saves checkpoints."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from novacula.core.data import Data
from novacula.core.errors import InputError, NonFiniteError
from novacula.core.rng import generator
from novacula.inference.checkpoint import load_checkpoint, save_checkpoint
from novacula.inference.method import Batch, Info, Method
from novacula.target import Target

Progress = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run of the loop leaves.

    Args:
        state: The method's last state.
        history: One dictionary an epoch: ``epoch``, ``step``, ``loss`` (mean over the epoch) and the method's metrics.
        steps: Steps taken in all.
    """

    state: Any
    history: list[dict[str, float]]
    steps: int


def run(
    method: Method,
    target: Target,
    data: Data,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 128,
    seed: int = 0,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Run a method.

    Args:
        method: The method.
        target: The target density.
        data: The training data.
        epochs: Passes over the data; give this or ``steps``.
        steps: Steps in all; give this or ``epochs``.
        batch_size: Examples a step.
        seed: Seed of everything random: batches and steps draw from streams named by epoch and step.
        checkpoint: A file to replace after every epoch.
        resume: Whether to continue from ``checkpoint`` where it exists.
        progress: Called after every epoch with (epochs done, epochs in all, the epoch's record).

    Returns:
        The last state and the history.

    Raises:
        InputError: If neither or both of ``epochs`` and ``steps`` are given, or they are not positive.
        NonFiniteError: If the loss becomes NaN or infinite.
    """
    if (epochs is None) == (steps is None):
        raise InputError("either epochs or steps", f"epochs={epochs}, steps={steps}", "give exactly one of them")
    if (epochs or steps or 0) < 1 or batch_size < 1:
        raise InputError("positive epochs, steps and batch_size", f"{epochs}, {steps}, {batch_size}", "use 1 or more")
    batch_size = min(batch_size, data.n)
    per_epoch = math.ceil(data.n / batch_size)
    total = steps if steps is not None else per_epoch * int(epochs or 0)
    n_epochs = math.ceil(total / per_epoch)

    state = method.init(target, data, generator(seed, "init"))
    done, history = 0, []
    key = _run_key(method, target, data, total, batch_size, seed)
    if resume and checkpoint is not None and checkpoint.exists():
        state, done, history = load_checkpoint(checkpoint, state, run_key=key)

    for epoch in range(done // per_epoch, n_epochs):
        losses: list[float] = []
        info = Info(math.nan)
        for x, y, _ in data.batches(batch_size, seed, epoch):
            if done == total:
                break
            batch = Batch(x, y, data.n, done, total)
            state, info = method.step(target, state, batch, generator(seed, "step", done))
            done += 1
            if not math.isfinite(info.loss):
                raise NonFiniteError(
                    "a finite loss",
                    f"{info.loss} at step {done} (epoch {epoch + 1})",
                    "lower the learning rate, or check the inputs' scale and the network's initialisation",
                )
            losses.append(info.loss)
        record = {"epoch": float(epoch + 1), "step": float(done), "loss": sum(losses) / len(losses), **info.metrics}
        history = [*history, record]
        if checkpoint is not None:
            save_checkpoint(checkpoint, state, step=done, history=history, run_key=key)
        if progress is not None:
            progress(epoch + 1, n_epochs, record)
    return Outcome(state, history, done)


def _run_key(method: Method, target: Target, data: Data, total: int, batch_size: int, seed: int) -> str:
    # A digest of everything that determines the run, including the initial weights and hyperparameters.
    digest = hashlib.blake2b(digest_size=16)
    text = [repr(method), data.fingerprint, str(total), str(batch_size), str(seed), str(target.copies)]
    text += [str(target.temperature), target.likelihood.loss, str(target.forward.module), torch.__version__]
    digest.update(json.dumps(text).encode())
    for name, w in {**target.params(), **target.learnable()}.items():
        digest.update(name.encode() + w.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
