"""What happened between checkpoints: whether a network grokked, and whether its loss descended twice.

*Grokking*: the training examples are known long before unseen ones are (Power and others, 2022). A curve has come as
far as ``(c_t − c_0) / (max c − c_0)``; with k the first checkpoint at which the training curve has come nine tenths of
its way and g that of unseen examples, a network grokked where at k unseen examples had come less than half of theirs,
``g ≥ 2 k`` in steps, and what they gained after k is more than noise of the examples explains; all in all they are to
gain half of what training examples do at least.

*Double descent* over training (Nakkiran and others, 2020): the loss of unseen examples falls, rises to a peak p and
falls again. The rise ``L_p − min_{t<p} L_t`` and the fall ``L_p − min_{t>p} L_t`` are those of medians of three
neighbours, so that one checkpoint makes no peak, are at least a tenth of the first fall, and are more than noise of the
examples explains. Steps are those where the loss itself is least and highest among these neighbours.

Noise: of T checkpoints the pairs that might be compared are T²; a difference counts where it exceeds the quantile of a
normal distribution at ``.01/T²`` times its standard error over examples, which a curve of no trend does at any pair
with a probability of .01 at most.

References:
    Grokking: generalization beyond overfitting on small algorithmic datasets. A. Power and others, 2022.
    arXiv:2201.02177.
    Deep double descent. P. Nakkiran and others, 2020. arXiv:1912.02292.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import norm
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.checks.numbers import check_callable
from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.data.given import DataLike
from novacula.paths.barrier import point_of, scores_at, stacked
from novacula.posteriors.base import Learned, Posterior
from novacula.target.given import TargetLike, prepared

_MOST, _HALF, _LATE, _LARGE, _LEVEL = 0.9, 0.5, 2.0, 0.1, 0.01


@dataclass(frozen=True)
class Grokking:
    """Unseen examples that were understood long after the training examples were known."""

    fitted: float  # the step at which the training curve has come nine tenths of its way
    understood: float  # that at which unseen examples have
    gain: float  # what these gained in between, in accuracy; of measurements, in nats an example


@dataclass(frozen=True)
class DoubleDescent:
    """A loss of unseen examples that fell, rose and fell again."""

    first: float  # the step of the first minimum
    peak: float
    second: float
    rise: float  # from the first minimum to the peak, in nats an example
    fall: float  # from the peak to the second minimum


@dataclass(frozen=True, eq=False)
class History:
    """Curves of a training.

    Attributes:
        at: The steps of the checkpoints, ``(T,)``.
        train_losses: In nats, by checkpoint and training example, ``(T, M)``; or ``(T, 1)``, of means alone.
        test_losses: The same of unseen examples, ``(T, N)``.
        train_correct: Whether each label was the most probable; None of measurements.
        test_correct: The same of unseen examples.
    """

    at: Tensor
    train_losses: Tensor
    test_losses: Tensor
    train_correct: Tensor | None = None
    test_correct: Tensor | None = None

    __repr__ = brief

    @property
    def grokking(self) -> Grokking | None:
        """When unseen examples were understood long after training examples were known; None if they were not."""
        both = self.train_correct is not None and self.test_correct is not None
        train, test = (self.train_correct, self.test_correct) if both else (-self.train_losses, -self.test_losses)
        assert train is not None
        assert test is not None
        train, test = train.double(), test.double()
        known, seen = _way(train.mean(1)), _way(test.mean(1))
        if known is None or seen is None or _whole(test.mean(1)) < _HALF * _whole(train.mean(1)):
            return None
        k, g = (int((way >= _MOST).nonzero()[0]) for way in (known, seen))
        late = float(self.at[g] - self.at[0]) >= _LATE * float(self.at[k] - self.at[0])
        if k == g or not late or float(seen[k]) >= _HALF or not _more(test[g] - test[k], len(self.at)):
            return None
        return Grokking(float(self.at[k]), float(self.at[g]), float((test[g] - test[k]).mean()))

    @property
    def double_descent(self) -> DoubleDescent | None:
        """The largest hump of the loss of unseen examples between two descents; None where there is none."""
        own, many, found = self.test_losses, len(self.at), list[DoubleDescent]()
        curve, smooth = own.mean(1), _median(own.mean(1))
        for p in range(1, many - 1):
            first, second = int(smooth[:p].argmin()), p + 1 + int(smooth[p + 1 :].argmin())
            rise, fall = float(smooth[p] - smooth[first]), float(smooth[p] - smooth[second])
            large = min(rise, fall) >= _LARGE * float(smooth[0] - smooth[first]) > 0
            low, top, end = _nearby(-curve, first), _nearby(curve, p), _nearby(-curve, second)
            if large and low < top < end and all(_more(own[top] - own[q], many) for q in (low, end)):
                steps = self.at[[low, top, end]].tolist()
                found.append(DoubleDescent(steps[0], steps[1], steps[2], rise, fall))
        return max(found, key=lambda hump: min(hump.rise, hump.fall), default=None)

    @property
    def words(self) -> tuple[str, ...]:
        """What happened, in sentences."""
        grokked, twice = self.grokking, self.double_descent
        one = "It did not grok: unseen examples were not understood long after the training examples."
        if grokked is not None:
            gain = f"{100 * grokked.gain:.2g} %" if self.test_correct is not None else f"{grokked.gain:.2g} nats"
            one = (
                f"It grokked: training examples were known at step {grokked.fitted:g}, unseen ones at step "
                f"{grokked.understood:g}, a gain of {gain} in between."
            )
        other = "The loss of unseen examples has no second descent."
        if twice is not None:
            other = (
                f"The loss of unseen examples descended twice: least at step {twice.first:g}, up by {twice.rise:.2g} "
                f"nats to step {twice.peak:g}, down by {twice.fall:.2g} to step {twice.second:g}."
            )
        return one, other

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values: means by checkpoint, and what was found."""
        means = {"train_loss": self.train_losses, "test_loss": self.test_losses}
        means |= {"train_accuracy": self.train_correct, "test_accuracy": self.test_correct}  # type: ignore[dict-item]
        curves = {k: None if v is None else v.double().mean(1).tolist() for k, v in means.items()}
        found = {"grokking": self.grokking, "double_descent": self.double_descent}
        return {"at": self.at.tolist(), **curves, **{k: None if v is None else vars(v) for k, v in found.items()}}


def history(
    module: TargetLike,
    checkpoints: Sequence[Params | Posterior | Learned],
    train: DataLike,
    test: DataLike,
    *,
    at: Sequence[float] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> History:
    """Evaluate the checkpoints of one training, and say whether it grokked or its loss descended twice.

    Args:
        module: The network; or a target.
        checkpoints: Weights in the order of training, from the first step on, four at least: state dictionaries or
            results.
        train: The training examples.
        test: Examples that training did not see.
        at: The step of each, increasing; by default their numbers.
        seed: Seed of transformations, of a target that has them.
        progress: Called with (checkpoints done, checkpoints in all).

    Returns:
        The curves, with ``.grokking``, ``.double_descent`` and ``.words``.

    Raises:
        InputError: If there are fewer than four, steps do not increase, or weights are not those of the network.
    """
    check_callable("progress", progress)
    steps = torch.as_tensor([float(s) for s in (range(len(checkpoints)) if at is None else at)], dtype=torch.float64)
    if len(checkpoints) < 4 or len(steps) != len(checkpoints) or bool((steps.diff() <= 0).any()):
        got = f"{len(checkpoints)} checkpoints, steps {steps.tolist()[:6]}"
        raise InputError("four checkpoints or more, and an increasing step for each", got, "at=[0, 100, 200, 400]")
    target, seen = prepared(module, train)
    _, unseen = prepared(module, test)
    found = list[tuple[Any, Any]]()
    for i, checkpoint in enumerate(checkpoints):
        point = point_of(target, checkpoint)
        found.append((scores_at(target, point, seen, seed=seed), scores_at(target, point, unseen, seed=seed)))
        if progress is not None:
            progress(i + 1, len(checkpoints))
    (train_losses, train_correct), (test_losses, test_correct) = (stacked(own) for own in zip(*found, strict=True))
    return History(steps, train_losses, test_losses, train_correct, test_correct)


def _whole(curve: Tensor) -> float:
    return float(curve.max() - curve[0])


def _way(curve: Tensor) -> Tensor | None:
    # The share of its way that a curve has come; None of one that never rises.
    return (curve - curve[0]) / whole if (whole := _whole(curve)) > 0 else None


def _more(differences: Tensor, many: int) -> bool:
    # Whether a mean difference is above what noise of examples explains at any of T² pairs.
    d = differences.double()
    error = float(d.std()) / len(d) ** 0.5 if len(d) > 1 else 0.0
    return float(d.mean()) > float(norm.isf(_LEVEL / many**2)) * error


def _nearby(curve: Tensor, i: int) -> int:
    # Where a curve is highest, of three neighbours.
    start = max(0, i - 1)
    return start + int(curve[start : i + 2].argmax())


def _median(curve: Tensor) -> Tensor:
    padded = torch.cat([curve[:1], curve, curve[-1:]])
    return padded.unfold(0, 3, 1).median(1).values
