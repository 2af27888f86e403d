"""What all drivers share: the clock, the settings of the ordinary training, the scores and the report."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.peers.task import Task

_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "laplace-torch", "asdfghjkl", "asdl", "torchdiffeq", "lila")
TEST_COPIES = 32


@dataclass(frozen=True)
class Budget:
    """What a driver is asked for; ``None`` means the driver's own setting for the task."""

    epochs: int | None = None
    options: dict[str, str] = field(default_factory=dict)
    peers: str | None = None
    seed: int = 0

    def folder(self, name: str) -> Path:
        """The checkout ``name`` under the folder of peers.

        Raises:
            SystemExit: The folder is not named or holds no such checkout.
        """
        root = self.peers if self.peers is not None else os.environ.get("NOVACULA_PEERS")
        if root is None:
            raise SystemExit("name the folder that holds the peers' checkouts: --peers FOLDER or NOVACULA_PEERS")
        path = Path(root) / name
        if not path.is_dir():
            raise SystemExit(f"expected a checkout at {path}; see benchmarks/peers/README.md")
        return path


class Clock:
    """CPU and wall seconds of the named phases of a run; a phase ends where the next one begins."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, float, float]] = []
        self._open: tuple[str, float, float] | None = None
        self._origin = (time.process_time(), time.perf_counter())

    def begin(self, phase: str) -> None:
        """End the current phase and begin another."""
        cpu, wall = time.process_time(), time.perf_counter()
        if self._open is not None:
            name, cpu0, wall0 = self._open
            self.phases.append((name, cpu - cpu0, wall - wall0))
        self._open = (phase, cpu, wall)

    def stop(self) -> None:
        """End the current phase."""
        self.begin("")
        self._open = None

    def drop_idle(self, burnin: int, last: bool) -> None:
        """Leave out the gaps between epochs that held no hyper-step, and the last, which holds the final refit."""
        hyper = [i for i, (name, _, _) in enumerate(self.phases) if name == "hyper"]
        idle = set(hyper[: max(burnin - 1, 0)]) | (set(hyper[-1:]) if last else set())
        self.phases = [phase for i, phase in enumerate(self.phases) if i not in idle]

    def total(self) -> tuple[float, float]:
        """CPU and wall seconds since the clock was made."""
        return time.process_time() - self._origin[0], time.perf_counter() - self._origin[1]

    def summary(self, hyper_steps_per_phase: int) -> dict[str, float]:
        """Medians (and minima: the least disturbed) of training and of hyper-steps; a first hyper phase warms up."""
        train = [(cpu, wall) for name, cpu, wall in self.phases if name == "train"]
        hyper = [(cpu, wall) for name, cpu, wall in self.phases if name == "hyper"]
        seconds: dict[str, float] = dict(zip(("total_cpu", "total_wall"), self.total(), strict=True))
        seconds["train_cpu_per_epoch"], seconds["train_wall_per_epoch"] = np.median(train, axis=0).tolist()
        seconds["train_cpu_per_epoch_min"] = min(c for c, _ in train)
        seconds["train_cpu"], seconds["hyper_cpu"] = sum(c for c, _ in train), sum(c for c, _ in hyper)
        if hyper:
            cpu, wall = np.median(hyper[1:] or hyper, axis=0).tolist()
            seconds["hyper_cpu_per_epoch"], seconds["hyper_wall_per_epoch"] = cpu, wall
            seconds["hyper_cpu_per_step"] = cpu / hyper_steps_per_phase
            seconds["hyper_wall_per_step"] = wall / hyper_steps_per_phase
            seconds["hyper_cpu_per_step_min"] = min(c for c, _ in hyper) / hyper_steps_per_phase
            seconds["hyper_steps_per_epoch"] = hyper_steps_per_phase
            seconds["hyper_share"] = cpu / (cpu + seconds["train_cpu_per_epoch"])
        else:
            seconds["hyper_cpu_per_epoch"] = seconds["hyper_wall_per_epoch"] = 0.0
        seconds["epoch_cpu"] = seconds["train_cpu_per_epoch"] + seconds["hyper_cpu_per_epoch"]
        seconds["epoch_wall"] = seconds["train_wall_per_epoch"] + seconds["hyper_wall_per_epoch"]
        return seconds


class Marked:
    """A peer's loader for training, which tells the clock where an epoch's ordinary training begins and ends.

    What the peer's loop does between the end of one epoch and the beginning of the next is its hyper-step.
    """

    def __init__(self, loader: Any, clock: Clock, on_epoch: Callable[[], None] | None = None) -> None:
        self._loader, self._clock, self._on_epoch = loader, clock, on_epoch
        self.dataset = loader.dataset
        self.training = True

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Any:
        if not self.training:
            yield from self._loader
            return
        self._clock.begin("train")
        if self._on_epoch is not None:
            self._on_epoch()
        yield from self._loader
        self._clock.begin("hyper")


def merged(presets: dict[tuple[str, str], dict[str, Any]], task: str, budget: Budget) -> dict[str, Any]:
    """The driver's settings for a task and a preset (``tuned`` unless asked otherwise), with the caller's overrides.

    Raises:
        SystemExit: The preset or the name of an override is unknown.
    """
    options = dict(budget.options)
    preset = options.pop("preset", "tuned")
    if (task, preset) not in presets:
        raise SystemExit(f"expected a preset of {sorted(p for t, p in presets if t == task)}, got {preset!r}")
    settings = dict(presets[task, preset])
    for name, value in options.items():
        if name not in settings:
            raise SystemExit(f"expected a setting of {sorted(settings)}, got {name!r}")
        settings[name] = type(settings[name])(value)
    if budget.epochs is not None:
        settings["epochs"] = budget.epochs
    return {"preset": preset} | settings


def tensors(task: Task) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The task's arrays as tensors: training inputs and labels, test inputs and labels."""
    return tuple(torch.from_numpy(a.copy()) for a in (task.x_train, task.y_train, task.x_test, task.y_test))  # type: ignore[return-value]


@torch.no_grad()
def logits(network: Callable[[Tensor], Tensor], x: Tensor, transform: Callable[[Tensor], Tensor] | None) -> Tensor:
    """Outputs ``(N, C)``; with a ``transform`` (one random copy of each input), the mean over 32 copies."""
    parts = []
    for batch in x.split(500):
        if transform is None:
            parts.append(network(batch))
        else:
            parts.append(sum(network(transform(batch)) for _ in range(TEST_COPIES)) / TEST_COPIES)
    return torch.cat(parts)


def scores(log_prob: Tensor, y: Tensor) -> dict[str, float]:
    """Accuracy, negative log-likelihood (nats an example), expected calibration error (15 bins) and Brier score."""
    log_prob = log_prob.double().log_softmax(-1)
    prob = log_prob.exp()
    confidence, guess = prob.max(-1)
    right = (guess == y).double()
    bins = (confidence * 15).long().clamp(max=14)
    gap = torch.zeros(15, dtype=torch.float64).index_add_(0, bins, right - confidence).abs().sum() / len(y)
    onehot = nn.functional.one_hot(y, prob.shape[1])
    return {
        "accuracy": right.mean().item(),
        "nll": -log_prob.gather(1, y[:, None]).mean().item(),
        "ece": gap.item(),
        "brier": (prob - onehot).square().sum(-1).mean().item(),
    }


def versions(*folders: Path) -> dict[str, str]:
    """Versions of the packages in use, and for each checkout a digest of its Python files."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "cores": str(os.cpu_count())}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    for folder in folders:
        digest = hashlib.sha256()
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
        found[f"sources of {folder.name}"] = digest.hexdigest()[:16]
    return found


def write(report: dict[str, Any], path: str | None) -> None:
    """Write a report as JSON to a file, or to standard output."""
    text = json.dumps(report, indent=1, default=float) + "\n"
    if path is None:
        print(text, end="")
    else:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
