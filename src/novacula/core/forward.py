"""A network as a function of its weights: ``f(w, x)``, over `torch.func.functional_call`.

The user's module is copied once and never changed: not its weights, buffers, train/eval flag or device. Weights that
are frozen (``requires_grad=False``) stay constants of the function. A weight used in several places is one weight.

A tensor that requires a gradient and is no parameter (a plain attribute, a buffer) is a hyperparameter of the user's
own: the copy shares it, so that the gradient of an evidence reaches the very tensor that the user holds. What a module
names in a class attribute ``learnable = ("name", …)``, as priors and likelihoods do, can also be learned.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from novacula.core.alone import check_alone
from novacula.core.attention import has_attention, plain_attention
from novacula.core.brief import brief
from novacula.core.checks.tensors import check_outputs
from novacula.core.errors import InputError, NonFiniteError, NovaculaWarning
from novacula.core.many import Notes
from novacula.core.params import Params, detach
from novacula.core.units import Units


@dataclass(frozen=True, eq=False)
class Forward:
    """The function ``f(w, x)`` that a module computes.

    Args:
        module: Any `nn.Module` that maps ``(N, …)`` to ``(N, C)``. It is deep-copied, but for tensors that require a
            gradient and are no parameters, which are shared.
        units: Scales between the network and its data; by default none.

    Attributes:
        frozen: Names of the parameters held constant because they do not require a gradient.
        fused: Whether the module has attention, whose fused kernels have no derivative under vmap: it is then
            computed from its parts (see `novacula.core.attention`).
        notes: What is found out about the network while many of it are evaluated.

    Raises:
        InputError: If the module has no trainable parameter, or a BatchNorm layer in train mode (its output for one
            example would depend on the others, so that no per-example likelihood exists).

    Example:
        >>> f = Forward(nn.Linear(3, 2))
        >>> f(f.params(), torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """

    module: nn.Module
    units: Units = field(default_factory=Units, repr=False)
    frozen: tuple[str, ...] = field(init=False)
    fused: bool = field(init=False, repr=False)
    notes: Notes = field(init=False, repr=False)

    __repr__ = brief

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Module):
            cls = self.module if isinstance(self.module, type) else None
            got = f"the class {cls.__name__}" if cls else f"a {type(self.module).__name__}"
            hint = f"make one: {cls.__name__}(…)" if cls else "pass the network itself, not its output"
            raise InputError("an nn.Module", got, hint)
        lazy = [k for k, w in self.module.named_parameters() if isinstance(w, nn.parameter.UninitializedParameter)]
        if lazy:
            got = f"{', '.join(lazy)} of lazy layers, which have no shape yet"
            raise InputError("a network with its weights", got, "call it once on a batch before")
        with _ShareHyperparameters():
            module = copy.deepcopy(self.module)
        trainable = [name for name, w in module.named_parameters() if w.requires_grad]
        if not trainable:
            n_frozen = sum(1 for _ in module.parameters())
            raise InputError(
                "a network with trainable parameters",
                f"{type(module).__name__} with {n_frozen} parameters, all frozen"
                if n_frozen
                else "one without parameters",
                "call requires_grad_(True) on the parameters to learn, or pass another network",
            )
        for name, layer in module.named_modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training:
                raise InputError(
                    "BatchNorm layers in eval mode",
                    f"layer {name or type(layer).__name__!r} in train mode, whose output mixes the examples of a batch",
                    "call network.eval() (statistics stay as they are), or use GroupNorm or LayerNorm",
                )
        frozen = tuple(name for name, w in module.named_parameters() if not w.requires_grad)
        if frozen:
            warnings.warn(
                f"parameters held constant (requires_grad=False): {', '.join(frozen)}", NovaculaWarning, stacklevel=3
            )
        object.__setattr__(self, "module", module)
        object.__setattr__(self, "frozen", frozen)
        object.__setattr__(self, "fused", has_attention(module))
        object.__setattr__(self, "notes", Notes(type(module).__name__))

    def params(self) -> Params:
        """The module's trainable weights, as they came.

        Returns:
            Detached clones, one per distinct parameter (tied weights appear once, under their first name).
        """
        return detach({name: w for name, w in self.module.named_parameters() if name not in self.frozen})

    def learnable(self) -> dict[str, Tensor]:
        """The hyperparameters that the module, or one inside it, names in its class attribute ``learnable``.

        Returns:
            Tensors by name, with the module's path before it.

        Raises:
            InputError: If a name is not that of a plain tensor of floats.
        """
        found: dict[str, Tensor] = {}
        for path, layer in self.module.named_modules():
            names = getattr(type(layer), "learnable", ())
            for name in names if isinstance(names, tuple) else ():
                value = getattr(layer, name, None)
                if not isinstance(value, Tensor) or isinstance(value, nn.Parameter) or not value.is_floating_point():
                    got = f"a {type(value).__name__} under {name!r} of {type(layer).__name__}"
                    raise InputError("a plain tensor of floats to learn", got, f"self.{name} = torch.tensor(1.0)")
                found[f"{path}.{name}" if path else name] = value
        return found

    def with_learnable(self, values: dict[str, Tensor]) -> Forward:
        """The same function with other hyperparameters.

        Args:
            values: New tensors under names that `learnable` gives; others are kept.

        Returns:
            A new function: its copy of the module shares weights and buffers with this one's.
        """
        own = self.learnable()
        memo: dict[int, Any] = {id(w): w for w in [*self.module.parameters(), *self.module.buffers()]}
        memo |= {id(own[name]): value for name, value in values.items()}
        other = copy.copy(self)
        with _ShareHyperparameters():
            object.__setattr__(other, "module", copy.deepcopy(self.module, memo))
        return other

    def over(self, module: nn.Module, units: Units | None = None) -> Forward:
        """The function of another module in the same units, or in others."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NovaculaWarning)  # said when this one was made
            return Forward(module, self.units if units is None else units)

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        """Evaluate the network.

        Args:
            params: Weights by name.
            x: Inputs of shape ``(N, …)``.

        Returns:
            Outputs ``f`` of shape ``(N, C)``.
        """
        # The module gets inputs of its own: one that begins with an in-place layer writes on what it is given.
        inputs = self.units.inward(x)
        inputs = inputs.clone() if inputs is x else inputs
        with plain_attention() if self.fused else nullcontext():
            return self.units.outward(functional_call(self.module, params, (inputs,)))

    def attempt(self, params: Params, x: Tensor) -> Tensor:
        """Evaluate the network; whatever it raises becomes the cause of an error that says what it was given.

        Args:
            params: Weights by name.
            x: Inputs of shape ``(N, …)``.

        Returns:
            What the network gives.

        Raises:
            InputError: If the network fails.
        """
        try:
            return self(params, x)
        except Exception as error:
            raise InputError(
                f"a network that accepts inputs of shape {tuple(x.shape)} and dtype {x.dtype}",
                f"{type(error).__name__}: {error}",
                "check the first layer's size and the data's shape (images are N×channels×height×width; ids of "
                "tokens stay whole numbers with Data(…, tokens=True))",
            ) from error

    def average(self, params: Params, xs: Tensor) -> Tensor:
        """Average the outputs over transformed copies of each input: ``f̄(x) = 1/S Σ_s f(w, x_s)``.

        Args:
            params: Weights by name.
            xs: Inputs of shape ``(N, S, …)``.

        Returns:
            Averaged outputs of shape ``(N, C)``.
        """
        n, s = xs.shape[:2]
        f = self(params, xs.flatten(0, 1))
        return f if s == 1 else f.unflatten(0, (n, s)).mean(1)

    def check(self, x: Tensor) -> int:
        """Try the network on a few inputs, and refuse what no likelihood could use.

        Args:
            x: A few inputs, shape ``(N, …)``.

        Returns:
            The number of outputs C.

        Raises:
            InputError: If the network fails on ``x``, does not return an ``(N, C)`` tensor, or gives different outputs
                for the same input (dropout in train mode, sampling), or others for an example alone than in a batch.
            NonFiniteError: If it returns NaN or infinite values.
        """
        params = self.params()
        devices = [x.device] if x.device.type == "cuda" else []
        # The module may use the global generator; forking it leaves the caller's stream untouched.
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            first, second = self.attempt(params, x), self.attempt(params, x)
        check_outputs(first, len(x), f"inputs of shape {tuple(x.shape)}")
        if not torch.isfinite(first).all():
            raise NonFiniteError(
                "finite network outputs",
                "NaN or infinity on the first inputs",
                "check the initialisation and the inputs' scale",
            )
        if not torch.equal(first, second):
            raise InputError(
                "a deterministic network",
                "two calls with the same input that differ",
                "call network.eval() (dropout in train mode is random), or remove the sampling",
            )
        with torch.random.fork_rng(devices=devices):
            check_alone(self.module, lambda inputs: self(params, inputs), x, first)
            self._check_gradient(params, x)
        return first.shape[1]

    def _check_gradient(self, params: Params, x: Tensor) -> None:
        with torch.enable_grad():
            f = self({k: w.requires_grad_() for k, w in params.items()}, x)
        if not f.requires_grad:
            raise InputError(
                "network outputs with a gradient in the weights",
                "outputs that are detached from the weights, or constant",
                "leave out detach(), torch.no_grad() and .data in forward",
            )


class _ShareHyperparameters(TorchFunctionMode):
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
