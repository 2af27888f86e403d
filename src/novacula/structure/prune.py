"""`prune`: which weights does a network need?

Taking weight i away costs, to second order at a mode of the posterior and with the others left where they are,
``½ w_i² (h_i + λ_i)``, with the curvature h of the likelihood and the prior's precision λ: the *posterior damage*. Its
parts say why a weight may go: it is small, the data do not determine it, or the evidence has found that its unit wants
a strong prior. Magnitude pruning looks at ``w_i²`` alone. The damage of a group (a row, a unit, a head) is the sum over
it, and groups are compared by the damage per weight that they would save.

First precisions of groups are tuned by the evidence and the weights trained under them, in turn. Then, from each
sparsity to the next, the least damage is taken away, what is left is trained on, and its precisions are tuned. Three
numbers say what was given up: the log evidence, in which a weight that is gone costs no Occam factor; the loss of
examples that a network has not seen (the same done by networks that are blind to a fold each); and its change against
the dense network, paired example by example.

References:
    Optimal brain damage. Y. LeCun, J. Denker, S. Solla, 1989.
    Shaving weights with Occam's razor: Bayesian sparsification for neural networks using the marginal likelihood.
        R. Dhahri, A. Immer, B. Charpentier, S. Günnemann, V. Fortuin, 2024. arXiv:2402.15978.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from novacula.core.checks.numbers import check_numbers, check_positive, check_whole
from novacula.core.errors import InputError
from novacula.core.params import Params, count
from novacula.core.rng import derive, generator
from novacula.curvature.structures.names import build
from novacula.data.data import Data
from novacula.data.folds import given_folds
from novacula.data.given import DataLike, as_data
from novacula.data.meaning.soft import beliefs
from novacula.inference import MAP, infer
from novacula.inference.method import Info, Start
from novacula.inference.optimising.map import MAPState
from novacula.inference.starts import blind_starts
from novacula.posteriors.base import Learned, Point, Posterior, posterior_of
from novacula.structure.groups import By, grouped, spread, sums
from novacula.structure.pruned import Level, Pruned
from novacula.structure.shrinkage import Shrinkage, log_evidence, tuned
from novacula.target import Target
from novacula.target.batch import Batch
from novacula.target.given import prepared

Criterion: TypeAlias = Literal["damage", "magnitude"]


@dataclass(frozen=True)
class Held:
    """MAP with some weights held at nought."""

    method: MAP
    kept: Params  # 1 where a weight is left

    batching: Literal["mini"] = "mini"

    def init(self, target: Target, data: Data | None, rng: torch.Generator, start: Start) -> MAPState:
        """Start where the members start, without what has been taken away."""
        return self._masked(self.method.init(target, data, rng, start))

    def step(self, target: Target, state: MAPState, batch: Batch, rng: torch.Generator) -> tuple[MAPState, Info]:
        """One step of Adam on what is left."""
        new, info = self.method.step(target, state, batch, rng)
        return self._masked(new), info

    def posterior(self, target: Target, state: MAPState) -> Posterior:
        """The point itself."""
        return self.method.posterior(target, state)

    def _masked(self, state: MAPState) -> MAPState:
        return replace(state, params={k: w * self.kept[k].to(w) for k, w in state.params.items()})


def prune(
    fit: Learned | Posterior | Target | nn.Module,
    data: DataLike,
    *,
    to: float | Sequence[float] = (0.8, 0.9, 0.95, 0.98),
    by: By = "weight",
    criteria: Sequence[Criterion] = ("damage", "magnitude"),
    precisions: By | Literal["tensor"] = "row",
    rounds: int = 2,
    epochs: int = 5,
    lr: float = 2e-3,
    batch_size: int = 128,
    folds: int = 3,
    train: int = 20,
    subset: int = 1_000,
    seed: int = 0,
) -> Pruned:
    """Take away the weights that a network needs least.

    Args:
        fit: What `nv.learn` or `nv.infer` gave; or a target or network, whose weights are taken as trained.
        data: The training data, as they were given there (in standard units where they were standardised).
        to: The shares of weights to take away, each above 0 and below 1.
        by: What is taken away together: a weight, a row of a matrix (the filter of a channel), a unit with its bias, or
            a head of `nn.MultiheadAttention`.
        criteria: How the choice is made; ``"magnitude"`` is what others do, for comparison.
        precisions: Which weights share a precision of the prior.
        rounds: How often precisions are tuned and the weights trained under them before anything is taken away.
        epochs: Passes over the data in each round and after each cut.
        lr: Peak learning rate.
        batch_size: Examples a step.
        folds: K networks, each blind to a fold, go through the same; 0 for none, and no out-of-fold loss.
        train: Epochs for which these are trained first.
        subset: Examples for the curvature, scaled to all.
        seed: Seed of everything random.

    Returns:
        The dense network and one for each sparsity and criterion.

    Raises:
        InputError: If a share, criterion or group is none, a group asked for has no weights enough, or the prior is not
            centred at zero.

    Example:
        >>> import novacula as nv
        >>> data = nv.load("digits").subset(range(200))
        >>> net = nv.networks.make("mlp", data.x_shape, 10)
        >>> found = prune(nv.infer(nv.MAP(), nv.Target(net), data, epochs=20), data, to=0.5, folds=0, subset=100)
        >>> round(found.at(0.5).sparsity, 2)
        0.5
    """
    levels = [to] if isinstance(to, int | float) else list(to)
    if not levels or any(isinstance(t, bool) or not 0 < t < 1 for t in levels):
        raise InputError("shares of weights to take away, above 0 and below 1", repr(to), "to=0.9")
    if unknown := [c for c in criteria if c not in get_args(Criterion)]:
        raise InputError(f"criteria among {', '.join(get_args(Criterion))}", repr(unknown[0]), "leave it out")
    check_numbers(batch_size=batch_size, seed=seed, epochs=epochs)
    check_positive("lr", lr)
    for name, value in (("rounds", rounds), ("folds", folds), ("train", train)):
        check_whole(name, value, least=0)
    check_whole("subset", subset)
    data, target, weights = as_data(data), *_given(fit)
    target, data = prepared(target, data)
    if target.prior.centre(target.params()) is not None:
        raise InputError("a prior centred at zero, where a weight that is gone is", "another centre", "use Gaussian()")
    surgery = _Surgery(target, by, precisions, rounds, epochs, MAP(lr=lr), batch_size, subset, tuple(levels))
    whole = surgery.run(weights, data, tuple(criteria), seed)
    seen = _folds(surgery, data, tuple(criteria), folds, train, seed) if folds else None
    made = [_level(surgery, cut, data, seen) for cut in whole]
    return Pruned(made[0], tuple(made[1:]))


@dataclass(frozen=True, eq=False)
class _Cut:
    # A network under tuned precisions, with what is left of it.
    asked: float
    criterion: str
    point: Params
    precisions: Params
    curvature: Params
    kept: Params


@dataclass(frozen=True, eq=False)
class _Surgery:
    # All that decides how weights are taken away, but the weights and the data.
    target: Target
    by: By
    precisions: By | Literal["tensor"]
    rounds: int
    epochs: int
    method: MAP
    batch_size: int
    subset: int
    levels: tuple[float, ...]

    def run(self, weights: Params, data: Data, criteria: tuple[Criterion, ...], seed: int) -> list[_Cut]:
        own = self.target.params()
        everything = {k: torch.ones(w.shape, dtype=torch.float64) for k, w in own.items()}
        precisions = {k: p.detach().double() for k, p in self.target.prior.precision(own).items()}
        dense = self._settled(_Cut(0.0, "dense", weights, precisions, {}, everything), data, derive(seed, "start"))
        for i in range(self.rounds):
            point = self._trained(dense, data, derive(seed, "round", i))
            dense = self._settled(replace(dense, point=point), data, derive(seed, "tune", i))
        cuts = [dense]
        for criterion in criteria:
            cut = dense
            for level in sorted(self.levels):  # each from the one before, as the curvature holds only nearby
                cut = replace(cut, asked=level, criterion=criterion, kept=self._kept(cut, criterion, level))
                point = self._trained(cut, data, derive(seed, "after", str(level)))
                cut = self._settled(replace(cut, point=point), data, derive(seed, "tune", str(level)))
                cuts.append(cut)
        return cuts

    def _trained(self, cut: _Cut, data: Data, seed: int) -> Params:
        target = replace(self.target, prior=Shrinkage(cut.precisions))
        held, size = Held(self.method, cut.kept), self.batch_size
        return dict(infer(held, target, data, init=cut.point, epochs=self.epochs, batch_size=size, seed=seed).mode)

    def _settled(self, cut: _Cut, data: Data, seed: int) -> _Cut:
        # The curvature at the weights, and the precisions that it asks for.
        target, weights = self.target.at(cut.point)
        rows = torch.randperm(data.n, generator=generator(seed, "rows"))[: self.subset]
        some = data.subset(rows) if len(rows) < data.n else data
        problem = target.problem(weights, some, seed=derive(seed, "curvature"), total=data.n)
        h = {k: v.detach().double().cpu() for k, v in build("diag", problem).diagonal().items()}
        groups = self._sharing(cut)
        return replace(cut, curvature=h, precisions=tuned(weights, h, cut.precisions, groups, cut.kept))

    def _sharing(self, cut: _Cut) -> Params:
        # Weights in no group of those asked for share the precision of their tensor.
        own = self.target.params()
        if self.precisions == "tensor":
            shared = {k: torch.full(w.shape, -1, dtype=torch.int64) for k, w in own.items()}
        else:
            shared = grouped(self.target.forward.module, own, self.precisions)
        last = 1 + max(int(g.max()) for g in shared.values())
        return {k: torch.where(g >= 0, g, last + i) for i, (k, g) in enumerate(shared.items())}

    def _kept(self, cut: _Cut, criterion: Criterion, level: float) -> Params:
        groups = grouped(self.target.forward.module, self.target.params(), self.by)
        weights = self.target.at(cut.point)[1]
        cost = {k: damage(w, cut.curvature[k], cut.precisions[k], criterion) for k, w in weights.items()}
        size = sums({k: torch.ones_like(kept) for k, kept in cut.kept.items()}, groups)
        order = (sums(cost, groups) / size).argsort()
        wanted, gone = level * count(weights), size[order].cumsum(0)
        if wanted > float(gone[-1]) + 0.5:
            most = float(gone[-1]) / count(weights)
            raise InputError(f"at most {most:.3f} of the weights, by {self.by}", f"{level:g}", "by='weight', or less")
        taken = int(torch.searchsorted(gone, torch.tensor(wanted - 0.5, dtype=gone.dtype))) + 1
        left = torch.ones(len(size), dtype=torch.float64)
        left[order[:taken]] = 0.0  # what has gone before costs nothing, and comes first
        return spread(left, groups, cut.kept)


def damage(weights: Tensor, curvature: Tensor, precision: Tensor, criterion: Criterion = "damage") -> Tensor:
    """What it costs to take a weight away: ``½ w² (h + λ)``, in nats, or ``w²`` for the criterion ``"magnitude"``.

    Args:
        weights: w.
        curvature: h, of the same shape.
        precision: λ, broadcastable.
        criterion: Which.

    Returns:
        The shape of the weights, float64.
    """
    squares = weights.detach().double().cpu().square()
    return squares if criterion == "magnitude" else 0.5 * squares * (curvature + precision.to(curvature))


def _given(fit: Learned | Posterior | Target | nn.Module) -> tuple[Target | nn.Module, Params]:
    if isinstance(fit, Target):
        return fit, fit.params()
    if isinstance(fit, nn.Module):
        return fit, {k: w.detach().clone() for k, w in fit.named_parameters() if w.requires_grad}
    posterior = posterior_of(fit)
    if not isinstance(posterior.target, Target):
        raise InputError("a posterior over the weights of a network", "one of a plain log-density", "prune(fit, data)")
    return posterior.target, dict(posterior.mode)


def _folds(
    surgery: _Surgery, data: Data, criteria: tuple[Criterion, ...], folds: int, train: int, seed: int
) -> dict[tuple[str, float], tuple[Tensor, Tensor | None]]:
    # Each example's loss, and whether it is right, by the network that has not seen it, for every cut.
    which, found = given_folds(data, folds, derive(seed, "folds")), {}
    starts = blind_starts(surgery.target, folds, derive(seed, "starts"))
    for k, start in enumerate(starts):
        seen, unseen = data.subset(which != k), which == k
        own, size, first = derive(seed, "blind", k), surgery.batch_size, start
        if train:
            blind = infer(surgery.method, surgery.target, seen, init=start, epochs=train, batch_size=size, seed=own)
            first = dict(blind.mode)
        for cut in surgery.run(first, seen, criteria, derive(seed, "fold", k)):
            losses, hits = _scored(surgery.target, cut.point, data.subset(unseen), derive(seed, "copies"))
            key = (cut.criterion, cut.asked)
            whole = found.setdefault(key, [torch.zeros(data.n, dtype=torch.float64) for _ in range(2)])
            whole[0][unseen] = losses
            whole[1][unseen] = losses if hits is None else hits
    classes = data.task == "classification"
    return {key: (losses, hits if classes else None) for key, (losses, hits) in found.items()}


@torch.no_grad()
def _scored(target: Target, point: Params, data: Data, seed: int) -> tuple[Tensor, Tensor | None]:
    there, weights = target.at(point)
    outputs = [
        there.outputs(weights, data.x[rows], target.copies.predict, generator(seed, "copies", i))
        for i, rows in enumerate(torch.arange(data.n).split(512))
    ]
    f = torch.cat(outputs)
    losses = -there.likelihood.log_prob(f, data.y).double().cpu()
    if data.task != "classification":
        return losses, None
    return losses, beliefs(data.y, f.shape[1]).gather(1, f.argmax(1, keepdim=True))[:, 0].cpu()


def _level(
    surgery: _Surgery, cut: _Cut, data: Data, seen: dict[tuple[str, float], tuple[Tensor, Tensor | None]] | None
) -> Level:
    losses, _ = _scored(surgery.target, cut.point, data, 0)
    weights = surgery.target.at(cut.point)[1]
    value = log_evidence(-float(losses.sum()), weights, cut.curvature, cut.precisions, cut.kept)
    gone = 1 - sum(float(k.sum()) for k in cut.kept.values()) / count(weights)
    out, hits = (None, None) if seen is None else seen[cut.criterion, cut.asked]
    target = replace(surgery.target, prior=Shrinkage(cut.precisions))
    kept = {k: v.bool() for k, v in cut.kept.items()}
    return Level(gone, cut.asked, cut.criterion, value, out, hits, cut.point, kept, Point(cut.point, target))
