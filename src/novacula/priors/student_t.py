"""Student's t prior: mostly small weights, a few large ones.

A t variate is a Gaussian whose precision is itself drawn from a gamma distribution. For curvatures it is represented by
the Gaussian that touches it from below: as a function of ``w²``, ``log p`` is convex, and its tangent at ``w₀²`` is the
Gaussian with precision ``(ν + 1)/(ν s² + w₀²)``, the expected precision given ``w₀``. It is always positive, unlike the
curvature of ``log p``.

References:
    Bayesian neural network priors revisited. V. Fortuin et al., 2022. arXiv:2102.06571.
    Polar generation of random variates with the t-distribution. R. W. Bailey, 1994. Mathematics of Computation 62.
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
class StudentT(Prior):
    """``w/s ~ t_ν``, with a scale s for each tensor or for all.

    Args:
        df: ν > 0, the degrees of freedom; 1 is the Cauchy distribution. The variance, ``s² ν/(ν − 2)``, is finite for
            ν > 2.
        scale: s.
        log_scale: Instead of ``scale``: its natural logarithm as a tensor of shape ``()`` or ``(T,)``, which may
            require a gradient.
        per: ``"tensor"`` or ``"all"``, as for `Gaussian`.
        names: The tensors that the entries of ``log_scale`` belong to; set by `bind`.

    Attributes:
        log_scale: The learnable tensor.

    Raises:
        InputError: If a value is not positive, or both scales are given, or the tensor's shape does not fit ``per``.

    Example:
        >>> StudentT(df=3.0, scale=2.0).precision({"w": torch.zeros(1)})["w"]
        tensor([0.3333])
    """

    log_scale: Tensor
    df: float = 4.0
    per: Per = "tensor"
    names: tuple[str, ...] = ()

    learnable: ClassVar[tuple[str, ...]] = ("log_scale",)

    def __init__(
        self,
        df: float = 4.0,
        scale: float = 1.0,
        log_scale: Tensor | None = None,
        per: Per = "tensor",
        names: tuple[str, ...] = (),
    ) -> None:
        if not 0 < df < math.inf:
            raise InputError("df above zero and finite", repr(df), "use df=4.0, or Gaussian() for the limit df → ∞")
        object.__setattr__(self, "log_scale", scales.log_scale("scale", scale, 1.0, log_scale, per))
        object.__setattr__(self, "df", float(df))
        object.__setattr__(self, "per", per)
        object.__setattr__(self, "names", tuple(names))

    def bind(self, params: Params) -> Self:
        """The prior for these weights, ``(T,)``."""
        log = scales.bound(self.log_scale, self.names, self.per, params)
        return self if log is None else replace(self, log_scale=log, names=tuple(params))

    def log_prob(self, params: Params) -> Tensor:
        """``Σ_t n_t (c_ν − log s_t) − ½ (ν + 1) Σ_i log(1 + w_i²/(ν s_t²))``."""
        logs, v = scales.by_tensor(self.log_scale, self.names, params), self.df
        constant = math.lgamma((v + 1) / 2) - math.lgamma(v / 2) - 0.5 * math.log(v * math.pi)
        terms = []
        for k, w in params.items():
            z = w * (-logs[k]).exp().to(w.dtype)
            terms.append(w.numel() * (constant - logs[k]) - 0.5 * (v + 1) * (z.square() / v).log1p().sum())
        return scales.total(terms)

    def precision(self, params: Params) -> Params:
        """``(ν + 1)/(ν s² + w²)``: the Gaussian that touches the prior from below at w."""
        logs, v = scales.by_tensor(self.log_scale, self.names, params), self.df
        return {k: (v + 1) / (v * (2 * logs[k]).exp().to(w.dtype) + w.square()) for k, w in params.items()}

    def restrict(self, params: Params, names: Mapping[str, str]) -> Self:
        """The same with some of the scales."""
        log = scales.chosen(self.log_scale, self.names, names)
        return replace(self, log_scale=log, names=tuple(names.values()))

    def log_partition(self, params: Params, temperature: float) -> Tensor:
        """From ``t_ν^(1/T) ∝ t_κ`` with ``κ = (ν + 1)/T − 1``; infinite, and refused, where κ is not positive."""
        t, df = temperature, (self.df + 1) / temperature - 1
        if df <= 0:
            raise InputError(
                f"a temperature below {self.df + 1:g}: above it this density to the power 1/T has no integral",
                f"{t:g}",
                "use a lower temperature or a larger df",
            )
        constant = (_log_constant(self.df) - math.log(self.df) / 2) / t
        constant -= _log_constant(df) - math.log(self.df) / 2
        logs = scales.doubles(self.log_scale, self.names, params)
        return scales.volume({k: constant + v * (1 - 1 / t) for k, v in logs.items()}, params)

    @torch.no_grad()
    def sample(self, params: Params, n: int, rng: torch.Generator) -> Params:
        """Draw weights, by Bailey's polar method: ``√(ν (U^{−2/ν} − 1)) cos 2πV`` is t with ν degrees of freedom."""
        logs = scales.by_tensor(self.log_scale, self.names, params)
        draws = {}
        for k, w in params.items():
            # In float64 whatever the weights' dtype: the uniform variate's resolution cuts off the tails.
            u, v = torch.rand(2, n, *w.shape, generator=rng, device=rng.device, dtype=torch.float64).to(w.device)
            t = (self.df * torch.expm1(-2 / self.df * torch.log1p(-u))).sqrt() * torch.cos(2 * math.pi * v)
            draws[k] = (logs[k].exp() * t).to(w.dtype)
        return draws


def _log_constant(df: float) -> float:
    # log of Γ((ν+1)/2) / (Γ(ν/2) √π): the constant of a t-density but for its scale.
    return math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - math.log(math.pi) / 2
