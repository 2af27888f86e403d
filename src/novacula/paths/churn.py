"""How differently do runs predict, and what makes them differ?

`churn` takes the predictive probabilities of several runs at the same inputs. How often two runs disagree, how far
their distributions are apart (total variation), and how steady each example is. Where runs form a crossed layout, each
level of one cause (the first weights, say) with each level of another (the order of the data), the variance of the
probabilities is divided among the causes and what is left to both together:

    p_{ijn} = μ_n + a_{in} + b_{jn} + e_{ijn},

by the usual mean squares of a two-way layout without replication, averaged over examples and classes. Estimates are
unbiased and may therefore be below nought.

References:
    Variance components. S. R. Searle, G. Casella, C. E. McCulloch, 1992.
    Launch and iterate: reducing prediction churn. M. Milani Fard and others, 2016.
    Randomness in neural network training: characterizing the impact of tooling. D. Zhuang and others, 2021.
    arXiv:2106.11872.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.paths.crossed import TOGETHER, Layout, components

_Z = 1.645


@dataclass(frozen=True, eq=False)
class Churn:
    """How runs differ in what they predict.

    Attributes:
        disagreement: The share of examples of which two runs say different labels, over all pairs.
        disagreement_interval: One of 90 %, by a jackknife over runs.
        total_variation: Half the sum of the differences of probabilities, averaged over examples and pairs.
        stability: Of each example, the share of pairs that agree, shape ``(N,)``.
        components: Of a crossed layout, the variance of probabilities by cause: ``"first"``, ``"second"``, and
            ``"both"`` for what neither explains alone, summed over classes; empty otherwise.
    """

    disagreement: float
    disagreement_interval: tuple[float, float]
    total_variation: float
    stability: np.ndarray
    components: dict[str, float]

    __repr__ = brief


def churn(probabilities: object) -> Churn:
    """Compare what runs predict.

    Args:
        probabilities: Of each run, shape ``(R, N, C)``; or of a crossed layout of two causes, ``(I, J, N, C)``.

    Returns:
        Disagreement, total variation, and the variance by cause of a crossed layout.

    Raises:
        InputError: If there are fewer than two runs (or levels of a cause), or rows are no probabilities.

    Example:
        >>> import numpy as np
        >>> runs = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.8, 0.2], [0.6, 0.4]]])
        >>> found = churn(runs)
        >>> found.disagreement, round(found.total_variation, 3), found.stability.tolist()
        (0.5, 0.25, [1.0, 0.0])
    """
    p = _probabilities(probabilities)
    components = _components(p) if p.ndim == 4 else {}
    flat = p.reshape(-1, *p.shape[-2:])
    labels, count = flat.argmax(2), len(flat)
    differ, apart = disagreements(labels), variations(flat)
    pairs = count * (count - 1)
    mean = differ.sum() / pairs
    reach = _Z * _jackknifed(differ) if count > 2 else float("nan")
    return Churn(
        disagreement=float(mean),
        disagreement_interval=(max(0.0, float(mean - reach)), min(1.0, float(mean + reach))),
        total_variation=float(apart.sum() / pairs),
        stability=steadiness(labels),
        components=components,
    )


def disagreements(labels: np.ndarray) -> np.ndarray:
    """How often two runs say different labels: ``(R, N)``, or several labels ``(R, N, C)``, to ``(R, R)``."""
    return np.array([[(a != b).mean() for b in labels] for a in labels])


def variations(p: np.ndarray) -> np.ndarray:
    """Half the sum of the differences of probabilities: ``(R, N, C)`` to ``(R, R)``."""
    return np.array([[0.5 * np.abs(a - b).sum(1).mean() for b in p] for a in p])


def steadiness(labels: np.ndarray) -> np.ndarray:
    """Of each example the share of pairs of runs that say the same: ``(R, N)`` to ``(N,)``."""
    count = len(labels)
    votes = (labels[..., None] == np.arange(labels.max() + 1)).sum(0)  # (N, C)
    return (votes * (votes - 1)).sum(1) / (count * (count - 1))


def _jackknifed(matrix: np.ndarray) -> float:
    # The standard error of the mean over pairs, by leaving each run out.
    n = len(matrix)
    left = np.array([np.delete(np.delete(matrix, i, 0), i, 1).sum() / ((n - 1) * (n - 2)) for i in range(n)])
    return float(np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum()))


def _components(p: np.ndarray) -> dict[str, float]:
    rows, columns = p.shape[:2]
    levels = {"first": np.repeat(np.arange(rows), columns), "second": np.tile(np.arange(columns), rows)}
    found = components(p.reshape(rows * columns, *p.shape[2:]), Layout.of(rows * columns, levels))
    return {{TOGETHER: "both"}.get(name, name): part.value for name, part in found.items()}


def _probabilities(values: object) -> np.ndarray:
    found = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values, dtype=np.float64)
    if found.ndim not in (3, 4) or 0 in found.shape:
        got, hint = f"shape {found.shape}", "stack nv.predict(run, x).mean() of each run"
        raise InputError("probabilities (R, N, C), or (I, J, N, C) of a crossed layout", got, hint)
    if min(found.shape[: found.ndim - 2]) < 2:
        raise InputError("two runs or more of each cause", f"shape {found.shape}", "train another with another seed")
    found = found.astype(np.float64)
    if not np.isfinite(found).all() or found.min() < -1e-6 or np.abs(found.sum(-1) - 1).max() > 1e-3:
        raise InputError("rows that are probabilities", "others", "pass probabilities, not logits")
    return found
