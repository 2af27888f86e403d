"""`curve`: loss against the number of examples, and how many examples a prior is worth.

Two priors (an invariance and none, two scales, two architectures) are trained on nested parts of the data, of growing
size, and predict the same examples that none of them has seen. Their losses fall along two curves; the prior that is
better reaches a loss with fewer examples. How many fewer is the number that a person who pays for labels wants:

    worth(B, A) = n'/n,        with L_A(n') = L_B(n),

"this invariance is worth 3.1 times the data", as the geometric mean over the sizes at which both are known. Losses are
taken to fall with n (isotonic regression) and to be straight lines in log n between sizes; where A never reaches B's
loss, what is known is that the ratio is at least that of the largest size, and the worth is a lower bound.

The interval is a bootstrap over repetitions (other orders, other first weights) and over the examples that are
predicted, both at once.

References:
    Deep learning scaling is predictable, empirically. J. Hestness and others, 2017. arXiv:1712.00409.
    How many data points is a prompt worth? T. Le Scao, A. M. Rush, 2021. arXiv:2103.08493 (the horizontal distance).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import isotonic_regression
from torch import Tensor

from novacula.core import execute
from novacula.core.brief import brief
from novacula.core.checks.numbers import check_numbers, check_whole
from novacula.core.errors import InputError
from novacula.core.execute import Backend
from novacula.core.rng import derive, generator
from novacula.data.data import Data
from novacula.data.given import DataLike, as_data
from novacula.inference.method import Method
from novacula.study.cross_fit.train import cross_fit
from novacula.target.given import TargetLike, prepared

_BOOTSTRAPS = 200
_LEVEL = 0.9


@dataclass(frozen=True)
class Worth:
    """How many times the data a prior is worth.

    Attributes:
        value: The ratio: above 1, the first prior needs fewer examples.
        interval: One that holds it nine times in ten.
        bound: Whether the other never reached the loss at some size, so that value and interval are lower bounds.
        sizes: The sizes of the first prior's training sets that were compared.
    """

    value: float
    interval: tuple[float, float]
    bound: bool
    sizes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Curves:
    """Losses on unseen examples, by prior and size of the training set.

    Attributes:
        sizes: The numbers of training examples, K of them, rising.
        losses: By the prior's name, of each repetition, size and example, shape ``(R, K, N)``, in nats where the loss
            is of a density.
        seed: The seed.
    """

    sizes: tuple[int, ...]
    losses: Mapping[str, Tensor]
    seed: int = 0

    __repr__ = brief

    def mean(self, name: str) -> Tensor:
        """The mean loss at each size, shape ``(K,)``."""
        return self._of(name).mean((0, 2))

    def stderr(self, name: str) -> Tensor:
        """Its standard error over repetitions and examples, shape ``(K,)``; of one repetition, over examples alone."""
        f = self._of(name)
        among = f.mean(2).var(0) / len(f) if len(f) > 1 else torch.zeros(len(self.sizes))
        return (f.mean(0).var(1) / f.shape[2] + among).sqrt()

    def gain(self, name: str, over: str) -> tuple[Tensor, Tensor]:
        """By how much a prior's loss is below another's, in pairs, and the standard error; each ``(K,)``."""
        pairs = Curves(self.sizes, {"gain": self._of(over) - self._of(name)})
        return pairs.mean("gain"), pairs.stderr("gain")

    def worth(self, name: str, over: str) -> Worth:
        """How many times the data a prior is worth over another.

        Args:
            name: The prior.
            over: The other.

        Returns:
            The ratio of the numbers of examples with which both reach the same loss.

        Raises:
            InputError: If a name is unknown, or the curves do not meet anywhere in the range of the sizes.
        """
        mine, other = self._of(name).numpy(), self._of(over).numpy()
        found = self._ratio(mine.mean((0, 2)), other.mean((0, 2)))
        if found is None:
            raise InputError(
                f"sizes at which {over!r} reaches a loss of {name!r}",
                "curves that share no loss",
                "take a wider range of sizes",
            )
        drawn = zip(self._drawn(mine), self._drawn(other), strict=True)
        ratios = [ratio[0] for pair in drawn if (ratio := self._ratio(*pair)) is not None]
        low, high = np.quantile(ratios, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
        value, bound, sizes = found
        return Worth(value, (float(low), float(high)), bound, sizes)

    def to_dict(self) -> dict[str, Any]:
        """The curves as plain values."""
        rows = {k: {"nll": self.mean(k).tolist(), "stderr": self.stderr(k).tolist()} for k in self.losses}
        return {"sizes": list(self.sizes), "losses": rows, "seed": self.seed}

    def _of(self, name: str) -> Tensor:
        if name not in self.losses:
            raise InputError(f"one of {', '.join(self.losses)}", repr(name), "use a name that was given to curve()")
        return self.losses[name]

    def _drawn(self, losses: np.ndarray) -> np.ndarray:
        # Mean losses (B, K) of repetitions and examples drawn with replacement, the same for every prior.
        rng = np.random.default_rng(derive(self.seed, "bootstrap"))
        repetitions, _, examples = losses.shape
        r, n = (rng.multinomial(m, np.full(m, 1 / m), _BOOTSTRAPS) / m for m in (repetitions, examples))
        return np.einsum("br,rkb->bk", r, losses @ n.T)

    def _ratio(self, mine: np.ndarray, other: np.ndarray) -> tuple[float, bool, tuple[int, ...]] | None:
        # From mean losses (K,): the geometric mean of n'/n over the sizes n whose loss the other reaches, or was never
        # seen to reach.
        at = np.log(np.asarray(self.sizes, dtype=float))
        own, theirs = (isotonic_regression(f, increasing=False).x for f in (mine, other))
        logs, used, bound = [], [], False
        for x, loss, n in zip(at, own, self.sizes, strict=True):
            if loss > theirs[0]:
                continue  # the other is better with the fewest examples already
            reached = float(np.interp(-loss, -theirs, at))
            if loss < theirs[-1]:
                bound, reached = True, float(at[-1])
            logs.append(reached - x)
            used.append(n)
        return (math.exp(sum(logs) / len(logs)), bound, tuple(used)) if logs else None


def curve(
    targets: Mapping[str, TargetLike],
    data: DataLike,
    sizes: Sequence[int],
    *,
    test: int | None = None,
    repetitions: int = 3,
    seed: int = 0,
    method: Method | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    workers: int = 1,
    backend: Backend = "loky",
) -> Curves:
    """Train priors on nested parts of the data, and let them predict what none has seen.

    Args:
        targets: By name: targets, or networks, which are taken as they are; nothing of them is learned.
        data: All data.
        sizes: Numbers of training examples, at least two.
        test: How many examples are predicted, the same by all; by default as many as the sizes leave.
        repetitions: Orders of the data, each with other first weights; the examples that are predicted stay.
        seed: Seed of everything random.
        method: How a network is trained, as in `novacula.cross_fit`.
        epochs: Passes of each network over its data; give at most one of this and ``steps``.
        steps: Steps of each network; by default 1,500, or 20 epochs if these are more.
        workers: Processes that share the trainings.
        backend: Where the workers are.

    Returns:
        The losses, each network's at its own calibrated temperature of the labels.

    Raises:
        InputError: If there are fewer than two sizes or one target, or not enough examples.

    Example:
        >>> import novacula as nv
        >>> data = nv.load("digits")
        >>> net = nv.networks.make("linear", data.x_shape, 10)
        >>> weak, strong = (nv.Target(net, prior=nv.Gaussian(p)) for p in (0.01, 10.0))
        >>> found = nv.study.curve({"weak": weak, "strong": strong}, data, [20, 60], test=100, repetitions=1, steps=60)
        >>> found.mean("strong").shape
        torch.Size([2])
    """
    check_numbers(seed=seed, epochs=epochs, steps=steps)
    check_whole("repetitions", repetitions)
    data, sizes = as_data(data), tuple(sorted({int(n) for n in sizes}))
    if len(sizes) < 2 or sizes[0] < 1 or not targets:
        raise InputError("a target and two sizes or more", f"{len(targets)} and {sizes}", "sizes=[100, 200, 400]")
    held = data.n - sizes[-1] if test is None else test
    if held < 2 or held + sizes[-1] > data.n:
        got = f"{data.n}, of which {sizes[-1]} are for training and {held} are predicted"
        raise InputError("enough examples", got, "take smaller sizes, or test=")
    order = torch.randperm(data.n, generator=generator(seed, "test"))
    unseen, rest = order[:held], order[held:]
    options = {"method": method, "epochs": epochs, "steps": steps}
    tasks = []
    for r in range(repetitions):
        seen = rest[torch.randperm(len(rest), generator=generator(seed, "order", r))]
        for target in targets.values():
            tasks += [_Task(target, data, unseen, seen[:n], derive(seed, "train", r), options) for n in sizes]
    found = torch.stack(execute.map(_Task.run, tasks, workers=workers, backend=backend))
    found = found.view(repetitions, len(targets), len(sizes), held)
    return Curves(sizes, {name: found[:, i] for i, name in enumerate(targets)}, seed)


@dataclass(frozen=True, eq=False)
class _Task:
    """One network."""

    target: TargetLike
    data: Data
    unseen: Tensor
    seen: Tensor
    seed: int
    options: dict[str, Any]

    def run(self) -> Tensor:
        """The losses of the unseen examples, ``(N,)``."""
        rows = torch.cat([self.unseen, self.seen]).to(self.data.x.device)
        folds = torch.cat([torch.zeros(len(self.unseen)), torch.ones(len(self.seen))]).long()
        target, data = prepared(self.target, self.data)  # in the units of all data, whose labels decide the classes
        fit = cross_fit(target, data.subset(rows), folds=folds, only=1, seed=self.seed, **self.options)
        return fit.losses.cpu()
