"""`LogDensity`: any log-density over a dictionary of tensors, as a target for the samplers.

With it a sampler is held against posteriors that are known otherwise, and models that are no network are sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError, NonFiniteError
from novacula.core.many import Notes
from novacula.core.params import Params, detach
from novacula.priors.base import Prior


@dataclass(frozen=True, eq=False)
class LogDensity:
    """``log p(w) + const`` as a function of its parameters.

    Args:
        function: From a dictionary of tensors to a scalar, in nats, written in differentiable torch operations. All
            parameters are unconstrained: write positive ones as exponentials, with the Jacobian's logarithm.
        init: A point where the density is positive; it gives names, shapes and dtypes.
        prior: Where given, ``function`` is a log-likelihood and the density is its product with this prior, from which
            methods that start at the prior (`SMC`) can draw.

    Attributes:
        notes: What is found out about the function while it is evaluated at many points.

    Raises:
        InputError: If ``init`` is no dictionary of floating tensors, or the function does not return a scalar there.
        NonFiniteError: If the log-density is not finite at ``init``.

    Example:
        >>> normal = LogDensity(lambda w: -0.5 * (w["a"] ** 2).sum(), {"a": torch.zeros(2)})
        >>> float(normal.log_density({"a": torch.ones(2)}))
        -1.0
    """

    function: Callable[[Params], Tensor]
    init: Mapping[str, Tensor]
    prior: Prior | None = None
    notes: Notes = field(init=False, repr=False)

    __repr__ = brief

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InputError("a function of a dictionary of tensors", f"a {type(self.function).__name__}", "pass it")
        bad = not isinstance(self.init, Mapping) or not self.init
        if bad or not all(isinstance(w, Tensor) and w.is_floating_point() for w in self.init.values()):
            raise InputError(
                "init, a dictionary of floating tensors",
                type(self.init).__name__ if bad else f"entries {', '.join(map(str, self.init))}",
                'pass, for instance, init={"mu": torch.zeros(3)}',
            )
        object.__setattr__(self, "init", detach(self.init))
        name = getattr(self.function, "__name__", type(self.function).__name__)
        object.__setattr__(self, "notes", Notes(name))
        if self.prior is not None:
            object.__setattr__(self, "prior", self.prior.bind(dict(self.init)))
        with torch.no_grad():
            value = self.log_density(self.params())
        if not isinstance(value, Tensor) or value.ndim != 0:
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise InputError("a scalar log-density", got, "sum over the terms, and return a tensor")
        if not torch.isfinite(value):
            raise NonFiniteError("a finite log-density at init", str(float(value)), "start where the density has mass")

    def params(self) -> Params:
        """Copies of ``init``."""
        return detach(self.init)

    def log_density(self, params: Params) -> Tensor:
        """The log-density.

        Args:
            params: A point.

        Returns:
            A scalar, in nats, with the point's graph.
        """
        value = self.function(params)
        return value if self.prior is None else value + self.prior.log_prob(params)

    def identity(self) -> tuple[list[str], dict[str, Tensor]]:
        """What tells this density from others, as far as a function can be told.

        Returns:
            Words, and tensors by name.
        """
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return [name, type(self.prior).__name__], self.params()
