"""What every prior over weights provides."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.priors import scales


class Prior(Protocol):
    """``p(w)``, a proper density, independent between weights given its scales.

    Implementations are frozen dataclasses (``eq=False``). Fields that can be learned are tensors and are named in the
    class attribute ``learnable``; `dataclasses.replace` gives a copy with other values. A class that derives from this
    one writes `log_prob`, `precision` and `sample`, each for any of the tensors of weights; the rest has defaults.

    Attributes:
        learnable: Names of the fields that can be learned.
        gaussian: Whether ``log_prob`` is ``−½ Σ λ (w − m)²`` and a constant, with the λ that `precision` states
            everywhere and the m that `centre` gives; `Target.prepare` checks it.
    """

    learnable: ClassVar[tuple[str, ...]] = ()
    gaussian: ClassVar[bool] = False

    def bind(self, params: Params) -> Self:
        """The prior for these weights: one scale per tensor where that is asked for. Binding twice changes nothing."""
        return self

    def centre(self, params: Params) -> Params | None:
        """M by tensor, where a Gaussian prior is not centred at zero; None where it is."""
        return None

    @abstractmethod
    def log_prob(self, params: Params) -> Tensor:
        """Log-density in nats, a scalar; includes the normalising constant."""
        ...

    @abstractmethod
    def precision(self, params: Params) -> Params:
        """``−∂² log p(w)/∂w²`` by tensor, each broadcastable to its parameter and positive.

        For a non-Gaussian prior this is the precision of the Gaussian that touches it from below at ``params``.
        """
        ...

    @abstractmethod
    def sample(self, params: Params, n: int, rng: torch.Generator) -> Params:
        """Draw ``n`` weights shaped like ``params``; tensors of shape ``(n, *shape)`` that carry no gradient."""
        ...

    def restrict(self, params: Params, names: Mapping[str, str]) -> Prior:
        """The prior of the tensors in ``names``, under the names that it gives them; shapes may then be others."""
        raise InputError(
            "a Gaussian, FanIn, Laplace or StudentT prior",
            type(self).__name__,
            "choose one of these for a subnetwork, or give your prior a restrict(params, names)",
        )

    def log_partition(self, params: Params, temperature: float) -> Tensor:
        """``log ∫ p(w)^(1/T) dw`` over weights shaped like ``params``, a scalar in float64."""
        if self.gaussian:
            return scales.normal_log_partition(self.precision(params), params, temperature)
        raise InputError(
            "a Gaussian, FanIn, Laplace or StudentT prior at temperatures other than 1",
            type(self).__name__,
            "use temperature=1.0, or give your prior a log_partition(params, temperature)",
        )

    def describe(self, params: Params) -> dict[str, float]:
        """The precision of each tensor as a number, for people; a geometric mean where it differs between weights."""
        return scales.geometric_mean(self.precision(params))
