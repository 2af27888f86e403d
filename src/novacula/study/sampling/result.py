"""What the comparison of trained networks with the posterior says, in plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from novacula.core.storage.plain import record
from novacula.diagnostics.two_samples import Interval, TwoSamples


@dataclass(frozen=True)
class Named:
    """A function of which people speak, in both samples."""

    trained: Interval  # its share of the trained networks, with Clopper and Pearson's interval
    bayes: Interval  # its probability under the posterior, at as many draws as these are worth
    log_odds: Interval  # ``log odds_trained − log odds_bayes`` in nats, with its interval


@dataclass(frozen=True)
class Checkpoint:
    """Trained networks, so many epochs after their stops, against the posterior."""

    beyond: int  # epochs since the stop
    functions: TwoSamples  # the comparison of functions on the points where they are told apart
    errors: TwoSamples  # the same of the number of errors on all held-out examples
    named: dict[str, Named]  # ``"target"``, the function of the true labels, and others
    error: Interval  # the mean error on the held-out examples
    # of how far the error is below that of guessing, the share that the posterior has as well: what sampling alone
    # explains. NaN where training does not beat guessing
    share: Interval
    # quantiles .1, .5, .9 of the least margin on the training examples over the size of the outputs
    margins: tuple[float, float, float]
    larger: float  # the probability that this is larger for a trained network than for one of the posterior
    correlation: float  # of log-probabilities, over functions that both samples hold twice or more: blind to all others
    both: int  # how many functions these are


@dataclass(frozen=True)
class Overtrained:
    """What more epochs did to the same networks."""

    beyond: int  # epochs since the stop
    changed: Interval  # the share whose function is another on the points where functions are told apart
    to_target: Interval  # the change of the share that computes the true labels there, with its interval over pairs
    error: Interval  # the change of the mean error on the held-out examples, likewise


@dataclass(frozen=True, eq=False)
class SgdVsBayes:
    """Trained networks beside draws of the prior that fit.

    Attributes:
        nets: How many reached zero error.
        tried: How many were trained.
        diverged: How many came to outputs that are not finite.
        stops: Quantiles .1, .5, .9 of the epochs until the stop.
        reference: How the posterior was drawn.
        draws: How many draws of it, and how many independent ones these are worth.
        log_evidence: Of the posterior, in nats, with its standard error; NaN where not known.
        points: On how many held-out examples functions are told apart, and how many there are.
        guessing: The error of guessing.
        bayes_error: The mean error of the posterior's draws on the held-out examples.
        bayes_margins: Quantiles .1, .5, .9, as a checkpoint's.
        checkpoints: The comparisons, at the stop and beyond.
        overtraining: What followed the stop, by pairs.
        counts: Of each function: its labels ``(F, points)``, draws of the posterior, and networks at each checkpoint.
        warnings: What to keep in mind.
    """

    nets: int
    tried: int
    diverged: int
    stops: tuple[float, float, float]
    reference: str
    draws: tuple[int, int]
    log_evidence: tuple[float, float]
    points: tuple[int, int]
    guessing: float
    bayes_error: Interval
    bayes_margins: tuple[float, float, float]
    checkpoints: tuple[Checkpoint, ...]
    overtraining: tuple[Overtrained, ...]
    counts: tuple[np.ndarray, np.ndarray, np.ndarray]
    warnings: tuple[str, ...]

    def top(self, k: int = 10) -> list[dict[str, Any]]:
        """The functions that most draws and networks compute.

        Args:
            k: How many.

        Returns:
            Of each, its labels, its share of the posterior's draws, and of the networks at each checkpoint.
        """
        labels, bayes, trained = self.counts
        shares = trained / trained.sum(1, keepdims=True)
        order = np.argsort(-(bayes / bayes.sum() + shares.max(0)), kind="stable")[:k]
        return [
            {
                "labels": "".join(map(str, labels[i])),
                "bayes": float(bayes[i] / bayes.sum()),
                "trained": [float(s[i]) for s in shares],
            }
            for i in order
        ]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values.

        Returns:
            All but the counts, of which ``top`` holds the first ten; numbers that are not known are None.
        """
        names = [f for f in self.__dataclass_fields__ if f not in ("counts", "checkpoints", "overtraining")]
        rows = {k: [asdict(row) for row in getattr(self, k)] for k in ("checkpoints", "overtraining")}
        return record(self, *names, **rows, top=self.top())

    def __str__(self) -> str:
        rows = [
            f"{self.nets:,} of {self.tried:,} networks reached zero error; {self.draws[0]:,} draws of the posterior by "
            f"{self.reference}, worth {self.draws[1]:,}",
            f"posterior      error {self.bayes_error.value:.3f}",
        ]
        for c in self.checkpoints:
            tv, (share, low, high) = c.functions.total_variation, c.share
            rows.append(
                f"stop + {c.beyond:<6}  error {c.error.value:.3f}  TV {tv.value:.3f} (null {tv.null:.3f})  "
                f"p {c.functions.p_value:.3g}  explained {share:.0%} ({low:.0%} to {high:.0%})"
            )
        return "\n".join(rows)
