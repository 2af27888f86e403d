"""A network as a function of its weights: ``f(w, x)``, over `torch.func.functional_call`.

The user's module is copied once and never changed: not its weights, buffers, train/eval flag or device. Weights that
are frozen (``requires_grad=False``) stay constants of the function. A weight used in several places is one weight.

The function is that of eval mode. `Forward.train` is the network as it trains (`novacula.core.modules.training`): it
also gives back the buffers that a pass moves. A point may bring values of buffers among its weights, by their names:
what a member of a run holds are its weights and its statistics.

A tensor that requires a gradient and is no parameter (a plain attribute, a buffer) is a hyperparameter of the user's
own: the copy shares it, so that the gradient of an evidence reaches the very tensor that the user holds. What a module
names in a class attribute ``learnable = ("name", …)``, as priors and likelihoods do, can also be learned.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from novacula.core.alone import check_alone
from novacula.core.attention import has_attention, plain_attention
from novacula.core.brief import brief
from novacula.core.checks.tensors import check_outputs, check_same, dtype_hint
from novacula.core.errors import InputError, NonFiniteError, NovaculaWarning
from novacula.core.many import Notes
from novacula.core.modules.admitted import admitted, check_gradient, weights_kept
from novacula.core.modules.call import Others, call_with, others_of
from novacula.core.modules.chosen import choose
from novacula.core.modules.copying import ShareHyperparameters
from novacula.core.modules.outputs import logits_of
from novacula.core.modules.parts import Parts
from novacula.core.modules.precision import widened
from novacula.core.modules.recurrence import PlainRecurrence
from novacula.core.modules.training import Training, drawn_from, put_to_eval, train_mode
from novacula.core.params import Params, detach
from novacula.core.rng import global_draws
from novacula.core.units import Units

_NAMED = 12  # frozen parameters that a warning names
_FAILURES = (RuntimeError, ValueError, TypeError, IndexError)


@dataclass(frozen=True, eq=False)
class Forward:
    """The function ``f(w, x)`` that a module computes.

    Args:
        module: Any `nn.Module` that maps ``(N, …)`` to ``(N, C)``, or to an object with such ``logits``. It is
            deep-copied, but for tensors that require a gradient and are no parameters, which are shared.
        units: Scales between the network and its data; by default none.
        parts: How a row of numbers is taken apart, where the network takes inputs of several parts.

        only: Patterns of names (``"*.lora_*"``, ``"head.*"``): the parameters that are weights, whatever requires a
            gradient in the module; None for those that do.

    Attributes:
        frozen: Names of the parameters held constant because they do not require a gradient.
        others: The further names of tensors that different layers share.
        fused: Whether the module has attention, whose fused kernels have no derivative under vmap: it is then
            computed from its parts (see `novacula.core.attention`).
        recurrent: Whether it has recurrent layers, whose kernels have no rule for vmap: there they are computed from
            their parts (see `novacula.core.modules.recurrence`).
        notes: What is found out about the network while many of it are evaluated.

    Raises:
        InputError: If the module has no trainable parameter, a complex one or a scripted layer.

    Example:
        >>> f = Forward(nn.Linear(3, 2))
        >>> f(f.params(), torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """

    module: nn.Module
    units: Units = field(default_factory=Units, repr=False)
    parts: Parts | None = None
    only: Sequence[str] | None = None
    frozen: tuple[str, ...] = field(init=False)
    others: Others = field(init=False, repr=False)
    fused: bool = field(init=False, repr=False)
    recurrent: bool = field(init=False, repr=False)
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
        with ShareHyperparameters():
            module = admitted(copy.deepcopy(self.module))
        if self.only is not None:
            choose(module, self.only)
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
        frozen = tuple(name for name, w in module.named_parameters() if not w.requires_grad)
        if frozen and self.only is None:
            more = f" and {len(frozen) - _NAMED} more" if len(frozen) > _NAMED else ""
            warnings.warn(
                f"parameters held constant (requires_grad=False): {', '.join(frozen[:_NAMED])}{more}",
                NovaculaWarning,
                stacklevel=3,
            )
        put_to_eval(module)
        object.__setattr__(self, "module", module)
        object.__setattr__(self, "frozen", frozen)
        object.__setattr__(self, "others", others_of(module))
        object.__setattr__(self, "fused", has_attention(module))
        recurrent = any(isinstance(layer, nn.RNNBase | nn.RNNCellBase) for layer in module.modules())
        object.__setattr__(self, "recurrent", recurrent)
        object.__setattr__(self, "notes", Notes(type(module).__name__))

    @property
    def held(self) -> tuple[str, ...]:
        """What to say of weights that were inferred while statistics of the network's stayed as they were."""
        return () if self.notes.training is None else self.notes.training.held

    def params(self) -> Params:
        """Detached clones of the trainable weights as they came; tied ones appear once, under their first name."""
        return detach({name: w for name, w in self.module.named_parameters() if name not in self.frozen})

    def learnable(self) -> dict[str, Tensor]:
        """Tensors that the module, or one inside it, names in its class attribute ``learnable``, by path and name."""
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
        """The same function with other values of what `learnable` names; all other tensors are shared."""
        own = self.learnable()
        return self._with_tensors({id(own[name]): value for name, value in values.items()})

    def _with_tensors(self, others: Mapping[int, Tensor]) -> Forward:
        # Other tensors in the places of those with these identities; weights and buffers are shared.
        memo: dict[int, Any] = {id(w): w for w in [*self.module.parameters(), *self.module.buffers()]}
        other = copy.copy(self)
        with ShareHyperparameters():
            object.__setattr__(other, "module", copy.deepcopy(self.module, memo | dict(others)))
        return other

    def over(self, module: nn.Module, units: Units | None = None) -> Forward:
        """The function of another module in the same units, or in others."""
        return self._made(module, self.units if units is None else units, self.parts)

    def taking(self, parts: Parts | None) -> Forward:
        """The same function of inputs of several parts, or of one."""
        return self if parts == self.parts else self._made(self.module, self.units, parts)

    def _made(self, module: nn.Module, units: Units, parts: Parts | None) -> Forward:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NovaculaWarning)  # said when this one was made
            return Forward(module, units, parts)

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        """Evaluate the network at weights by name: x ``(N, …)`` to ``f (N, C)``."""
        # Pairs of numbers, which it may read as complex ones, must not lie anywhere in a vector of all weights.
        apart = {name: w.clone() if w.shape[-1:] == (2,) else w for name, w in params.items()}
        return self._evaluate(apart, x)

    def arguments(self, x: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """What the module is called with, in order and by name, for inputs ``(N, …)``; tensors of its own."""
        # A module that begins with an in-place layer writes on what it is given.
        inputs = self.units.inward(x)
        inputs = inputs.clone() if inputs is x else inputs
        return ((inputs,), {}) if self.parts is None else self.parts.arguments(inputs)

    def _evaluate(self, point: Params, x: Tensor, module: nn.Module | None = None) -> Tensor:
        module = module or self.module
        with ExitStack() as stack:
            if self.fused:
                stack.enter_context(plain_attention())
            if self.recurrent:
                stack.enter_context(PlainRecurrence())
            if self.recurrent and x.is_cuda and not module.training and _drops(module):
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            f = logits_of(call_with(module, point, *self.arguments(x), self.others))
        if not isinstance(f, Tensor):
            return f
        f = widened(f)
        # A network that differentiates inside brings a graph along, also where none is wanted.
        return self.units.outward(f if torch.is_grad_enabled() else f.detach())

    def train(self, params: Params, x: Tensor, moving: Sequence[str] = ()) -> tuple[Tensor, Params]:
        """Evaluate as it trains, with global noise: x ``(N, …)`` to outputs ``(N, C)``, and the moved buffers."""
        own = dict(self.module.named_buffers())
        point = {**params, **{k: params.get(k, own[k]).clone() for k in moving}}
        with train_mode(self.module):
            f = self._evaluate(point, x)
        return f, {k: point[k].detach() for k in moving}

    def trains(self, x: Tensor) -> Training:
        """Buffers that move in train mode, and whether there is noise, by the first of x ``(N, …)``; found out once."""
        if self.notes.training is None:
            self.notes.training = self._trains(x[:8] if len(x) > 1 else torch.cat([x, x]))
        return self.notes.training

    def _trains(self, x: Tensor) -> Training:
        params, names = self.params(), [name for name, _ in self.module.named_buffers()]
        own = {k: b.clone() for k, b in self.module.named_buffers()}
        with torch.no_grad(), global_draws(x.device, seed=0):
            still, before = self(params, x), drawn_from(x.device)
            try:
                f, after = self.train(params, x, names)
            except _FAILURES as error:
                got = f"{type(error).__name__}: {error}"
                raise InputError("a network that also works in train mode", got, "try network.train()(x)") from error
            noisy = drawn_from(x.device) != before
        if not isinstance(f, Tensor) or f.shape != still.shape:
            got = f"shape {tuple(f.shape)}" if isinstance(f, Tensor) else f"a {type(f).__name__}"
            raise InputError(f"outputs of shape {tuple(still.shape)} in train mode too", got, "return the logits alone")
        moving = tuple(k for k in names if not torch.equal(after[k], own[k]))
        with torch.no_grad(), global_draws(x.device, seed=0):
            self(params, x)
            if not _alike(self.train(params, x, names)[0], f):
                raise InputError(
                    "noise that torch draws",
                    "two passes in train mode with one seed that differ",
                    "draw it by torch.rand and the like, so that a run can be repeated",
                )
        return Training(moving, noisy, noisy or bool(moving) or not _alike(f, still))

    def holding(self, values: Mapping[str, Tensor]) -> Forward:
        """The same function with other values of buffers, by name; all other tensors are shared."""
        if not values:
            return self
        own = dict(self.module.named_buffers())
        other = self._with_tensors({id(own[k]): v.detach().to(own[k]).clone() for k, v in values.items()})
        object.__setattr__(other, "notes", Notes(self.notes.name, looped=self.notes.looped))
        other.notes.training = self.notes.training
        return other

    def attempt(self, params: Params, x: Tensor) -> Tensor:
        """Evaluate the network at x ``(N, …)``; what it raises is the cause of an error that tells its input."""
        return self._tried(lambda: self(params, x), x)

    def traced(self, x: Tensor) -> Tensor:
        """The outputs ``(N, C)`` at the module's own weights, with the graph that leads to these."""
        with torch.enable_grad(), global_draws(x.device):
            f = self({name: w.requires_grad_() for name, w in self.params().items()}, x)
        with torch.no_grad():  # what modules keep of their latest call, as pruned ones do, keeps no graph
            self(self.params(), x)
        return f

    def average(self, params: Params, xs: Tensor) -> Tensor:
        """Average over transformed copies of inputs, ``f̄(x) = 1/S Σ_s f(w, x_s)``: xs ``(N, S, …)`` to ``(N, C)``."""
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
            InputError: If the network fails on ``x``, writes on its weights, has no gradient or does not return an
                ``(N, C)`` tensor, or gives different outputs for the same input in eval mode (sampling), or others for
                an example alone than in a batch; or if it fails in train mode.
            NonFiniteError: If it returns NaN or infinite values.
        """
        params = self.params()
        with torch.no_grad(), global_draws(x.device), weights_kept(self.module, params):
            # The weights as they are: a network that writes on them must not write on copies.
            first, second = (self._tried(lambda: self._evaluate(dict(params), x), x) for _ in range(2))
        given = f"inputs of shape {tuple(x.shape)}" if self.parts is None else str(self.parts)
        check_outputs(first, len(x), given)
        if not torch.isfinite(first).all():
            raise NonFiniteError(
                "finite network outputs",
                "NaN or infinity on the first inputs",
                "check the initialisation and the inputs' scale",
            )
        check_same(first, second)
        with global_draws(x.device):
            check_alone(self.module, lambda inputs: self(params, inputs), x, first)
        with torch.enable_grad(), global_draws(x.device):
            with ShareHyperparameters():
                other = copy.deepcopy(self.module)
            check_gradient(lambda module, w: self._evaluate(dict(w), x, module), other, params)
        self.trains(x)
        return first.shape[1]

    def _tried(self, call: Callable[[], Tensor], x: Tensor) -> Tensor:
        try:
            return call()
        except Exception as error:
            raise InputError(
                f"a network that accepts inputs of shape {tuple(x.shape)} and dtype {x.dtype}"
                if self.parts is None
                else f"a network that accepts {self.parts}",
                f"{type(error).__name__}: {error}",
                dtype_hint(x, self.module.parameters())
                or "check the first layer's size and the data's shape (images are N×channels×height×width; ids of "
                "tokens stay whole numbers with Data(…, tokens=True))",
            ) from error


def _drops(module: nn.Module) -> bool:
    # Whether recurrent layers are in eval mode, where cuDNN's kernels have no derivative (`_steady` keeps the others).
    return any(isinstance(layer, nn.RNNBase) and layer.dropout > 0 for layer in module.modules())


def _alike(a: Tensor, b: Tensor) -> bool:
    # Whether outputs agree up to rounding.
    return bool((a - b).abs().max() <= torch.finfo(b.dtype).eps ** 0.5 * b.abs().max())
