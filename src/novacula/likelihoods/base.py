"""What every likelihood provides: a log-density per example, and its Fisher information in output space."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Protocol, Self, TypeAlias

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.data.meaning.labels import Task
from novacula.likelihoods import checks

Rule: TypeAlias = Literal["analytic", "monte_carlo", "probit", "probit_diagonal"]
"""How a predictive is made of Gaussian outputs, see `novacula.posteriors.linearised`."""


class Likelihood(Protocol):
    """``p(y | f)`` for network outputs ``f (N, C)``.

    Implementations are frozen dataclasses (``eq=False``). Fields that can be learned are tensors and are named in the
    class attribute ``learnable``; `dataclasses.replace` gives a copy with other values. A class that derives from this
    one writes `log_prob`, `factor`, `sample` and `mean`; the rest has defaults, which fit a density of measurements or
    counts with one output for each.

    Attributes:
        learnable: Names of the fields that can be learned.
        normalised: Whether ``exp(log_prob)`` integrates to one over ``y`` (false for Gibbs likelihoods).
        concave: Whether ``log_prob`` is concave in ``f``.
        quadratic: Whether ``p(y | f) = N(y; f, σ²)`` with one noise for all inputs, so that ``log_prob`` is quadratic
            in ``f`` and its curvature the same everywhere; `log_noise` and `scaled` are then asked. `Target.prepare`
            checks it.
        tempering: What a temperature T divides or multiplies where ``p(y | f)^(1/T)``, normalised over ``y``, is a
            likelihood of the same kind: ``"outputs"``, for ``p(y | f/T)``; ``"noise"``, for the variance ``T σ²`` of a
            quadratic likelihood; None where it is neither.
        rules: The rules that fit, for predictives of Gaussian outputs; the default first.
        task: What ``y`` is.
        loss: The loss's name, by default that of the class; evidences of different losses are never compared.
    """

    learnable: ClassVar[tuple[str, ...]] = ()
    normalised: ClassVar[bool] = True
    concave: ClassVar[bool] = False
    quadratic: ClassVar[bool] = False
    tempering: ClassVar[Literal["outputs", "noise"] | None] = None
    rules: ClassVar[tuple[Rule, ...]] = ("monte_carlo",)
    task: ClassVar[Task | Literal["other"]] = "regression"
    loss: ClassVar[str]

    def __init_subclass__(cls, **keywords: Any) -> None:
        """A likelihood that does not name its loss has the class's name."""
        super().__init_subclass__(**keywords)
        if "loss" not in vars(cls):
            cls.loss = cls.__name__.lower()

    def bind(self, outputs: int) -> Self:
        """The likelihood for this many outputs: one scale per output where asked. Binding twice changes nothing."""
        return self

    @abstractmethod
    def log_prob(self, f: Tensor, y: Tensor) -> Tensor:
        """Log-density of each example, shape ``(N,)``, in nats."""
        ...

    @abstractmethod
    def factor(self, f: Tensor, y: Tensor) -> Tensor:
        """``L (N, C, K)`` with ``L Lᵀ`` the Fisher information of ``f`` (GGN block); differentiable in ``f``."""
        ...

    def mixture(self, f: Tensor, y: Tensor) -> Tensor:
        """``log 1/S Σ_s p(y | f_s)``, shape ``(N,)``, of equally weighted outputs ``f (S, N, C)``."""
        logs = torch.stack([self.log_prob(one, y) for one in f])
        return logs.logsumexp(0) - math.log(len(f))

    def combined(self, f: Tensor, y: Tensor, mix: Callable[[int], Tensor]) -> Tensor:
        """``L E (N, C, k)`` for ``E = mix(K) (N, K, k)``; a likelihood of many outputs has it without forming L."""
        factor = self.factor(f, y)
        return factor @ mix(factor.shape[2])

    @abstractmethod
    def sample(self, f: Tensor, rng: torch.Generator) -> Tensor:
        """Draw ``y (N, …) ~ p(y | f)``; carries no gradient."""
        ...

    @abstractmethod
    def mean(self, f: Tensor) -> Tensor:
        """``E[y | f]``: probabilities ``(N, C)``, or means ``(N, D)``."""
        ...

    def gaussians(self, f: Tensor) -> tuple[Tensor, Tensor] | None:
        """Means and standard deviations ``(…, D)`` where labels are Gaussian given ``f (…, C)``, else None."""
        return None

    def log_noise(self, outputs: int) -> Tensor:
        """``log σ``, broadcastable to ``(D,)`` and with its graph, of a quadratic likelihood."""
        raise self._no_noise()

    def scaled(self, log_factor: float) -> Self:
        """A quadratic likelihood with its σ times ``exp(log_factor)``."""
        raise self._no_noise()

    def in_units(self, sd: Tensor) -> Self:
        """A quadratic likelihood whose σ, in standard units, is that of outputs times ``sd (D,)``."""
        raise self._no_noise()

    def outputs(self, y: Tensor) -> int:
        """How many network outputs C the labels need; raises `InputError` for labels that do not fit."""
        return checks.targets(y, training=True).shape[1]

    def validate(self, y: Tensor, outputs: int, *, training: bool = True) -> Tensor:
        """Labels in the dtype and shape that `log_prob` takes, or an error; to train on, two rows and two classes."""
        return checks.one_output_each(checks.targets(y, training=training), outputs)

    def _no_noise(self) -> InputError:
        hint = "use Normal(); a quadratic likelihood of your own has log_noise and scaled"
        return InputError("a likelihood with Gaussian noise", type(self).__name__, hint)
