"""What the comparison of trained networks with the posterior says, in plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from novacula.core.storage.plain import record
from novacula.diagnostics.two_samples import Interval, TwoSamples


@dataclass(frozen=True)
class Named:
    """A function of which people speak, in both samples.

    Attributes:
        trained: Its share of the trained networks, with Clopper and Pearson's interval.
        bayes: Its probability under the posterior, at as many draws as these are worth.
        log_odds: ``log odds_trained − log odds_bayes`` in nats, with its interval.
    """

    trained: Interval
    bayes: Interval
    log_odds: Interval


@dataclass(frozen=True)
class Checkpoint:
    """Trained networks, so many epochs after their stops, against the posterior.

    Attributes:
        beyond: Epochs since the stop.
        functions: The comparison of functions on the points where they are told apart.
        errors: The same of the number of errors on all held-out examples.
        named: ``"target"``, the function of the true labels, and others.
        error: The mean error on the held-out examples.
        share: Of how far the error is below that of guessing, the share that the posterior has as well: what sampling
            alone explains. NaN where training does not beat guessing.
        margins: Quantiles .1, .5, .9 of the least margin on the training examples over the size of the outputs.
        larger: The probability that this is larger for a trained network than for one of the posterior.
        correlation: Of log-probabilities, over functions that both samples hold twice or more: blind to all others.
        both: How many functions these are.
    """

    beyond: int
    functions: TwoSamples
    errors: TwoSamples
    named: dict[str, Named]
    error: Interval
    share: Interval
    margins: tuple[float, float, float]
    larger: float
    correlation: float
    both: int


@dataclass(frozen=True)
class Overtrained:
    """What more epochs did to the same networks.

    Attributes:
        beyond: Epochs since the stop.
        changed: The share whose function is another on the points where functions are told apart.
        to_target: The change of the share that computes the true labels there, with its interval over pairs.
        error: The change of the mean error on the held-out examples, likewise.
    """

    beyond: int
    changed: Interval
    to_target: Interval
    error: Interval


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
