"""A minibatch, and where its run stands."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

WARM = 0.5
"""The share of a training over which the prior's part rises, where nothing else is said."""


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
        prior: How much the prior counts in this step, in [0, 1] (see `rising`).
        trained: Whether the run began at weights that were trained before; or, of a training in parts, the steps that
            it began after, and those of all parts.
    """

    x: Tensor
    y: Tensor
    total: int
    step: int
    steps: int
    alike: int = 1
    prior: float = 1.0
    trained: bool | tuple[int, int] = False

    @property
    def progress(self) -> float:
        """The fraction of the run that is done, in [0, 1)."""
        return self.step / self.steps

    def rising(self, share: float) -> Batch:
        """With a prior that counts from nothing to all of itself, in proportion, over so large a share of a training.

        The origin is a stationary point of the density of a network of several layers, and often a mode. While a
        network has found nothing in the data yet, the prior is all that draws its weights, steadily, and from the
        origin they do not come back. A network that has found what there is to find is where its own mode is: from
        trained weights on, all of the prior counts.

        Returns:
            The batch with the prior's part at this step.
        """
        if self.trained is True:
            return self
        behind, whole = self.trained or (0, self.steps)
        done = (behind + self.step) / whole
        return self if done >= share else replace(self, prior=done / share)
