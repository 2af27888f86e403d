"""Images restored without the truth, beside the oracle's stop and total variation at the oracle's weight.

    python benchmarks/peers/total_variation.py images.npz                      # in an environment with scikit-image
    python -m benchmarks.restore images.npz --image astronaut --noise 0.1      # a minute and a half
    python -m benchmarks.restore images.npz --all
    python -m benchmarks.restore images.npz --summary                          # the table, and a picture of three

PSNR in dB against the clean crop, 128 × 128 pixels in colour. ``oracle`` is the best of the running averages of the
very same run, seen by the truth; ``covered`` the share of clean values within the 90 % intervals.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import novacula as nv
from benchmarks.common import environment, write

RESULTS = Path(__file__).parent / "results" / "restore"
IMAGES, LEVELS = ("astronaut", "coffee", "chelsea"), (0.05, 0.1, 0.2)


def psnr(made: Tensor, clean: Tensor) -> float:
    """In dB, of values within 0 and 1."""
    return -10 * math.log10(float((made.clamp(0, 1) - clean).square().mean()))


def run(arrays: Any, name: str, level: float, seed: int) -> dict[str, Any]:
    """One image at one level."""
    torch.set_num_threads(1)
    clean, noisy, tv = (
        torch.from_numpy(arrays[key]).float().permute(2, 0, 1)
        for key in (name, f"{name}/{level}/noisy", f"{name}/{level}/tv")
    )
    path: list[float] = []
    began = time.process_time()
    found = nv.restore(noisy, seed=seed, steps=1_200, watch=lambda image: path.append(psnr(image, clean)))
    low, high = found.interval(0.9)
    RESULTS.mkdir(parents=True, exist_ok=True)
    stack = torch.stack([clean, noisy.clamp(0, 1), tv.clamp(0, 1), found.image, found.sd / found.sd.max()])
    np.save(RESULTS / f"{name}-{level}.npy", (255 * stack).round().to(torch.uint8).numpy())
    return {
        "image": name,
        "noise": level,
        "noise_estimated": found.noise,
        "noisy": psnr(noisy, clean),
        "total_variation": psnr(tv, clean),
        "restored": psnr(found.image, clean),
        "stopped": psnr(found.stopped, clean),
        "draws": psnr(found.draws.mean(0), clean),
        "kept": found.kept,
        "oracle": max(path),
        "step": found.step,
        "covered": float(((clean >= low) & (clean <= high)).float().mean()),
        "warnings": list(found.warnings),
        "cpu_seconds": time.process_time() - began,
        "environment": environment(),
    }


def summary() -> None:
    """The table and the picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image

    names = ("noise_estimated", "noisy", "total_variation", "stopped", "draws", "restored", "oracle", "covered")
    print("image noise", *names, "kept step")
    pictures = [RESULTS / f"{name}-{level}.npy" for name, level in zip(IMAGES, LEVELS, strict=True)]
    for path in sorted(RESULTS.glob("*.json")):
        row = json.loads(path.read_text())
        print(row["image"], row["noise"], *(f"{row[n]:.3f}" for n in names), row["kept"], row["step"])
    figure, axes = plt.subplots(len(pictures), 5, figsize=(10, 2.1 * len(pictures)), squeeze=False)
    titles = ("clean", "noisy", "total variation", "restored", "standard deviation")
    for line, path in zip(axes, pictures, strict=True):
        for axis, image, title in zip(line, np.load(path), titles, strict=True):
            axis.imshow(image.transpose(1, 2, 0))
            axis.set_axis_off()
            axis.set_title(title if axis is not line[0] else path.stem, fontsize=8)
    figure.tight_layout()
    path = RESULTS.parent / "restore.png"
    figure.savefig(path, dpi=70)
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("--image", choices=IMAGES)
    parser.add_argument("--noise", type=float, choices=LEVELS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--summary", action="store_true")
    given = parser.parse_args()
    if given.summary:
        summary()
        return
    arrays = np.load(given.images)
    wanted = [(n, v) for v in LEVELS for n in IMAGES] if given.all else [(given.image, given.noise)]
    for name, level in wanted:
        write(RESULTS / f"{name}-{level}.json", run(arrays, name, level, given.seed))


if __name__ == "__main__":
    main()
