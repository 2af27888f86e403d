"""The comparison as it grows: networks are trained in waves until the time is up, and asked for losses at any point."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from novacula.core import execute
from novacula.data.data import Data
from novacula.diagnostics.crossed_mean import nested
from novacula.likelihoods import Categorical
from novacula.study.augmentation.arms import NONE, Arm
from novacula.study.augmentation.networks import Network, train
from novacula.study.augmentation.plan import FOLDS, Plan
from novacula.study.augmentation.verdicts import Gain, gains, paired, training_noise
from novacula.study.cross_fit.temperature import fit_temperature

Progress = Callable[[int, int, dict[str, float]], None]
_WAVE = 4


@dataclass(eq=False)
class Comparison:
    """Outputs of all networks so far, and what trains more of them."""

    module: nn.Module
    data: Data
    folds: Tensor
    plan: Plan
    seed: int
    store: Path | None
    progress: Progress | None
    total: int  # networks that are expected, for the progress
    ends: float  # when the time is up, on the clock of `time.monotonic`
    arms: dict[str, Arm] = field(default_factory=dict)
    tables: dict[str, Tensor] = field(default_factory=dict)  # outputs, (starts, N, C), NaN where there are none
    trained: int = 0
    _losses: dict[str, Tensor] = field(default_factory=dict)

    def grow(
        self, wanted: Sequence[tuple[Arm, int]], *, folds: Sequence[int] = range(FOLDS), spare: float = 0.0
    ) -> bool:
        """Train arms at starts, fold by fold; False where the time, less a spare part, is up before."""
        tasks = [self._task(arm, k, start) for k in folds for arm, start in wanted]
        size = 1 if self.plan.workers == 1 else _WAVE * self.plan.workers
        for i in range(0, len(tasks), size):
            wave = tasks[i : i + size]
            stored = all(t.path is not None and t.path.is_file() for t in wave)
            rounds = math.ceil(len(wave) / self.plan.workers)
            if (
                not stored
                and time.monotonic() + rounds * self.plan.network_seconds * wave[0].arm.length + spare > self.ends
            ):
                return False
            workers = 1 if stored else self.plan.workers
            for task, f in zip(wave, execute.map(train, wave, workers=workers), strict=True):
                self._put(task, f)
            self.trained += len(wave)
            if self.progress is not None:
                self.progress(self.trained, max(self.total, self.trained), {})
        return True

    def losses(self, arm: Arm) -> Tensor:
        """An arm's losses at its calibrated temperature, ``(starts, N)``, float64."""
        if arm.key not in self._losses:
            f, known = self.tables[arm.key], ~self.tables[arm.key].isnan().any(2)
            y, likelihood = self.data.y.cpu(), Categorical()
            labels, folds = y.expand(len(f), -1)[known], self.folds.expand(len(f), -1)[known]
            t = fit_temperature(likelihood, f[known], labels, folds).value
            table = torch.full(known.shape, math.nan, dtype=torch.float64)
            table[known] = -likelihood.log_prob(f[known].double() / t, labels)
            self._losses[arm.key] = table
        return self._losses[arm.key]

    @property
    def chance(self) -> float:
        """The loss of the best constant prediction: the entropy of the labels."""
        return float(torch.special.entr(self.data.y.cpu().bincount().double() / self.data.n).sum())

    def gains(self, arms: Sequence[Arm]) -> dict[str, Gain]:
        """Gains over none, by the arms' keys."""
        return gains({a.key: self.losses(a) for a in (NONE, *arms) if a.key in self.tables}, self.folds)

    def between(self, better: Arm, other: Arm) -> Gain | None:
        """The gain of one arm over another."""
        noise = training_noise({k: self.losses(a) for k, a in self.arms.items() if a.length == 1}, self.folds)
        return paired(self.losses(other), self.losses(better), self.folds, noise)

    def score(self, arm: Arm) -> dict[str, float]:
        """An arm's scores on images that were not trained on."""
        f, table = self.tables[arm.key], self.losses(arm)
        known = ~table.isnan().all(0)
        hit = (f.argmax(2) == self.data.y.cpu()).double().where(~table.isnan(), math.nan).nanmean(0)
        y, folds, all_known = self.data.y.cpu().expand(len(f), -1), self.folds[known], ~table.isnan()
        nll, accuracy = nested(table.nanmean(0)[known], folds), nested(hit[known], folds)
        return {
            "nll": nll.value,
            "stderr": nll.stderr,
            "accuracy": accuracy.value,
            "accuracy_stderr": accuracy.stderr,
            "uncalibrated_nll": float(-Categorical().log_prob(f[all_known].double(), y[all_known]).mean()),
            "n": float(known.sum()),
            "networks": float(sum(int((all_known[:, self.folds == k]).any(1).sum()) for k in range(FOLDS))),
        }

    def _task(self, arm: Arm, fold: int, start: int) -> Network:
        p, seed = self.plan, self.seed
        return Network(
            self.module, self.data, self.folds, arm, fold, start, p.steps * arm.length, p.batch_size, seed, self.store
        )

    def _put(self, task: Network, f: Tensor) -> None:
        key = task.arm.key
        self.arms[key] = task.arm
        self._losses.pop(key, None)
        table = self.tables.get(key, f.new_empty(0, self.data.n, f.shape[1]))
        if (missing := task.start + 1 - len(table)) > 0:
            table = torch.cat([table, f.new_full((missing, *table.shape[1:]), math.nan)])
        table[task.start, self.folds == task.fold] = f
        self.tables[key] = table
