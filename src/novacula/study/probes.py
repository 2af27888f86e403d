"""What a kind of network prefers, by tasks whose rule is known: how probable it is, and whether training finds it.

For a task, a kind of network and a split of all words:

- how probable it is that a random network gives all answers of the training words (`nv.evidence.Counting` with many
  last layers, and `Splitting` where too few fit to be counted);
- how often a network that is trained on them by Adam on minibatches, without decay, gives them all;
- of the other words, the share of answers that random networks which fit (the posterior) and trained networks have
  right, and how often a network has all of them right: whether it found the rule.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_fields, check_whole
from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.estimate import Estimate
from novacula.core.params import stack
from novacula.core.rng import derive, global_draws
from novacula.data.data import Data
from novacula.evidence.fitting.counting import Counting
from novacula.evidence.fitting.splitting import Splitting
from novacula.functions.probes.networks import NETWORKS, network
from novacula.functions.probes.tasks import SPLITS, TASKS, probe, split
from novacula.functions.result import Interval, mean_interval, share
from novacula.inference.infer import infer
from novacula.inference.optimising.ensemble import Ensemble
from novacula.inference.optimising.map import MAP
from novacula.likelihoods import Bernoulli
from novacula.priors import FanIn
from novacula.priors.base import Prior
from novacula.target import Target
from novacula.target.many import outputs

_ENOUGH = 20  # independent fits that are counted, with which nothing else is needed
_COLD = 1e-4  # likelihood's temperature at which the prior of a network that is trained plays no part


@dataclass(frozen=True)
class Effort:
    """What may be spent on each task, network and split.

    Args:
        bits: Bits of a word, an even number.
        width: Units of each hidden layer.
        draws: Networks that are counted.
        heads: How many of them share all layers but the last.
        splitting: Where counting is not enough, and for networks that fit.
        members: Networks that are trained.
        steps: Steps that each is trained for, with ``batch`` words a step.
        batch: Words a step.
        lr: Adam's peak learning rate.
        prior: Prior of the random networks; trained ones start as PyTorch initialises them.
    """

    bits: int = 4
    width: int = 32
    draws: int = 1_000_000
    heads: int = 100
    splitting: Splitting = field(default_factory=lambda: Splitting(particles=100, attempts=1, steps=100))
    members: int = 20
    steps: int = 1_000
    batch: int = 8
    lr: float = 0.01
    prior: Prior = field(default_factory=lambda: FanIn(sigma_w=math.sqrt(2), sigma_b=0.5))

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("members", "steps", "batch"):
            check_whole(name, getattr(self, name))


@dataclass(frozen=True)
class Probed:
    """What was found of one task, network and split. Numbers come with 95 % intervals; None where there is none.

    Attributes:
        task: The task.
        network: The kind of network.
        split: How words were split.
        trained_on: How many words had to be answered.
        log10: Of the probability that a random network answers them; where none was found, a bound from above.
        kind: ``"estimate"`` or ``"upper bound"``.
        by: Which estimator said so.
        fitted: The share of trained networks that answer them.
        random_right: Share of the other answers that random networks which fit have right; its interval is that of
            populations.
        random_rule: How often such a network has all of them right.
        trained_right: The same share, of trained networks that fit.
        trained_rule: How often such a network has all of them right.
        said: Warnings and refusals.
    """

    task: str
    network: str
    split: str
    trained_on: int
    log10: Interval | None = None
    kind: str = ""
    by: str = ""
    fitted: Interval | None = None
    random_right: Interval | None = None
    random_rule: Interval | None = None
    trained_right: Interval | None = None
    trained_rule: Interval | None = None
    said: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; intervals as lists of value, low and high."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def of(cls, values: dict[str, Any]) -> Probed:
        """Undo `to_dict`."""
        known = {k: Interval(*v) if isinstance(v, list) and k != "said" else v for k, v in values.items()}
        return cls(**{**known, "said": tuple(values["said"])})


def probes(
    tasks: Sequence[str] = tuple(TASKS),
    networks: Sequence[str] = tuple(NETWORKS),
    splits: Sequence[str] = SPLITS,
    *,
    effort: Effort | None = None,
    seed: int = 0,
    done: Sequence[Probed] = (),
    told: Callable[[list[Probed], int], None] | None = None,
) -> list[Probed]:
    """Probe kinds of networks by tasks.

    Args:
        tasks: Names among `novacula.functions.probes.TASKS`.
        networks: Names among `novacula.functions.probes.NETWORKS`.
        splits: ``"all"``, ``"random"``, ``"odd"`` and ``"inside"``.
        effort: What may be spent on each.
        seed: Of everything random; a combination's results do not depend on which others are asked for.
        done: What was found before, with the same effort and seed, and is not sought again.
        told: Called after each with what is known so far and how many there are.

    Returns:
        A row for each combination, in the order of tasks, networks and splits.

    Raises:
        InputError: If a name is unknown.
    """
    effort = effort or Effort()
    cells = [(t, n, s) for t in tasks for n in networks for s in splits]
    for t, n, s in cells:  # before hours are spent
        split(probe(t, effort.bits), s)
        network(n, effort.bits, 1, width=1)
    known = {(p.task, p.network, p.split): p for p in done}
    found: list[Probed] = []
    for cell in cells:
        found.append(known[cell] if cell in known else _probed(*cell, effort, derive(seed, *cell)))
        if told is not None:
            told(found, len(cells))
    return found


def _probed(name: str, kind: str, how: str, effort: Effort, seed: int) -> Probed:
    task = probe(name, effort.bits)
    train, test = split(task, how, seed=seed)
    with global_draws(seed=derive(seed, "network")):
        net = network(kind, effort.bits, task.y.shape[1], width=effort.width)
    target = Target(net, prior=effort.prior, likelihood=Bernoulli())
    row = {"task": name, "network": kind, "split": how, "trained_on": len(train)}
    try:
        target, data = target.prepare(Data(task.x[train], task.y[train], task="multilabel"))
    except InputError as error:  # the same answer to all words, say
        return Probed(**row, said=(str(error),))
    asked = (task.x[test], task.y[test])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NovaculaWarning)  # of draws as such; estimates carry their own
        estimate, random = _random(target, data, asked, effort, seed)
        fitted, trained = _trained(target, data, asked, effort, seed)
    said = estimate.warnings
    if estimate.kind == "upper bound" and fitted.value == 0:
        spent = f"{effort.splitting.steps} levels of splitting or {effort.steps:,} steps of training"
        said = (f"cannot be fitted within {spent}", *said)
    value, half = float(estimate) / math.log(10), 1.96 * estimate.stderr / math.log(10)
    return Probed(
        **row,
        log10=Interval(value, value - half, value + half),
        kind=estimate.kind,
        by=estimate.estimator,
        fitted=fitted,
        random_right=random[0],
        random_rule=random[1],
        trained_right=trained[0],
        trained_rule=trained[1],
        said=said,
    )


_Pair = tuple[Interval | None, Interval | None]


def _random(
    target: Target, data: Data, asked: tuple[Tensor, Tensor], effort: Effort, seed: int
) -> tuple[Estimate, _Pair]:
    # How probable a fit is, and what networks that fit say of other words.
    counted = Counting(effort.draws, effort.heads)(target, data, seed=derive(seed, "counting"))
    enough = counted.kind == "estimate" and counted.parts["effective"] >= _ENOUGH
    if enough and not len(asked[0]):
        return counted, (None, None)
    split_, post = effort.splitting.fit(target, data, seed=derive(seed, "splitting"))
    sure = enough or (counted.kind == "estimate" and split_.kind == "upper bound")
    best = counted if sure else split_
    if split_.kind == "upper bound" or not len(asked[0]):
        return best, (None, None)
    chains = len(next(iter(post.chains.values())))
    right = _right(target, {k: w.flatten(0, 1) for k, w in post.chains.items()}, *asked).unflatten(0, (chains, -1))
    # Of each population one number: its networks have few ancestors.
    return best, (mean_interval(right.mean((1, 2))), mean_interval((right == 1).all(2).double().mean(1)))


def _trained(
    target: Target, data: Data, asked: tuple[Tensor, Tensor], effort: Effort, seed: int
) -> tuple[Interval, _Pair]:
    cold = Target(target.network, prior=effort.prior, likelihood=Bernoulli(), likelihood_temperature=_COLD)
    method = Ensemble(MAP(lr=effort.lr), members=effort.members, start="fresh")
    options: dict[str, Any] = {"steps": effort.steps, "batch_size": effort.batch, "seed": derive(seed, "training")}
    weights = stack([part.mode for part in infer(method, cold, data, **options).parts])
    fits = (_right(target, weights, data.x, data.y) == 1).all(1)
    found = share(int(fits.sum()), effort.members)
    if not bool(fits.any()) or not len(asked[0]):
        return found, (None, None)
    right = _right(target, {k: w[fits] for k, w in weights.items()}, *asked)
    return found, (mean_interval(right.mean(1)), share(int((right == 1).all(1).sum()), len(right)))


def _right(target: Target, weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    # The share of each word's answers that each network has right, (M, N); outputs of exactly zero are wrong.
    f = outputs(target, weights, x)
    return (torch.where(y > 0, f, -f) > 0).double().mean(2)
