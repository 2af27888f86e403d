"""How large the noise of measurements is, by what networks say of rows that they have not seen.

The residuals ``r_n`` of a row's targets are taken for Gaussian with ``log s(x) = a + b·φ(x)``, where φ are the inputs
of a table and the predicted means, each in standard units and cut off at three of them, and their squares. Without
slopes b the noise is the same everywhere, ``s² = mean r²``. Slopes are fitted under the penalty ``λ/2 |b|²``, by

    min_{a, b}  Σ_n [log s(x_n) + r_n² / (2 s(x_n)²)] + λ/2 |b|²,

for each fold on the residuals of the others, and taken where the log-density of the fold's own residuals is better than
with one noise by more than a standard error, and by a thousandth of a nat. Where a network gives a standard deviation
of its own, log s is that of the network and what is fitted here.

References:
    Multiplicative heteroscedasticity. A. C. Harvey, 1976. Econometrica 44(3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.diagnostics.crossed_mean import nested
from novacula.prediction.choose import WORTH
from novacula.study import growth
from novacula.study.growth import Measured

PENALTIES = (1.0, 10.0, 100.0)
_COLUMNS, _CUT, _MOST = 100, 3.0, 3.0
_TINY = torch.finfo(torch.float64).tiny
_LEAST = 1e-6  # a standard deviation, of the targets'


@dataclass(frozen=True, eq=False)
class Noise:
    """``log s(x)``, beside what the network says itself."""

    level: Tensor  # a, shape ``(D,)``, float64
    slopes: Tensor | None  # b, shape ``(D, F)``; None where the noise is the same everywhere
    centre: Tensor  # means of what φ is made of
    spread: Tensor  # its standard deviations
    table: bool  # whether inputs are part of φ

    def log_sd(self, x: Tensor, mean: Tensor, own: Tensor) -> Tensor:
        """Log standard deviations ``(N, D)`` at x, of means and the network's own log sd or zeros ``(N, D)``."""
        found = own + self.level.to(mean)
        if self.slopes is None:
            return found
        parts = _features(x, mean, self.table)
        phi = _phi(parts, self.centre.to(parts), self.spread.to(parts))
        return found + (phi @ self.slopes.to(parts).mT).clamp(-_MOST, _MOST)


@dataclass(frozen=True, eq=False)
class FittedNoise:
    """The noise, and what the rows' own folds had no part in."""

    noise: Noise
    unseen: Tensor  # log standard deviations of each row by the other folds' residuals, ``(n, D)``
    varies: bool  # whether it depends on the input
    gain: float  # how much better it predicts residuals than one noise, nats a row
    stderr: float  # its standard error


def fit_noise(x: Tensor, mean: Tensor, own: Tensor, y: Tensor, folds: Tensor) -> FittedNoise:
    """Fit the noise of targets y by means and own log sd ``(n, D)`` of networks blind to each row's fold."""
    x, mean, own, y = (t.detach().cpu() for t in (x, mean.double(), own.double(), y.double()))
    z = (y - mean) * (-own).exp()  # residuals in units of the network's own
    least = _LEAST * y.std(0, correction=0).clamp(min=_TINY) * (-own).exp().mean(0)
    table = x.ndim == 2 and x.is_floating_point() and x.shape[1] <= _COLUMNS
    parts = _features(x, mean, table)
    centre, spread = parts.mean(0), parts.std(0, correction=0)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    phi = _phi(parts, centre, spread)
    groups = folds.unique().tolist()
    steady, unseen = _unseen(z, None, folds, groups, least, 0.0)
    rivals = [(*_unseen(z, phi, folds, groups, least, penalty), penalty) for penalty in PENALTIES]
    losses, log_sd, penalty = min(rivals, key=lambda rival: float(rival[0].mean()))
    gain = nested(steady - losses, folds)
    varies = gain.value > max(gain.stderr, WORTH)
    level, slopes = _fit(z, phi if varies else None, least, penalty)
    noise = Noise(level, slopes, centre, spread, table)
    return FittedNoise(noise, own + (log_sd if varies else unseen), varies, gain.value, gain.stderr)


def log_noise(mean: Tensor, own: Tensor, y: Tensor) -> list[Measured]:
    """Half the logarithm of the mean square of residuals, in the network's own standard deviations, of D targets."""
    z = ((y.cpu().double() - mean.double()) * (-own.double()).exp()).square()
    halves = [growth.mean(column.clamp(min=_TINY)).log() for column in z.unbind(1)]
    return [Measured(m.value / 2, m.pulls / 2) for m in halves]


def _features(x: Tensor, mean: Tensor, table: bool) -> Tensor:
    return torch.cat([x.to(mean), mean], 1) if table else mean


def _phi(parts: Tensor, centre: Tensor, spread: Tensor) -> Tensor:
    u = ((parts - centre) / spread).clamp(-_CUT, _CUT)
    return torch.cat([u, u.square() - 1], 1)


def _unseen(
    z: Tensor, phi: Tensor | None, folds: Tensor, groups: Sequence[int], least: Tensor, penalty: float
) -> tuple[Tensor, Tensor]:
    # Each row's loss, all targets together, and its log s, by what the other folds' residuals give.
    log_s = torch.empty_like(z)
    for k in groups:
        out = folds == k
        level, slopes = _fit(z[~out], None if phi is None else phi[~out], least, penalty)
        log_s[out] = level if slopes is None or phi is None else level + (phi[out] @ slopes.mT).clamp(-_MOST, _MOST)
    return (log_s + 0.5 * (z * (-log_s).exp()).square()).sum(1), log_s


def _fit(z: Tensor, phi: Tensor | None, least: Tensor, penalty: float) -> tuple[Tensor, Tensor | None]:
    level = torch.maximum(z.square().mean(0).sqrt(), least).log()
    if phi is None:
        return level, None
    with torch.enable_grad():
        a = level.clone().requires_grad_()
        b = torch.zeros(z.shape[1], phi.shape[1], dtype=z.dtype, requires_grad=True)
        search = torch.optim.LBFGS([a, b], max_iter=200, line_search_fn="strong_wolfe", tolerance_change=1e-10)

        def loss() -> Tensor:
            search.zero_grad()
            log_s = a + (phi @ b.mT).clamp(-_MOST, _MOST)
            each = log_s + 0.5 * (z * (-log_s).exp()).square()
            found = each.mean(0).sum() + penalty / (2 * len(z)) * b.square().sum()
            found.backward()
            return found

        search.step(loss)  # type: ignore[arg-type]
    return torch.maximum(a.detach(), least.log()), b.detach()
