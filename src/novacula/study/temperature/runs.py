"""Runs of a method at several temperatures: what the studies of temperature share.

**Step sizes.** A posterior at temperature T is the density of a potential ``U/T``, steeper by ``1/T``. Methods that
find their own step sizes find those of every temperature. A rate that was set by hand for `SGLD` or `SGHMC` would be
too long for a cold posterior and short for a warm one; it is multiplied by T (by ``min(T, 1)`` where the likelihood
alone is tempered, as the prior's slope stays): the drift is then the same at every temperature, and T is the variance
of the noise, as in Wenzel et al. Step sizes of `HMC` and `NUTS` that were set by hand are left alone. A function of T
in the place of a method overrides all that.

References:
    How good is the Bayes posterior in deep neural networks really? F. Wenzel et al., 2020. arXiv:2002.02405.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from novacula.core.errors import InputError
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.evidence.common import collect_warnings
from novacula.inference import SGHMC, SGLD, infer
from novacula.inference.method import Method
from novacula.inference.starts import initial_weights
from novacula.posteriors.base import Posterior
from novacula.target import Target

Which: TypeAlias = Literal["posterior", "likelihood"]
MethodAt: TypeAlias = Method | Callable[[float], Method]
_FIELDS: dict[str, str] = {"posterior": "temperature", "likelihood": "likelihood_temperature"}


@dataclass(frozen=True)
class Length:
    """How long a run is, and how many chains it has."""

    steps: int | None  # steps in all; this or ``epochs``
    epochs: int | None  # passes over the data
    batch_size: int  # examples a step
    chains: int  # runs side by side that make one posterior
    restart: bool = True


@dataclass(frozen=True, eq=False)
class Job:
    """One run: a pure function of its fields."""

    method: MethodAt  # the method, or a function that gives it for a temperature
    target: Target  # the target, at temperature 1
    data: Data  # the training data
    length: Length  # how long
    which: Which  # what is tempered
    temperature: float  # T
    seed: int  # seed of everything random; runs that share it differ in T alone

    def __repr__(self) -> str:
        return f"T={self.temperature:g}, seed {self.seed}"

    def posterior(self) -> tuple[Posterior, tuple[str, ...]]:
        """Infer."""
        target = tempered(self.target, self.which, self.temperature)
        # Evaluating a network puts other weights into its module for a moment: threads must not share it.
        target = dataclasses.replace(target, forward=target.forward.over(target.forward.module))
        long = self.length
        with collect_warnings() as found:
            start = initial_weights(target, 1, derive(self.seed, "start"))[0] if long.restart else None
            posterior = infer(
                method_at(self.method, self.which, self.temperature),
                target,
                self.data,
                init=start,
                steps=long.steps,
                epochs=long.epochs,
                batch_size=long.batch_size,
                chains=long.chains,
                seed=self.seed,
            )
            told = posterior.warnings
        return posterior, tuple(dict.fromkeys((*found, *told)))


def tempered(target: Target, which: Which, temperature: float) -> Target:
    """The target at another temperature."""
    if which not in _FIELDS:
        raise InputError("which='posterior' or 'likelihood'", repr(which), "leave it out for the whole posterior")
    return dataclasses.replace(target, **{_FIELDS[which]: float(temperature)})


def method_at(method: MethodAt, which: Which, temperature: float) -> Method:
    """The method for a temperature."""
    if callable(method):
        return method(temperature)
    return _scaled(method, temperature if which == "posterior" else min(temperature, 1.0))


def checked(method: MethodAt, target: Target, temperatures: Sequence[float], seeds: Sequence[int]) -> tuple[float, ...]:
    """Refuse what would be silently wrong, before any run."""
    if isinstance(method, type):
        raise InputError("a method", f"the class {method.__name__}", f"call it: {method.__name__}()")
    if target.temperature != 1.0 or target.likelihood_temperature != 1.0:
        raise InputError(
            "a target at temperature 1, which the study then tempers",
            f"temperature={target.temperature:g}, likelihood_temperature={target.likelihood_temperature:g}",
            "leave both out of the target",
        )
    if not callable(method) and (own := _own_temperature(method)) is not None:
        raise InputError(
            "a method that takes the target's temperature",
            f"temperature={own!r} of its own",
            "leave it out of the method",
        )
    bad = [t for t in temperatures if not 0 < t < math.inf]
    if bad:
        raise InputError("temperatures above zero", str(bad[0]), "use, for instance, (0.1, 0.3, 1.0)")
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError("one or more different seeds", str(list(seeds)), "use seeds=(0, 1, 2)")
    return tuple(sorted({1.0, *map(float, temperatures)}))


def gathered(where: str, told: Sequence[tuple[str, ...]]) -> list[str]:
    """What several runs warn of, each thing once though its numbers differ.

    Returns:
        The first text of each kind, with how many runs said it.

    Example:
        >>> gathered("T = 1", [("R-hat is 1.2",), ("R-hat is 1.3",), ()])
        ['T = 1, 2 of 3 runs: R-hat is 1.2']
    """
    kinds: dict[str, list[str]] = {}
    for texts in told:
        for kind, text in {re.sub(r"\d[\d.,]*", "#", text): text for text in texts}.items():
            kinds.setdefault(kind, []).append(text)
    return [f"{where}, {len(texts)} of {len(told)} runs: {texts[0]}" for texts in kinds.values()]


def words(method: MethodAt) -> str:
    """A method's name and settings."""
    return getattr(method, "__name__", type(method).__name__) if callable(method) else repr(method)


def _scaled(method: Any, factor: float) -> Any:
    # The method, or what it wraps (an ensemble's members, say), with another step size.
    if isinstance(method, (SGLD, SGHMC)):
        return method if method.lr is None else dataclasses.replace(method, lr=factor * method.lr)
    inner = {f.name: getattr(method, f.name) for f in dataclasses.fields(method) if f.init}
    moved = {k: _scaled(v, factor) for k, v in inner.items() if dataclasses.is_dataclass(v) and not isinstance(v, type)}
    changed = {k: v for k, v in moved.items() if v is not inner[k]}
    return dataclasses.replace(method, **changed) if changed else method


def _own_temperature(method: Any) -> object:
    # A method's own temperature, or that of a method inside it, would win over the target's.
    for field in dataclasses.fields(method):
        value = getattr(method, field.name)
        if field.name == "temperature" and value is not None:
            return value
        if dataclasses.is_dataclass(value) and (inner := _own_temperature(value)) is not None:
            return inner
    return None
