"""The loss along the straight line between two networks.

    L(t) = loss of (1 − t) w_a + t w_b,        barrier = max over t of  L(t) − [(1 − t) L(0) + t L(1)],

above nought where the two lie in different basins, as they are parametrised: units in another order suffice for that
(Ainsworth and others, 2022). Running statistics of normalisation layers lie on the line, too, or are taken anew at each
point from training data, since those of a mixture of weights are no mixture of theirs (Jordan and others, 2022). The
same may be asked along a curve (`novacula.paths.bend`).

References:
    Linear mode connectivity and the lottery ticket hypothesis. J. Frankle, G. K. Dziugaite, D. M. Roy, M. Carbin, 2020.
    arXiv:1912.05671.
    Git Re-Basin. S. K. Ainsworth, J. Hayase, S. Srinivasa, 2022. arXiv:2209.04836.
    REPAIR. K. Jordan, H. Sedghi, O. Saukh, R. Entezari, B. Neyshabur, 2022. arXiv:2211.08403.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.core.params import Params, detach
from novacula.data.data import Data
from novacula.data.given import DataLike, as_data
from novacula.data.meaning.soft import beliefs
from novacula.diagnostics.crossed_mean import nested
from novacula.posteriors.base import Learned, Posterior, weights_of
from novacula.target import Target
from novacula.target.copies import fixed_outputs
from novacula.target.given import TargetLike, prepared
from novacula.target.training import averaged_statistics


@dataclass(frozen=True, eq=False)
class Barrier:
    """What happens along the line.

    Attributes:
        at: The points t, from 0 to 1, shape ``(T,)``.
        losses: Of each point and example, in nats, shape ``(T, N)``, float64.
        correct: Whether each example's label is the most probable, shape ``(T, N)``; None of measurements.
    """

    at: Tensor
    losses: Tensor
    correct: Tensor | None

    __repr__ = brief

    @property
    def loss(self) -> Tensor:
        """The mean loss at each point, ``(T,)``."""
        return self.losses.mean(1)

    @property
    def accuracy(self) -> Tensor | None:
        """The accuracy at each point, ``(T,)``; None of measurements."""
        return None if self.correct is None else self.correct.double().mean(1)

    @property
    def height(self) -> float:
        """The loss barrier, in nats an example; at least 0, which the ends give."""
        return float(self._above(self.losses).mean(1).max())

    @property
    def stderr(self) -> float:
        """Its standard error over examples, at the point where it is highest."""
        above = self._above(self.losses)
        return nested(above[int(above.mean(1).argmax())], torch.zeros(above.shape[1], dtype=torch.long)).stderr

    @property
    def accuracy_drop(self) -> float | None:
        """By how much the accuracy falls below the line between the ends, at most; None of measurements."""
        return None if self.correct is None else float((-self._above(self.correct.double())).mean(1).max())

    def _above(self, values: Tensor) -> Tensor:
        t = self.at[:, None]
        return values - (1 - t) * values[0] - t * values[-1]


def barrier(
    module: TargetLike,
    a: Params | Posterior | Learned,
    b: Params | Posterior | Learned,
    data: DataLike,
    *,
    train: DataLike | None = None,
    bend: Params | Posterior | Learned | None = None,
    points: int = 11,
    seed: int = 0,
) -> Barrier:
    """Evaluate networks on the line between two, or on a curve.

    Args:
        module: The network; or a target, whose likelihood gives the loss and whose invariance is averaged over.
        a: Weights at t = 0: a state dictionary, a posterior (its mode) or a result of `novacula.learn`.
        b: Weights at t = 1.
        data: The examples.
        train: Training data, from which running statistics are taken anew at every point between the ends; without,
            they lie on the line.
        bend: The control point of a quadratic Bézier curve, as `bend` trains it, that is followed instead of the line.
        points: T, at least 3.
        seed: Seed of transformations and of the passes over the training data.

    Returns:
        Losses along the line, and the barrier.

    Raises:
        InputError: If the weights are not those of the network, or there are too few points.

    Example:
        >>> import novacula as nv
        >>> data = nv.load("digits").subset(range(100))
        >>> a, b = (nv.networks.make("linear", data.x_shape, 10, seed=s) for s in (0, 1))
        >>> barrier(a, a.state_dict(), b.state_dict(), data).height  # a convex loss has none
        0.0
    """
    check_whole("points", points, least=3)
    target, data = prepared(module, data)
    rows = None if train is None else as_data(train)
    first, last = point_of(target, a), point_of(target, b)
    bent = None if bend is None else point_of(target, bend)
    at = torch.linspace(0, 1, points, dtype=torch.float64)
    scored = []
    for i, t in enumerate(at.tolist()):
        inside = 0 < i < points - 1
        point = _between(first, last, t) if bent is None else bezier(first, bent, last, t)
        scored.append(scores_at(target, point, data, rows if inside else None, seed))
    return Barrier(at, *stacked(scored))


def scores_at(
    target: Target, point: Params, data: Data, train: Data | None = None, seed: int = 0
) -> tuple[Tensor, Tensor | None]:
    """Of each example the loss in nats, ``(N,)``, and whether its label is the most probable; None of measurements."""
    f, there = outputs_at(target, point, data.x, train, seed)
    losses = -there.likelihood.log_prob(f, data.y).double()
    if data.task != "classification":
        return losses, None
    return losses, beliefs(data.y, f.shape[1]).gather(1, f.argmax(1, keepdim=True))[:, 0]


def stacked(scored: Sequence[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor | None]:
    """Losses and labels of several points, ``(T, N)`` each."""
    correct = [c for _, c in scored if c is not None]
    return torch.stack([loss for loss, _ in scored]), torch.stack(correct) if correct else None


def point_of(target: Target, given: Params | Posterior | Learned) -> Params:
    """Weights, and the buffers that are numbers, as the network names them; refuses those of another network."""
    found = detach({k: v for k, v in weights_of(given).items() if isinstance(v, Tensor)})
    own: Mapping[str, Tensor] = {**dict(target.forward.module.named_buffers()), **target.params()}
    wrong = [k for k in target.params() if k not in found] or [k for k in found if k not in own]
    wrong = wrong or [k for k, w in found.items() if w.shape != own[k].shape]
    if wrong:
        hint = "pass the state dictionaries of two networks of the module's kind"
        raise InputError("weights of the network", f"{wrong[0]!r}, which is missing, unknown or of another shape", hint)
    kept = {k: w for k, w in found.items() if w.is_floating_point()}
    if bad := [k for k, w in kept.items() if not bool(torch.isfinite(w).all())]:
        raise InputError("finite weights", f"NaN or infinity in {bad[0]!r}", "leave out the run that diverged")
    return kept


def _between(a: Params, b: Params, t: float) -> Params:
    return {k: torch.lerp(w, b[k], t) if k in b else w for k, w in a.items()}


def bezier(a: Params, bend: Params, b: Params, t: float | Tensor) -> Params:
    """The point ``(1 − t)² a + 2 t (1 − t) bend + t² b``; of what has no bend, that of the line."""
    ends = {k: (1 - t) * w + t * b[k] if k in b else w for k, w in a.items()}
    parts = {k: (1 - t) ** 2 * a[k] + 2 * t * (1 - t) * w + t**2 * b[k] for k, w in bend.items()}
    return {**ends, **parts}


def outputs_at(
    target: Target, point: Params, x: Tensor, train: Data | None = None, seed: int = 0
) -> tuple[Tensor, Target]:
    """Outputs ``(N, C)`` at weights and statistics, or statistics taken anew, and the target that holds these."""
    if train is not None:
        there, weights = target.at(point)
        fresh = averaged_statistics(there, {k: w.unsqueeze(0) for k, w in weights.items()}, train, seed=seed)
        point = {**point, **{k: v[0] for k, v in fresh.items()}}
    there, weights = target.at(point)
    return fixed_outputs(there, weights, x, copies=there.copies.predict, seed=seed), there
