"""What every posterior over weights can be asked, and the simplest one: a point.

What several posteriors share is here too: `overparameterised` warns that weights which the data do not determine keep
the prior's width, and that their spread is noise in the predictive. Under a prior that nobody has learned that costs
more than the average over the others gains: on digits (64-50-10 under N(0, 1), 1,000 examples) the exact posterior has
a log loss of .107, and the most probable weights one of .084.

References:
    How good is the Bayes posterior in deep neural networks really? F. Wenzel et al., 2020. arXiv:2002.02405.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.core.params import Params, count
from novacula.data.data import Data
from novacula.posteriors.answers import Answer, How, Kind
from novacula.posteriors.leave_one_out.newton import LeaveOneOut
from novacula.posteriors.packed import Origin, Packed, ordered
from novacula.posteriors.quality import Diagnostics
from novacula.target import Density, Target


class BasePosterior(Protocol):
    """What every posterior answers, as fits one whose weights can be drawn.

    A posterior of one's own derives from this class and has ``target``, ``warnings``, ``mode`` and ``sample`` (see
    `Posterior`), as fields or properties. An average over draws then predicts, and a run keeps draws.

    Example:
        >>> class Wide(BasePosterior):
        ...     warnings = ()
        ...
        ...     def __init__(self, target: Target) -> None:
        ...         self.target, self.mode = target, target.params()
        ...
        ...     def sample(self, n: int, rng: torch.Generator) -> Params:
        ...         return {k: w + torch.randn(n, *w.shape, generator=rng) for k, w in self.mode.items()}
        >>> import novacula as nv
        >>> nv.predict(Wide(nv.Target(torch.nn.Linear(3, 2))), torch.zeros(4, 3)).samples.shape
        torch.Size([128, 4, 2])
    """

    @property
    def parts(self) -> tuple[Posterior, ...]:
        """The posteriors that are mixed, with equal weights: itself alone, but for a mixture."""
        return (cast("Posterior", self),)

    @property
    def size(self) -> int | None:
        """How many points it consists of; None where any number can be drawn."""
        return None

    @property
    def kind(self) -> Kind:
        """Its own way of prediction."""
        return "mixture"

    @property
    def diagnostics(self) -> Diagnostics | None:
        """What a sampler's draws say about their own quality; None for what is no such draws."""
        return None

    def outputs(self, x: Tensor, how: How) -> Answer:
        """The outputs of equally weighted networks.

        Args:
            x: Inputs, shape ``(N, …)``.
            how: How they are asked for; its kind is the posterior's own, ``"mixture"`` or ``"plug-in"``.

        Returns:
            The outputs.
        """
        own = cast("Posterior", self)  # a subclass is one
        if how.kind == "plug-in":
            weights = {k: w.unsqueeze(0) for k, w in own.mode.items()}
        else:
            weights = own.sample(how.draws(self.size), how.rng())
        return Answer(how.outputs(network_target(own.target, "predictions"), weights, x), how.kind)

    def leave_one_out(self, data: Data, *, seed: int, examples: int) -> LeaveOneOut | None:
        """What training examples say about predictions without themselves, by the curvature; None without one."""
        return None

    def bounded(self, room: int) -> Posterior | None:
        """What a run keeps, of at most ``room`` draws: itself, if it packs itself; None where draws are kept."""
        return None if self.pack() is None else self  # type: ignore[return-value]

    def pack(self) -> Packed | None:
        """What a file holds of a bounded posterior; None where it can hold nothing."""
        return None


class Posterior(BasePosterior, Protocol):
    """A distribution over the weights of a target's network."""

    @property
    def target(self) -> Density:
        """The target whose posterior it is: predictions need its network, likelihood and invariance."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reservations a reader must know."""
        ...

    @property
    def mode(self) -> Params:
        """A representative point: the weights a point estimate would use."""
        ...

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Draw ``n`` weights; tensors of shape ``(n, *shape)``."""
        ...


@dataclass(frozen=True, eq=False)
class Point(BasePosterior):
    """A posterior that is one point.

    Args:
        mode: The weights.
        target: The target they were trained for.
        warnings: Reservations a reader must know.
    """

    mode: Params
    target: Density
    warnings: tuple[str, ...] = ()

    __repr__ = brief

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Repeat the point, ``(n, *shape)``."""
        return {k: w.expand(n, *w.shape) for k, w in self.mode.items()}

    @property
    def size(self) -> int:
        """One."""
        return 1

    @property
    def kind(self) -> Kind:
        """The point's outputs."""
        return "plug-in"

    def bounded(self, room: int) -> Point:
        """Itself."""
        return self

    def pack(self) -> Packed:
        """The weights."""
        return Packed("point", self.mode)

    @classmethod
    def unpack(cls, packed: Packed, origin: Origin) -> Point:
        """The point of a file."""
        return cls(ordered(packed.weights, origin.target), origin.target, origin.known)


def network_target(target: Density, what: str) -> Target:
    """Insist on a network."""
    if not isinstance(target, Target):
        raise InputError(f"a network's Target for {what}", "a plain log-density", "use a sampler, such as NUTS")
    return target


@runtime_checkable
class Learned(Protocol):
    """What has a posterior: the result of `nv.learn`, or a choice of the predictive."""

    @property
    def posterior(self) -> Any:
        """The posterior."""
        ...


def weights_of(start: Params | Posterior | Learned) -> Params:
    """The point that a start value names.

    Args:
        start: Weights, a posterior, or a result that has one.

    Returns:
        The weights, or the posterior's mode.

    Raises:
        InputError: If it is nothing of that.
    """
    found = start.posterior if isinstance(start, Learned) else start
    params: Any = found if isinstance(found, Mapping) else getattr(found, "mode", None)
    if not isinstance(params, Mapping) or not all(isinstance(w, Tensor) for w in params.values()):
        hint = "pass a posterior, the result of nv.learn, or target.params()"
        raise InputError("weights: a dictionary of tensors, or a posterior", f"a {type(start).__name__}", hint)
    return cast("Params", params)


def posterior_of(given: Posterior | Learned) -> Posterior:
    """The posterior that somebody passed, or that of a result; a network, a target or a class is refused."""
    found = given.posterior if isinstance(given, Learned) else given
    if isinstance(found, type) or not isinstance(getattr(found, "mode", None), Mapping):
        got = f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
        hint = "learn first: fit = nv.learn(network, (x, y)), then nv.predict(fit, x)"
        raise InputError("a posterior, or the result of nv.learn", got, hint)
    return found


def overparameterised(target: Target, params: Params, size: int, temperature: float, what: str) -> tuple[str, ...]:
    """What to say of a posterior over more weights than there are examples."""
    weights = count(params)
    if weights <= size or temperature * target.likelihood_temperature < 1:
        return ()
    return (
        f"{what} for {weights:,} weights, from {size:,} examples: at temperature {temperature:g} they often predict "
        "worse than the most probable weights (MAP). Compare the two, or lower the temperature",
    )
