"""Two networks of one kind, or many, brought into the same order: `match` and `match_many`.

A start is taken to a local optimum of the distance (`novacula.paths.matching.descent`). Every second start is matched
under balanced scales first, so that a network is found again under any of its symmetries. With data, three more starts
come from activations (`novacula.paths.matching.activations`), and which one is best is said by the loss half-way, of
which distance is no measure; it may then be lowered by gradients (`novacula.paths.matching.learned`).

References:
    Git Re-Basin. S. K. Ainsworth, J. Hayase, S. Srinivasa, 2022. arXiv:2209.04836.
    Generalized linear mode connectivity for transformers. A. Theus and others, 2025. arXiv:2506.22712.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from novacula.core.checks.numbers import check_positive, check_whole
from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.data.given import DataLike
from novacula.paths.barrier import barrier
from novacula.paths.matching.activations import by_activations
from novacula.paths.matching.descent import GAIN, Weights, acted, balancing, descend, distance, inverse
from novacula.paths.matching.learned import Middle, lowered, straight_through, turning
from novacula.paths.symmetries.groups import Element, key_of, occurrences
from novacula.paths.symmetries.result import Symmetries, Transformation
from novacula.posteriors.base import Learned, Posterior, weights_of
from novacula.target.given import TargetLike, prepared
from novacula.target.target import Target

_LOOKED = 1000  # examples by which starts are made and chosen; steps see all
Start = tuple[list[Element], dict[str, Tensor]]


def match(
    module: TargetLike,
    a: Params | Posterior | Learned,
    b: Params | Posterior | Learned,
    symmetries: Symmetries,
    *,
    data: DataLike | None = None,
    restarts: int = 2,
    steps: int = 0,
    lr: float = 1e-3,
    seed: int = 0,
) -> Transformation:
    """The symmetry that takes a network's weights towards another's.

    Args:
        module: The network; or a target, whose likelihood gives the loss half-way.
        a: The weights to come near to: a state dictionary, a posterior (its mode) or a result of `novacula.learn`.
        b: The weights to transform.
        symmetries: What `symmetries` has found for the module.
        data: Training examples. With them, activations give three more starts, all are made by permutations alone as
            well, and the best is the one whose loss half-way is lowest (where a norm has running statistics, with
            these taken anew); without, the nearest.
        restarts: Random starts beside the first one, from where the networks are.
        steps: With data, steps of gradients of the loss half-way that lower it further: so many for permutations and
            signs (straight-through estimation), and so many for scales, rotations and invertible maps, where there are.
        lr: Learning rate of the former, of Adam, in units of the weights.
        seed: Seed of starts, batches and the order of groups.

    Returns:
        A transformation; ``.apply(b)`` computes what ``b`` computes, and lies nearer to ``a`` or, with data, has a
        lower barrier.

    Raises:
        InputError: If the weights are not those of the network, or not finite, or there are steps without data.

    Example:
        >>> from novacula.paths import symmetries
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> found = symmetries(net, torch.zeros(4, 3))
        >>> there = found.random(1).apply(net.state_dict())
        >>> back = match(net, net.state_dict(), there, found).apply(there)
        >>> max(float((v - back[k]).abs().max()) for k, v in net.state_dict().items()) < 1e-6
        True
    """
    for name, value in {"restarts": restarts, "steps": steps, "seed": seed}.items():
        check_whole(name, value, least=0)
    check_positive("lr", lr)
    if steps and data is None:
        raise InputError("data for steps of the loss half-way", "none", "pass data=train")
    network = module.forward.module if isinstance(module, Target) else module
    first, second = (_state(network, symmetries, given) for given in (a, b))
    if data is None:
        return symmetries.of(_nearest(first, _starts(first, second, symmetries, restarts, seed))[0])
    target, rows = prepared(module, data)
    looked = rows.subset(torch.randperm(rows.n, generator=generator(seed, "looked"))[:_LOOKED])
    middle = Middle(target, looked, first)
    # By permutations alone, too: what comes nearer by more is not always better half-way.
    starts = list[Start]()
    for own in (symmetries, symmetries.only("permutation")):
        starts += [*_starts(first, second, own, restarts, seed), *_by_data(middle, second, own, seed)]

    def height(start: Start) -> float:
        moved = symmetries.of(start[0]).apply(weights_of(b))
        return barrier(target, a, moved, looked, train=looked, points=3, seed=seed).height

    best = min(starts, key=height)
    for way in range(2 if steps else 0):
        here = best[1]
        move = turning(here, symmetries, steps) if way else straight_through(middle, here, symmetries, lr, seed)
        if move is not None:
            more, there = lowered(Middle(target, rows, first), here, move, steps, seed)
            best = min([best, ([*best[0], *more], there)], key=height)
    return symmetries.of(best[0])


def match_many(
    module: nn.Module,
    models: Sequence[Params | Posterior | Learned],
    symmetries: Symmetries,
    *,
    rounds: int = 5,
    seed: int = 0,
) -> list[Transformation]:
    """Symmetries that take many networks into the order of the first, each near to the mean of the others.

    From one network to another one goes by way of that order, so that ways agree: from i to k by j is from i to k.

    Args:
        module: The network.
        models: The weights of each, two at least.
        symmetries: What `symmetries` has found for the module.
        rounds: How often each network is matched to the mean of the others, at most: until none comes nearer.
        seed: Seed of the order of groups.

    Returns:
        A transformation for each; the first does nothing.

    Raises:
        InputError: If there are fewer than two, or weights are not those of the network.
    """
    if len(models) < 2:
        raise InputError("two networks at least", str(len(models)), "pass a list of state dictionaries")
    check_whole("rounds", rounds, least=1)
    first, *others = (_state(module, symmetries, given) for given in models)
    there = [first, *(w for _, w in (_nearest(first, _starts(first, w, symmetries, 1, seed)) for w in others))]
    for turn in range(rounds):
        nearer = False
        for i in range(1, len(there)):
            mean = {k: torch.stack([w[k] for j, w in enumerate(there) if j != i]).mean(0) for k in first}
            more, moved = descend(mean, there[i], symmetries, generator(seed, "round", turn, i))
            nearer |= bool(more)
            there[i] = moved
        if not nearer:
            break
    # What took each there, in one piece: from its own order to the one that was found.
    found = [_nearest(w, _starts(w, given, symmetries, 1, seed))[0] for w, given in zip(there[1:], others, strict=True)]
    return [symmetries.of(()), *map(symmetries.of, found)]


def canonical(weights: Params | Posterior | Learned, symmetries: Symmetries) -> Transformation:
    """The scales and signs that bring weights into a form which all that differ by scales and signs alone share.

    Scales are those of least norm, ``min Σ w²`` over the orbit, which is convex in their logarithms: what a rectified
    unit reads and what reads it have one norm. Where there is no least one, as before a norm of batches, logarithms of
    norms sum to nought. A sign makes the sum of cubes of a unit's weights positive, where no sign still open acts.

    Args:
        weights: A state dictionary, a posterior (its mode) or a result of `novacula.learn`.
        symmetries: What `symmetries` has found.

    Returns:
        A transformation; ``.apply(weights)`` computes the same function.

    Raises:
        InputError: If the weights are not those of the network, or not finite.
    """
    module = symmetries.module
    state, statistics = _state(module, symmetries, weights), dict(module.named_buffers())
    elements = balancing(state, symmetries, least=True, without=statistics)
    pending = [g for g in symmetries.groups if g.kind == "sign"]
    while pending:
        reached = Counter(name for g in pending for name, _ in g.weights)
        known = {g: [n for n, _ in g.weights if reached[n] == 1 and n not in statistics] for g in pending}
        group = next((g for g in pending if known[g]), pending[0])
        now, lean = acted(state, elements, symmetries), torch.zeros_like(group.identity().values)
        for name in known[group]:
            for node, x in occurrences(now[name], symmetries.axes[name], group.atom):
                lean = torch.where((lean == 0) & bool(group.powers.get(key_of(node))), x.pow(3).sum(-1), lean)
        elements.append(Element(group, torch.where(lean < 0, -1.0, 1.0).double()))
        pending.remove(group)
    return symmetries.of(elements)


def _nearest(a: Weights, starts: Iterator[Start]) -> Start:
    # The first one that is there, or else the one that comes nearest.
    best, least, zero = None, float("inf"), distance(a, dict.fromkeys(a, torch.zeros(())))
    for start in starts:
        left = distance(a, start[1])
        if best is None or left < least * (1 - GAIN):
            best, least = start, left
        if least <= GAIN * zero:
            break
    assert best is not None
    return best


def _starts(a: Weights, b: Weights, symmetries: Symmetries, restarts: int, seed: int) -> Iterator[Start]:
    # b taken towards a, from several starts; every second time first where the scales of both are balanced, so that a
    # unit of the one is alike to its own of the other before it is known which that is.
    own, others = balancing(a, symmetries), balancing(b, symmetries)
    for start in range(restarts + 1):
        rng = generator(seed, "match", start)
        elements = [] if start < 2 else [g.random(rng) for g in symmetries.groups if g.kind == "permutation"]
        if start % 2 and own:
            elements = [*others, *elements]
            even = acted(a, own, symmetries)
            elements += [*descend(even, acted(b, elements, symmetries), symmetries, rng)[0], *inverse(own)]
        more, there = descend(a, acted(b, elements, symmetries), symmetries, rng)
        yield [*elements, *more], there


def _by_data(middle: Middle, b: Weights, symmetries: Symmetries, seed: int) -> list[Start]:
    # By activations; with the rest by weights, and taken on from there.
    if symmetries.graph is None or len(symmetries.inputs) != 1:
        return []
    x = middle.data.x
    x = x.to(symmetries.inputs[0].dtype)
    elements = by_activations(middle.a, b, symmetries, x)
    there = acted(b, elements, symmetries)
    found = [(elements, there)]
    for kept in (symmetries.only("scale", "sign", "rotation", "orthogonal", "invertible"), symmetries):
        more, moved = descend(middle.a, there, kept, generator(seed, "activations"))
        found.append(([*elements, *more], moved))
    return found


def _state(module: nn.Module, symmetries: Symmetries, given: Any) -> dict[str, Tensor]:
    own, weights = module.state_dict(), weights_of(given)
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    found = dict[str, Tensor]()
    for name in symmetries.axes:
        value = weights.get(name, own.get(name) if name not in parameters else None)
        if value is None or value.shape != own[name].shape:
            hint = "pass the state dictionaries of two networks of the module's kind (a narrower one: nv.paths.widen)"
            raise InputError(f"weights {name!r} of shape {tuple(own[name].shape)}", "none, or of another shape", hint)
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"finite weights {name!r}", "NaN or infinity", "look at the run that left them")
        found[name] = value.detach().to(torch.promote_types(value.dtype, torch.float64))
    return found
