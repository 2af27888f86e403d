"""Conformity scores: how badly a label fits a prediction. Conformal sets hold the labels that fit as well as most did.

| name | task | score of label y |
| --- | --- | --- |
| `LAC` ``"lac"`` | classes | ``1 − p_y`` |
| `APS` ``"aps"`` | classes | the probability of all labels above y, and ``u p_y`` |
| `RAPS` ``"raps"`` | classes | that, and ``λ (rank of y − k)₊`` |
| `Absolute` ``"absolute"`` | measurements | ``|y − mean|`` |
| `Normalised` ``"normalised"`` | measurements | ``|y − mean| / sd`` |
| `CQR` ``"cqr"`` | measurements | ``max(q_{α/2} − y, y − q_{1−α/2})`` with the predictive's quantiles |

LAC has the smallest sets on average, but may fail more often on hard inputs than on easy ones, and leaves sets empty
where no label is probable enough. APS and RAPS grow with the uncertainty of each input; RAPS cuts off the long tails of
many unlikely classes. ``u`` is uniform, one for each input: without it (``randomised=False``, ``u = 1``) sets do not
depend on chance, and are larger than need be.

References:
    Least ambiguous set-valued classifiers with bounded error levels. M. Sadinle, J. Lei, L. Wasserman, 2019.
    arXiv:1609.00451.
    Classification with valid and adaptive coverage. Y. Romano, M. Sesia, E. J. Candès, 2020. arXiv:2006.02544.
    Uncertainty sets for image classifiers using conformal prediction. A. N. Angelopoulos, S. Bates, J. Malik,
    M. I. Jordan, 2021. arXiv:2009.14193.
    Distribution-free predictive inference for regression. J. Lei, M. G'Sell, A. Rinaldo, R. J. Tibshirani,
    L. Wasserman, 2018. arXiv:1604.04173.
    Conformalized quantile regression. Y. Romano, E. Patterson, E. J. Candès, 2019. arXiv:1905.03222.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.prediction.distribution import Distribution


class SetScore(Protocol):
    """A score of classes: larger fits worse.

    Attributes:
        name: Its name.
    """

    name: ClassVar[str]

    def __call__(self, p: Tensor, u: Tensor) -> Tensor:
        """Scores of all labels ``(N, C)``, given probabilities ``(N, C)`` and uniforms ``(N,)``."""
        ...


class Band(NamedTuple):
    """What an interval grows from: ``[low − q scale, high + q scale]``, each ``(N, D)``."""

    low: Tensor
    high: Tensor
    scale: Tensor


@runtime_checkable
class IntervalScore(Protocol):
    """A score of measurements, ``max(low − y, y − high) / scale``: larger fits worse.

    Attributes:
        name: Its name.
    """

    name: ClassVar[str]

    def band(self, predictive: Distribution, alpha: float) -> Band:
        """What an interval grows from, in float64."""
        ...


@dataclass(frozen=True)
class LAC:
    """``1 − p_y``."""

    name: ClassVar[str] = "lac"

    def __call__(self, p: Tensor, u: Tensor) -> Tensor:
        """Scores of all labels, ``(N, C)``, of probabilities ``(N, C)``; u is not used."""
        return 1 - p


@dataclass(frozen=True)
class RAPS:
    """``Σ_{k above y} p_k + u p_y + λ (rank_y − k)₊``, with labels ranked from the most probable, rank 1, down.

    Of labels that are as probable, the one with the smaller number is above.

    Args:
        penalty: λ, 0 or more.
        k_reg: k, the rank from which labels are penalised.
        randomised: Whether u is uniform; 1 otherwise.

    Raises:
        InputError: If the penalty or k is negative.

    Example:
        >>> p = torch.tensor([[0.5, 0.1, 0.4]], dtype=torch.float64)
        >>> RAPS(penalty=1.0, k_reg=1, randomised=False)(p, torch.ones(1))
        tensor([[0.5000, 3.0000, 1.9000]], dtype=torch.float64)
    """

    penalty: float = 0.01
    k_reg: int = 5
    randomised: bool = True

    name: ClassVar[str] = "raps"

    def __post_init__(self) -> None:
        if not self.penalty >= 0 or self.k_reg < 0:
            raise InputError(
                "a penalty and a rank that are not negative", f"{self.penalty}, {self.k_reg}", "use RAPS(0.01, 5)"
            )

    def __call__(self, p: Tensor, u: Tensor) -> Tensor:
        """Scores of all labels, ``(N, C)``, of probabilities ``(N, C)`` and uniforms ``(N,)``."""
        ordered, order = p.sort(stable=True, dim=-1, descending=True)
        above = torch.cat([torch.zeros_like(p[:, :1]), ordered.cumsum(-1)[:, :-1]], -1)
        share = u.to(p)[:, None] if self.randomised else 1.0
        rank = torch.arange(1, p.shape[1] + 1, dtype=p.dtype, device=p.device)
        scores = above + share * ordered + self.penalty * (rank - self.k_reg).clamp(min=0)
        return torch.empty_like(p).scatter(-1, order, scores)


@dataclass(frozen=True)
class APS:
    """``Σ_{k above y} p_k + u p_y``: `RAPS` without its penalty.

    Args:
        randomised: Whether u is uniform; 1 otherwise.
    """

    randomised: bool = True

    name: ClassVar[str] = "aps"

    def __call__(self, p: Tensor, u: Tensor) -> Tensor:
        """Scores of all labels, ``(N, C)``, of probabilities ``(N, C)`` and uniforms ``(N,)``."""
        return RAPS(0.0, 0, self.randomised)(p, u)


@dataclass(frozen=True)
class Absolute:
    """``|y − mean|``: intervals of one width."""

    name: ClassVar[str] = "absolute"

    def band(self, predictive: Distribution, alpha: float) -> Band:
        """The mean; alpha is not used."""
        mean = predictive.mean().double()
        return Band(mean, mean, torch.ones_like(mean))


@dataclass(frozen=True)
class Normalised:
    """``|y − mean| / sd``: widths are in the ratio of the predictive's standard deviations."""

    name: ClassVar[str] = "normalised"

    def band(self, predictive: Distribution, alpha: float) -> Band:
        """The mean, in units of the standard deviation; alpha is not used."""
        mean = predictive.mean().double()
        return Band(mean, mean, predictive.variance().double().sqrt())


@dataclass(frozen=True)
class CQR:
    """``max(q_{α/2} − y, y − q_{1−α/2})``: the predictive's central interval, moved out or in by one number."""

    name: ClassVar[str] = "cqr"

    def band(self, predictive: Distribution, alpha: float) -> Band:
        """The central interval, with probability alpha outside."""
        low, high = (end.double() for end in predictive.interval(1 - alpha))
        return Band(low, high, torch.ones_like(low))


SET_SCORES: dict[str, SetScore] = {s.name: s for s in (LAC(), APS(), RAPS())}
INTERVAL_SCORES: dict[str, IntervalScore] = {s.name: s for s in (Absolute(), Normalised(), CQR())}
