"""Copies of modules that share what a person's gradients must reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class ShareHyperparameters(TorchFunctionMode):
    """While it is active, `copy.deepcopy` keeps tensors that require a gradient and are no parameters.

    A copy of a leaf would be another leaf, and a copy of a tensor with a graph is refused by torch. Parameters are
    copied: those of a kind of tensor of its own ask the mode, the others do not. Tensors in lists or in objects of the
    module's are met as well.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.__deepcopy__ and args[0].requires_grad and not isinstance(args[0], nn.Parameter):
            return args[0]
        return func(*args, **(kwargs or {}))
