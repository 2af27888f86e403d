"""Copies of modules that share their hyperparameters with the original."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode


class SharedHyperparameters(TorchFunctionMode):
    """While it is active, `copy.deepcopy` keeps tensors that require a gradient and are no parameters.

    A copy of a leaf would be another leaf, and a copy of a tensor with a graph is refused by torch. `nn.Parameter`
    copies itself without asking the mode. Tensors in lists or in objects of the module's are met as well.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.__deepcopy__ and args[0].requires_grad:
            return args[0]
        return func(*args, **(kwargs or {}))
