"""`compare`: several models of the same data, by the evidence and by the conditional evidence, side by side.

The two can disagree. The evidence charges a model for all it had to learn, from the first example on; the conditional
evidence asks only how well it forecasts the last part of the data from the first. Where they rank models differently,
the first speaks of the prior, the second rather of generalisation, and the table says so.

References:
    Bayesian model selection, the marginal likelihood, and generalization. S. Lotfi, P. Izmailov, G. Benton,
    M. Goldblum, A. G. Wilson, 2022. arXiv:2202.11678.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.core.params import Params, count
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.evidence import Conditional, Laplace
from novacula.study.learning.learn import learn
from novacula.target import Target


@dataclass(frozen=True, eq=False)
class Entry:
    """One model of a comparison."""

    name: str  # its name
    weights: int  # P
    evidence: Estimate  # the log evidence of all the data, at the learned hyperparameters
    conditional: Estimate  # the conditional log marginal likelihood, at the same hyperparameters
    params: Params  # the trained weights
    target: Target  # the learned target
    seconds: dict[str, float]  # for ``train``, ``evidence`` and ``conditional``


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models in the order in which they were given.

    Args:
        entries: One for each model.
    """

    entries: tuple[Entry, ...]

    def best(self, by: str = "evidence") -> Entry:
        """The model with the highest score.

        Args:
            by: ``"evidence"`` or ``"conditional"``.

        Returns:
            The entry.
        """
        return max(self.entries, key=lambda e: float(getattr(e, by)))

    @property
    def agreement(self) -> float:
        """Spearman's rank correlation of evidence and conditional evidence; NaN for fewer than three models."""
        if len(self.entries) < 3:
            return float("nan")
        scores = [(float(e.evidence), float(e.conditional)) for e in self.entries]
        return float(np.asarray(spearmanr(np.asarray(scores)))[0])

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before choosing."""
        first, second = self.best("evidence").name, self.best("conditional").name
        found = [w for e in self.entries for w in (*e.evidence.warnings, *e.conditional.warnings)]
        if first != second:
            found.insert(
                0,
                f"the evidence prefers {first!r}, the conditional evidence {second!r}: the first weighs the whole "
                "learning curve, the second its end; for predictions the second is the closer guide",
            )
        return tuple(dict.fromkeys(found))

    def table(self) -> str:
        """The comparison as text.

        Returns:
            A table in Markdown, in nats per example.
        """
        lines = ["| model | P | log evidence / N | conditional / n |", "| --- | ---: | ---: | ---: |"]
        for e in self.entries:
            scores = [f"{s.per_example:.4f} ± {s.stderr / s.n:.4f}" for s in (e.evidence, e.conditional)]
            lines.append(f"| {e.name} | {e.weights} | {scores[0]} | {scores[1]} |")
        return "\n".join(lines)


def compare(
    models: Mapping[str, Target],
    data: Data,
    *,
    epochs: int = 24,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    evidence: Callable[..., Estimate] | None = None,
    conditional: Callable[..., Estimate] | None = None,
) -> Comparison:
    """Learn every model's prior and weights, and score it twice.

    Args:
        models: Targets by name.
        data: The training data.
        epochs: Passes over the data, for learning and for the conditional score.
        batch_size: Examples a step.
        lr: Peak learning rate.
        seed: Seed of everything random.
        evidence: The estimator of the evidence: the same for all models; by default `Laplace` with Kronecker factors.
        conditional: The estimator of the conditional evidence; by default `Conditional`.

    Returns:
        The comparison.

    Raises:
        InputError: If there are no models.
    """
    if not models:
        raise InputError("at least one model", "none", "pass {'name': nv.Target(...)}")
    score = evidence or Laplace(structure="kron", repeats=2)
    again = conditional or Conditional(epochs=epochs, batch_size=batch_size or 50)
    entries = []
    for name, target in models.items():
        began = time.perf_counter()
        fit = learn(
            target,
            data,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            seed=seed,
            evidence=score,
            structures=("last_layer",),
        )
        scored = time.perf_counter()
        second = again(fit.target, fit.data, fit.params, seed=derive(seed, "conditional"))
        entries.append(
            Entry(
                name=name,
                weights=count(fit.params),
                evidence=fit.evidence,
                conditional=second,
                params=fit.params,
                target=fit.target,
                seconds={
                    "train": fit.seconds["train"],
                    "evidence": scored - began - fit.seconds["train"],
                    "conditional": time.perf_counter() - scored,
                },
            )
        )
    return Comparison(tuple(entries))
