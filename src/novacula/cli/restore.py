"""``novacula restore``, behind its options: read an image, restore it, write it and its standard deviations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from novacula.cli.console import out, print_json, warn
from novacula.cli.options import RestoreOptions
from novacula.cli.progress import computing
from novacula.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from novacula.study.restoring.observing import Problem


def restore(image: Path, options: RestoreOptions) -> None:
    """Run ``novacula restore``."""
    with computing(options) as progress:
        pixels = _pixels(image, "RGB")
        mask = None if options.mask is None else _pixels(options.mask, "L") > 0.5
        from novacula.study.restoring import restore as make

        progress.say("restoring")
        found = make(
            pixels,
            cast("Problem", options.task),
            mask=mask,
            factor=options.factor,
            noise=options.noise,
            steps=options.steps,
            draws=options.draws,
            seed=options.seed,
        )
        target = options.out or image.with_name(f"{image.stem}-restored.png")
        doubt = target.with_name(f"{target.stem}-sd{target.suffix}")
        _write(target, found.image.numpy())
        _write(doubt, (found.sd / found.sd.max()).numpy())
    root = found.errors[found.kept] ** 0.5 if found.errors[found.kept] > 0 else 0.0
    content: dict[str, Any] = {
        "image": str(target),
        "sd": str(doubt),
        "sd_white": float(found.sd.max()),
        "task": options.task,
        "noise": found.noise,
        "kept": found.kept,
        "step": found.step,
        "rms_error": root,
        "warnings": list(found.warnings),
    }
    if options.json:
        print_json(content)
        return
    for text in found.warnings:
        warn(text)
    by = "the average of draws" if found.kept == "draws" else f"fitting stopped at step {found.step}"
    out().print(f"{target}: {by}; noise {found.noise:.3f}, error of a pixel about {root:.3f} (of values from 0 to 1)")
    out().print(f"{doubt}: standard deviations, white is {content['sd_white']:.3f}")


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise InputError("Pillow, which reads images", "none installed", "pip install 'novacula[images]'") from None
    return Image


def _pixels(path: Path, mode: str) -> np.ndarray:
    import numpy as np

    try:
        with _pillow().open(path) as opened:
            grey = opened.mode in {"1", "L", "I", "I;16"}
            return np.asarray(opened.convert("L" if grey else mode), dtype=np.float32) / 255
    except (OSError, ValueError) as error:
        raise InputError("an image", f"{path}: {error}", "pass a .png or .jpg file") from None


def _write(path: Path, values: np.ndarray) -> None:
    levels = (255 * values.clip(0, 1)).round().astype("uint8")
    image = levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0)
    _pillow().fromarray(image).save(path)
