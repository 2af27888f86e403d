"""`calibrated_rate`: the learning rate with which credible intervals cover as often as they say, by the bootstrap.

Where a model is wrong, its posterior ``∝ p(w) Π_n p(y_n | w)^η`` at η = 1 may be too narrow or too wide for what it
estimates. Generalised posterior calibration takes the data for the truth: of data drawn from them with replacement, the
posterior's central intervals should hold the estimate by the data themselves with the probability that they claim,

    c(η) = P*( f̂(x) ∈ C_η(x; D*) ),    f̂ the posterior mean of the output by D,    c(η) = level.

Intervals shrink as η grows, and c falls. Here f is the network's prediction (means, or class probabilities) at given
inputs, as weights have no meaning of their own, and c is averaged over inputs and outputs. A Gaussian mean with an
assumed variance σ² where the data have s² has η = σ²/s²: the rate repairs the noise. `safe_bayes` asks another
question, which η forecasts best; the two need not agree.

References:
    Calibrating general posterior credible regions. N. Syring, R. Martin, 2019. arXiv:1509.00922.
    A comparison of learning rate selection methods in generalized Bayesian inference. P.-S. Wu, R. Martin, 2020.
        arXiv:2012.11349.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core import execute
from novacula.core.brief import brief
from novacula.core.checks.numbers import check_whole, check_within
from novacula.core.execute import Backend, Progress
from novacula.core.rng import derive, generator
from novacula.core.text import markdown
from novacula.data.data import Data
from novacula.study.temperature.runs import Job, Length, MethodAt, checked, tempered
from novacula.study.temperature.safe_bayes import drawn, learning_rates_of
from novacula.target import Target

RATES = (4.0, 2.0, 1.0, 0.5, 0.25, 0.125)
_INPUTS = 100


@dataclass(frozen=True, eq=False)
class CalibratedRate:
    """A learning rate whose intervals cover.

    Args:
        learning_rate: Where the coverage is ``level``, between those tried by the logarithm; the end of them beyond.
        target: The target with ``likelihood_temperature = 1/η``.
        rates: Those tried, the largest first.
        coverage: Of each, with its standard error over the samples of the bootstrap.
        level: What was asked for.
        warnings: Reservations a reader must know.
    """

    learning_rate: float
    target: Target
    rates: tuple[float, ...]
    coverage: tuple[tuple[float, float], ...]
    level: float
    warnings: tuple[str, ...] = ()

    __repr__ = brief

    def table(self) -> str:
        """Coverage by learning rate.

        Returns:
            A table in Markdown.
        """
        rows = [(f"{r:g}", f"{c:.3f} ± {e:.3f}") for r, (c, e) in zip(self.rates, self.coverage, strict=True)]
        return markdown(("η", f"coverage, {self.level:g} asked for"), "rl", rows)


def calibrated_rate(
    method: MethodAt,
    target: Target,
    data: Data,
    *,
    learning_rates: Sequence[float] = RATES,
    level: float = 0.9,
    samples: int = 20,
    at: Tensor | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int = 128,
    chains: int = 1,
    restart: bool = True,
    workers: int = 1,
    backend: Backend = "loky",
    progress: Progress | None = None,
    seed: int = 0,
) -> CalibratedRate:
    """Choose the learning rate of a generalised posterior by the coverage of its credible intervals.

    Args:
        method: Any method; or a function that gives one for a likelihood's temperature ``1/η``.
        target: The target, at temperature 1; any likelihood, and any loss as `Gibbs`.
        data: The data.
        learning_rates: η > 0 to try.
        level: The coverage asked for, between 0 and 1.
        samples: Data sets drawn of the data with replacement; each takes a run at every η.
        at: Inputs at which predictions are covered, ``(M, …)``; by default the first hundred of the data.
        steps: Steps of each run; this or ``epochs``.
        epochs: Passes over the data.
        batch_size: Examples a step.
        chains: Chains of each run.
        restart: Whether each run starts at a fresh draw of the network's initialisation; False for pretrained weights.
        workers: How many runs go on at once, in processes; -1 for one on each core.
        backend: Where they are, see `novacula.core.execute`.
        progress: Called with (runs done, runs in all) after each.
        seed: Seed of everything random.

    Returns:
        The choice; ``.target`` is ready for `infer`.

    Raises:
        InputError: If a learning rate or the level is out of range, there are fewer than two samples, or target or
            method have a temperature of their own.
        NonFiniteError: If a run diverges.

    Example:
        >>> from torch import nn
        >>> from novacula.inference import Laplace, MAP
        >>> from novacula.likelihoods import Normal
        >>> x = torch.linspace(-1, 1, 40).unsqueeze(1)
        >>> target = Target(nn.Linear(1, 1), likelihood=Normal(sigma=0.5))
        >>> method = Laplace("exact", optimiser=MAP(lr=0.1), check=False)
        >>> noisy = Data(x, x + torch.randn(40, 1, generator=generator(0)))
        >>> found = calibrated_rate(method, target, noisy, learning_rates=(1.0, 0.1), samples=3, steps=100)
        >>> found.coverage[0][0] < found.coverage[1][0]  # the noise is twice as large as the model says
        True
    """
    rates = learning_rates_of(learning_rates)
    checked(method, target, (), (seed,))
    check_within("level", level)
    check_whole("samples", samples, least=2)
    bound, data = target.prepare(data)
    x = data.x[:_INPUTS] if at is None else at.to(data.x)
    length = Length(steps, epochs, batch_size, chains, restart)
    tasks = []
    for b in range(samples + 1):  # the first are the data themselves
        rows = torch.randint(data.n, (data.n,), generator=generator(seed, "bootstrap", b))
        sample = data.subset(rows) if b else data
        tasks += [
            _Task(Job(method, bound, sample, length, "likelihood", 1 / rate, derive(seed, "run")), x, level)
            for rate in rates
        ]
    found = execute.map(_interval, tasks, workers=workers, backend=backend, progress=progress)
    estimates, coverage = [f.mean for f in found[: len(rates)]], []
    for r in range(len(rates)):
        others, own = found[len(rates) + r :: len(rates)], estimates[r]
        each = torch.stack([((f.low <= own) & (own <= f.high)).double().mean() for f in others])
        coverage.append((float(each.mean()), float(each.std()) / math.sqrt(samples)))
    rate, told = _crossing(rates, [c for c, _ in coverage], level)
    return CalibratedRate(rate, tempered(bound, "likelihood", 1 / rate), rates, tuple(coverage), level, told)


@dataclass(frozen=True, eq=False)
class _Task:
    job: Job
    x: Tensor
    level: float

    def __repr__(self) -> str:
        return f"η={1 / self.job.temperature:g}"


@dataclass(frozen=True, eq=False)
class _Interval:
    mean: Tensor
    low: Tensor
    high: Tensor


def _interval(task: _Task) -> _Interval:
    # Central intervals of the prediction at each input, noise not included, (N, C).
    found, tail = drawn(task.job.posterior()[0], task.x, seed=task.job.seed), (1 - task.level) / 2
    if found.covariance is None:
        each = found.samples.double()
        low, high = (each.quantile(q, dim=0) for q in (tail, 1 - tail))
        return _Interval(each.mean(0), low, high)
    mean, sd = found.mean().double(), found.covariance.diagonal(dim1=1, dim2=2).double().sqrt()
    reach = float(torch.special.ndtri(torch.tensor(1 - tail).double())) * sd
    return _Interval(mean, mean - reach, mean + reach)


def _crossing(rates: Sequence[float], coverage: Sequence[float], level: float) -> tuple[float, tuple[str, ...]]:
    # Where coverage, which rises as the rates fall, reaches the level: between two by the logarithm.
    if coverage[0] >= level:
        return rates[0], (f"the largest learning rate, {rates[0]:g}, covers {coverage[0]:.2f}: try larger ones",)
    for i in range(1, len(rates)):
        if coverage[i] >= level:
            share = (level - coverage[i - 1]) / (coverage[i] - coverage[i - 1])
            return math.exp((1 - share) * math.log(rates[i - 1]) + share * math.log(rates[i])), ()
    told = f"the smallest learning rate, {rates[-1]:g}, covers {coverage[-1]:.2f} alone: try smaller ones"
    return rates[-1], (told,)
