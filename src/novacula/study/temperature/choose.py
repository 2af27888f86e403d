"""`choose_temperature`: the temperature by the training data alone.

Each training example is predicted by the posterior without it, at every temperature, and T = 1 stays unless another
temperature gains more than two paired standard errors. How that is done without refitting depends on the posterior:

- of draws (samplers; chains together), by importance sampling (`novacula.diagnostics.loo`): the likelihood has the
  power ``1/T`` in the weights and not in the score. Pareto's k tells where it fails, which it does soonest at low
  temperatures: there one example's likelihood counts more. A temperature at which more than one example in twenty has
  too large a k is not trusted, and where T = 1 itself is not, T = 1 stays;
- Laplace's, by one Newton step from the fitted weights (`novacula.posteriors.leave_one_out.newton`), as
  `novacula.prediction.choose` does for structure and temperature together.

A point estimate or an ensemble of them has nothing that a temperature could widen, and an approximation that is only
sampled (SWAG, mean field) is no posterior that weights would correct; both are refused.

References:
    Practical Bayesian model evaluation using leave-one-out cross-validation and WAIC. A. Vehtari, A. Gelman, J. Gabry,
    2017. arXiv:1507.04544.
    How good is the Bayes posterior in deep neural networks really? F. Wenzel et al., 2020. arXiv:2002.02405.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from novacula.core import execute
from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.core.execute import Backend, Progress
from novacula.core.rng import generator
from novacula.core.storage.plain import record
from novacula.core.text import markdown
from novacula.data.data import Data
from novacula.diagnostics.crossed_mean import Mean, two_way
from novacula.diagnostics.loo import psis_loo
from novacula.posteriors.base import Posterior, network_target
from novacula.study.temperature.runs import Job, Length, MethodAt, Which, checked, gathered, tempered, words
from novacula.target import Target
from novacula.target.copies import member_outputs

Criterion: TypeAlias = Literal["psis-loo", "leave-one-out"]
TEMPERATURES = (0.1, 0.3, 1.0, 3.0)
MOST_BAD = 0.05
"""The share of examples with too large a k above which a temperature is not trusted."""
WORTH = 1e-3
"""The least gain, in nats an example, for which T = 1 is given up."""
_DRAWS = 2_000  # of one posterior, that each example's density is computed at


@dataclass(frozen=True)
class TemperatureScore:
    """What leave-one-out says of one temperature."""

    temperature: float  # T
    elpd: Mean  # the mean log predictive density of an example by the others, nats
    gain: Mean  # how much more that is than at T = 1, example by example and seed by seed
    bad: float  # the share of examples whose score is not to be believed
    trusted: bool  # whether that share is small enough

    @property
    def better(self) -> bool:
        """Whether it is trusted, and gains more than two paired standard errors (or their equivalent)."""
        return self.trusted and self.gain.value > max(self.gain.reach, WORTH)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; what is not known is None."""
        means = {"elpd": self.elpd.value, "stderr": self.elpd.stderr}
        means |= {"gain": self.gain.value, "gain_stderr": self.gain.stderr}
        return record(self, "temperature", "bad", "trusted", "better", **means)


@dataclass(frozen=True, eq=False)
class TemperatureChoice:
    """A temperature that was chosen, and why.

    Args:
        temperature: T.
        which: What it tempers.
        target: The target at that temperature.
        scores: All temperatures in order.
        criterion: How examples were left out.
        reason: The choice in words.
        method: The method, in words.
        n: Examples that were left out, each in turn.
        warnings: Reservations a reader must know.
    """

    temperature: float
    which: Which
    target: Target
    scores: tuple[TemperatureScore, ...]
    criterion: Criterion
    reason: str
    method: str
    n: int
    warnings: tuple[str, ...] = ()

    __repr__ = brief

    def table(self) -> str:
        """The scores as text.

        Returns:
            A table in Markdown.
        """
        rows = [(f"{s.temperature:g}", f"{s.elpd:.4f}", f"{s.gain:.4f}", f"{s.bad:.0%}") for s in self.scores]
        return markdown(("T", "elpd an example", "above T = 1", "not believable"), "rllr", rows)

    def to_dict(self) -> dict[str, Any]:
        """The choice as plain JSON values; what is not known is None.

        Returns:
            Everything but the target.
        """
        names = ("temperature", "which", "criterion", "reason", "method", "n", "warnings")
        return record(self, *names, study="choose_temperature", scores=[s.to_dict() for s in self.scores])


def choose_temperature(
    method: MethodAt,
    target: Target,
    data: Data,
    *,
    temperatures: Sequence[float] = TEMPERATURES,
    which: Which = "posterior",
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int = 128,
    chains: int = 4,
    seeds: Sequence[int] = (0, 1, 2),
    examples: int = 1_000,
    restart: bool = True,
    workers: int = 1,
    backend: Backend = "loky",
    progress: Progress | None = None,
) -> TemperatureChoice:
    """Choose a temperature without validation data.

    Args:
        method: A sampler or `Laplace`; or a function that gives one for a temperature. See
            `novacula.study.temperature.runs` for step sizes.
        target: The target, at temperature 1, with a likelihood that is a density.
        data: The training data.
        temperatures: T > 0; 1 is always among them.
        which: Whether the whole ``"posterior"`` is tempered, or the ``"likelihood"`` alone.
        steps: Steps of each run; this or ``epochs``.
        epochs: Passes over the data.
        batch_size: Examples a step.
        chains: Chains of each run, which make one posterior.
        seeds: One run each at every temperature; their spread is in the errors. For Laplace with ``which="posterior"``
            there is one fit for each seed and all temperatures.
        examples: At most this many examples are left out, for Laplace.
        restart: Whether each seed starts at a fresh draw of the network's initialisation; False for pretrained weights.
        workers: How many runs go on at once, in processes; -1 for one on each core.
        backend: Where they are, see `novacula.core.execute`.
        progress: Called with (runs done, runs in all) after each.

    Returns:
        The choice; ``.target`` is ready for `infer`.

    Raises:
        InputError: If the loss is no density, the posterior is neither of draws nor Laplace's, target or method have a
            temperature of their own, or a temperature is not positive.
        NonFiniteError: If a run diverges.

    Example:
        >>> from torch import nn
        >>> from novacula.inference import Laplace, MAP
        >>> from novacula.likelihoods import Normal
        >>> x = torch.linspace(-1, 1, 20).unsqueeze(1)
        >>> target = Target(nn.Linear(1, 1), likelihood=Normal(sigma=0.5))
        >>> found = choose_temperature(Laplace("exact", optimiser=MAP(lr=0.1)), target, Data(x, x), steps=200)
        >>> found.criterion, [s.temperature for s in found.scores]
        ('leave-one-out', [0.1, 0.3, 1.0, 3.0])
    """
    wanted = checked(method, target, temperatures, seeds)
    tempered(target, which, 1.0)
    bound, data = target.prepare(data)
    if not bound.likelihood.normalised:
        raise InputError(
            "a likelihood with a normalised density",
            f"the loss {bound.likelihood.loss!r}",
            "use safe_bayes, which sums the loss itself",
        )
    length = Length(steps, epochs, batch_size, chains, restart)
    # Every run answers for as many temperatures as it can: a fit of Laplace's for all of them.
    tasks = [_Task(Job(method, bound, data, length, which, 1.0, seed), wanted, examples) for seed in seeds]
    first = execute.map(_leave_out, tasks, workers=workers, backend=backend, progress=progress)
    found: dict[float, list[_LeftOut]] = {t: [f.at[t] for f in first] for t in wanted if t in first[0].at}
    told = gathered("T = 1", [f.told for f in first])
    rest = [t for t in wanted if t not in found]
    tasks = [_Task(Job(method, bound, data, length, which, t, seed), (t,), examples) for t in rest for seed in seeds]
    others = execute.map(_leave_out, tasks, workers=workers, backend=backend, progress=progress)
    for i, t in enumerate(rest):
        part = others[i * len(seeds) : (i + 1) * len(seeds)]
        found[t] = [f.at[t] for f in part]
        told += gathered(f"T = {t:g}", [f.told for f in part])
    if len(seeds) == 1:
        told.insert(0, "one seed: the errors do not hold the spread over runs (use seeds=(0, 1, 2))")
    return _choose(found, bound, which, first[0].criterion, words(method), told)


@dataclass(frozen=True, eq=False)
class _Task:
    job: Job
    temperatures: tuple[float, ...]
    examples: int

    def __repr__(self) -> str:
        return repr(self.job)


@dataclass(frozen=True, eq=False)
class _LeftOut:
    """Log-densities of examples by the others, shape ``(N,)``, and how many are not to be believed."""

    pointwise: Tensor
    bad: float


@dataclass(frozen=True, eq=False)
class _Outcome:
    at: dict[float, _LeftOut]
    criterion: Criterion
    told: tuple[str, ...]


def _leave_out(task: _Task) -> _Outcome:
    posterior, told = task.job.posterior()
    own = task.job.temperature
    if posterior.size is not None and all(p.kind == "mixture" for p in posterior.parts):
        return _Outcome({own: _by_importance(task.job, posterior.parts)}, "psis-loo", told)
    if posterior.kind == "linearised":
        # The likelihood's temperature moves the mode: there is a fit for each.
        temperatures = (1.0,) if task.job.which == "likelihood" else task.temperatures
        found = _by_step(task, posterior, temperatures)
        at = (own,) if task.job.which == "likelihood" else temperatures
        return _Outcome(dict(zip(at, found, strict=True)), "leave-one-out", told)
    raise _refusal(posterior)


def _by_importance(job: Job, parts: Sequence[Posterior]) -> _LeftOut:
    target = network_target(parts[0].target, "a temperature")
    rows = []
    for part in parts:
        weights = part.sample(min(part.size or _DRAWS, _DRAWS // len(parts)), generator(job.seed, "draws"))
        f = member_outputs(target, weights, job.data.x, copies=target.copies.predict, seed=job.seed)
        rows += [target.likelihood.log_prob(one, job.data.y) for one in f]
    found = psis_loo(torch.stack(rows), job.temperature)
    return _LeftOut(found.pointwise.cpu(), found.bad / len(found.k))


def _by_step(task: _Task, posterior: Posterior, temperatures: Sequence[float]) -> list[_LeftOut]:
    scores: list[list[Tensor]] = []
    bad = 0.0
    for part in posterior.parts:
        # The same examples for all seeds, as their scores are paired.
        without = part.leave_one_out(task.job.data, seed=0, examples=task.examples)
        if without is None:
            raise _refusal(posterior)
        scores.append([without.log_prob(t).double().cpu() for t in temperatures])
        bad = max(bad, 0.0 if without.believable else 1.0)
    n = min(len(s[0]) for s in scores)
    mixed = [
        torch.stack([part[:n] for part in at]).logsumexp(0) - math.log(len(at)) for at in zip(*scores, strict=True)
    ]
    return [_LeftOut(one, bad) for one in mixed]


def _choose(
    found: dict[float, list[_LeftOut]], target: Target, which: Which, criterion: Criterion, method: str, told: list[str]
) -> TemperatureChoice:
    n = min(len(one.pointwise) for runs in found.values() for one in runs)
    tables = {t: torch.stack([one.pointwise[:n] for one in runs]) for t, runs in found.items()}
    scores = []
    for t in sorted(found):
        bad = sum(one.bad for one in found[t]) / len(found[t])
        scores.append(TemperatureScore(t, two_way(tables[t]), two_way(tables[t] - tables[1.0]), bad, bad <= MOST_BAD))
    bayes = next(s for s in scores if s.temperature == 1)
    doubted = [s.temperature for s in scores if not s.trusted]
    if doubted:
        told.insert(0, f"{_why(criterion)} at T = {', '.join(f'{t:g}' for t in doubted)}")
    best = max((s for s in scores if s.better), key=lambda s: s.gain.value, default=bayes) if bayes.trusted else bayes
    reason = _reason(best, bayes, scores, criterion)
    chosen = tempered(target, which, best.temperature)
    return TemperatureChoice(best.temperature, which, chosen, tuple(scores), criterion, reason, method, n, tuple(told))


def _reason(best: TemperatureScore, bayes: TemperatureScore, scores: list[TemperatureScore], criterion: str) -> str:
    if not bayes.trusted:
        return f"T = 1 stays, as nothing can be held against it: {_why(criterion)}"
    if best is not bayes:
        return (
            f"T = {best.temperature:g}: better than T = 1 by {best.gain:.4f} nats an "
            "example, each predicted without itself"
        )
    rivals = [s for s in scores if s is not bayes and s.trusted]
    if not rivals:
        return "T = 1 stays: no other temperature could be judged"
    rival = max(rivals, key=lambda s: s.gain.value)
    return (
        f"T = 1 stays: the closest is T = {rival.temperature:g}, better by {rival.gain:.4f} nats "
        "an example, each predicted without itself"
    )


def _why(criterion: str) -> str:
    if criterion == "psis-loo":
        return f"more than {MOST_BAD:.0%} of the examples have too much influence for importance sampling (Pareto k)"
    return "too many examples have too much influence on their own predictions, or no exact curvature is affordable"


def _refusal(posterior: Posterior) -> InputError:
    name = type(posterior.parts[0]).__name__
    got = f"a {name}" if len(posterior.parts) == 1 else f"a mixture of {name}s"
    return InputError("a posterior of draws, or Laplace's", got, "use a sampler, or nv.Laplace()")
