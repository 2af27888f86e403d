"""Measures of how complex trained weights are, and whether they rank test losses where one factor alone varies.

    path norm      ``√Σ_paths Π w²``, of inputs of ones through squared weights (Neyshabur and others, 2015)
    spectral norm  ``Π_l ‖W_l‖₂``, filters flattened to ``(outputs, the rest)``
    margin         the 10 % quantile of ``f_y − max_{c≠y} f_c`` on the data
    flatness       σ, the Gaussian noise in all weights under which the mean loss rises by a tenth of a nat
    PAC-Bayes      ``‖w‖²/2σ²``, the divergence of ``N(w, σ²)`` from ``N(0, σ²)``

A measure that goes with the test loss over all runs may only follow what was varied most. `ranked_within` therefore
takes runs apart into groups that differ in one factor, and averages Kendall's τ over these (Jiang and others, 2020).

References:
    Path-SGD. B. Neyshabur, R. Salakhutdinov, N. Srebro, 2015. arXiv:1506.02617.
    Fantastic generalization measures and where to find them. Y. Jiang and others, 2020. arXiv:1912.02178.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import kendalltau
from scipy.stats import t as student
from torch import Tensor

from novacula.core.checks.numbers import check_positive, check_whole, check_within
from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.data.given import DataLike
from novacula.paths.barrier import point_of
from novacula.paths.crossed import Measured
from novacula.posteriors.base import Learned, Posterior
from novacula.target import Target
from novacula.target.copies import member_outputs
from novacula.target.given import TargetLike, prepared

_ROWS = 1_000  # examples on which noise is tried
_LEAST, _MOST = 1e-6, 1e3  # of the noise


@dataclass(frozen=True)
class Complexity:
    """How complex weights are.

    Attributes:
        norm: ``‖w‖``.
        path_norm: None of networks whose paths do not multiply: with other activations than rectifiers, with norms.
        spectral_norm: The logarithm of the product.
        margin: In logits; None of other tasks than classification.
        flatness: σ.
    """

    norm: float
    path_norm: float | None
    spectral_norm: float
    margin: float | None
    flatness: float

    @property
    def pac_bayes(self) -> float:
        """``‖w‖²/2σ²``, in nats."""
        return self.norm**2 / (2 * self.flatness**2)


def complexity(
    target: TargetLike,
    data: DataLike,
    start: Params | Posterior | Learned | None = None,
    *,
    rise: float = 0.1,
    draws: int = 8,
    seed: int = 0,
) -> Complexity:
    """Measure weights.

    Args:
        target: The network, or a target; its likelihood gives the loss.
        data: The training data; noise is tried on the first 1,000.
        start: The weights; the network's own by default.
        rise: By how many nats an example the mean loss may rise under noise.
        draws: Of the noise, the same at every σ.
        seed: Their seed.

    Returns:
        The measures.

    Raises:
        InputError: If the weights are not those of the network, or a number is out of range.

    Example:
        >>> net = torch.nn.Linear(2, 1, bias=False)
        >>> found = complexity(net, ([[1.0, 0.0], [0.0, 1.0]], [0.5, 0.0]), {"weight": torch.tensor([[3.0, 4.0]])})
        >>> round(found.path_norm, 4), round(math.exp(found.spectral_norm), 4)
        (5.0, 5.0)
    """
    check_positive("rise", rise)
    check_whole("draws", draws)
    made, rows = prepared(target, data)
    there, weights = made.at(made.params() if start is None else point_of(made, start))
    matrices = [w.double().flatten(1) for w in weights.values() if w.ndim > 1]
    return Complexity(
        norm=math.sqrt(sum(float(w.double().square().sum()) for w in weights.values())),
        path_norm=_path_norm(there, weights, rows),
        spectral_norm=sum(math.log(max(float(torch.linalg.matrix_norm(m, 2)), 1e-300)) for m in matrices),
        margin=_margin(there, weights, rows, seed),
        flatness=_flatness(there, weights, rows.subset(range(min(rows.n, _ROWS))), rise, draws, seed),
    )


def _path_norm(target: Target, weights: Params, data: Data) -> float | None:
    # With squared weights and rectifiers the network is affine in inputs above nought, and rises. What is not so has no
    # paths that multiply. Statistics are no weights.
    if not data.x.is_floating_point() or any(b.is_floating_point() for b in target.forward.module.buffers()):
        return None
    squared, ones = {k: w.square() for k, w in weights.items()}, torch.ones_like(data.x[:8])
    a, b = (torch.rand(ones.shape, generator=generator(s, "paths")).to(ones) for s in (0, 1))
    with torch.no_grad():
        none, one, two, both, norm = (target.forward(squared, x).double() for x in (0 * ones, a, b, a + b, ones))
    affine = torch.allclose(both + none, one + two, rtol=1e-4) and bool((one.sum(1) > none.sum(1)).all())
    return math.sqrt(float(norm[0].sum())) if affine else None


def _margin(target: Target, weights: Params, data: Data, seed: int) -> float | None:
    if data.task != "classification" or data.y.ndim > 1:
        return None
    f = _outputs(target, {k: w[None] for k, w in weights.items()}, data, seed)[0]
    own = f.gather(1, data.y[:, None])[:, 0]
    others = f.scatter(1, data.y[:, None], -math.inf).amax(1)
    return float((own - others).double().quantile(0.1))


def _flatness(target: Target, weights: Params, data: Data, rise: float, draws: int, seed: int) -> float:
    rng = generator(seed, "noise")
    noise = {k: torch.randn(draws, *w.shape, generator=rng, dtype=w.dtype).to(w.device) for k, w in weights.items()}
    labels = data.y.repeat(draws, *[1] * (data.y.ndim - 1))

    def loss(sigma: float) -> float:
        f = _outputs(target, {k: w + sigma * noise[k] for k, w in weights.items()}, data, seed)
        found = float(-target.likelihood.log_prob(f.flatten(0, 1), labels).double().mean())
        return found if math.isfinite(found) else math.inf

    base, low, high = loss(0.0), _LEAST, _MOST
    while high > 1.01 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if loss(middle) <= base + rise else (low, middle)
    return math.sqrt(low * high)


def _outputs(target: Target, weights: Params, data: Data, seed: int) -> Tensor:
    return member_outputs(target, weights, data.x, copies=target.copies.predict, seed=seed)


def ranked_within(
    measure: ArrayLike, outcome: ArrayLike, factors: Mapping[str, Sequence[object]], *, alpha: float = 0.1
) -> dict[str, Measured]:
    """Whether a measure ranks an outcome where one factor alone varies.

    Args:
        measure: Of each run, shape ``(R,)``.
        outcome: Such as the test loss, ``(R,)``.
        factors: What was varied, by name: the level of each run. Seeds that were varied are a factor, too.
        alpha: One minus the level of the intervals.

    Returns:
        By factor, the mean of Kendall's τ over groups of runs that differ in it alone; Student's interval over groups,
        None for fewer than three, and of no width where all agree. NaN where no group has two runs that differ in
        measure and outcome.

    Raises:
        InputError: If lengths differ, or a number is not finite.

    Example:
        >>> levels = {"width": [1, 1, 2, 2], "seed": [0, 1, 0, 1]}
        >>> found = ranked_within([1.0, 2.0, 4.0, 3.0], [1.0, 2.0, 5.0, 6.0], levels)
        >>> found["width"].value, found["seed"].value
        (1.0, 0.0)
    """
    check_within("alpha", alpha)
    one, two = (np.asarray(v, dtype=float) for v in (measure, outcome))
    if one.shape != two.shape or one.ndim != 1 or any(len(v) != len(one) for v in factors.values()):
        got = f"shapes {one.shape}, {two.shape}, {[len(v) for v in factors.values()]}"
        raise InputError("a measure, an outcome and the levels of each run", got, "one number a run")
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        raise InputError("finite numbers", "NaN or infinity", "leave out the run that has no such measure")
    found = {}
    for name in factors:
        groups: dict[tuple[object, ...], list[int]] = {}
        for r in range(len(one)):
            groups.setdefault(tuple(v[r] for k, v in factors.items() if k != name), []).append(r)
        tau = np.array([kendalltau(one[g], two[g])[0] for g in groups.values() if len(g) > 1], dtype=float)
        tau = tau[np.isfinite(tau)]
        value, interval = float(tau.mean()) if len(tau) else math.nan, None
        if len(tau) > 2:
            reach = float(student.isf(alpha / 2, len(tau) - 1) * tau.std(ddof=1)) / math.sqrt(len(tau))
            interval = max(-1.0, value - reach), min(1.0, value + reach)
        found[name] = Measured(value, interval)
    return found
