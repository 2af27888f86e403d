"""What the folds say of an invariance: its extents, whether it is needed, and whether it is kept.

Networks that are blind to a fold each propose extents (`novacula.study.learning.blind`). Networks that are trained
alike, without any transformation, predict the same examples: an invariance whose loss is above that of none by more
than a standard error is dropped, so that the result is never knowingly worse than without. Then each transformation is
tried by itself (`novacula.study.learning.each`): none of it, twice its extent, or an extent that people use where there
was none. What gains, or is simpler and no worse, is taken up where the other folds confirm it; the networks go on with
it, and are asked again, until nothing more is gained. The final network is trained on everything at the extents that
are left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from novacula.core.params import Params
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.diagnostics.crossed_mean import nested
from novacula.invariances.base import Invariance
from novacula.invariances.measured import unit_of, within
from novacula.study.cross_fit.result import CrossFit
from novacula.study.learning import each
from novacula.study.learning.apart import as_apart, spanning
from novacula.study.learning.blind import BlindScore
from novacula.study.learning.empirical_bayes import ETA
from novacula.study.learning.hyper import moved
from novacula.study.learning.plan import Judged, Plan, Proposal, Trained
from novacula.study.learning.rounds import continued
from novacula.study.learning.tempered import DOUBT, MEASURE
from novacula.target import Target

_FEW = 600  # examples up to which every proposal is tried on all folds, and not on one
_LOOKS = 2  # how often the extents may change by what the folds say


def judged(plan: Plan, target: Target, data: Data) -> Judged:
    """Learn extents by the folds, judge every transformation, and train a network on everything."""
    proposal = plan.propose(target, data)
    best, only = proposal.unseen, None if data.n <= _FEW else 1
    none = dataclasses.replace(target, invariance=None)
    without = _without(plan, none, proposal, data, only)
    gain, stderr = gain_of(best, without, only)
    fixed = "invariance" not in plan.method.learn
    tried, said = invariance_of(best), [] if fixed else _stayed(proposal)
    whole: tuple[float, float] | None = (gain, stderr)
    if gain < -stderr:
        said.append(
            "the transformations were dropped: networks trained without them predict unseen examples better, by "
            f"{-gain:.4f} ± {stderr:.4f} nats an example"
        )
        tried = dataclasses.replace(tried, eta=torch.zeros_like(tried.eta))  # type: ignore[type-var]
        best, whole = plan.blind(none, data, best.folds, without.networks, steps=proposal.steps), None
    found = _refined(plan, proposal, best, tried, data, only, whole, without.networks)
    kept = found.best.target.invariance
    trained = _with(plan.train(dataclasses.replace(target, invariance=kept), data, still=True), proposal, found)
    # The folds' networks went another way than the final one: to its extents late, or less far where more steps gain.
    other = found.best is not best or found.more[0] > found.more[1]
    steps = trained.steps if other else proposal.steps
    fewer = plan.one_fold(found.best.target, data, best.folds, steps)
    again = other and fewer is not None
    anew = plan.blind(found.best.target, data, best.folds, only=1, steps=steps) if again else None
    unseen = dataclasses.replace(found.best, target=trained.target, fewer=fewer, anew=anew)
    moving = invariance_of(proposal.unseen).names if proposal.short or not proposal.moves else found.moving
    hyper = {} if kept is None or fixed else _hyper(plan, found, moving, data, proposal.apart)
    return Judged(trained, unseen, found.verdicts, hyper, said)


def _without(plan: Plan, none: Target, proposal: Proposal, data: Data, only: int | None) -> CrossFit:
    # Networks without any transformation. They soon know what they see, and gain little by more: they take half the
    # steps and, unless that tells beyond doubt that they are worse, the other half.
    best, half = proposal.unseen, max(1, proposal.steps // 2)
    short = plan.blind(none, data, best.folds, only=only, steps=half)
    gain, stderr = gain_of(best, short, only)
    if gain > DOUBT * stderr:
        return short
    return plan.go_on(none, data, best, max(1, proposal.steps - half), only, networks=short.networks)


@dataclass(frozen=True, eq=False)
class _Refined:
    """What came of trying each transformation by itself."""

    best: CrossFit
    verdicts: dict[str, each.Verdict]
    moving: tuple[str, ...]  # extents that did not come to rest
    more: tuple[float, float]  # what networks gained by going on as they were, and its standard error
    plausible: dict[str, tuple[float, ...]]  # extents that were tried last and are not worse beyond doubt


def _refined(
    plan: Plan,
    proposal: Proposal,
    best: CrossFit,
    tried: Invariance,
    data: Data,
    only: int | None,
    whole: tuple[float, float] | None,
    without: Sequence[Params],
) -> _Refined:
    # Extents that change as long as unseen examples gain.
    steps = max(1, proposal.steps // each.SHARE)
    verdicts, names, more = dict[str, each.Verdict](), tuple(tried.names), (0.0, 0.0)
    plausible = dict[str, tuple[float, ...]]()
    for _ in range(_LOOKS):
        look = each.each(plan, best, tried, data, steps, only, whole, names, without)
        verdicts |= {k: v for k, v in look.verdicts.items() if verdicts.get(k, {}).get("verdict") != "needed"}
        plausible |= look.plausible
        more = look.more
        if not look.changes or "invariance" not in plan.method.learn:  # given extents stay as they are
            return _Refined(best, _at(verdicts, tried), (), more, plausible)
        eta = tried.eta.detach().clone()
        for i, name in enumerate(tried.names):
            eta[i] = look.changes.get(name, float(eta[i]))
        other = dataclasses.replace(tried, eta=tried.project(eta))  # type: ignore[type-var]
        changed = plan.go_on(dataclasses.replace(best.target, invariance=other), data, best, steps)
        control = plan.go_on(best.target, data, best, steps, done=look.control.networks)
        gain, stderr = _gain_elsewhere(changed, control, only)
        if gain <= 0 if look.changes.keys() - look.simpler else gain < -stderr:
            return _Refined(best, _at(verdicts, tried), (), more, plausible)
        best, tried, names, whole = changed, other, tuple(k for k in look.changes if k not in look.simpler), None
        if not names:
            break
    return _Refined(best, _at(verdicts, tried), names, more, plausible)


def _gain_elsewhere(changed: CrossFit, control: CrossFit, only: int | None) -> tuple[float, float]:
    # On the folds by which the change was not chosen, where there are some: what helps in one, or one at a time, need
    # not help in others, or together.
    others = changed.folds >= (only or 0)
    found = nested((control.losses - changed.losses)[others], changed.folds[others])
    return found.value, found.stderr


def _at(verdicts: dict[str, each.Verdict], invariance: Invariance) -> dict[str, each.Verdict]:
    # The verdicts with the extents that are kept in the end; what is not there in the end is not said to be needed.
    extents = invariance.magnitude(invariance.eta.detach()).tolist()
    found = {k: {**verdicts[k], "extent": e} for k, e in zip(invariance.names, extents, strict=True)}
    least = dict(zip(invariance.names, (each.SMALL * unit_of(invariance)).tolist(), strict=True))
    gone = {k for k, v in found.items() if v["verdict"] == "needed" and abs(v["extent"]) < least[k]}
    return {k: {**v, "verdict": "undecided"} if k in gone else v for k, v in found.items()}


def gain_of(one: CrossFit, other: CrossFit, only: int | None) -> tuple[float, float]:
    """The paired gain of one over the other, and its standard error, on the examples that both have predicted."""
    if only is None:
        return one.compare(other)
    few = min(one.data.n, other.data.n)
    losses = [fit.losses if fit.data.n == few else fit.losses[fit.folds < only] for fit in (one, other)]
    difference = losses[1] - losses[0]
    return float(difference.mean()), float(difference.std()) / few**0.5


def invariance_of(fit: CrossFit) -> Invariance:
    """The invariance of a cross-fit that has one."""
    assert fit.target.invariance is not None
    return fit.target.invariance


def _hyper(
    plan: Plan, refined: _Refined, moving: tuple[str, ...], data: Data, apart: Tensor | None
) -> dict[str, dict[str, Any]]:
    # Extents that were tried at nought and at twice their value have converged, whatever their gradient.
    best = refined.best
    method = dataclasses.replace(plan.method, estimator=BlindScore(best))
    found = moved(method, best.params[0], best.target, data, (ETA,), derive(plan.seed, "hyper"))
    kept = invariance_of(best)
    found = found if apart is None else as_apart(found, kept.names, apart, len(best.params))
    for i, name in enumerate(kept.names):
        entry = spanning(found[name], refined.plausible.get(name, ()))
        ends = entry["interval"] and sorted(within(kept, i, end) for end in entry["interval"])
        found[name] = {**entry, "interval": ends, "converged": name not in moving}
    return found


def _with(trained: Trained, proposal: Proposal, found: _Refined) -> Trained:
    # The final network, with the records of those that proposed, and whether unseen examples gained by longer training.
    gain, error = found.more
    best = dataclasses.replace(trained.state.best, gain=gain, error=error, rounds=2, measure=MEASURE)
    rounds = dataclasses.replace(trained.state.rounds, settled=gain <= error and not proposal.short)
    state = dataclasses.replace(trained.state, best=best, rounds=rounds)
    history = _joined(proposal.history, trained.history, found.best.target.invariance)
    return dataclasses.replace(trained, state=state, history=history)


def _stayed(proposal: Proposal) -> list[str]:
    if proposal.moves:
        return []
    return [
        "the extents stayed where they began: networks predicted hardly better than a constant for as long as they are "
        "learned; try more epochs or a larger learning rate"
    ]


def _joined(
    before: list[dict[str, float]], after: list[dict[str, float]], kept: Invariance | None
) -> list[dict[str, float]]:
    # Records of the networks that proposed the extents, and then of the one that was trained with what was kept.
    extents = {k: 0.0 for r in before[-1:] for k in r if k.startswith("extent/")}
    if before and kept is not None:
        sizes = kept.magnitude(kept.eta.detach()).tolist()
        extents = {f"extent/{n}": v for n, v in zip(kept.names, sizes, strict=True)}
    return continued(before, [{**r, **extents} for r in after])
