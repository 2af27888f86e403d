"""Crops of scikit-image's own pictures, with noise, and what total variation makes of them.

    python benchmarks/peers/total_variation.py FILE.npz     # in an environment with scikit-image

The weight of the penalty is the one with the best signal-to-noise ratio against the truth: an oracle's, which nobody
has
at home.

References:
    Nonlinear total variation based noise removal algorithms. L. I. Rudin, S. Osher, E. Fatemi, 1992 (by Chambolle's
    algorithm, 2004).
"""

from __future__ import annotations

import sys

import numpy as np
from skimage import data
from skimage.restoration import denoise_tv_chambolle
from skimage.transform import rescale

CROPS = {"astronaut": (0, 128), "coffee": (60, 200), "chelsea": (40, 100)}
LEVELS = (0.05, 0.1, 0.2)


def main() -> None:
    """Write all arrays."""
    arrays = {}
    for name, (top, left) in CROPS.items():
        whole = rescale(getattr(data, name)() / 255.0, 0.5, channel_axis=2, anti_aliasing=True)
        top, left = (min(a // 2, s - 128) for a, s in zip((top, left), whole.shape, strict=False))
        clean = whole[top : top + 128, left : left + 128].clip(0, 1)
        arrays[name] = clean
        for level in LEVELS:
            noisy = clean + level * np.random.default_rng(0).normal(size=clean.shape)
            tries = [denoise_tv_chambolle(noisy, weight=w, channel_axis=2) for w in np.geomspace(0.02, 0.6, 16)]
            best = min(tries, key=lambda made: float(((made - clean) ** 2).mean()))
            arrays[f"{name}/{level}/noisy"], arrays[f"{name}/{level}/tv"] = noisy, best
    np.savez(sys.argv[1], **arrays)


if __name__ == "__main__":
    main()
