"""What the folds may prefer to the evidence's prior: weights that are trained at a low temperature of the likelihood.

Laplace's evidence charges a network for all that it had to learn, at one set of weights; where networks are flexible it
asks for more prior and more noise than what predicts best. So the evidence proposes and the folds dispose here too.
Networks that are blind to a fold are trained under the first prior at the temperature T of the likelihood, which for
Gaussian noise is a noise of √T of the first one,

    log p_T(w | D) = 1/T Σ_n log p(y_n | w, x_n) + log p(w) + const,

in rounds that each take twice as long as the one before, until a round raises the loss on unseen examples by more than
its error; small ones side by side from several starts, whose mixture predicts. Where they predict better than networks
trained under what the evidence found, the final networks are trained like them. The noise is then that of the unseen
examples about these networks; precisions are solved for, under this noise, at the final weights. The evidence is not
asked for the noise there: around weights that it would not have chosen, and that know nearly every example, it hardly
depends on it, and was met to say three times what the folds showed.

References:
    How good is the Bayes posterior in deep neural networks really? F. Wenzel, K. Roth, B. Veeling, J. Świątkowski,
    L. Tran, S. Mandt, J. Snoek, T. Salimans, R. Jenatton, S. Nowozin, 2020. arXiv:2002.02405 (cold posteriors).
    Bayesian model selection, the marginal likelihood, and generalization. S. Lotfi, P. Izmailov, G. Benton,
    M. Goldblum, A. G. Wilson, 2022. arXiv:2202.11678 (that the evidence need not order models as their predictions do).
"""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from novacula.core.params import count
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.evidence.linearity import is_linear_gaussian
from novacula.inference.loop import run
from novacula.inference.starts import starts
from novacula.study.cross_fit.curve import alone
from novacula.study.cross_fit.result import CrossFit
from novacula.study.cross_fit.train import cross_fit
from novacula.study.learning.empirical_bayes import solved_at
from novacula.study.learning.hyper import Z, values_of
from novacula.study.learning.plan import Judged, Plan, Trained, contested, for_all
from novacula.study.learning.rounds import GROWTH, Best, Rounds, continued
from novacula.target import Target

COLD = 0.005
"""The temperature of the likelihood: with noise of the size of the targets to begin with, one of 7 % of it."""
MEASURE = "nats an example on unseen examples"
"""What a round gains, in words."""
MEMBERS = 4
"""Networks that are trained side by side, each from a start of its own, and averaged in predictions …"""
_UNDERFIT = (
    ". Networks under the evidence's prior and noise predict even the examples that they were trained on worse than "
    "that: they underfit"
)
_SMALL = 50_000  # … where they have so few weights that this costs little
FEW = 3_000
"""Examples up to which proposals are compared on all folds where the first one leaves doubt …"""
DOUBT = 4
"""… which is within so many standard errors."""


@dataclass(frozen=True, eq=False)
class _Cold:
    """Rounds of training at a low temperature, by networks that are blind to a fold."""

    unseen: CrossFit  # after the best round
    lengths: tuple[int, ...]  # the steps of the rounds up to that
    gain: float  # what the last round gained, nats an example
    error: float  # the error of that
    settled: bool  # whether that was less than its error


def disposed(plan: Plan, target: Target, trained: Trained, data: Data) -> Judged:
    """The training that predicts unseen examples better, the evidence's or the cold one, and what its folds say."""
    if not contested(target) or is_linear_gaussian(trained.target, trained.params, data, seed=0):
        return Judged(trained, _warm(plan, trained, data, plan.cross_fit(trained, data)))
    cold = dataclasses.replace(target, likelihood_temperature=COLD * target.likelihood_temperature)
    found = _rounds(plan, cold, trained.target, data)
    proposed = plan.cross_fit(trained, data, 1)
    gain, error = found.unseen.first(1).compare(proposed)
    if data.n <= FEW and abs(gain) <= DOUBT * error:
        proposed = plan.cross_fit(trained, data, done=proposed.networks)
        gain, error = found.unseen.compare(proposed)
    # Networks that see more data bear less prior, so that what is gained on part of them is, if anything, too little.
    if gain <= 0:
        every = len(proposed.networks) == plan.folds
        whole = proposed if every else plan.cross_fit(trained, data, done=proposed.networks)
        return Judged(trained, _warm(plan, trained, data, whole))
    kept = _whole(plan, cold, trained, data, found)
    unseen = dataclasses.replace(found.unseen, target=kept.target)
    sure = gain > 2 * error
    said = (
        "weights were trained with less prior and less noise than the evidence asks for (at a temperature of the "
        f"likelihood of {COLD:g}): the loss of networks trained so is lower on unseen examples by {gain:.3f} ± "
        f"{error:.3f} nats an example"
        f"{'; the evidence orders these networks wrongly' if sure else ', which may be chance'}"
        f"{_UNDERFIT if sure and _underfits(proposed, found.unseen) else ''}"
    )
    fewer = None
    for length in found.lengths if plan.folds > 2 else ():
        steps = max(1, round(length * (plan.folds - 1) / plan.folds * plan.fewer))
        fewer = _trained(plan, cold, trained.target, data, alone(found.unseen.folds), steps, fewer, only=1)
    return Judged(kept, dataclasses.replace(unseen, fewer=fewer), hyper=_noise(plan, unseen), said=[said])


def _underfits(proposed: CrossFit, cold: CrossFit) -> bool:
    # Whether the proposed networks, of all folds or of the first ones, predict what they have seen surely worse than
    # cold ones what they have not: each the examples of the fold before its own.
    m, turned = len(proposed.networks), (cold.folds + 1) % len(cold.networks)
    options = {"folds": turned, "members": len(proposed.members), "trained": proposed.networks, "seed": proposed.seed}
    seen = cross_fit(proposed.target, cold.data, only=m, **options)
    gain, error = dataclasses.replace(cold, folds=turned).first(m).compare(seen)
    return gain > 2 * error


def _warm(plan: Plan, trained: Trained, data: Data, unseen: CrossFit) -> CrossFit:
    # With the network of one fold.
    if plan.folds < 3:
        return unseen
    fewer = plan.cross_fit(trained, data, 1, which=alone(unseen.folds), share=plan.fewer)
    return dataclasses.replace(unseen, fewer=fewer)


def _trained(
    plan: Plan,
    cold: Target,
    target: Target,
    data: Data,
    which: int | Tensor,
    steps: int,
    latest: CrossFit | None,
    **options: Any,
) -> CrossFit:
    # A round of networks blind to a fold each, from where the latest left them.
    k = int(which.max()) + 1 if isinstance(which, Tensor) else which
    return cross_fit(
        target,
        data,
        folds=which,
        under=cold,
        seed=derive(plan.seed, "folds"),
        method=plan.method.optimiser,
        batch_size=plan.batch_size,
        steps=steps,
        starts=None if latest is None else for_all(latest.networks, k),
        **options,
    )


def _rounds(plan: Plan, cold: Target, target: Target, data: Data) -> _Cold:
    # Trained until a round gains less than its error.
    rounds = Rounds.planned(plan.method.first, plan.most_steps(data))
    members = _members(target)
    best, latest, lengths, gain, error = None, None, list[int](), math.inf, 0.0
    while not rounds.ended:
        began = time.perf_counter()
        # As many passes over its data as a network of all makes.
        steps = max(1, round(rounds.length * (plan.folds - 1) / plan.folds))
        latest = _trained(plan, cold, target, data, plan.folds, steps, latest, members=members)
        if best is not None:
            gain, error = latest.compare(best)
        # Networks that see more data overfit later: a round that cannot be told from the best is kept.
        if gain > -error:
            best = latest
            lengths.append(rounds.length)
        spent = time.perf_counter() - began
        rounds = rounds.spent(spent)
        left = math.inf if plan.method.seconds is None else plan.method.seconds - rounds.seconds
        rounds = dataclasses.replace(rounds, cut=left < GROWTH * spent)
        rounds = rounds.next(rounds.began + rounds.length, gain > -error)
    assert best is not None
    return _Cold(best, tuple(lengths), gain, error, settled=gain <= error and not rounds.cut)


def _members(target: Target) -> int:
    return MEMBERS if count(target.params()) <= _SMALL else 1


def _whole(plan: Plan, cold: Target, trained: Trained, data: Data, found: _Cold) -> Trained:
    # The final network, its prior and noise solved for at its weights, and its evidence.
    began = time.perf_counter()
    history, steps = list[dict[str, float]](), 0
    start = starts(cold, _members(cold), derive(plan.seed, "members"))
    for i, length in enumerate(found.lengths):
        seed = derive(plan.seed, "cold", i)
        how: dict[str, Any] = {"start": start, "trained": i > 0, "steps": length, "seed": seed}
        outcome = run(plan.method.optimiser, cold, data, batch_size=plan.batch_size, **how)
        start = outcome.state.points
        history = continued(history, outcome.history)
        steps += length
    params = {k: w[0] for k, w in start.items()}
    first = dataclasses.replace(cold, likelihood_temperature=trained.target.likelihood_temperature)
    said = {"gain": found.gain, "error": found.error, "rounds": len(found.lengths) + 1, "measure": MEASURE}
    best = dataclasses.replace(Best.none(params, {}, data.n), **said)
    if "likelihood" in plan.method.learn:
        first = with_noise_of(found.unseen, first)
    _, fitted, best = solved_at(plan.method.without("likelihood"), first, params, data, best)
    ended = time.perf_counter()
    evidence = trained.estimator(fitted, data, params, seed=derive(plan.seed, "score"))
    rounds = dataclasses.replace(trained.state.rounds, settled=found.settled)
    return dataclasses.replace(
        trained,
        target=fitted,
        params=params,
        members=start,
        state=dataclasses.replace(trained.state, hyper=best.hyper, best=best, rounds=rounds),
        history=history,
        steps=steps,
        evidence=evidence,
        temperature=COLD,
        seconds={
            "train": trained.seconds["train"] + ended - began,
            "score": trained.seconds["score"] + time.perf_counter() - ended,
        },
    )


def with_noise_of(unseen: CrossFit, target: Target) -> Target:
    """The target with the noise that makes the unseen examples most likely under the networks' mixture.

    Returns:
        The target. Noise of several outputs has the proportions of the squared errors of the networks' mean.
    """
    y, likelihood = unseen.data.y, target.likelihood
    sigma = likelihood.log_noise(y.shape[1]).detach().exp()
    squares = (y - unseen.members.mean(0).to(y)).double().square().mean(0)
    ratio = (squares if sigma.ndim else squares.mean()).sqrt() / sigma
    ratio = ratio.clamp(min=torch.finfo(sigma.dtype).tiny).expand(y.shape[1])
    target = dataclasses.replace(target, likelihood=likelihood.in_units(ratio))
    return target.calibrated(dataclasses.replace(unseen, target=target).temperature)


def _noise(plan: Plan, unseen: CrossFit) -> dict[str, dict[str, Any]]:
    # The noise as a hyperparameter: at the maximum of what unseen examples say.
    if "likelihood" not in plan.method.learn:
        return {}
    half = Z * unseen.temperature_stderr / (2 * unseen.temperature)  # of the logarithm of σ
    known = math.isfinite(half)
    return {
        name: {
            "value": value,
            "interval": [value * math.exp(-half), value * math.exp(half)] if known else None,
            "gradient": 0.0,
            "stderr": 0.0,
            "converged": known,
        }
        for name, value in values_of(unseen.target, unseen.data)["noise"].items()
    }
