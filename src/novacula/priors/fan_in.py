"""The fan-in scaled Gaussian prior, under which wide networks have a limit.

With ``w ~ N(0, σ_w²/fan_in)`` each unit's input has a variance that does not depend on the width of the layer before:
the prior over functions converges to a Gaussian process as widths grow, and σ_w, σ_b mean the same for every network.

References:
    Bayesian Learning for Neural Networks. R. M. Neal, 1996.
    Deep neural networks as Gaussian processes. J. Lee, Y. Bahri, R. Novak, S. S. Schoenholz, J. Pennington,
        J. Sohl-Dickstein, 2018. arXiv:1711.00165.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.priors import scales
from novacula.priors.base import Prior
from novacula.priors.mean import Mean, bound_mean, centre_of, checked_mean, deviations, shifted


@dataclass(frozen=True, eq=False, init=False)
class FanIn(Prior):
    """``w ~ N(m, σ_w²/fan_in)`` for tensors with two axes or more, ``N(m, σ_b²)`` for vectors and scalars; m = 0.

    ``fan_in = numel / shape[0]``: the columns of a linear layer's weight, channels × kernel size of a convolution's.
    Three cases differ from what feeds a unit: a transposed convolution stores ``(in, out, …)``, so this counts the
    outputs; an embedding ``(V, D)`` counts D, though one row alone is ever read; scales of normalisation layers are
    vectors, and so are drawn around 0, not 1.

    Args:
        sigma_w: σ_w, without unit.
        sigma_b: σ_b, without unit.
        log_scales: Instead of both: ``(log σ_w, log σ_b)`` as a tensor of shape ``(2,)``, which may require a gradient.
        names: The tensors that the prior is bound to; set by `bind`.
        mean: m, as `Gaussian` takes it, where it is not zero.

    Attributes:
        log_scales: The learnable tensor.

    Raises:
        InputError: If a value is not positive, both kinds are given, or the tensor's shape is another.

    Example:
        >>> w = {"weight": torch.zeros(3, 8), "bias": torch.zeros(3)}
        >>> FanIn(sigma_w=2.0).describe(w)["weight"]
        2.0
    """

    log_scales: Tensor
    names: tuple[str, ...] = ()
    mean: Mean = field(default=None, repr=False)

    learnable: ClassVar[tuple[str, ...]] = ("log_scales",)
    gaussian: ClassVar[bool] = True

    def __init__(
        self,
        sigma_w: float = 1.0,
        sigma_b: float = 1.0,
        log_scales: Tensor | None = None,
        names: tuple[str, ...] = (),
        mean: Mean = None,
    ) -> None:
        if log_scales is None:
            log_scales = torch.stack(
                [scales.log_scale(k, v, 1.0, None, "all") for k, v in (("sigma_w", sigma_w), ("sigma_b", sigma_b))]
            )
        elif (sigma_w, sigma_b) != (1.0, 1.0):
            raise InputError("either sigma_w and sigma_b or log_scales", "both", "pass log_scales alone")
        if not isinstance(log_scales, Tensor) or log_scales.shape != (2,) or not log_scales.is_floating_point():
            got = (
                f"shape {tuple(log_scales.shape)}, {log_scales.dtype}"
                if isinstance(log_scales, Tensor)
                else repr(log_scales)
            )
            raise InputError("log_scales as a floating tensor of shape (2,)", got, "pass (log sigma_w, log sigma_b)")
        object.__setattr__(self, "log_scales", log_scales)
        object.__setattr__(self, "names", tuple(names))
        object.__setattr__(self, "mean", checked_mean(mean))

    def bind(self, params: Params) -> Self:
        """The prior for these weights."""
        if self.names:
            scales.bound(self.log_scales, self.names, "all", params)
            return self
        log = self.log_scales if self.log_scales.requires_grad else self.log_scales.detach().clone()
        return replace(self, log_scales=log, names=tuple(params), mean=bound_mean(self.mean, params))

    def centre(self, params: Params) -> Params | None:
        """M by tensor; None for zero."""
        return centre_of(self.mean, params)

    def log_prob(self, params: Params) -> Tensor:
        """``Σ_t ½ n_t (log λ_t − log 2π) − ½ λ_t ‖w_t − m_t‖²`` with ``λ_t = fan_in/σ_w²`` or ``1/σ_b²``."""
        return scales.normal_log_prob(self._log_precision(params), deviations(self, params))

    def precision(self, params: Params) -> Params:
        """λ by tensor."""
        logs = self._log_precision(params)
        return {k: logs[k].exp().to(w.dtype) for k, w in params.items()}

    @torch.no_grad()
    def sample(self, params: Params, n: int, rng: torch.Generator) -> Params:
        """Draw weights, ``(n, *shape)``."""
        return shifted(self, scales.normal_sample(self._log_precision(params), params, n, rng))

    def _log_precision(self, params: Params) -> Params:
        log_w, log_b = self.log_scales.unbind()
        return {
            k: (math.log(max(w.numel(), 1) / max(w.shape[0], 1)) - 2 * log_w if w.ndim > 1 else -2 * log_b).to(w.device)
            for k, w in params.items()
        }
