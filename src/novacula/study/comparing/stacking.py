"""Weights over models: the mixture of models that predicts unseen examples best, instead of the best model alone.

**Stacking** takes the densities ``p_mn`` that each of M models gave to the label of each of N examples that it had not
seen, and maximises

    F(w) = 1/N Σ_n log Σ_m w_m p_mn,      w_m ≥ 0,  Σ_m w_m = 1.

F is concave. Newton's steps on ``−F(w) + Σ w``, each a least-squares problem with non-negative unknowns, find the
maximum in a dozen of them (the constraint of the sum holds there by itself), and the gradient ``g_m = 1/N Σ_n p_mn /
Σ_k w_k p_kn`` says how far it can be: ``max F − F(w) ≤ max_m g_m − 1``. What the mixture gains over the best model is
asked of folds: weights, and which model is best, are found on the others.

**Bayesian model averaging** has ``w_m ∝ exp(log p(D | m))``, here with a prequential score in the evidence's place. Its
weights run to one model as N grows, whether any of them is right or not, where stacking keeps those that help.

References:
    Stacked regressions. L. Breiman, 1996.
    Using stacking to average Bayesian predictive distributions. Y. Yao, A. Vehtari, D. Simpson, A. Gelman, 2018.
    arXiv:1704.02030.
    A fast algorithm for maximum likelihood estimation of mixture proportions using sequential quadratic programming.
    Y. Kim, P. Carbonetto, M. Stephens, M. Anitescu, 2020. arXiv:1806.01412.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.diagnostics.crossed_mean import Mean, nested
from novacula.prediction import Predictive, predict
from novacula.study.cross_fit.result import CrossFit

_STEPS, _ENOUGH, _DEALT = 200, 1e-9, 3


@dataclass(frozen=True, eq=False)
class Mixed:
    """The mixture ``Σ_m w_m p_m(y)`` of several models' predictives.

    Attributes:
        parts: Each model's predictive of the same N inputs.
        weights: Shape ``(M,)``.
    """

    parts: tuple[Predictive, ...]
    weights: Tensor

    __repr__ = brief

    def mean(self) -> Tensor:
        """Probabilities ``(N, C)``, or means ``(N, D)`` in the targets' units."""
        return torch.einsum("m,mnc->nc", self.weights, torch.stack([p.mean().double() for p in self.parts]))

    def variance(self) -> Tensor:
        """Variances of the targets of a regression, noise included, ``(N, D)``."""
        within = torch.stack([p.variance().double() + p.mean().double() ** 2 for p in self.parts])
        return torch.einsum("m,mnc->nc", self.weights, within) - self.mean() ** 2

    def log_prob(self, y: Tensor) -> Tensor:
        """The log-density of labels, ``(N,)``, in nats."""
        each = torch.stack([p.log_prob(y).double() for p in self.parts])
        return torch.logsumexp(each + self.weights.log().unsqueeze(1), 0)


@dataclass(frozen=True, eq=False)
class Stack:
    """Models with weights.

    Attributes:
        fits: Their networks, each blind to a fold, by name.
        weights: The weights by name; many are exactly 0.
        short: By how much less than the best mixture they predict at most, in nats an example.
        gain: What the mixture gains over the best model alone, in nats an example: weights and best model by the other
            folds.
    """

    fits: Mapping[str, CrossFit]
    weights: dict[str, float]
    short: float
    gain: Mean

    __repr__ = brief

    def predict(self, x: Tensor, *, seed: int = 0) -> Mixed:
        """The mixture's predictions, each model's by all its folds' networks.

        Args:
            x: Inputs as the networks take them, shape ``(N, …)``.
            seed: Seed of the transformations.

        Returns:
            A mixture with ``mean()``, ``variance()`` and ``log_prob(y)``.
        """
        used = {name: w for name, w in self.weights.items() if w > 0}
        kept = [self.fits[name] for name in used]
        parts = [predict(f.posterior, x, seed=seed).in_units(f.data.scaling) for f in kept]
        return Mixed(tuple(parts), torch.tensor(list(used.values()), dtype=torch.float64))


def stack(fits: Mapping[str, CrossFit]) -> Stack:
    """Weigh models by what they say of examples that they have not seen.

    Args:
        fits: Cross-fits of the same data with the same folds, by name: of `nv.cross_fit`, or of the finalists of
            `nv.study.race`.

    Returns:
        The weights, what they gain, and the mixture's predictions.

    Raises:
        InputError: If there are no models, data or folds differ, or a loss is not a normalised density.

    Example:
        >>> import novacula as nv
        >>> data = nv.load("digits").subset(range(90))
        >>> nets = {k: nv.networks.make(k, data.x_shape, 10) for k in ("linear", "mlp")}
        >>> found = nv.study.stack({k: nv.cross_fit(net, data, steps=60) for k, net in nets.items()})
        >>> round(sum(found.weights.values()), 6)
        1.0
    """
    if not isinstance(fits, Mapping) or not fits:
        raise InputError("at least one cross-fit, by name", "none", "stack({'name': nv.cross_fit(net, data)})")
    first, *others = fits.values()
    if not all(f.target.likelihood.normalised for f in fits.values()):
        raise InputError("models with normalised densities", "a loss", "use Categorical, Bernoulli or Normal")
    for other in others:
        first.compare(other)  # refuses other data and folds
    log_probs = -torch.stack([f.losses.cpu() for f in fits.values()], 1)
    weights, short = convex_weights(log_probs)
    gained, folds = torch.empty(len(log_probs), dtype=torch.float64), first.folds.cpu()
    if folds.unique().numel() < 2:  # one network for all: examples may be dealt anyhow
        folds = torch.arange(len(log_probs)) % _DEALT
    for k in folds.unique().tolist():
        out = folds == k
        elsewhere = convex_weights(log_probs[~out])[0]
        mixed = torch.logsumexp(log_probs[out] + elsewhere.log(), 1)
        gained[out] = mixed - log_probs[out][:, int(log_probs[~out].mean(0).argmax())]
    return Stack(fits, dict(zip(fits, weights.tolist(), strict=True)), short, nested(gained, folds))


def convex_weights(log_probs: Tensor) -> tuple[Tensor, float]:
    """The mixture of M densities with the highest mean log-density of N examples.

    Args:
        log_probs: Log-densities, shape ``(N, M)``; minus infinity where a density is nought.

    Returns:
        Weights, float64, shape ``(M,)``, and by how much less than the maximum they reach at most.

    Raises:
        InputError: If a number is NaN or plus infinity, or an example has no density under any model.

    Example:
        >>> convex_weights(torch.tensor([[0.0, -9.0], [-9.0, 0.0], [0.0, -9.0]]))[0].round(decimals=3).tolist()
        [0.667, 0.333]
    """
    table = log_probs.detach().double().cpu().numpy()
    top = table.max(1, keepdims=True)
    if not np.isfinite(top).all():
        raise InputError("log-densities below infinity, one of each example finite", "others", "leave such rows out")
    p = np.exp(table - top)
    n, m = p.shape
    w, best, bound = np.full(m, 1 / m), np.full(m, 1 / m), np.inf
    for _ in range(_STEPS):
        a = p / (p @ w)[:, None]
        gradient = a.mean(0)
        if gradient.max() - 1 < bound:
            best, bound = w, float(gradient.max() - 1)
        if bound <= _ENOUGH:
            break
        w = _newton(p, w, a.T @ a / n, gradient)
    return torch.from_numpy(best), max(0.0, bound)


def _newton(p: np.ndarray, w: np.ndarray, hessian: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    # One step on −F(w) + Σw, as short as makes it fall.
    root = cholesky(hessian + 1e-10 * np.trace(hessian) * np.eye(len(w)), lower=True)
    way = nnls(root.T, solve_triangular(root, 2 * gradient - 1, lower=True))[0] - w
    slope, here, step = float((1 - gradient) @ way), _cost(p, w), 1.0
    while step > 1e-12 and not _cost(p, w + step * way) <= here + 1e-4 * step * slope:
        step /= 2
    found = np.maximum(w + step * way, 0)
    return found / found.sum()  # the best of its ray


def _cost(p: np.ndarray, w: np.ndarray) -> float:
    q = p @ w
    return float(w.sum() - np.log(q).mean()) if q.min() > 0 else np.inf


def averaged(scores: Mapping[str, Estimate]) -> dict[str, float]:
    """The weights ``∝ exp(score)`` of Bayesian model averaging, of scores of the same data by one estimator."""
    each = list(scores.values())
    logs = torch.tensor([float(s - each[0]) for s in each], dtype=torch.float64)
    return dict(zip(scores, logs.softmax(0).tolist(), strict=True))
