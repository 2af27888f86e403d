"""`calibrate`: calibrated probabilities, intervals and sets of a person's own network, by copies of it.

Setting rows aside for calibration costs accuracy. Instead, K copies of the network are trained as it was, each blind to
one fold; together they predict every row without having seen it, and what they say gives the temperature or the noise
of the network that has seen all rows. Two things make copies differ from the network:

- **Length of training.** It decides how sure a network is of itself. With ``train=`` a person's own function trains the
  copies; without, they are trained for as long as leads a fresh network to the network's loss (`training`).
- **Fewer rows.** Copies see ``(K − 1)/K`` of them, and err more than the network does. Each is trained a second time on
  half of its rows; what that changes tells what all rows would (`novacula.study.growth`).
"""

from __future__ import annotations

import copy
import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.modules.admitted import check_python
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.data.folds import folds_of, given_folds
from novacula.data.overlap import shared_rows
from novacula.study.calibrating.head import Head, head_of
from novacula.study.calibrating.judge import check_alike, is_trained, sharper
from novacula.study.calibrating.result import Calibrated
from novacula.study.calibrating.starts import made_by, redrawn
from novacula.study.calibrating.training import (
    Plan,
    Tell,
    Train,
    by_person,
    default_plan,
    length_of,
    mean_loss,
    plainly,
)

FOLDS = 3
_TOO_MANY = 0.5


def calibrate(
    module: nn.Module,
    data: Any,
    *,
    train: Train | None = None,
    folds: int | Tensor = FOLDS,
    seed: int = 0,
    members: int = 1,
    calibration: Any = None,
    start: nn.Module | Callable[[], nn.Module] | None = None,
    trained: bool | None = None,
    epochs: int | None = None,
    seconds: float | None = None,
    progress: Tell | None = None,
) -> Calibrated:
    """Calibrate a network by its training data alone, or by rows that were set aside.

    Args:
        module: The network; it is copied and never changed. One that predicts the rows better than a constant is taken
            for trained, and kept as the full network; another one is trained on everything.
        data: Its training data: `Data`, a pair ``(x, y)``, or a dataset; as the network takes them.
        train: The person's own training, ``train(network, data)``: in place, or it returns a network. Rows are
            ``data.x`` and ``data.y``; of several parts, ``data.inputs`` has these by name. By default Adam
            (`novacula.study.calibrating.training`).
        folds: K, how many copies; or the fold of each row, 0 to K − 1, where rows belong together.
        seed: Seed of everything random.
        members: How many full networks predict together; of more than one, the others are trained on everything, and
            each fold has as many copies.
        calibration: Rows that the network was not trained on. Then nothing is trained, and ``data`` may be None.
        start: The network before its training (a pretrained body with a fresh head, say), or a function that makes it,
            from which copies begin; by default the trained network with its weights drawn anew.
        trained: Whether the network is trained, where the guess is wrong.
        epochs: Passes over the data of each network that is trained; by default copies of a trained network take as
            many as lead a fresh one to its loss, and others 1,500 steps, or 20 epochs if these are more. Not with
            ``train``.
        seconds: When training ends at the latest.
        progress: Called when a network is trained with (networks done, networks, nothing).

    Returns:
        The calibrated network.

    Raises:
        InputError: If network and data do not fit together, the weights cannot be drawn anew, most rows of the
            calibration set are training rows, or an option is wrong.

    Warns:
        NovaculaWarning: If the copies are not like the network.

    Example:
        >>> import novacula as nv
        >>> data = nv.load("digits").subset(range(300))
        >>> cal = nv.calibrate(nv.networks.make("mlp", data.x_shape, 10, width=16), data, epochs=4)
        >>> cal.predict(data.x[:2]).mean().shape, len(cal.copies)
        (torch.Size([2, 10]), 3)
    """
    if members < 1:
        raise InputError("one or more members", str(members), "use members=1")
    if train is not None and epochs is not None:
        raise InputError("either train= or epochs=", "both", "leave out epochs=: your own training has its length")
    rows = None if data is None else as_data(data)
    deadline = None if seconds is None else time.monotonic() + seconds
    if calibration is not None:
        return _set_aside(module, rows, as_data(calibration), members, seed)
    if rows is None:
        raise InputError("the network's training data", "None", "pass data=, or calibration=")
    head = head_of(module, rows)
    check_python(module)
    network = copy.deepcopy(module)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NovaculaWarning)
        which = given_folds(rows, folds, derive(seed, "folds"))
    said = [str(w.message) for w in caught if issubclass(w.category, NovaculaWarning)]
    ready, why = is_trained(network, rows, head, trained)
    plan = default_plan(rows.n, epochs, deadline)
    work = _Work(network, rows, head, train, start, plan, seed, ready, progress, members, int(which.max()) + 1)
    if ready and epochs is None and train is None:
        work = work.as_long_as(network)
    full, copies = work.full(), work.copies(which)
    outputs = work.unseen(copies, which)
    half = work.unseen(work.copies(which, half=True), which)
    if train is None and ready:  # what a person's own training makes of fewer rows is theirs to judge
        said += check_alike(full[0], [nets[0] for nets in copies], rows, which, head)
    for text in said:
        warnings.warn(text, NovaculaWarning, stacklevel=2)
    decided = (why, *work.decided)
    found = Calibrated(head, full, copies, rows, outputs, which, half, seed, decided, tuple(said))
    if train is None and ready:
        found = replace(found, decided=(*found.decided, *sharper(found.temperature, found.temperature_stderr)))
    return found


def as_data(data: Any) -> Data:
    """Data from what people have: itself, a pair ``(x, y)``, a dataset or loader."""
    if isinstance(data, Data):
        return data
    if isinstance(data, (tuple, list)) and len(data) == 2:
        return Data(*data)
    return Data.from_dataset(data)


@dataclass(frozen=True, eq=False)
class _Work:
    """What trains the networks."""

    network: nn.Module
    data: Data
    head: Head
    train: Train | None
    start: nn.Module | Callable[[], nn.Module] | None
    plan: Plan
    seed: int
    ready: bool  # whether the network is trained
    progress: Tell | None
    members: int
    folds: int
    loss: float | None = None  # the trained network's, where the epochs come from it
    counted: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def decided(self) -> tuple[str, ...]:
        """How copies begin and are trained, in words."""
        begin = "from the start that was given" if self.start is not None else "with weights drawn anew"
        if self.start is None and not self.ready:
            begin = "from the network's first weights"
        how = "by your own train="
        if self.train is None:
            how = f"by Adam, for {self.plan.epochs:,} epochs"
            if self.loss is not None:
                how += f", which lead another network to the network's loss, {self.loss:.3g}"
        return (f"{self.folds} copies, each blind to a fold, and as many of half the rows were trained {begin}, {how}",)

    def as_long_as(self, network: nn.Module) -> _Work:
        """The same with the epochs that lead a fresh network to the loss of a trained one."""
        loss, seed = mean_loss(network, self.data, self.head), derive(self.seed, "length")
        plan = length_of(lambda: self._begun(0, "length"), self.data, self.head, self.plan, loss, seed)
        return replace(self, plan=plan, loss=loss)

    def full(self) -> tuple[nn.Module, ...]:
        """The networks of all rows."""
        first = self.network if self.ready else self._trained(self._begun(0, "full"), self.data, 0, "full")
        others = [self._trained(self._begun(m, "full"), self.data, m, "full") for m in range(1, self.members)]
        return (first.eval(), *others)

    def copies(self, which: Tensor, *, half: bool = False) -> tuple[tuple[nn.Module, ...], ...]:
        """For each fold the networks that are blind to it, and to half of the other rows too where that is asked."""
        found = []
        for k in range(self.folds):
            seen, key = self.data.subset((which != k).to(self.data.x.device)), f"fold {k}"
            if half:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", NovaculaWarning)  # said of the folds themselves
                    part = folds_of(seen, 2, derive(self.seed, "half", k)) == 0
                seen, key = seen.subset(part.to(seen.x.device)), f"half of fold {k}"
            found.append(tuple(self._trained(self._begun(m, key), seen, m, key) for m in range(self.members)))
        return tuple(found)

    def unseen(self, copies: Sequence[Sequence[nn.Module]], which: Tensor) -> Tensor:
        """The outputs for each row of the networks that are blind to it, ``(M, n, C)``."""
        rows = [(which == k).nonzero()[:, 0] for k in range(self.folds)]
        each = [
            torch.stack([self.head.outputs(net, self.data.x[r.to(self.data.x.device)]) for net in nets])
            for nets, r in zip(copies, rows, strict=True)
        ]
        return torch.cat(each, 1)[:, torch.cat(rows).argsort()]

    def _begun(self, member: int, key: str) -> nn.Module:
        seed = derive(self.seed, "start", key, member)
        if self.start is not None:
            return made_by(self.start, seed)
        # Members of one beginning would be the same network, but for the order of the rows.
        return redrawn(self.network, seed) if self.ready or member else copy.deepcopy(self.network)

    def _trained(self, network: nn.Module, data: Data, member: int, key: str) -> nn.Module:
        seed = derive(self.seed, "training", key, member)
        if self.train is not None:
            network = by_person(self.train, network, data, seed)
        else:
            plainly(network, data, self.head, self.plan, seed)
        if self.progress is not None:
            total = self.members * (2 * self.folds + 1) - self.ready
            self.progress(next(self.counted), total, {})
        return network


def _set_aside(module: nn.Module, data: Data | None, rows: Data, members: int, seed: int) -> Calibrated:
    if members > 1:
        raise InputError("members=1 with a calibration set", str(members), "leave out calibration=, or members=")
    said: list[str] = []
    if data is not None:
        rows, said = _unseen_alone(data, rows)
    head = head_of(module, rows)
    network = copy.deepcopy(module).eval()
    outputs = head.outputs(network, rows.x).unsqueeze(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NovaculaWarning)  # folds serve to choose the noise alone: no class is unseen
        folds = folds_of(rows, min(FOLDS, rows.n), derive(seed, "folds"))
    for text in said:
        warnings.warn(text, NovaculaWarning, stacklevel=3)
    decided = (f"the network was kept as it is, and calibrated on {rows.n:,} rows set aside",)
    return Calibrated(head, (network,), (), rows, outputs, folds, None, seed, decided, tuple(said))


def _unseen_alone(data: Data, rows: Data) -> tuple[Data, list[str]]:
    # What a network was trained on it fits better than what it was not, and nothing can be calibrated by that.
    known = shared_rows(data, rows)
    count = int(known.sum())
    if rows.fingerprint == data.fingerprint or count > _TOO_MANY * rows.n:
        raise InputError(
            "calibration rows that the network was not trained on",
            f"{count:,} of {rows.n:,} that are training rows",
            "leave out calibration=: copies that are blind to a fold each need no rows set aside",
        )
    if not count:
        return rows, []
    text = f"{count:,} of {rows.n:,} calibration rows are training rows too, and were left out"
    return rows.subset((~known).to(rows.x.device)), [text]
