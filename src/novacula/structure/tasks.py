"""`share`: a network for several tasks, in whose layers weights are shared and private.

For an example of task t, each layer computes ``y = (W + V_t) x + b + c_t``: W, b are shared and V_t, c_t are the task's
own. As each tensor has a precision of its own in the prior, the evidence decides layer by layer what tasks have in
common: where they have all, private precisions rise, and where they have nothing, the shared ones do. The tasks may
come with examples of their own, or each example with labels of all (as a row for each task).

References:
    Learning multiple tasks with kernel methods. T. Evgeniou, C. A. Micchelli, M. Pontil, 2005.
    Multitask learning. R. Caruana, 1997.
"""

from __future__ import annotations

import copy
import threading
from typing import Any

import torch
from torch import Tensor, nn

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.structure.parts import Parted, silent, total


class Which:
    """Of which task each row is, ``(N, T)``, while a network is called; of one thread."""

    def __init__(self) -> None:
        self._local = threading.local()

    def __deepcopy__(self, memo: dict[int, Any]) -> Which:
        """Another one, the same for all layers of a copy."""
        return memo.setdefault(id(self), Which())

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Nothing of it is kept."""
        return Which, ()

    @property
    def rows(self) -> Tensor:
        """Ones and noughts, ``(N, T)``."""
        found: Tensor | None = getattr(self._local, "rows", None)
        if found is None:
            raise InputError("a layer that is called by its network", "a call of its own", "call network(x, task)")
        return found

    def put(self, rows: Tensor | None) -> None:
        """Set it, or take it away."""
        self._local.rows = rows


class Shared(Parted):
    """A layer with shared weights, and private ones beside them."""

    parts = ("shared", "private")

    def __init__(self, layer: nn.Linear | nn.Conv2d, tasks: int, which: Which) -> None:
        super().__init__()
        self.which = which
        self.shared: nn.Module | None = layer
        self.private: nn.ModuleList | None = nn.ModuleList(
            silent(copy.deepcopy(layer), layer.weight) for _ in range(tasks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Of rows ``(N, …)``, each by the weights of its task."""
        shared = None if self.shared is None else self.shared(x)
        if self.private is None:
            return total([shared])
        rows, made = self.which.rows, list[Tensor | None]([shared])
        for t, layer in enumerate(self.private):
            own = layer(x)
            made.append(own * rows[:, t].to(own).reshape(-1, *[1] * (own.ndim - 1)))
        return total(made)


class Tasks(nn.Module):
    """A network that is told of which task each row is."""

    def __init__(self, network: nn.Module, tasks: int, which: Which) -> None:
        super().__init__()
        self.network, self.tasks, self.which = network, tasks, which

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        """Outputs of rows ``(N, …)`` of tasks ``(N,)`` or ``(N, 1)``."""
        self.which.put(task.reshape(-1, 1) == torch.arange(self.tasks, device=task.device))
        try:
            return self.network(x)
        finally:
            self.which.put(None)


def share(module: nn.Module, tasks: int) -> nn.Module:
    """A network for several tasks, with shared and private weights in each dense layer and convolution.

    Private weights begin at nought, so that all tasks begin with the function of the module that came. All tasks have
    its outputs: a task of fewer classes leaves some unused.

    Args:
        module: The network of one task; it is not changed.
        tasks: T, two or more.

    Returns:
        A network of ``(x, task)`` with tasks 0 … T − 1, for ``nv.Data({"x": x, "task": task}, y)``;
        `novacula.study.relaxation` decides what each layer keeps.

    Raises:
        InputError: If there is but one task, or no such layer.

    Example:
        >>> network = share(nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), tasks=2)
        >>> network(torch.zeros(5, 4), torch.tensor([0, 1, 1, 0, 1])).shape
        torch.Size([5, 2])
    """
    check_whole("tasks", tasks, least=2)
    found, which = copy.deepcopy(module), Which()
    layers = {name: layer for name, layer in found.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))}
    if not layers:
        raise InputError("a network with dense layers or convolutions", "none", "pass another network")
    if "" in layers:
        return Tasks(Shared(layers[""], tasks, which), tasks, which)
    for name, layer in layers.items():
        found.set_submodule(name, Shared(layer, tasks, which))
    return Tasks(found, tasks, which)
