"""`safe_bayes`: the learning rate of a generalised posterior, by how well it forecasts the data as they come.

A posterior ``∝ p(w) Π_n p(y_n | w)^η`` with a learning rate η below 1 learns more slowly. Where the model is right,
η = 1 is Bayes. Where it is wrong (outliers, noise that is not of one size, a loss that is no density), Bayes can
concentrate on a bad mixture of good models and predict badly at any sample size; some η < 1 mends that. SafeBayes finds
it with the data alone. In the order in which they come, each example is forecast by the posterior of those before it,
and η minimises the sum of

    E_w [ −log p(y_n | w, x_n) ]             ``"randomised"`` (R-SafeBayes): the expected loss of a drawn weight,
    −log p(y_n | E_w f(w, x_n))              ``"in_model"`` (I-SafeBayes): the loss of the mean output, for `Normal`.

It is not the mixture's loss ``−log E_w p(y_n | w, x_n)``, which is Bayes' own, and small just where Bayes goes wrong:
the mixture may predict well while no single model in it does.

Here data come in blocks: the posterior of the first blocks forecasts the next, and the first block is given. The data
are taken in several random orders, and differences between learning rates are those of the same example in the same
order.

References:
    Inconsistency of Bayesian inference for misspecified linear models, and a proposal for repairing it. P. Grünwald,
    T. van Ommen, 2017. arXiv:1412.3730.
    The safe Bayesian: learning the learning rate via the mixability gap. P. Grünwald, 2012.
    A general framework for updating belief distributions. P. G. Bissiri, C. C. Holmes, S. G. Walker, 2016.
    arXiv:1306.6430.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from novacula.core import execute
from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.core.execute import Backend, Progress
from novacula.core.rng import derive, generator
from novacula.core.storage.plain import record
from novacula.core.text import markdown
from novacula.data.data import Data
from novacula.diagnostics.crossed_mean import Mean, two_way
from novacula.posteriors.base import Posterior, network_target
from novacula.posteriors.linearised import default_rule
from novacula.prediction.predict import predict
from novacula.prediction.predictive import Predictive
from novacula.study.temperature.runs import Job, Length, MethodAt, checked, gathered, tempered, words
from novacula.target import Target

Kind: TypeAlias = Literal["randomised", "in_model"]
LEARNING_RATES = tuple(2.0**-k for k in range(7))


@dataclass(frozen=True)
class RateScore:
    """What forecasts say of one learning rate."""

    learning_rate: float  # η
    loss: Mean  # the mean loss of a forecast, nats (or the loss's units) an example
    excess: Mean  # by how much it is above that of the best learning rate, example by example and order by order

    @property
    def worse(self) -> bool:
        """Whether it is worse than the best by more than two paired standard errors (or their equivalent)."""
        return self.excess.value > self.excess.reach

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; what is not known is None."""
        means = {"loss": self.loss.value, "stderr": self.loss.stderr}
        means |= {"excess": self.excess.value, "excess_stderr": self.excess.stderr}
        return record(self, "learning_rate", "worse", **means)


@dataclass(frozen=True, eq=False)
class SafeBayes:
    """A learning rate that was chosen, and the forecasts that chose it.

    Args:
        learning_rate: The minimiser η.
        target: The target with ``likelihood_temperature = 1/η``.
        scores: All learning rates, the largest first.
        kind: Which loss was summed.
        method: The method, in words.
        cuts: How many examples were given, and where each block ended.
        orders: In how many random orders.
        n: How many examples there are.
        warnings: Reservations a reader must know.
    """

    learning_rate: float
    target: Target
    scores: tuple[RateScore, ...]
    kind: Kind
    method: str
    cuts: tuple[int, ...]
    orders: int
    n: int
    warnings: tuple[str, ...] = ()

    __repr__ = brief

    @property
    def equivalent(self) -> tuple[float, ...]:
        """The learning rates that are not worse than the best by two paired standard errors."""
        return tuple(s.learning_rate for s in self.scores if not s.worse)

    @property
    def reason(self) -> str:
        """The choice in words."""
        best = next(s for s in self.scores if s.learning_rate == self.learning_rate)
        head = f"η = {self.learning_rate:g} forecasts best: {best.loss:.4f} an example"
        bayes = next((s for s in self.scores if s.learning_rate == 1.0), None)
        if bayes is None or bayes is best:
            return head
        return f"{head}; η = 1, Bayes' rule, is worse by {bayes.excess:.4f}"

    def table(self) -> str:
        """The forecasts as text.

        Returns:
            A table in Markdown.
        """
        rows = [(f"{s.learning_rate:g}", f"{s.loss:.4f}", f"{s.excess:.4f}") for s in self.scores]
        return markdown(("η", "loss", "above the best"), "rll", rows)

    def to_dict(self) -> dict[str, Any]:
        """The choice as plain JSON values; what is not known is None.

        Returns:
            Everything but the target.
        """
        names = ("learning_rate", "equivalent", "reason", "kind", "method", "cuts", "orders", "n", "warnings")
        return record(self, *names, study="safe_bayes", scores=[s.to_dict() for s in self.scores])


def safe_bayes(
    method: MethodAt,
    target: Target,
    data: Data,
    *,
    learning_rates: Sequence[float] = LEARNING_RATES,
    blocks: int | Sequence[int] = 5,
    kind: Kind = "randomised",
    orders: int = 2,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int = 128,
    chains: int = 1,
    samples: int | None = None,
    restart: bool = True,
    workers: int = 1,
    backend: Backend = "loky",
    progress: Progress | None = None,
    seed: int = 0,
) -> SafeBayes:
    """Choose the learning rate of a generalised posterior by cumulative prequential loss.

    Args:
        method: Any method; or a function that gives one for a likelihood's temperature ``1/η``. See
            `novacula.study.temperature.runs` for step sizes.
        target: The target, at temperature 1; any likelihood, and any loss as `Gibbs`.
        data: The data.
        learning_rates: η > 0 to try.
        blocks: In how many equal blocks the data come; or how many examples are given, and where each further block
            ends.
        kind: The loss: ``"randomised"``, or ``"in_model"`` for `Normal`.
        orders: In how many random orders the data are taken.
        steps: Steps of each run; this or ``epochs``.
        epochs: Passes over what has come.
        batch_size: Examples a step.
        chains: Chains of each run.
        samples: Draws of each predictive; by default as `novacula.predict` has it.
        restart: Whether each run starts at a fresh draw of the network's initialisation; False for pretrained weights.
        workers: How many runs go on at once, in processes; -1 for one on each core.
        backend: Where they are, see `novacula.core.execute`.
        progress: Called with (runs done, runs in all) after each.
        seed: Seed of everything random.

    Returns:
        The choice; ``.target`` is ready for `infer`.

    Raises:
        InputError: If a learning rate is not positive, the blocks do not fit the data, the kind does not fit the
            likelihood, or target or method have a temperature of their own.
        NonFiniteError: If a run diverges.

    Example:
        >>> from torch import nn
        >>> from novacula.inference import Laplace, MAP
        >>> from novacula.likelihoods import Normal
        >>> x = torch.linspace(-1, 1, 40).unsqueeze(1)
        >>> target = Target(nn.Linear(1, 1), likelihood=Normal(sigma=0.5))
        >>> method = Laplace("exact", optimiser=MAP(lr=0.1), check=False)
        >>> found = safe_bayes(method, target, Data(x, x), learning_rates=(1.0, 0.1), blocks=2, orders=1, steps=200)
        >>> found.learning_rate, found.target.likelihood_temperature
        (1.0, 1.0)
    """
    rates = learning_rates_of(learning_rates)
    checked(method, target, (), (seed,))
    bound, data = target.prepare(data)
    if kind not in {"randomised", "in_model"} or (kind == "in_model" and not bound.likelihood.quadratic):
        raise InputError(
            "kind='randomised', or 'in_model' for Normal",
            f"{kind!r} for {type(bound.likelihood).__name__}",
            "use kind='randomised'",
        )
    if orders < 1:
        raise InputError("at least one order of the data", str(orders), "use orders=2 or more")
    cuts = _cuts(blocks, data.n)
    length = Length(steps, epochs, batch_size, chains, restart)
    places, tasks = [], []
    for o in range(orders):
        stream = derive(seed, "order", o)
        order = torch.randperm(data.n, generator=generator(stream))
        for b, (first, last) in enumerate(pairwise(cuts)):
            seen = data.subset(order[:first])
            for r, rate in enumerate(rates):
                job = Job(method, bound, seen, length, "likelihood", 1 / rate, derive(stream, "block", b))
                places.append((r, o, order[first:last]))
                tasks.append(_Task(job, data.subset(order[first:last]), kind, samples))
    outcomes = execute.map(_forecast, tasks, workers=workers, backend=backend, progress=progress)
    losses = torch.full((len(rates), orders, data.n), math.nan, dtype=torch.float64)
    for (r, o, rows), (found, _) in zip(places, outcomes, strict=True):
        losses[r, o, rows] = found
    scores = _scores(rates, losses[:, :, ~losses.isnan().all(1).any(0)])
    chosen = min(scores, key=lambda s: s.loss.value).learning_rate
    told = [
        text
        for r, rate in enumerate(rates)
        for text in gathered(f"η = {rate:g}", [t for (i, _, _), (_, t) in zip(places, outcomes, strict=True) if i == r])
    ]
    if chosen == rates[-1] and len(rates) > 1:
        told.insert(0, f"the smallest learning rate, {chosen:g}, forecasts best: try smaller ones")
    best = tempered(bound, "likelihood", 1 / chosen)
    return SafeBayes(chosen, best, scores, kind, words(method), cuts, orders, data.n, tuple(told))


def expected_loss(posterior: Posterior, x: Tensor, y: Tensor, *, samples: int | None = None, seed: int = 0) -> Tensor:
    """``E_w[−log p(y | f(w, x))]``, the loss of a weight drawn from the posterior, ``(N,)``."""
    return drawn(posterior, x, samples=samples, seed=seed).expected_loss(y).double()


def drawn(posterior: Posterior, x: Tensor, *, samples: int | None = None, seed: int = 0) -> Predictive:
    """Predictions of networks that are drawn, or of all of them where they are Gaussian."""
    likelihood = network_target(posterior.target, "a loss").likelihood
    # The closed form of a classifier's predictive is a single output, which is no draw. A Gaussian's has its spread.
    closed = len(posterior.parts) == 1 and default_rule(likelihood) == "analytic"
    rule = "monte_carlo" if posterior.kind == "linearised" and not closed else None
    return predict(posterior, x, rule=rule, samples=samples, seed=seed)


@dataclass(frozen=True, eq=False)
class _Task:
    job: Job
    block: Data
    kind: Kind
    samples: int | None

    def __repr__(self) -> str:
        return f"η={1 / self.job.temperature:g} after {self.job.data.n} examples"


def _forecast(task: _Task) -> tuple[Tensor, tuple[str, ...]]:
    posterior, told = task.job.posterior()
    x, y = task.block.x, task.block.y
    if task.kind == "randomised":
        return expected_loss(posterior, x, y, samples=task.samples, seed=task.job.seed).cpu(), told
    predictive = predict(posterior, x, samples=task.samples, seed=task.job.seed)
    loss = -predictive.likelihood.log_prob(predictive.outputs.mean(0), predictive.labels(y))
    return loss.double().cpu(), told


def _scores(rates: Sequence[float], losses: Tensor) -> tuple[RateScore, ...]:
    # Losses of shape (rates, orders, examples), NaN where an example was given.
    found = [two_way(table) for table in losses]
    best = min(range(len(rates)), key=lambda r: found[r].value)
    return tuple(RateScore(rate, found[r], two_way(losses[r] - losses[best])) for r, rate in enumerate(rates))


def learning_rates_of(learning_rates: Sequence[float]) -> tuple[float, ...]:
    """Learning rates above zero, the largest first."""
    bad = [r for r in learning_rates if not 0 < r < math.inf]
    if bad or not learning_rates:
        raise InputError(
            "learning rates above zero", str(bad[0]) if bad else "none", "use, for instance, (1.0, 0.5, 0.25)"
        )
    return tuple(sorted({float(r) for r in learning_rates}, reverse=True))


def _cuts(blocks: int | Sequence[int], n: int) -> tuple[int, ...]:
    cuts = [round(n * b / blocks) for b in range(1, blocks + 1)] if isinstance(blocks, int) and blocks else blocks
    if isinstance(cuts, int) or len(cuts) < 2 or cuts[0] < 2 or cuts[-1] > n or any(b <= a for a, b in pairwise(cuts)):
        raise InputError(
            f"two blocks or more of the {n} examples, the first of at least two",
            f"blocks={blocks!r}",
            "use blocks=5, or for instance (20, 50, 100): how many are given, and where each further block ends",
        )
    return tuple(int(c) for c in cuts)
