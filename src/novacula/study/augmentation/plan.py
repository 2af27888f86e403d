"""How many examples and steps fit into the time: measured on this machine before anything is compared, and kept.

The cost is that of a number of networks known beforehand: three folds of most arms, and of some of them again, of the
arm without augmentation three to four times, of the policy, a few mixtures, and longer ones where harm is to be
confirmed. Steps are what the time leaves, up to 1,500; examples as many as these steps pass fifteen times or more.
Below 250 steps a network says nothing of its augmentation: where there is not the time for so many of all, the networks
take 250, arms are left out from the end of the list, and repetitions as the time ends. Where each transformation
cannot be tried once, the plan is refused.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import interpolate

from novacula.core import execute
from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.core.storage.run import PLAN
from novacula.core.storage.seal import read_sealed, write_sealed
from novacula.data.data import Data
from novacula.data.meaning.soft import check_hard
from novacula.inference.loop import default_batch_size, run
from novacula.inference.optimising.map import MAP
from novacula.study.augmentation.arms import Arm
from novacula.target import Copies, Target

FOLDS, BASELINES = 3, 3  # and networks a fold without augmentation
LEAST_STEPS, MOST_STEPS = 250, 1_500
_LEAST_EXAMPLES, _PASSES = 50, 15
_MOST_EXAMPLES = 4_000  # of grey images of 32×32 or smaller; half as many of others
_LARGEST_SIDE = 64
_PROBE_STEPS = 60
_STARTING = 8.0


@dataclass(frozen=True)
class Plan:
    """What is trained."""

    n: int  # examples
    steps: int  # steps of each network
    batch_size: int
    step_seconds: float  # measured time of a step
    workers: int
    seconds: float  # the time there is
    given: bool = False  # whether the steps were given, and not chosen by the time
    left_out: int = 0  # arms for which there is no time, from the end of the list

    @property
    def network_seconds(self) -> float:
        """What a network takes."""
        return self.steps * self.step_seconds

    @property
    def passes(self) -> float:
        """How often a network passes over its data."""
        return self.steps * self.batch_size / (self.n * (FOLDS - 1) / FOLDS)

    @property
    def enough(self) -> bool:
        """Whether all arms are tried, by networks that are trained as long as they should be."""
        return self.given or (self.passes >= _PASSES and not self.left_out)


def networks_of(arms: int) -> int:
    """How many networks the comparison trains, about."""
    return FOLDS * (round(1.3 * arms) + 10) + 2 * (1 + arms // 3)


def images_of(data: Data, seed: int) -> Data:
    """The images as they are compared: at most so many, drawn at random, and at most so large; others are refused."""
    if len(data.x_shape) != 3 or data.task != "classification":
        got = f"inputs of shape {data.x_shape}, {data.task}"
        hint = (
            "compare networks that see other inputs by nv.study.compare"
            if data.task == "classification"
            else "leave it out"
        )
        raise InputError("images with classes, x of shape (N, channels, height, width)", got, hint)
    check_hard(data.y, "a comparison of augmentations")
    if data.n < _LEAST_EXAMPLES:
        raise InputError(f"{_LEAST_EXAMPLES} images or more", str(data.n), "label more images")
    x = data.x
    if (side := max(x.shape[-2:])) > _LARGEST_SIDE:
        size = [max(8, round(s * _LARGEST_SIDE / side)) for s in x.shape[-2:]]
        x = torch.cat([interpolate(part, size, mode="area") for part in x.split(256)])
    most = _MOST_EXAMPLES if x[0].numel() <= 1_024 else _MOST_EXAMPLES // 2
    rows = torch.arange(data.n)
    if data.n > most:
        rows = torch.randperm(data.n, generator=generator(seed, "examples"))[:most].sort().values
    if len(rows) == data.n and x is data.x:
        return data
    return data.with_values(x[rows], data.y[rows])


def plan(
    module: nn.Module, data: Data, arms: Sequence[Arm], seconds: float, workers: int, *, steps: int | None = None
) -> Plan:
    """Measure a step, and choose steps, examples and arms.

    Args:
        module: The network.
        data: The images.
        arms: The arms, the mildest of each transformation first.
        seconds: The time there is.
        workers: Processes.
        steps: Steps of each network, if they are not to be chosen.

    Returns:
        The plan.

    Raises:
        InputError: If the time is too short to say anything.
    """
    size = default_batch_size(data.n)
    # All workers at once, as they slow each other down.
    each = max(execute.map(_step_seconds, [(module, data, size)] * workers, workers=workers))
    if steps is not None:
        return Plan(data.n, steps, size, each, workers, seconds, True)
    spent = max(0.0, seconds - _STARTING) * workers / each  # steps of all networks
    fit, affordable = int(spent / networks_of(len(arms))), int(spent / (LEAST_STEPS * FOLDS)) - BASELINES
    if fit < LEAST_STEPS and affordable < (kinds := len({arm.name for arm in arms})):
        needed = _STARTING + LEAST_STEPS * FOLDS * (kinds + BASELINES) * each / workers
        raise InputError(
            f"time for {FOLDS} networks of {LEAST_STEPS} steps of each transformation ({1e3 * each:.1f} ms a step)",
            f"{seconds:.0f} s",
            f"give {1.1 * needed:.0f} s, or name fewer transformations",
        )
    left_out = max(0, len(arms) - affordable) if fit < LEAST_STEPS else 0
    taken = min(max(fit, LEAST_STEPS), MOST_STEPS)
    most = max(_LEAST_EXAMPLES, int(taken * size / _PASSES * FOLDS / (FOLDS - 1)))
    return Plan(min(data.n, most), taken, size, each, workers, seconds, left_out=left_out)


def examples_of(plan: Plan, data: Data, seed: int) -> Data:
    """As many images as planned, drawn at random."""
    if plan.n == data.n:
        return data
    rows = torch.randperm(data.n, generator=generator(seed, "fewer"))[: plan.n]
    return data.subset(rows.sort().values)


def _step_seconds(task: tuple[nn.Module, Data, int]) -> float:
    # What a training step takes, with a transformation of middling cost.
    module, data, batch_size = task
    arm = Arm("rotation", (("rotation", 0.1),))
    target = Target(module, invariance=arm.invariance(), copies=Copies(train=1, evidence=1, predict=1))
    took = []
    for steps in (_PROBE_STEPS // 4, _PROBE_STEPS):
        began = time.monotonic()
        run(MAP(), target, data, steps=steps, batch_size=batch_size, seed=0)
        took.append(time.monotonic() - began)
    return max(1e-5, took[1] / _PROBE_STEPS)


def keep(plan: Plan, store: Path, asked: Sequence[object]) -> None:
    """Write the plan down, with what it was asked for; networks of another plan are no part of it."""
    for network in store.glob("*.npy"):
        network.unlink()
    write_sealed(store / PLAN, {"plan": asdict(plan), "asked": [str(word) for word in asked]})


def kept(store: Path, asked: Sequence[object]) -> Plan | None:
    """The plan of a comparison that was cut off, if there is one; one for something else is refused."""
    path = store / PLAN
    if not path.is_file():
        return None
    try:
        found = read_sealed(path)
        made, before = Plan(**found["plan"]), found["asked"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("the plan of a comparison", f"{path}: {error}", "start again in another folder") from error
    if before != (now := [str(word) for word in asked]):
        pairs = zip_longest(now, before, fillvalue="nothing")
        differ = next(f"{b} before, {a} now" for a, b in pairs if a != b)
        raise InputError(f"the data and options that {path} was made for", differ, "use these, or another folder")
    return made
