"""The one loop: it iterates, checks for non-finite values, reports progress and saves checkpoints."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_numbers, check_whole
from novacula.core.device import HOST, moved
from novacula.core.errors import InputError, NonFiniteError
from novacula.core.params import Params
from novacula.core.rng import generator, global_draws
from novacula.data.data import Data
from novacula.data.placing import placed
from novacula.inference.checkpoint import load_checkpoint, save_checkpoint
from novacula.inference.method import Info, Method, Others, Start, check_method
from novacula.target import Density, Target
from novacula.target.batch import Batch

_ROUNDS = 100

Progress = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run of the loop leaves."""

    state: Any  # the method's last state
    history: list[dict[str, float]]
    steps: int  # steps taken in all


def run(
    method: Method,
    target: Density,
    data: Data | None,
    *,
    start: Params | None = None,
    trained: bool | tuple[int, int] = False,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 128,
    seed: int = 0,
    order: int | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    others: Others = "auto",
    progress: Progress | None = None,
    there: torch.device | None = None,
) -> Outcome:
    """Run a method; steps are taken ``there``, if that is not where all else is computed, and the state comes back."""
    check_method(method)
    feed, total = _plan(method, data, epochs, steps, batch_size, seed if order is None else order)
    points = {k: w.unsqueeze(0) for k, w in target.params().items()} if start is None else start
    if there is not None:
        target, points, feed = *moved((target, points), there), feed.at(there)
        data = feed.data
    first = Start.of(target, points, total, others, trained=trained)

    if isinstance(target, Target) and data is not None:
        target.forward.trains(data.x)  # found out before the method starts, in whatever process this is
    state = method.init(target, data, generator(seed, "init"), first)
    done, history, info = 0, [], Info(math.nan)
    key = _run_key(method, target, data, first, feed, seed)
    if resume and checkpoint is not None and checkpoint.exists():
        state, done, history, finished = load_checkpoint(checkpoint, state, run_key=key)
        info = Info(math.nan, done=finished)

    for index in range(math.ceil(done / feed.per_round), n_rounds := math.ceil(total / feed.per_round)):
        if info.done:
            break
        losses: list[float] = []
        for x, y in feed.batches(index):
            if done == total or info.done:
                break
            batch = Batch(x, y, feed.total, done, total, trained=first.trained)
            with _blamed(target, x):
                state, info = method.step(target, state, batch, generator(seed, "step", done))
            done += 1
            if not math.isfinite(info.loss):
                raise NonFiniteError(
                    "a finite loss",
                    f"{info.loss} at step {done} (epoch {index + 1})",
                    "lower the learning rate, or check the inputs' scale and the network's initialisation",
                )
            losses.append(info.loss)
        record = {"epoch": float(index + 1), "step": float(done), "loss": sum(losses) / len(losses), **info.metrics}
        history = [*history, record]
        if checkpoint is not None:
            save_checkpoint(checkpoint, state, step=done, history=history, done=info.done, run_key=key)
        if progress is not None:
            progress(index + 1, n_rounds, record)
    return Outcome(state if there is None else moved(state, HOST), history, done)


@contextmanager
def _blamed(target: Density, x: Tensor) -> Iterator[None]:
    # What fails in a step is the network's failure where the network alone fails on the batch, too.
    try:
        yield
    except InputError:
        raise
    except Exception:
        if isinstance(target, Target):
            with torch.no_grad(), global_draws():
                target.forward.attempt(target.params(), x)
        raise


def default_batch_size(n: int, *, table: bool = False) -> int:
    """A batch size that leaves 32 steps an epoch where the data allow it; 8 of tables, of which large ones take 512."""
    return max(8, min(max(128, min(512, n // 64)), n // 8) if table else min(50, n // 32))


@dataclass(frozen=True, eq=False)
class _Feed:
    """What the steps see: minibatches of an epoch, or everything each time, in rounds of a hundredth of the run."""

    data: Data | None
    size: int
    per_round: int
    seed: int
    shuffled: bool

    def at(self, device: torch.device) -> _Feed:
        return self if self.data is None else replace(self, data=placed(self.data, device))

    @property
    def total(self) -> int:
        return 1 if self.data is None else self.data.n

    def batches(self, index: int) -> Iterator[tuple[Tensor, Tensor]]:
        if self.data is not None and self.shuffled:
            yield from ((x, y) for x, y, _ in self.data.batches(self.size, self.seed, index))
            return
        nothing = torch.zeros(0)
        for _ in range(self.per_round):
            yield (nothing, nothing) if self.data is None else (self.data.x, self.data.y)


def _plan(
    method: Method, data: Data | None, epochs: int | None, steps: int | None, batch_size: int, seed: int
) -> tuple[_Feed, int]:
    check_numbers(epochs=epochs, steps=steps)
    check_whole("batch_size", batch_size)
    if (epochs is None) == (steps is None):
        raise InputError("either epochs or steps", f"epochs={epochs}, steps={steps}", "give exactly one of them")
    if data is not None and method.batching == "mini":
        size = min(batch_size, data.n)
        per_epoch = math.ceil(data.n / size)
        return _Feed(data, size, per_epoch, seed, True), steps if steps is not None else per_epoch * int(epochs or 0)
    if steps is None:
        raise InputError(
            "steps", f"epochs={epochs}", f"{type(method).__name__} takes all data (or none) in every step: give steps="
        )
    return _Feed(data, 1 if data is None else data.n, math.ceil(steps / _ROUNDS), seed, False), steps


def _run_key(method: Method, target: Density, data: Data | None, start: Start, feed: _Feed, seed: int) -> str:
    # A digest of everything that determines the run, including the initial weights and hyperparameters.
    digest = hashlib.blake2b(digest_size=16)
    words, tensors = target.identity()
    fingerprint = "" if data is None else data.fingerprint
    numbers = [str(n) for n in (start.steps, feed.size, seed, feed.seed)]
    text = [repr(method), fingerprint, start.others, str(start.trained), *numbers, *words, torch.__version__]
    digest.update(json.dumps(text).encode())
    starts = {f"start/{k}": w for k, w in [*start.params.items(), *start.statistics.items()]}
    for name, w in {**tensors, **starts}.items():
        # float64 holds every smaller type exactly, and NumPy knows it.
        digest.update(name.encode() + w.detach().cpu().double().numpy().tobytes())
    return digest.hexdigest()
