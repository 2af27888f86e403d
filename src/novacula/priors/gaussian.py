"""The Gaussian prior, isotropic or with one precision for each tensor of weights.

Its negative log-density is weight decay; its precisions are what `learn` finds in the place of guessed decays.

References:
    Bayesian interpolation. D. J. C. MacKay, 1992. Neural Computation 4(3).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from novacula.core.params import Params
from novacula.priors import scales
from novacula.priors.base import Prior
from novacula.priors.mean import Mean, bound_mean, centre_of, checked_mean, deviations, shifted
from novacula.priors.scales import Per


@dataclass(frozen=True, eq=False, init=False)
class Gaussian(Prior):
    """``w_i ~ N(m_i, 1/λ_t)`` for every weight i of tensor t, with m = 0 unless it is given.

    Args:
        precision: λ, the same for all at the start.
        log_precision: Instead of ``precision``: its natural logarithm as a tensor of shape ``()`` or ``(T,)``, which
            may require a gradient.
        per: ``"tensor"`` for one precision for each of the T tensors of weights (`bind` expands a shared one);
            ``"all"`` for the isotropic prior, one precision for all.
        names: The tensors that the entries of ``log_precision`` belong to; set by `bind`.
        mean: m: ``"start"`` for the weights that the prior is bound to (those that a pretrained network came with), or
            weights by name, others being centred at zero.

    Attributes:
        log_precision: The learnable tensor.

    Raises:
        InputError: If a value is not positive, or both are given, or the tensor's shape does not fit ``per``, or the
            mean is that of other weights.

    Example:
        >>> w = {"weight": torch.zeros(3, 2), "bias": torch.zeros(3)}
        >>> Gaussian(precision=4.0).bind(w).precision(w)["bias"]
        tensor(4.)
    """

    log_precision: Tensor
    per: Per = "tensor"
    names: tuple[str, ...] = ()
    mean: Mean = field(default=None, repr=False)

    learnable: ClassVar[tuple[str, ...]] = ("log_precision",)
    gaussian: ClassVar[bool] = True

    def __init__(
        self,
        precision: float = 1.0,
        log_precision: Tensor | None = None,
        per: Per = "tensor",
        names: tuple[str, ...] = (),
        mean: Mean = None,
    ) -> None:
        object.__setattr__(self, "log_precision", scales.log_scale("precision", precision, 1.0, log_precision, per))
        object.__setattr__(self, "per", per)
        object.__setattr__(self, "names", tuple(names))
        object.__setattr__(self, "mean", checked_mean(mean))

    def bind(self, params: Params) -> Self:
        """The prior for these weights, ``(T,)``."""
        log = scales.bound(self.log_precision, self.names, self.per, params)
        if log is None:
            return self
        return replace(self, log_precision=log, names=tuple(params), mean=bound_mean(self.mean, params))

    def centre(self, params: Params) -> Params | None:
        """M by tensor; None for zero."""
        return centre_of(self.mean, params)

    def log_prob(self, params: Params) -> Tensor:
        """``Σ_t ½ n_t (log λ_t − log 2π) − ½ λ_t ‖w_t − m_t‖²``."""
        logs = scales.by_tensor(self.log_precision, self.names, params)
        return scales.normal_log_prob(logs, deviations(self, params))

    def precision(self, params: Params) -> Params:
        """λ by tensor."""
        logs = scales.by_tensor(self.log_precision, self.names, params)
        return {k: logs[k].exp().to(w.dtype) for k, w in params.items()}

    @torch.no_grad()
    def sample(self, params: Params, n: int, rng: torch.Generator) -> Params:
        """Draw weights, ``(n, *shape)``."""
        logs = scales.by_tensor(self.log_precision, self.names, params)
        return shifted(self, scales.normal_sample(logs, params, n, rng))
