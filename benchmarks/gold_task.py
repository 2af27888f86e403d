"""The task of the reference posterior: a 64-50-10 ReLU net on digits, weights ~ N(0, 1), T = 1. NumPy only.

Both our environment and that of the JAX peers import it.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

SIZES = (64, 50, 10)
TRAIN = 1_000


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images in [0, 1] and labels: 1,000 for training, the other 797 for testing, by one permutation."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order] / 16).astype(np.float32), y[order].astype(np.int32)
    return x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:]


def compare(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Agreement of the most probable classes, and total variation, of two sets of probabilities ``(N, C)``."""
    return {
        "agreement": float((a.argmax(1) == b.argmax(1)).mean()),
        "total_variation": float(0.5 * np.abs(a - b).sum(1).mean()),
    }


def scores(p: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Accuracy and mean log loss."""
    chosen = np.maximum(p[np.arange(len(y)), y], 1e-30)
    return {"accuracy": float((p.argmax(1) == y).mean()), "nll": float(-np.log(chosen).mean())}
