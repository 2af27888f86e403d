"""Regression with Gaussian noise of a learned size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.likelihoods import checks
from novacula.likelihoods.base import Likelihood, Rule


@dataclass(frozen=True, eq=False, init=False)
class Normal(Likelihood):
    """``p(y | f) = Π_d N(y_d; f_d, σ_d²)`` for targets ``y (N, D)``.

    Args:
        sigma: The noise's standard deviation, in the units of ``y``. It starts the learning.
        log_sigma: Instead of ``sigma``: its natural logarithm as a tensor of shape ``()`` or ``(D,)``, which may
            require a gradient.
        per_output: Whether each output has a σ of its own; a σ of shape ``()`` becomes ``(D,)`` in `bind`.

    Attributes:
        log_sigma: The learnable tensor; a leaf unless the user passed one that is not.

    Raises:
        InputError: If both or a wrong value are given.

    Example:
        >>> Normal(sigma=2.0).log_prob(torch.zeros(1, 1), torch.tensor([[2.0]]))
        tensor([-2.1121])
    """

    log_sigma: Tensor
    per_output: bool = False

    learnable: ClassVar[tuple[str, ...]] = ("log_sigma",)
    concave: ClassVar[bool] = True
    quadratic: ClassVar[bool] = True
    tempering: ClassVar[Literal["outputs", "noise"] | None] = "noise"
    rules: ClassVar[tuple[Rule, ...]] = ("analytic", "monte_carlo")
    task = "regression"
    loss = "normal"

    def __init__(self, sigma: float = 1.0, log_sigma: Tensor | None = None, per_output: bool = False) -> None:
        if log_sigma is not None and sigma != 1.0:
            raise InputError("either sigma or log_sigma", "both", "pass log_sigma alone")
        if log_sigma is None:
            log_sigma = checks.log_positive("sigma", sigma)
        if not isinstance(log_sigma, Tensor) or log_sigma.ndim > 1 or not log_sigma.is_floating_point():
            got = (
                f"shape {tuple(log_sigma.shape)}, {log_sigma.dtype}"
                if isinstance(log_sigma, Tensor)
                else repr(log_sigma)
            )
            raise InputError("log_sigma as a floating tensor of shape () or (D,)", got, "pass torch.tensor(0.0)")
        object.__setattr__(self, "log_sigma", log_sigma)
        object.__setattr__(self, "per_output", per_output)

    @property
    def sigma(self) -> Tensor:
        """``exp(log_sigma)``, shape ``()`` or ``(D,)``, in the units of ``y``."""
        return self.log_sigma.exp()

    def bind(self, outputs: int) -> Self:
        """Expand a shared ``log_sigma`` to ``(D,)`` if ``per_output``."""
        if self.log_sigma.ndim == 1:
            if len(self.log_sigma) != outputs:
                raise InputError(
                    f"log_sigma of shape ({outputs},)", str(tuple(self.log_sigma.shape)), "pass one for each output"
                )
            return self
        if not self.per_output:
            return self
        wide = self.log_sigma.expand(outputs)
        return replace(self, log_sigma=wide if wide.requires_grad else wide.detach().clone())

    def log_prob(self, f: Tensor, y: Tensor) -> Tensor:
        """``Σ_d −½ ((y_d − f_d)/σ_d)² − log σ_d − ½ log 2π``: f ``(N, D)``, y ``(N, D)`` to ``(N,)``."""
        checks.matched(f, y, f.shape)
        log_sigma = self._log_sigma(f)
        z = (y.to(f.dtype) - f) * (-log_sigma).exp()
        return (-0.5 * z.square() - log_sigma - 0.5 * math.log(2 * math.pi)).sum(-1)

    def factor(self, f: Tensor, y: Tensor) -> Tensor:
        """``L = diag(1/σ)``, carrying the graph of ``log_sigma``: f ``(N, D)`` to ``(N, D, D)``."""
        return torch.diag_embed((-self._log_sigma(f)).exp().expand_as(f))

    @torch.no_grad()
    def sample(self, f: Tensor, rng: torch.Generator) -> Tensor:
        """Draw ``f + σ ε``: f ``(N, D)`` to ``(N, D)``."""
        noise = torch.randn(f.shape, generator=rng, device=rng.device, dtype=f.dtype).to(f.device)
        return f + self._log_sigma(f).exp() * noise

    def mean(self, f: Tensor) -> Tensor:
        """The outputs are the means; f ``(N, D)``."""
        return f

    def gaussians(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs, and σ; f ``(…, D)``."""
        return f, self.log_noise(f.shape[-1]).detach().to(f).exp().expand_as(f)

    def log_noise(self, outputs: int) -> Tensor:
        """``log σ``, shape ``()`` or ``(D,)``."""
        return self.bind(outputs).log_sigma

    def scaled(self, log_factor: float) -> Self:
        """The same with other noise."""
        return replace(self, log_sigma=self.log_sigma.detach() + log_factor)

    def in_units(self, sd: Tensor) -> Self:
        """σ times ``sd``; one for each output where they differ."""
        logs = sd.to(self.log_sigma).log()
        same = self.log_sigma.ndim == 0 and len(set(logs.tolist())) == 1
        return replace(self, log_sigma=self.log_sigma.detach() + (logs[0] if same else logs))

    def validate(self, y: Tensor, outputs: int, *, training: bool = True) -> Tensor:
        """Targets as floats with one column for each output: y ``(N,)`` to ``(N, D)``."""
        y = checks.one_output_each(checks.targets(y, training=training), outputs)
        self.bind(outputs)
        return y

    def _log_sigma(self, f: Tensor) -> Tensor:
        if self.log_sigma.ndim == 1 and len(self.log_sigma) != f.shape[-1]:
            raise InputError(
                f"log_sigma of shape ({f.shape[-1]},)", str(tuple(self.log_sigma.shape)), "pass one for each output"
            )
        if self.per_output and self.log_sigma.ndim == 0:
            raise InputError(
                "one sigma for each output",
                "a shared one, not yet bound",
                "call likelihood.bind(outputs) and use its result",
            )
        return self.log_sigma.to(device=f.device, dtype=f.dtype)
