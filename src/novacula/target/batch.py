"""A minibatch, and where its run stands."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """A minibatch and where the run stands.

    Args:
        x: Inputs, shape ``(B, …)``.
        y: Labels, shape ``(B, …)``.
        total: N, the size of the data set the batch stands for.
        step: Steps taken before this one.
        steps: Steps of the whole run.
        alike: Runs with batches of this shape, this one and those to come: what pays for a recording of the step.
    """

    x: Tensor
    y: Tensor
    total: int
    step: int
    steps: int
    alike: int = 1

    @property
    def progress(self) -> float:
        """The fraction of the run that is done, in [0, 1)."""
        return self.step / self.steps
