"""The Laplace (double exponential) prior: L1 regularisation, learned.

For curvatures it is represented by the Gaussian that touches it from below. As a function of ``w²``, ``log p`` is
convex, so its tangent at ``w₀²`` is a lower bound everywhere: the Gaussian with precision ``1/(b |w₀|)``. This is not
the curvature of ``log p``, which is zero wherever it exists.

References:
    Bayesian regularization and pruning using a Laplace prior. P. M. Williams, 1995. Neural Computation 7(1).
    Variational EM algorithms for non-Gaussian latent variable models. J. A. Palmer, D. P. Wipf, K. Kreutz-Delgado,
        B. D. Rao, 2005. NeurIPS 18.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.priors import scales
from novacula.priors.base import Prior
from novacula.priors.scales import Per


@dataclass(frozen=True, eq=False, init=False)
class Laplace(Prior):
    """``p(w) = exp(−|w|/b) / 2b``, with a scale b for each tensor or for all.

    Not to be confused with the Laplace approximation, `novacula.evidence.Laplace`.

    Args:
        scale: b, the mean of ``|w|``; the standard deviation is ``√2 b``.
        log_scale: Instead of ``scale``: its natural logarithm as a tensor of shape ``()`` or ``(T,)``, which may
            require a gradient.
        per: ``"tensor"`` or ``"all"``, as for `Gaussian`.
        floor: Weights smaller than ``floor · b`` count as that large in `precision`, which is unbounded at 0.
        names: The tensors that the entries of ``log_scale`` belong to; set by `bind`.

    Attributes:
        log_scale: The learnable tensor.

    Raises:
        InputError: If a value is not positive, or both are given, or the tensor's shape does not fit ``per``.

    Example:
        >>> Laplace(scale=0.5).log_prob({"w": torch.zeros(2, 3, dtype=torch.float64)})
        tensor(0., dtype=torch.float64)
    """

    log_scale: Tensor
    per: Per = "tensor"
    floor: float = 1e-3
    names: tuple[str, ...] = ()

    learnable: ClassVar[tuple[str, ...]] = ("log_scale",)

    def __init__(
        self,
        scale: float = 1.0,
        log_scale: Tensor | None = None,
        per: Per = "tensor",
        floor: float = 1e-3,
        names: tuple[str, ...] = (),
    ) -> None:
        if not 0 < floor < math.inf:
            raise InputError("a floor above zero", repr(floor), "use floor=1e-3")
        object.__setattr__(self, "log_scale", scales.log_scale("scale", scale, 1.0, log_scale, per))
        object.__setattr__(self, "per", per)
        object.__setattr__(self, "floor", floor)
        object.__setattr__(self, "names", tuple(names))

    def bind(self, params: Params) -> Self:
        """The prior for these weights, ``(T,)``."""
        log = scales.bound(self.log_scale, self.names, self.per, params)
        return self if log is None else replace(self, log_scale=log, names=tuple(params))

    def log_prob(self, params: Params) -> Tensor:
        """``−Σ_t n_t log 2b_t + ‖w_t‖₁/b_t``."""
        logs = scales.by_tensor(self.log_scale, self.names, params)
        return scales.total(
            [-w.numel() * (math.log(2.0) + logs[k]) - (-logs[k]).exp() * w.abs().sum() for k, w in params.items()]
        )

    def precision(self, params: Params) -> Params:
        """``1/(b max(|w|, floor·b))``: the Gaussian that touches the prior from below at w.

        Below the floor it touches at ``±floor·b`` instead, and is still a lower bound everywhere.

        Returns:
            Tensors shaped like the weights, with the graphs of ``log_scale`` and of the weights.

        Raises:
            InputError: If a tensor has no scale.
        """
        logs = scales.by_tensor(self.log_scale, self.names, params)
        b = {k: logs[k].exp().to(w.dtype) for k, w in params.items()}
        return {k: 1 / (b[k] * torch.maximum(w.abs(), self.floor * b[k])) for k, w in params.items()}

    def restrict(self, params: Params, names: Mapping[str, str]) -> Self:
        """The same with some of the scales."""
        log = scales.chosen(self.log_scale, self.names, names)
        return replace(self, log_scale=log, names=tuple(names.values()))

    def log_partition(self, params: Params, temperature: float) -> Tensor:
        """``Σ_t n_t (log 2T b_t − (1/T) log 2b_t)``."""
        t, logs = temperature, scales.doubles(self.log_scale, self.names, params)
        return scales.volume({k: math.log(2 * t) + v - (math.log(2.0) + v) / t for k, v in logs.items()}, params)

    @torch.no_grad()
    def sample(self, params: Params, n: int, rng: torch.Generator) -> Params:
        """Draw weights, as differences of two exponential variates, ``(n, *shape)``."""
        logs = scales.by_tensor(self.log_scale, self.names, params)
        draws = {}
        for k, w in params.items():
            e = torch.empty(2, n, *w.shape, device=rng.device, dtype=w.dtype).exponential_(generator=rng).to(w.device)
            draws[k] = logs[k].exp().to(w.dtype) * (e[0] - e[1])
        return draws
