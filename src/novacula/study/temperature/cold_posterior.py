"""`cold_posterior`: does a posterior predict better when it is sharpened?

Bayes' rule is the temperature T = 1. Networks often predict better at T < 1, which says that prior, likelihood or
inference are not right: augmentation, curated labels, a poor prior and biased samplers all do it. The study runs a
method at several temperatures and scores the predictions on held-out data.

Every number has a standard error for both the spread over seeds and that over held-out examples (see
`novacula.diagnostics.crossed_mean`). Differences to T = 1 are those of the same seed on the same example, and have
errors of their own, which are much smaller: they tell whether there is an effect, and the errors of the scores do not.

Where the training examples are predicted worse at T = 1 than examples that nobody has seen are at a colder temperature,
it is not chance or overfitting that T = 1 suffers from: the posterior *underfits*, by its prior, its noise or its
method (the converse does not hold: it may underfit less than that).

The scores are predictions'. Partition functions at two temperatures do not compare, so there is no evidence here; an
`Estimate` refuses the difference.

References:
    How good is the Bayes posterior in deep neural networks really? F. Wenzel et al., 2020. arXiv:2002.02405.
    What are Bayesian neural network posteriors really like? P. Izmailov, S. Vikram, M. D. Hoffman, A. G. Wilson, 2021.
    arXiv:2104.14421.
    Disentangling the roles of curation, data-augmentation and the prior in the cold posterior effect. L. Noci, K. Roth,
    G. Bachmann, S. Nowozin, T. Hofmann, 2021. arXiv:2106.06596.
    The cold posterior effect indicates underfitting, and cold posteriors represent a fully Bayesian method to mitigate
    it. Y. Zhang, Y.-S. Wu, L. A. Ortega, A. R. Masegosa, 2024. TMLR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from novacula.core import execute
from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.core.execute import Backend, Progress
from novacula.core.storage.plain import record
from novacula.core.text import markdown
from novacula.data.data import Data
from novacula.diagnostics.crossed_mean import Mean, two_way
from novacula.posteriors.base import Posterior
from novacula.prediction.predict import predict
from novacula.prediction.predictive import Predictive
from novacula.prediction.scores.by_example import HIGHER, by_example, default_metric, worth
from novacula.study.temperature.runs import Job, Length, MethodAt, Which, checked, gathered, tempered, words
from novacula.target import Target

TEMPERATURES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_SEEN = 2_000


@dataclass(frozen=True)
class Row:
    """One score at one temperature."""

    metric: str  # the score
    temperature: float  # T
    score: Mean  # its mean over seeds and held-out examples
    gain: Mean
    seeds: tuple[float, ...]  # the score of each seed
    worth: float  # the least gain that is worth speaking of

    @property
    def better(self) -> bool:
        """Whether the gain exceeds two standard errors (their equivalent where seeds are few), and is worth it."""
        return self.gain.value > max(self.gain.reach, self.worth)

    @property
    def worse(self) -> bool:
        """Whether the loss does."""
        return -self.gain.value > max(self.gain.reach, self.worth)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; what is not known is None."""
        gain = {"gain": self.gain.value, "gain_stderr": self.gain.stderr, "gain_reach": self.gain.reach}
        means = {"score": self.score.value, "stderr": self.score.stderr, **gain}
        return record(self, "metric", "temperature", "better", "worse", "seeds", **means)


@dataclass(frozen=True, eq=False)
class ColdPosterior:
    """Scores against temperature.

    Args:
        rows: For every score, the temperatures in order.
        metric: The score that decides.
        which: What was tempered.
        method: The method, in words.
        seeds: The seeds.
        n: Held-out examples.
        warnings: Reservations a reader must know.
        seen: The mean loss of (up to 2,000) training examples at each temperature, coldest first.
    """

    rows: tuple[Row, ...]
    metric: str
    which: Which
    method: str
    seeds: tuple[int, ...]
    n: int
    warnings: tuple[str, ...] = ()
    seen: tuple[Mean, ...] = ()

    __repr__ = brief

    @property
    def metrics(self) -> tuple[str, ...]:
        """The scores there are."""
        return tuple(dict.fromkeys(r.metric for r in self.rows))

    def curve(self, metric: str | None = None) -> tuple[Row, ...]:
        """One score along the temperatures.

        Args:
            metric: The score; by default the one that decides.

        Returns:
            Its rows, coldest first.

        Raises:
            InputError: If there is no such score.
        """
        wanted = metric or self.metric
        if wanted not in self.metrics:
            raise InputError(f"a metric among {', '.join(self.metrics)}", repr(metric), "leave it out for the default")
        return tuple(r for r in self.rows if r.metric == wanted)

    @property
    def effect(self) -> bool:
        """Whether some T < 1 is better than T = 1 by more than two paired standard errors.

        Where a score is the same at all temperatures but for chance, each T below 1 is called better with a probability
        of 1 to 3 %, and some of four with 4 to 11 % (measured with three seeds): look whether neighbours agree.
        """
        return any(r.better for r in self.curve() if r.temperature < 1)

    @property
    def best(self) -> Row:
        """The best score that is better than at T = 1 by more than two paired standard errors; else T = 1 itself."""
        rows = self.curve()
        bayes = next(r for r in rows if r.temperature == 1)
        return max((r for r in rows if r.better), key=lambda r: r.gain.value, default=bayes)

    @property
    def underfits(self) -> bool:
        """Whether T = 1 predicts training examples worse than some T < 1 does unseen ones, by two standard errors."""
        curve = self.curve("nll" if "nll" in self.metrics else "loss")
        bayes = next(own for r, own in zip(curve, self.seen, strict=True) if r.temperature == 1)
        cold = [r.score for r in curve if r.better and r.temperature < 1]
        return any(bayes.value - c.value > math.hypot(bayes.reach, c.reach) for c in cold)

    @property
    def verdict(self) -> str:
        """The answer in words."""
        cold = [r for r in self.curve() if r.temperature < 1]
        better = [r for r in cold if r.better]
        if not cold:
            return "no temperature below 1 was tried"
        row = max(better or cold, key=lambda r: r.gain.value)
        gain = f"gains {row.gain.value:.4g} ± {row.gain.stderr:.2g} in {self.metric} over T = 1"
        if better:
            why = "; at T = 1 the posterior underfits: look at the prior and the noise first" if self.underfits else ""
            return f"a cold posterior predicts better: T = {row.temperature:g} {gain}{why}"
        return f"no cold-posterior effect is seen: the best T below 1 is {row.temperature:g}, which {gain}"

    def table(self) -> str:
        """All scores as text.

        Returns:
            A table in Markdown: scores and, in brackets, how much better than at T = 1, with standard errors.
        """
        curves = zip(*(self.curve(m) for m in self.metrics), strict=True)
        rows = [(f"{row[0].temperature:g}", *map(_cell, row)) for row in curves]
        return markdown(("T", *self.metrics), "r" + "l" * len(self.metrics), rows)

    def to_dict(self) -> dict[str, Any]:
        """The study as plain JSON values; what is not known is None.

        Returns:
            Everything, the rows as dictionaries.
        """
        names = ("method", "which", "metric", "seeds", "n", "effect", "underfits", "verdict", "warnings")
        found = {"seen": [m.value for m in self.seen], "rows": [r.to_dict() for r in self.rows]}
        return record(self, *names, study="cold_posterior", **found)


def cold_posterior(
    method: MethodAt,
    target: Target,
    data: Data,
    held_out: Data,
    *,
    temperatures: Sequence[float] = TEMPERATURES,
    which: Which = "posterior",
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int = 128,
    chains: int = 1,
    seeds: Sequence[int] = (0, 1, 2),
    metric: str | None = None,
    samples: int | None = None,
    restart: bool = True,
    workers: int = 1,
    backend: Backend = "loky",
    progress: Progress | None = None,
) -> ColdPosterior:
    """Score a method's predictions at several temperatures.

    Args:
        method: Any method; or a function that gives one for a temperature, where its settings should depend on it. A
            rate that was set for `SGLD` or `SGHMC` is multiplied by T without that, see
            `novacula.study.temperature.runs`. Methods whose posterior does not depend on T (`MAP`, whatever is tempered
            as a whole) give a flat line.
        target: The target, at temperature 1.
        data: The training data.
        held_out: What predictions are scored on.
        temperatures: T > 0; 1 is always among them.
        which: Whether the whole ``"posterior"`` is tempered, or the ``"likelihood"`` alone.
        steps: Steps of each run; this or ``epochs``.
        epochs: Passes over the data.
        batch_size: Examples a step.
        chains: Chains of each run, which make one predictive.
        seeds: One run each at every temperature. Runs of one seed share their start, minibatches and noise.
        metric: The score that decides: ``"nll"`` by default, ``"loss"`` for a loss without a density; also
            ``"accuracy"``, ``"brier"``, ``"ece"`` for classes, ``"rmse"``, ``"crps"`` for measurements.
        samples: Draws of each predictive; by default as `novacula.predict` has it.
        restart: Whether each seed starts at a fresh draw of the network's initialisation; False for pretrained weights.
        workers: How many runs go on at once, in processes; -1 for one on each core.
        backend: Where they are, see `novacula.core.execute`.
        progress: Called with (runs done, runs in all) after each.

    Returns:
        The study.

    Raises:
        InputError: If target or method have a temperature of their own, a temperature is not positive, a method refuses
            one, the metric is not known, or the data do not fit.
        NonFiniteError: If a run diverges; the message names temperature and seed.

    Example:
        >>> from torch import nn
        >>> from novacula.inference import Laplace, MAP
        >>> from novacula.likelihoods import Normal
        >>> x = torch.linspace(-1, 1, 20).unsqueeze(1)
        >>> target = Target(nn.Linear(1, 1), likelihood=Normal(sigma=0.5))
        >>> method = Laplace("exact", optimiser=MAP(lr=0.1))
        >>> found = cold_posterior(method, target, Data(x, x), Data(x, 2 * x), temperatures=(0.1, 1.0), steps=200)
        >>> found.metrics, len(found.curve("nll"))
        (('nll', 'rmse', 'crps'), 2)
    """
    wanted = checked(method, target, temperatures, seeds)
    tempered(target, which, 1.0)
    bound, data = target.prepare(data)
    held_out = held_out.with_values(
        held_out.x, bound.likelihood.validate(held_out.y, _outputs(bound, data), training=False)
    )
    length = Length(steps, epochs, batch_size, chains, restart)
    tasks = [
        _Task(Job(method, bound, data, length, which, t, seed), held_out, samples) for t in wanted for seed in seeds
    ]
    scored = execute.map(_score, tasks, workers=workers, backend=backend, progress=progress)
    s = len(seeds)
    tables = {
        name: {t: torch.stack([scored[i * s + j].parts[name] for j in range(s)]) for i, t in enumerate(wanted)}
        for name in scored[0].parts
    }
    chosen = default_metric(metric, scored[0].parts)
    rows = [_row(name, t, table) for name, table in tables.items() for t in wanted]
    found = [
        text
        for i, t in enumerate(wanted)
        for text in gathered(f"T = {t:g}", [one.told for one in scored[i * s : i * s + s]])
    ]
    if s == 1:
        found.insert(0, "one seed: the errors do not hold the spread over runs (use seeds=(0, 1, 2))")
    seen = tuple(two_way(torch.stack([one.seen for one in scored[i * s : i * s + s]])) for i in range(len(wanted)))
    return ColdPosterior(tuple(rows), chosen, which, words(method), tuple(seeds), held_out.n, tuple(found), seen)


@dataclass(frozen=True, eq=False)
class _Task:
    job: Job
    held_out: Data
    samples: int | None

    def __repr__(self) -> str:
        return repr(self.job)


@dataclass(frozen=True, eq=False)
class _Scored:
    parts: dict[str, Tensor]
    seen: Tensor
    told: tuple[str, ...]


def _score(task: _Task) -> _Scored:
    posterior, told = task.job.posterior()
    own = task.job.data.subset(range(min(task.job.data.n, _SEEN)))
    unseen, seen = (
        {k: v.cpu() for k, v in by_example(_predicted(task, posterior, rows.x), rows.y).items()}
        for rows in (task.held_out, own)
    )
    return _Scored(unseen, seen["nll" if "nll" in seen else "loss"], told)


def _predicted(task: _Task, posterior: Posterior, x: Tensor) -> Predictive:
    return predict(posterior, x, samples=task.samples, seed=task.job.seed)


def _row(metric: str, temperature: float, table: dict[float, Tensor]) -> Row:
    mine, bayes = table[temperature], table[1.0]
    sign = 1.0 if metric in HIGHER else -1.0
    score = two_way(mine)
    least = worth(metric, float(bayes.mean()))
    return Row(metric, temperature, score, two_way(sign * (mine - bayes)), tuple(mine.mean(1).tolist()), least)


def _outputs(target: Target, data: Data) -> int:
    with torch.no_grad():
        return target.forward(target.params(), data.x[:1]).shape[1]


def _cell(row: Row) -> str:
    score = f"{row.score.value:.4g} ± {row.score.stderr:.2g}"
    return score if row.temperature == 1 else f"{score} ({row.gain.value:+.4g} ± {row.gain.stderr:.2g})"
