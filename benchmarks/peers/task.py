"""The tasks that every learner is given: the same images, the same split, the same random rotations.

Only numpy is needed (and scikit-learn for its embedded digits), so that an environment made for a peer and our own
import the same file. The arrays depend on nothing but the name, the seed and the angle; ``fingerprint`` proves it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TASKS = ("digits", "mnist10k")
_N_TRAIN = {"digits": 1000, "mnist10k": 8000}


@dataclass(frozen=True, eq=False)
class Task:
    """Images in [0, 1] of shape ``(N, 1, H, W)``, float32, and labels of shape ``(N,)``, int64."""

    name: str
    degrees: float
    seed: int
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the four arrays (images rounded to 1/4096)."""
        digest = hashlib.sha256()
        for x in (self.x_train, self.x_test):
            digest.update(np.round(x * 4096).astype("<i2").tobytes())
        for y in (self.y_train, self.y_test):
            digest.update(y.astype("<i8").tobytes())
        return digest.hexdigest()[:16]


def load(name: str, degrees: float = 180.0, seed: int = 0, data: str | None = None) -> Task:
    """Load a task: shuffle with ``seed``, split, and turn every image by an angle uniform in ``±degrees``.

    Args:
        name: ``"digits"`` (scikit-learn's, 1,000 for training, 797 for the test) or ``"mnist10k"`` (8,000 and 2,000).
        degrees: The largest angle, in degrees; 0 leaves the images upright.
        seed: Seed of the shuffle and of the angles.
        data: Folder of ``mnist10k.npz`` (keys ``images``, ``labels``); by default the variable ``NOVACULA_DATA``.

    Raises:
        ValueError: The task is unknown, or the folder is not named.
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        x, y = images.reshape(-1, 8, 8) / 16.0, labels
    elif name == "mnist10k":
        folder = data if data is not None else os.environ.get("NOVACULA_DATA")
        if folder is None:
            raise ValueError("mnist10k needs the folder of mnist10k.npz: set NOVACULA_DATA or pass --data.")
        with np.load(Path(folder) / "mnist10k.npz") as stored:
            x, y = stored["images"] / 255.0, stored["labels"]
    else:
        raise ValueError(f"expected a task of {TASKS}, got {name!r}")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    angles = np.deg2rad(rng.uniform(-degrees, degrees, len(x)))
    x = rotate(x[order], angles).astype(np.float32)[:, None]
    y = y[order].astype(np.int64)
    n = _N_TRAIN[name]
    return Task(name, degrees, seed, x[:n], y[:n], x[n:], y[n:])


def rotate(images: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Turn square images ``(N, H, H)`` about their centre by ``angles (N,)`` radians: bilinear, zero background."""
    n, size, _ = images.shape
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    centre = (size - 1) / 2
    row, column = np.meshgrid(np.arange(size) - centre, np.arange(size) - centre, indexing="ij")
    turned = np.empty(images.shape)
    for start in range(0, n, 1000):
        part = slice(start, start + 1000)
        cos, sin = np.cos(angles[part])[:, None, None], np.sin(angles[part])[:, None, None]
        # One pixel of zeros all round: what lies farther out is clipped onto it.
        r = np.clip(cos * row - sin * column + centre, -1, size) + 1
        c = np.clip(sin * row + cos * column + centre, -1, size) + 1
        r0, c0 = np.minimum(r.astype(int), size), np.minimum(c.astype(int), size)
        fr, fc = r - r0, c - c0
        i = np.arange(len(r))[:, None, None]
        source = padded[part]
        top = (1 - fc) * source[i, r0, c0] + fc * source[i, r0, c0 + 1]
        bottom = (1 - fc) * source[i, r0 + 1, c0] + fc * source[i, r0 + 1, c0 + 1]
        turned[part] = (1 - fr) * top + fr * bottom
    return turned
