"""`BlindExtents`: extents by what networks say of examples that they have not seen, while they train.

K networks train side by side, each blind to a fold and under extents of its own, and these ascend what it says of the
fold that it is blind to,

    L_k(eta) = Σ_{n in fold k} log p(y_n | f̄(w_k, x_n; eta)),        f̄(w, x; eta) = 1/S Σ_s f(w, T_s x; eta),

by gradient at the weights of the moment, while its weights follow the same extents on the examples that it sees. Unlike
the evidence of one network this cannot be bought by making all inputs alike, nor misled by a curvature that is not that
of the posterior, and it needs no Jacobians. It is a *partial* derivative: what a wider augmentation does to the weights
is seen only as training goes on. What this leaves out, and the copies (the average over S of them is noisy, which asks
for less), makes extents too small. Weights are therefore trained under extents that are wider than those at which
unseen examples are predicted, by an eighth: there the networks know what a little more would bring, and the wider
extents are what is proposed. `novacula.study.learning.verdicts` tries twice these, and none, by training on.

What weights have learned and what extents suit them feed on each other, so that one search may end elsewhere than the
next. K of them are K repetitions: their mean is proposed, under which all networks train to the end, and how far they
lie apart tells how far another run's would (`BlindState.apart`), which no curvature at fixed weights does.

The networks are those of `cross_fit`, so that the search costs only its gradients beyond what the folds cost anyway.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from novacula.core.errors import NonFiniteError
from novacula.core.estimate import Estimate
from novacula.core.params import Params
from novacula.core.rng import derive, generator, split
from novacula.data.data import Data
from novacula.inference.method import Batching, Info, Start
from novacula.inference.optimising.adam import AdamState, adam_init, adam_step
from novacula.inference.optimising.map import MAP, MAPState
from novacula.inference.starts import blind_starts
from novacula.invariances.measured import unit_of
from novacula.posteriors.base import Point, Posterior
from novacula.posteriors.mixture import mixture
from novacula.study.cross_fit.result import CrossFit
from novacula.study.learning.empirical_bayes import ETA, hyper_factor
from novacula.study.learning.rounds import described
from novacula.study.learning.skill import Skill
from novacula.target import Target
from novacula.target.batch import Batch
from novacula.target.constant import best_constant

_ALIKE = 2  # runs of each network, this one and those that try other extents


@dataclass(frozen=True, eq=False)
class BlindState:
    """The networks and their optimisers, the extents and theirs, and what the networks gain over a constant."""

    networks: tuple[MAPState, ...]  # of each fold, its weights ``(1, *shape)``
    eta: Tensor  # the extents of each one's predictions, shape (K, E)
    adam: AdamState  # of the extents
    skill: Skill
    data: Data = field(metadata={"checkpoint": False})
    seen: tuple[Tensor, ...] = field(metadata={"checkpoint": False})  # rows that each network may see …
    unseen: tuple[Tensor, ...] = field(metadata={"checkpoint": False})  # … and those that it may not

    def apart(self, target: Target) -> Tensor:
        """The standard deviation of the networks' own extents, shape ``(E,)``; NaN of one network."""
        assert target.invariance is not None
        return torch.stack([target.invariance.magnitude(e) for e in self.eta]).std(0)


@dataclass(frozen=True, eq=False)
class BlindExtents:
    """Train networks that are blind to a fold each, and learn extents by what they say of it.

    Args:
        folds: The fold of each example, 0 to K − 1.
        optimiser: Trains the weights.
        batch_size: Examples of a step of each network.
        seed: Seed of minibatches and first weights.
        moves: Steps of the extents.
        lr: Learning rate of Adam for them, in their units (`novacula.invariances.measured`).
        examples: Unseen examples of each network that a step of the extents looks at …
        copies: … each transformed so often.
        wider: By what factor the extents under which weights are trained exceed those of the predictions.
        burn_in: The fraction of the run before the first step of the extents.
        hold: The fraction after which their rate falls, on a cosine, …
        settle: … to zero at this fraction; networks then grow used to them.
    """

    folds: Tensor
    optimiser: MAP
    batch_size: int
    seed: int = 0
    moves: int = 80
    lr: float = 0.03
    examples: int = 64
    copies: int = 8
    wider: float = 1.125
    burn_in: float = 0.05
    hold: float = 0.6
    settle: float = 0.85

    batching: Batching = field(default="full", init=False, repr=False)

    def __repr__(self) -> str:
        """Settings without the folds, which follow from data and seed."""
        return f"BlindExtents(optimiser={self.optimiser!r}, lr={self.lr}, moves={self.moves}, seed={self.seed})"

    def init(self, target: Target, data: Data, rng: torch.Generator, start: Start) -> BlindState:
        """Fresh networks, at the target's extents."""
        count = int(self.folds.max()) + 1
        drawn = blind_starts(target, count, derive(self.seed, "starts"))
        firsts = [Start.of(target, {k: w.unsqueeze(0) for k, w in point.items()}, start.steps) for point in drawn]
        networks = tuple(self.optimiser.init(target, data, rng, first) for first in firsts)
        eta = target.learnable()[ETA].detach().expand(count, -1).clone()
        folds = self.folds.to(data.x.device)
        return BlindState(
            networks=networks,
            eta=eta,
            adam=adam_init({ETA: eta}),
            skill=Skill(best_constant(target, data)),
            data=data,
            seen=tuple((folds != k).nonzero()[:, 0] for k in range(count)),
            unseen=tuple((folds == k).nonzero()[:, 0] for k in range(count)),
        )

    def step(self, target: Target, state: BlindState, batch: Batch, rng: torch.Generator) -> tuple[BlindState, Info]:
        """A step of each network and, where it is due, one of the extents."""
        data, networks, losses, skill = state.data, list[MAPState](), list[float](), state.skill
        pace = hyper_factor(batch.progress, self.hold, self.settle)
        for k, (network, seen) in enumerate(zip(state.networks, state.seen, strict=True)):
            eta = self.trained(target, state.eta[k : k + 1] if pace > 0 else state.eta)
            current = target.with_learnable({ETA: eta})
            rows = seen[_minibatch(len(seen), self.batch_size, batch.step, derive(self.seed, "fold", k))]
            own = Batch(data.x[rows], data.y[rows], len(seen), batch.step, batch.steps, _ALIKE * len(state.networks))
            network, info = self.optimiser.step(current, network, own, rng)
            skill = skill.update(current.likelihood, own.y, info.loss)
            networks.append(network)
            losses.append(info.loss)
        state = replace(state, networks=tuple(networks), skill=skill)
        every = max(1, batch.steps // self.moves)
        if (batch.step + 1) % every == 0 and batch.progress >= self.burn_in and pace > 0 and skill.better:
            state = self._move(target, state, pace, rng)
        shown = {ETA: self.trained(target, state.eta)}
        return state, Info(sum(losses) / len(losses), described(target.with_learnable(shown), shown, ETA))

    def trained(self, target: Target, eta: Tensor) -> Tensor:
        """The extents ``(E,)`` under which weights are trained, by the mean of those of so many networks ``(M, E)``."""
        if target.invariance is None or self.burn_in >= 1:  # given extents stay as they are
            return eta[0]
        mean = eta[0] if len(eta) == 1 else torch.stack([target.invariance.magnitude(e) for e in eta]).mean(0)
        return target.invariance.project(self.wider * mean)

    def _move(self, target: Target, state: BlindState, pace: float, rng: torch.Generator) -> BlindState:
        gradients = list[Tensor]()
        for k, network in enumerate(state.networks):
            eta = state.eta[k].detach().requires_grad_()
            unseen = state.unseen[k]
            rows = unseen[torch.randperm(len(unseen), generator=rng)[: self.examples].to(unseen.device)]
            own = {name: w[0] for name, w in network.points.items()}
            value = blind(target.with_learnable({ETA: eta}), own, state.data, rows, self.copies, split(rng))
            gradients.append(torch.autograd.grad(-value / len(rows), eta)[0])
        unit = unit_of(target.invariance).to(state.eta)
        g = torch.stack(gradients) * unit
        if not torch.isfinite(g).all():
            raise NonFiniteError(
                "a finite gradient of the loss on unseen examples in the extents",
                "NaN or infinity",
                "start from less extreme extents, or lower the learning rate",
            )
        moved, adam = adam_step({ETA: state.eta / unit}, {ETA: g}, state.adam, self.lr * pace)
        assert target.invariance is not None
        return replace(state, eta=torch.stack([target.invariance.project(e * unit) for e in moved[ETA]]), adam=adam)

    def posterior(self, target: Target, state: BlindState) -> Posterior:
        """The networks, each as a point."""
        fitted = target.with_learnable({ETA: self.trained(target, state.eta)})
        return mixture([Point({k: w[0] for k, w in network.points.items()}, fitted) for network in state.networks])


def blind(target: Target, weights: Params, data: Data, rows: Tensor, copies: int, seed: int) -> Tensor:
    """The summed log-likelihood, in nats, of rows that a network has not seen; differentiable in the extents."""
    rng = generator(seed, "blind")
    return target.log_likelihood(weights, data.x[rows], data.y[rows], copies, rng).double().sum()


@dataclass(frozen=True, eq=False)
class BlindScore:
    """``L(eta)`` of a cross-fit's networks, scaled to all examples, as an estimate that carries gradients."""

    unseen: CrossFit  # the cross-fit
    examples: int = 64  # unseen examples of each network that are looked at
    copies: int = 8  # S

    def __call__(self, target: Target, data: Data, params: Params, *, seed: int) -> Estimate:
        """The value; ``params`` are not looked at."""
        fit = self.unseen
        rng = generator(seed, "rows")
        held = [(fit.folds == k).nonzero()[:, 0] for k in range(len(fit.params))]
        rows = [h[torch.randperm(len(h), generator=rng)[: self.examples]].to(fit.data.x.device) for h in held]
        each = [
            blind(target, w, fit.data, r, self.copies, derive(seed, k))
            for k, (w, r) in enumerate(zip(fit.params, rows, strict=True))
        ]
        value = torch.stack(each).sum()
        return Estimate(
            value=value * (fit.data.n / sum(map(len, rows))),
            stderr=math.nan,
            kind="estimate",
            estimator=repr(type(self).__name__),
            n=fit.data.n,
            fingerprint=fit.data.fingerprint,
            loss=target.likelihood.loss,
        )


def networks_of(state: BlindState) -> list[Params]:
    """What each fold's network holds, ``(1, *shape)``."""
    return [{k: w.detach() for k, w in network.points.items()} for network in state.networks]


def _minibatch(n: int, size: int, step: int, seed: int) -> Tensor:
    # Rows of a step, such that all come once before any comes twice.
    size = min(size, n)
    per_epoch = n // size
    order = torch.randperm(n, generator=generator(seed, "epoch", step // per_epoch))
    first = (step % per_epoch) * size
    return order[first : first + size]
