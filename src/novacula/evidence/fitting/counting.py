"""The probability that a random network fits all labels, by counting: unbiased, and the reference above 1e-6."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from novacula.core.checks.numbers import check_fields, check_whole
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.core.many import chunk_of
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.evidence.fitting.estimate import fit_estimate
from novacula.evidence.start import bound
from novacula.posteriors.base import Posterior
from novacula.target import Target
from novacula.target.heads import heads_of
from novacula.target.margins import FITS, check_fittable, closeness_of

_FEW = 10  # clusters that fit, of which a standard error can be taken for one
_TRIAL, _LONGEST = 1.0, 24 * 3600.0  # seconds after which the whole is estimated, and that it may take


@dataclass(frozen=True)
class Counting:
    """The share of networks drawn from the prior that fit.

    Args:
        draws: How many networks. With k fits that are independent the relative error is ``1/√k``.
        heads: How many of them share all layers but the last, an even number or 1: last layers are cheap, so that a
            hundred times as many networks are counted in the same time. The error is one of clusters: it is the spread
            of the share that fits between networks beneath. Of 0-1 labels in C columns the share is a product of C,
            and what can be counted ``heads^(C−1)`` times rarer.

    Raises:
        InputError: If ``draws`` is below 1, or no multiple of ``heads``, or ``heads`` neither even nor 1.

    Example:
        >>> Counting(1000).name
        'Counting(1000 draws)'
    """

    draws: int = 1_000_000
    heads: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        check_whole("draws", self.draws)
        check_whole("heads", self.heads)
        if self.draws % self.heads or (self.heads > 1 and self.heads % 2):
            got = f"heads={self.heads} of draws={self.draws}"
            raise InputError("heads as an even number that divides draws, or 1", got, "draws=10_000_000, heads=100")

    @property
    def name(self) -> str:
        """The estimator's name, under which values compare."""
        return f"Counting({self.draws} draws{f' of {self.heads} heads' if self.heads > 1 else ''})"

    def __call__(self, target: Target, data: Data, start: Params | Posterior | None = None, *, seed: int) -> Estimate:
        """Count, and give the log-probability in nats; without a fit, the upper bound ``log(3/clusters)`` of 95 %.

        Args:
            target: The network and its prior.
            data: The examples, of classes.
            start: Not used.
            seed: Of the draws.

        Returns:
            The estimate.

        Raises:
            InputError: If the labels are not classes or contradict each other, the temperature is not 1, many heads are
                asked of a network that has none or do not fit in memory, or the first second of counting says that
                all would take more than a day.
        """
        target, data = bound(target, data)
        if target.temperature != 1.0:
            raise InputError("temperature=1 for counting", f"{target.temperature:g}", "the prior itself is drawn from")
        check_fittable(target, data)
        clusters = self.draws // self.heads
        total, squares = self._counted(target, data, clusters, seed)
        mean, effective = total / clusters, total**2 / squares if squares else 0.0
        # Each cluster's share is at most one: one in which something fits is no likelier than 3 in so many, at 95 %.
        value = math.log(mean) if total else math.log(3 / clusters)
        spread = max(0.0, squares - total * mean) / max(1, clusters - 1)
        said = () if total else (f"none of {self.draws:,} networks fit: the value is a bound at 95 %",)
        if total and self.heads > 1 and effective < _FEW:
            said = (f"the fits are worth {effective:.2g} independent ones: the error is uncertain. Take more draws",)
        return fit_estimate(
            target,
            data,
            torch.tensor(value, dtype=torch.float64),
            kind="estimate" if total else "upper bound",
            estimator=self.name,
            stderr=math.sqrt(spread * clusters) / total if total else 0.0,
            warnings=said,
            parts={
                "fits": total * self.heads,
                "effective": effective,
                "evaluations": float(clusters),
            },
        )

    def _counted(self, target: Target, data: Data, clusters: int, seed: int) -> tuple[float, float]:
        # The sum over clusters of the share that fits, and that of its square.
        like, rng = target.params(), generator(seed, "counting")
        heads = None if self.heads == 1 else heads_of(target, data, seed=seed)
        size = chunk_of({k: w.expand(clusters, *w.shape) for k, w in like.items()}, data.n)
        size = size if heads is None else min(size, heads.at_once(self.heads))
        total = squares = 0.0
        began, known = time.monotonic(), False
        for first in range(0, clusters, size):
            weights = target.prior.sample(like, min(size, clusters - first), rng)
            if heads is None:
                share = (closeness_of(target, weights, data, seed=seed) == FITS).double()
            else:
                share = heads.shares(weights, self.heads, rng).cpu()
            total, squares = total + float(share.sum()), squares + float(share.square().sum())
            if not known and (seconds := time.monotonic() - began) > _TRIAL:
                known = True
                if (whole := seconds * clusters / (first + size)) > _LONGEST:
                    got = f"{self.draws:,} draws, about {whole / 3600:,.0f} hours"
                    raise InputError("draws that take at most a day", got, "fewer draws, or nv.evidence.Splitting()")
        return total, squares
