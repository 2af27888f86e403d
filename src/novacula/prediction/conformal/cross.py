"""Jackknife+ and CV+: conformal intervals and sets from models that left some examples out, arrays in.

All n labels calibrate and all train: each is predicted by the model that was trained without it. With ``μ_k`` the model
that left out fold k, and ``R_i = |y_i − μ_{k(i)}(x_i)|``, the interval at a new x reaches from the
``⌊α(n + 1)⌋``-th smallest of ``μ_{k(i)}(x) − R_i`` to the ``⌈(1 − α)(n + 1)⌉``-th smallest of ``μ_{k(i)}(x) + R_i``. It
holds the truth with probability at least ``1 − 2α`` (for CV+ less ``min{2(1 − 1/K)/(n/K + 1), (1 − K/n)/(K + 1)}``),
if the examples are exchangeable and the fit does not depend on their order; in practice with about ``1 − α``. Where
model k gives a scale ``s_k(x)`` too, ``R_i`` is divided by ``s_{k(i)}(x_i)`` and multiplied by ``s_{k(i)}(x)``:
intervals are then wide where the model is unsure, and the promise is the same.

References:
    Predictive inference with the jackknife+. R. F. Barber, E. J. Candès, A. Ramdas, R. J. Tibshirani, 2021.
    arXiv:1905.02928.
    Classification with valid and adaptive coverage. Y. Romano, M. Sesia, E. J. Candès, 2020. arXiv:2006.02544 (CV+ for
    classes).
    Nested conformal prediction and quantile out-of-bag ensemble methods. C. Gupta, A. K. Kuchibhotla, A. Ramdas, 2022.
    arXiv:1910.10562 (CV+ for any nested sets, such as intervals in units of a scale).
"""

from __future__ import annotations

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.likelihoods import checks
from novacula.prediction.conformal.rank import rank
from novacula.prediction.conformal.scores import LAC, SetScore
from novacula.prediction.conformal.sets import Intervals, Sets

_AT_ONCE = 1 << 22


def jackknife_plus(y: Tensor, left_out: Tensor, predictions: Tensor, *, alpha: float = 0.1) -> Intervals:
    """Jackknife+ intervals, from n models that left out one example each.

    Args:
        y: Training targets, shape ``(n,)`` or ``(n, D)``.
        left_out: The prediction of example i by the model trained without it, the same shape.
        predictions: Predictions of N new inputs by each of these models, shape ``(n, N)`` or ``(n, N, D)``.
        alpha: The share of targets that may be missed.

    Returns:
        Intervals ``(N, D)``, whose ``level`` is ``1 − 2α``.

    Raises:
        InputError: If shapes do not fit, a value is not finite, or ``n < 1/α − 1``.

    Example:
        >>> y = torch.arange(9.0)
        >>> found = jackknife_plus(y, (36 - y) / 8, ((36 - y) / 8)[:, None].expand(9, 2), alpha=0.2)
        >>> [round(float(end), 3) for end in (found.low[0, 0], found.high[0, 0])]
        [0.0, 8.0]
    """
    return cv_plus(y, left_out, predictions, torch.arange(len(torch.as_tensor(y))), alpha=alpha)


def cv_plus(
    y: Tensor,
    out_of_fold: Tensor,
    predictions: Tensor,
    folds: Tensor,
    *,
    alpha: float = 0.1,
    scales: tuple[Tensor, Tensor] | None = None,
) -> Intervals:
    """CV+ intervals, from K models that left out a fold each.

    Args:
        y: Training targets, shape ``(n,)`` or ``(n, D)``.
        out_of_fold: The prediction of each by the model that left it out, the same shape.
        predictions: Predictions of N new inputs by each model, shape ``(K, N)`` or ``(K, N, D)``.
        folds: Which model left example i out, whole numbers from 0 to K − 1, shape ``(n,)``.
        alpha: The share of targets that may be missed.
        scales: Positive scales of ``out_of_fold`` and of ``predictions``, with their shapes; by default intervals are
            about as wide everywhere.

    Returns:
        Intervals ``(N, D)``, whose ``level`` is the guarantee, ``1 − 2α − min{…}`` of the module's text (never below
        0).

    Raises:
        InputError: If shapes do not fit, a value is not finite, or ``n < 1/α − 1``.
    """
    y, held_out = (checks.targets(torch.as_tensor(t), training=False).double() for t in (y, out_of_fold))
    new = torch.as_tensor(predictions).double()
    new = new.unsqueeze(-1) if new.ndim == 2 else new
    if y.shape != held_out.shape or new.ndim != 3 or new.shape[2] != y.shape[1]:
        raise InputError(
            f"out-of-fold predictions of shape {tuple(y.shape)} and predictions of shape (K, N, {y.shape[1]})",
            f"{tuple(held_out.shape)} and {tuple(new.shape)}",
            "pass one prediction for each target, and those of every model for the new inputs",
        )
    if not bool(torch.isfinite(new).all()):
        raise InputError("finite predictions", "NaN or infinity", "check the models")
    folds = _folds(folds, len(y), len(new)).to(new.device)
    n = len(y)
    k = rank(n, alpha)
    residual = (y - held_out).abs().to(new.device).unsqueeze(1)
    wide = _scaled(scales, held_out, new) if scales is not None else None
    if wide is not None:
        residual = residual / wide[0].to(new.device).unsqueeze(1)
    low, high = torch.empty_like(new[0]), torch.empty_like(new[0])
    step = max(1, _AT_ONCE // (n * y.shape[1]))
    for at in range(0, new.shape[1], step):
        centre = new[:, at : at + step][folds]
        reach = residual if wide is None else residual * wide[1][:, at : at + step][folds]
        # The ⌊α(n+1)⌋-th smallest is the k-th largest, n + 1 − k.
        low[at : at + step] = (centre - reach).kthvalue(n + 1 - k, 0).values
        high[at : at + step] = (centre + reach).kthvalue(k, 0).values
    return Intervals(low, high, _guarantee(n, len(new), alpha))


def cv_plus_sets(
    y: Tensor,
    out_of_fold: Tensor,
    predictions: Tensor,
    folds: Tensor,
    *,
    alpha: float = 0.1,
    score: SetScore | None = None,
    seed: int = 0,
) -> Sets:
    """CV+ sets of classes: those that fit worse than fewer than ``(1 − α)(n + 1)`` training labels did.

    Args:
        y: Training classes, shape ``(n,)``.
        out_of_fold: Each one's probabilities by the model that left it out, shape ``(n, C)``.
        predictions: Probabilities of N new inputs by each of K models, shape ``(K, N, C)``.
        folds: Which model left example i out, whole numbers from 0 to K − 1, shape ``(n,)``.
        alpha: The share of labels that may be missed.
        score: The score; by default `LAC`.
        seed: Seed of randomised scores.

    Returns:
        Sets ``(N, C)``, whose ``level`` is the guarantee, see `cv_plus`.

    Raises:
        InputError: If shapes do not fit, or ``n < 1/α − 1``.
    """
    p, new, score = torch.as_tensor(out_of_fold).double(), torch.as_tensor(predictions).double(), score or LAC()
    if p.ndim != 2 or new.ndim != 3 or new.shape[2] != p.shape[1]:
        raise InputError(
            "probabilities of shape (n, C) and (K, N, C)", f"{tuple(p.shape)} and {tuple(new.shape)}", "check the axes"
        )
    y = checks.classes(torch.as_tensor(y), p.shape[1], training=False).to(p.device)
    if len(y) != len(p):
        raise InputError(f"{len(p)} labels", f"{len(y)}", "pass one for each out-of-fold prediction")
    folds = _folds(folds, len(p), len(new)).to(new.device)
    n, models = len(p), len(new)
    k = rank(n, alpha)
    u = torch.rand(n, generator=generator(seed, "cv+", "training"), dtype=torch.float64).to(p.device)
    v = torch.rand(new.shape[1], generator=generator(seed, "cv+", "new"), dtype=torch.float64).to(new.device)
    own = score(p, u).gather(1, y[:, None])[:, 0]
    worse = torch.zeros(new.shape[1:], dtype=torch.long, device=new.device)
    for fold in range(models):
        theirs = own[folds == fold].sort().values
        worse += torch.searchsorted(theirs, score(new[fold], v).contiguous())  # how many score strictly less
    # worse < (1 − α)(n + 1), where k is the next whole number
    return Sets(worse < k, _guarantee(n, models, alpha))


def _scaled(scales: tuple[Tensor, Tensor], held_out: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    own, theirs = (torch.as_tensor(s).double() for s in scales)
    own = own.unsqueeze(-1) if own.ndim == 1 else own
    theirs = (theirs.unsqueeze(-1) if theirs.ndim == 2 else theirs).to(new.device)
    if own.shape != held_out.shape or theirs.shape != new.shape or not bool((own > 0).all() and (theirs > 0).all()):
        raise InputError(
            f"positive scales of shapes {tuple(held_out.shape)} and {tuple(new.shape)}",
            f"{tuple(own.shape)} and {tuple(theirs.shape)}, the least {min(float(own.min()), float(theirs.min())):g}",
            "pass a standard deviation for each prediction",
        )
    return own, theirs


def _folds(folds: Tensor, n: int, models: int) -> Tensor:
    found = checks.classes(torch.as_tensor(folds), models, training=False)
    if len(found) != n:
        raise InputError(f"the fold of each of the {n} examples", f"{len(found)} folds", "pass one for each label")
    return found


def _guarantee(n: int, models: int, alpha: float) -> float:
    if models == n:
        return max(0.0, 1 - 2 * alpha)
    slack = min(2 * (1 - 1 / models) / (n / models + 1), (1 - models / n) / (models + 1))
    return max(0.0, 1 - 2 * alpha - slack)
