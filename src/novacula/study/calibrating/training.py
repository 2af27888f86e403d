"""Training a network plainly: Adam on the mean loss, in train mode, with dropout and batch statistics as they come.

How long a person trained is not known, and what calibration depends on most is how far they went: a network of
training loss 1e-4 is surer of itself than one of .1. The length of training is therefore looked for (`length_of`): so
many epochs that a fresh network, trained on all rows under one cycle of the learning rate, ends with the loss that the
person's network has on them in eval mode. Copies are trained for as many, on fewer rows.

References:
    Adam: a method for stochastic optimization. D. P. Kingma, J. Ba, 2015. arXiv:1412.6980.
    SGDR: stochastic gradient descent with warm restarts. I. Loshchilov, F. Hutter, 2017. arXiv:1608.03983 (the cycle).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from novacula.core.errors import InputError, NonFiniteError
from novacula.core.params import Params
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.inference.optimising.adam import AdamState, adam_init, adam_step_
from novacula.networks.make import seeded
from novacula.study.calibrating.head import Head

Train = Callable[[nn.Module, Data], "nn.Module | None"]
"""A person's own training: in place, or a network that it returns."""
Tell = Callable[[int, int, "dict[str, float]"], None]

_STEPS, _EPOCHS = 1_500, 20
_FIRST, _AT_MOST = 8, 12_000  # epochs that are tried first, and the most steps of a training that a search tries
_FLAT, _CLOSE, _NEAREST, _FURTHEST = 0.25, math.log(8 / 7), math.log(1.5), math.log(4.0)  # of logarithms: slope, steps
_SMALLEST, _LARGEST, _PER_EPOCH = 16, 64, 16
_WARM, _TINY = 0.1, 1e-9


@dataclass(frozen=True, eq=False)
class Plan:
    """How networks are trained where a person gives no training of their own."""

    epochs: int  # passes over the data, in one cycle
    size: int  # rows a step
    deadline: float | None = None  # when training ends at the latest, by `time.monotonic`
    lr: float = 3e-3  # the learning rate at the peak of the cycle

    @property
    def over(self) -> bool:
        """Whether the time has run out."""
        return self.deadline is not None and time.monotonic() > self.deadline


def default_plan(n: int, epochs: int | None, deadline: float | None) -> Plan:
    """The plan for n rows: so many epochs, or 1,500 steps, and 20 epochs if these are more."""
    if epochs is not None and epochs < 1:
        raise InputError("one or more epochs", str(epochs), "leave it out for the default")
    size = min(_LARGEST, max(_SMALLEST, n // _PER_EPOCH))
    return Plan(epochs or max(_EPOCHS, -(-_STEPS // -(-n // size))), size, deadline)


def plainly(network: nn.Module, data: Data, head: Head, plan: Plan, seed: int) -> None:
    """Train a network in place on the rows it may see; a seed orders the rows, and draws dropout."""
    weights = [w for w in network.parameters() if w.requires_grad]
    if not weights:
        raise InputError("a network with trainable parameters", "one without", "call requires_grad_(True) on them")
    steps = sum(1 for _ in _rows(data, plan.size, seed, 0))
    own = {str(i): _real(w.detach()) for i, w in enumerate(weights)}
    adam = adam_init(own)
    with seeded(derive(seed, "noise")):
        for epoch in range(plan.epochs):
            network.train()
            rates = [plan.lr * _rate((epoch + i / steps) / plan.epochs) for i in range(steps)]
            adam = _epoch(network, data, head, (weights, own, adam), rates, plan.size, seed, epoch)
            if plan.over:
                break
    network.eval()


def length_of(fresh: Callable[[], nn.Module], data: Data, head: Head, plan: Plan, loss: float, seed: int) -> Plan:
    """How many epochs lead a fresh network to a loss.

    The logarithm of the loss above its least (0 for classes) is taken for linear in that of the epochs. From the
    lengths that were tried the next one follows, 1.5 to 4 times as long or short as one of these, until the loss lies
    between the ends of two trainings, or the length within a seventh of the last. Beyond 12,000 steps no length is
    tried.

    Args:
        fresh: Makes a network that has seen nothing.
        data: All rows.
        head: How outputs are read.
        plan: How it is trained.
        loss: The loss to be reached.
        seed: Seed of the training.

    Returns:
        The plan with that length.
    """
    least, tried, steps = head.least(data), dict[int, float](), -(-data.n // plan.size)
    most, wanted, epochs = max(_FIRST, _AT_MOST // steps), max(loss - least, _TINY), _FIRST
    while True:
        network = fresh()
        plainly(network, data, head, replace(plan, epochs=epochs), seed)
        tried[epochs] = math.log(max(mean_loss(network, data, head) - least, _TINY) / wanted)
        length, sure = _length(tried, most)
        length = min(max(length, 1), most)
        if sure or length in tried or plan.over:
            return replace(plan, epochs=length)
        epochs = length


def _length(tried: dict[int, float], most: int) -> tuple[int, bool]:
    # The length at which the logarithm of the loss, less that of the one wanted, is 0; and whether it is known.
    enough = min((e for e in tried if tried[e] <= 0), default=None)
    short = max((e for e in tried if tried[e] > 0 and (enough is None or e < enough)), default=None)
    if enough is not None and short is not None:
        share = tried[short] / (tried[short] - tried[enough])
        return round(short * (enough / short) ** share), True
    last, *others = sorted(tried, reverse=enough is None)
    slope = (tried[last] - tried[others[0]]) / math.log(last / others[0]) if others else -1.0
    step = -tried[last] / min(slope, -_FLAT)
    length = last * math.exp(min(step, math.log(most)))
    if others and (abs(step) < _CLOSE or min(length, last * math.exp(_FURTHEST)) > most * math.exp(_CLOSE)):
        return round(length), True
    step = min(max(abs(step), _NEAREST), _FURTHEST)
    return round(last * math.exp(step if enough is None else -step)), False


def mean_loss(network: nn.Module, data: Data, head: Head) -> float:
    """The mean loss of a network's outputs in eval mode."""
    return float(head.losses(head.outputs(network, data.x), data.y.cpu()).double().mean())


def by_person(train: Train, network: nn.Module, data: Data, seed: int) -> nn.Module:
    """A network, in eval mode, after a person's own training on the rows it may see, which returns it or nothing."""
    try:
        with seeded(derive(seed, "train")):
            found = train(network, data)
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        raise InputError("train(network, data) to train the network", got, "try it on the data yourself") from error
    if found is not None and not isinstance(found, nn.Module):
        raise InputError("train(network, data) to return the network or None", f"a {type(found).__name__}", "return it")
    return (network if found is None else found).eval()


def _epoch(
    network: nn.Module,
    data: Data,
    head: Head,
    moved: tuple[list[nn.Parameter], Params, AdamState],
    rates: Sequence[float],
    size: int,
    seed: int,
    epoch: int,
) -> AdamState:
    place, total = next(network.parameters()).device, 0.0
    weights, own, adam = moved
    for (x, y), rate in zip(_rows(data, size, seed, epoch), rates, strict=True):
        for w in weights:
            w.grad = None
        loss = head.losses(head.read(head.call(network, x.to(place, copy=True))), y.to(place)).mean()
        loss.backward()
        # Of small networks torch's own optimiser takes a quarter of a step, most of it bookkeeping.
        grads = {k: _real(w.grad) for (k, w) in zip(own, weights, strict=True) if w.grad is not None}
        adam = adam_step_({k: own[k] for k in grads}, grads, adam, rate)
        total += float(loss.detach())
    if not total < float("inf"):
        raise NonFiniteError("a finite training loss", f"{total} in epoch {epoch + 1}", "give your own train=")
    return adam


def _real(w: Tensor) -> Tensor:
    return torch.view_as_real(w) if w.is_complex() else w


def _rate(share: float) -> float:
    # A share of the peak: up in the first tenth of a cycle, then down to nought.
    if share < _WARM:
        return 0.1 + 0.9 * share / _WARM
    return 0.5 * (1 + math.cos(math.pi * (share - _WARM) / (1 - _WARM)))


def _rows(data: Data, size: int, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    # A last row alone has no batch statistics: it waits for another epoch.
    for x, y, _ in data.batches(size, seed, epoch):
        if len(x) > 1 or data.n == 1:
            yield x, y
