"""The same network without any of this library's learning, as a control: plain training.

The loss is the mean negative log-likelihood plus half of 1e-4 times the squared norm of all weights (a usual weight
decay; here a Gaussian prior of precision 1e-4 times the number of training examples), at temperature 1 and without
invariances, or with random augmentation (`novacula.invariances.Trivial`). Networks are trained as long as `cross_fit`
trains others, with no early stopping.

Doubt is fitted as generously as the compared network's. With Gaussian noise, training is least squares, and the width
of each target is the root mean square of the residuals that the *other* folds have, each of a network that has not seen
it: maximum likelihood, without the residuals of the fold that is scored (on whose rows those networks were trained).
Otherwise it is the calibrated temperature of the cross-fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from novacula.data.data import Data
from novacula.invariances import Invariance
from novacula.likelihoods import Normal
from novacula.prediction import Predictive
from novacula.priors import Gaussian
from novacula.study.cross_fit.result import CrossFit
from novacula.study.cross_fit.train import cross_fit
from novacula.target import Target

DECAY = 1e-4


def plainly(
    target: Target,
    data: Data,
    augment: Callable[[], Invariance] | None,
    *,
    folds: Tensor,
    seed: int,
    **training: Any,
) -> list[tuple[Tensor, Predictive]]:
    """What plainly trained networks say of each fold that they have not seen, with masks of the folds."""
    seen = data.n * (1 - 1 / (int(folds.max()) + 1))
    plain = _plain(target, data, augment, DECAY * seen)
    fit = cross_fit(plain, data, folds=folds, seed=seed, **training)
    if not fit.target.likelihood.quadratic:
        return [(torch.ones(data.n, dtype=torch.bool), fit.predictive)]
    return [(folds == k, _gaussian(fit, folds == k)) for k in range(len(fit.params))]


def _plain(target: Target, data: Data, augment: Callable[[], Invariance] | None, precision: float) -> Target:
    likelihood = target.likelihood
    if likelihood.quadratic:
        unit = data.y.double().std(0, correction=0)
        unit[unit == 0] = 1
        now = likelihood.log_noise(len(unit)).detach().double().expand(len(unit)).exp()
        likelihood = likelihood.in_units(unit / now.cpu())
    return replace(
        target,
        prior=Gaussian(precision, per="all"),
        likelihood=likelihood,
        invariance=None if augment is None else augment(),
        temperature=1.0,
        likelihood_temperature=1.0,
    )


def _gaussian(fit: CrossFit, out: Tensor) -> Predictive:
    mean, labels = fit.plain.mean().detach().double().cpu(), fit.labels.double().cpu()
    sd = (mean - labels)[~out].square().mean(0).sqrt().clamp(min=1e-6)
    return Predictive(Normal(log_sigma=sd.log()), mean[out].unsqueeze(0), "plug-in", warnings=fit.warnings)
