"""`Descent`: networks trained each for itself until they make no error, and for some epochs more.

Whether training samples the posterior is a question about runs that differ in all that is random about a run: where it
starts, the order of its batches, and when it stops. So here members share nothing but the data. Each draws an order of
its own every epoch. It stops at the end of the first epoch at which it fits all labels; its weights are kept there, and
``beyond`` epochs later again, so that what overtraining does is told from pairs. Members that are done leave the rest
alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_fields, check_positive, check_whole
from novacula.core.errors import InputError
from novacula.core.params import Params, detach, unstack
from novacula.data.data import Data
from novacula.inference.method import Batching, Info, Start
from novacula.inference.optimising.adam import AdamState, adam_init, adam_step_
from novacula.posteriors.base import Point, Posterior
from novacula.posteriors.mixture import mixture
from novacula.target import Density, Target
from novacula.target.batch import Batch
from novacula.target.many import outputs
from novacula.target.margins import check_fittable, margins
from novacula.target.own import Loss, coded, own_gradient

_LEAST = 16
"""Members that are too few to be taken apart from those that are done."""


@dataclass(frozen=True, eq=False)
class DescentState:
    """M members, of which those in ``rows`` are still evaluated."""

    params: Params  # of the members in rows, ``(A, *shape)``
    adam: AdamState  # of these; for SGD, the mean gradient is in ``m``
    rows: Tensor  # shape ``(A,)``
    order: Tensor  # of the examples in this epoch, shape ``(M, N)``
    stops: Tensor  # steps taken at the stop; −1 before it, −2 of members that diverged, shape ``(M,)``
    snapshots: Params  # weights at the stop and ``beyond``, those at the start where there are none: ``(K, M, *shape)``
    data: Data = field(metadata={"checkpoint": False})
    coded: Tensor = field(metadata={"checkpoint": False})  # labels as the loss takes them


@dataclass(frozen=True)
class Descent:
    """Descend the loss of each member's own batches until it fits all labels; the prior has no part in it.

    A step of the run is one of every member that is left, and the run ends when none is. ``steps`` is the most that may
    be taken. Fitting is as in `Splitting`: the output of the right class is the largest, or of 0-1 labels each output
    has its sign.

    Args:
        optimiser: ``"sgd"``, or ``"adam"``.
        lr: Its learning rate, constant.
        momentum: Of ``"sgd"``.
        batch_size: Examples of a batch; the last of an epoch may have fewer.
        loss: ``"likelihood"``, which is cross-entropy for classes; or ``"squared"``, half the squared distance of
            outputs to ±1, of several classes to one-hot rows.
        beyond: Epochs after the stop at which weights are kept again, increasing.

    Raises:
        InputError: If a number is outside its range.

    Example:
        >>> Descent("adam", lr=1e-2, beyond=(64,)).kept
        2
    """

    optimiser: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.0
    batch_size: int = 8
    loss: Loss = "likelihood"
    beyond: tuple[int, ...] = ()

    batching: Batching = field(default="full", init=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        check_positive("lr", self.lr)
        check_whole("batch_size", self.batch_size)
        if not 0 <= self.momentum < 1 or (self.momentum and self.optimiser == "adam"):
            raise InputError("momentum from 0 to 1, of 'sgd'", f"{self.momentum:g}", "leave it out")
        if not isinstance(self.beyond, tuple) or list(self.beyond) != sorted({int(e) for e in self.beyond if e > 0}):
            raise InputError("beyond as increasing numbers of epochs", repr(self.beyond), "beyond=(16, 64)")

    @property
    def kept(self) -> int:
        """How often a member's weights are kept."""
        return 1 + len(self.beyond)

    def init(self, target: Density, data: Data | None, rng: torch.Generator, start: Start) -> DescentState:
        """Start where the members start."""
        if not isinstance(target, Target) or data is None:
            raise InputError("a network's Target for Descent", "a plain log-density", "use nv.MAP for a density")
        if target.averaged is not None or target.forward.trains(data.x).differs:
            got = "one with an invariance" if target.averaged is not None else "one with BatchNorm or dropout"
            raise InputError("a network that is the same function in training", got, "leave it out of the network")
        check_fittable(target, data)
        m, params = start.members, detach(start.params)
        return DescentState(
            params,
            adam_init(params),
            torch.arange(m),
            torch.zeros(m, data.n, dtype=torch.int64),
            torch.full((m,), -1),
            {k: w.expand(self.kept, *w.shape).clone() for k, w in params.items()},
            data,
            coded(data.y, self.loss, int(target.forward(target.params(), data.x[:1]).shape[1])),
        )

    def step(
        self, target: Target, state: DescentState, batch: Batch, rng: torch.Generator
    ) -> tuple[DescentState, Info]:
        """One step of each member, and after the last of an epoch a look at which fit."""
        n = state.data.n
        size = min(self.batch_size, n)
        epoch = math.ceil(n / size)
        at = batch.step % epoch
        # Of all members, whether they are done or not: who leaves when decides nothing about the others.
        order = torch.rand(state.order.shape, generator=rng).argsort(1) if at == 0 else state.order
        index = order[state.rows, at * size : (at + 1) * size].to(state.data.x.device)
        losses, grads = own_gradient(target, state.params, state.data.x[index], state.coded[index], self.loss)
        going = state.stops[state.rows] != -2
        losses = losses[going.to(losses.device)]
        finite = losses[torch.isfinite(losses)]
        loss = float(finite.mean()) if len(finite) else 0.0  # of members that all diverged there is none
        state = replace(state, adam=self._move(state.params, grads, state.adam), order=order)
        if at < epoch - 1:
            return state, Info(loss)
        state, left = self._looked(target, state, batch.step + 1, epoch)
        shares = {"fit": float((state.stops >= 0).double().mean()), "left": left / len(state.stops)}
        return state, Info(loss, shares, done=left == 0)

    def posterior(self, target: Target, state: DescentState) -> Posterior:
        """The members where they were kept last."""
        return mixture([Point(w, target) for w in unstack({k: w[-1] for k, w in state.snapshots.items()})])

    def _move(self, params: Params, grads: Params, adam: AdamState) -> AdamState:
        if self.optimiser == "adam":
            return adam_step_(params, grads, adam, self.lr)
        for k, w in params.items():
            if self.momentum:
                grads[k] = adam.m[k].mul_(self.momentum).add_(grads[k])
            w.sub_(grads[k], alpha=self.lr)
        return adam

    def _looked(self, target: Target, state: DescentState, step: int, epoch: int) -> tuple[DescentState, int]:
        # Who fits now, whose weights are due, and who is left.
        f = outputs(target, state.params, state.data.x)
        finite = torch.isfinite(f).all(2).all(1).cpu()
        fits = (margins(f, state.data.y) > 0).all(1).cpu() & finite
        stops, rows = state.stops.clone(), state.rows
        own = stops[rows]
        own = torch.where(~finite & (own == -1), -2, torch.where(fits & (own == -1), step, own))
        stops[rows] = own
        for i, after in enumerate((0, *self.beyond)):
            due = torch.nonzero((own >= 0) & (own + after * epoch == step))[:, 0]
            for k, w in state.params.items():
                state.snapshots[k][i, rows[due].to(w.device)] = w[due.to(w.device)]
        last = (self.beyond or (0,))[-1]
        left = (own == -1) | ((own >= 0) & (own + last * epoch > step))
        return self._without(replace(state, stops=stops), left), int(left.sum())

    def _without(self, state: DescentState, left: Tensor) -> DescentState:
        # By halves, so that there are few sizes to record.
        size = len(left)
        while size // 2 >= max(_LEAST, int(left.sum())):
            size //= 2
        if size == len(left):
            return state
        chosen = torch.argsort(~left, stable=True)[:size]
        keep: Callable[[Params], Params] = lambda w: {k: v[chosen.to(v.device)] for k, v in w.items()}  # noqa: E731
        adam = AdamState(keep(state.adam.m), keep(state.adam.v), state.adam.count)
        return replace(state, params=keep(state.params), adam=adam, rows=state.rows[chosen])
