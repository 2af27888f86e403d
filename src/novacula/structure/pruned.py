"""What `prune` found: networks by sparsity, and what each gives up."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.posteriors.base import Point


@dataclass(frozen=True, eq=False)
class Level:
    """A network with a share of its weights taken away.

    Attributes:
        sparsity: The share of all weights (biases and all) that is gone.
        asked: The sparsity that was asked for; 0 for the dense network.
        criterion: How weights were chosen: ``"damage"`` or ``"magnitude"``.
        evidence: The log evidence of what is left by the diagonal curvature, in nats, precisions tuned.
        losses: Each example's loss by the network that has not seen it, ``(N,)``; None without folds.
        hits: Whether it was right, for classes, or the probability of that by soft labels.
        params: The weights of the network of all data, and statistics beside them.
        kept: 1 where a weight is left, by tensor.
        posterior: The network for `nv.predict`.
    """

    sparsity: float
    asked: float
    criterion: str
    evidence: float
    losses: Tensor | None
    hits: Tensor | None
    params: Params
    kept: Params
    posterior: Point

    __repr__ = brief

    @property
    def loss(self) -> float:
        """The mean out-of-fold loss, in nats; NaN without folds."""
        return float("nan") if self.losses is None else float(self.losses.mean())

    @property
    def accuracy(self) -> float:
        """The out-of-fold accuracy; NaN where there is none."""
        return float("nan") if self.hits is None else float(self.hits.double().mean())


@dataclass(frozen=True, eq=False)
class Pruned:
    """What a network gives up at each sparsity.

    Attributes:
        dense: The network before anything was taken away, under tuned precisions.
        levels: The others, by criterion and sparsity.
    """

    dense: Level
    levels: tuple[Level, ...]

    __repr__ = brief

    def at(self, to: float, criterion: str = "damage") -> Level:
        """The network of one sparsity that was asked for.

        Args:
            to: Which.
            criterion: Whose.

        Returns:
            The level.

        Raises:
            InputError: If it was not asked for.
        """
        for level in self.levels:
            if level.criterion == criterion and math.isclose(level.asked, to):
                return level
        have = ", ".join(f"{at.asked:g} by {at.criterion}" for at in self.levels)
        raise InputError(f"a sparsity that was asked for: {have}", f"{to:g} by {criterion}", "prune(…, to=[…])")

    def given_up(self, level: Level) -> tuple[float, float]:
        """How much loss a level costs against the dense network, and its standard error, paired by example."""
        if level.losses is None or self.dense.losses is None:
            return float("nan"), float("nan")
        gap = level.losses - self.dense.losses
        return float(gap.mean()), float(gap.std()) / math.sqrt(len(gap))

    def table(self) -> list[dict[str, float | str]]:
        """All levels as rows, the dense network first."""
        rows: list[dict[str, float | str]] = []
        for level in (self.dense, *self.levels):
            gap, error = self.given_up(level)
            own = {"criterion": level.criterion, "asked": level.asked, "sparsity": level.sparsity}
            scores = {"evidence": level.evidence, "loss": level.loss, "accuracy": level.accuracy}
            rows.append({**own, **scores, "loss_given_up": gap, "stderr": error})
        return rows
