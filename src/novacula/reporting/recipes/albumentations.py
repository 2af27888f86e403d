"""Extents as transforms of albumentations.

What its documentation and code (2.0.8) say of the parameters:

- ``Affine``: ``rotate`` and ``shear`` in degrees, ``translate_percent`` in fractions of width and height, to whole
  pixels, ``scale`` a factor, the same along x and y with ``keep_ratio``. The image is scaled, turned, sheared, shifted;
  ours is sheared before it is turned.
- ``RandomBrightnessContrast`` with ``brightness_by_max`` adds a fraction of the largest value (255, or 1 for floats).
- ``ColorJitter``: the formulas of torchvision. ``Erasing``: areas as fractions of the image's, and aspect ratios.
- ``ElasticTransform``: noise in [−1, 1] smoothed by ``sigma`` pixels, times ``alpha`` pixels.

All are in https://albumentations.ai/docs/api-reference/. ``p`` is the probability of applying a transform at all, by
default 0.5.
"""

from __future__ import annotations

from novacula.reporting.recipes import text
from novacula.reporting.recipes.ranges import Ranges, elastic
from novacula.reporting.recipes.text import around, call, factors, num, pair


def write(found: Ranges, size: tuple[int, int] | None) -> str:
    """Python for albumentations."""
    steps = [_affine(found)] if found.moves else []
    notes: list[str | bool] = [
        any(found.translate) and text.WHOLE,
        found.axis != found.scale and text.INDEPENDENT,
        found.shear > 0 and text.SHEAR,
        found.shear > 0 and found.degrees > 0 and "the shear comes after the rotation here, ours before it",
        max(found.axis, found.contrast, found.saturation) != 1 and text.SCALE,
    ]
    head = ["import albumentations as A"]
    if found.amplitude and size is None:
        notes.append(text.NO_SIZE)
    elif found.amplitude and size is not None:
        _, sigma, factor = elastic(found, size[1])
        if sigma >= 1:
            head.append("import cv2")
            steps.append(
                call(
                    "A.ElasticTransform",
                    alpha=num(factor),
                    sigma=num(sigma),
                    noise_distribution='"uniform"',
                    border_mode="cv2.BORDER_REPLICATE",
                    p="1",
                )
            )
        else:
            notes.append("deformation: a smoothness below one pixel is not taken here; left out")
    steps += text.flips(found, "A.HorizontalFlip", "A.VerticalFlip")
    if found.brightness:
        steps.append(
            call(
                "A.RandomBrightnessContrast",
                brightness_limit=around(found.brightness),
                contrast_limit="(0, 0)",
                brightness_by_max="True",
                p="1",
            )
        )
        notes.append("brightness: for images of bytes, or of floats in [0, 1], whose extent was learned in [0, 1]")
    if found.contrast != 1 or found.saturation != 1 or found.hue:
        steps.append(
            call(
                "A.ColorJitter",
                brightness="(1, 1)",
                contrast=factors(found.contrast),
                saturation=factors(found.saturation),
                hue=around(found.hue),
                p="1",
            )
        )
    if found.erasing:
        steps.append(call("A.Erasing", scale=pair(0, found.erasing), ratio="(1, 1)", p="1"))
        notes.append(text.ERASING)
    return text.program(head, text.comments(found, notes), "A.Compose", steps, many=False)


def _affine(found: Ranges) -> str:
    x, y = found.translate
    stretched = found.axis != found.scale
    both = f'{{"x": {factors(found.axis)}, "y": {factors(found.axis)}}}'
    return call(
        "A.Affine",
        rotate=around(found.degrees),
        translate_percent=f'{{"x": {around(x)}, "y": {around(y)}}}',
        scale=both if stretched else factors(found.scale),
        keep_ratio=str(not stretched),
        shear=f'{{"x": {around(found.shear)}, "y": (0, 0)}}',
        p="1",
    )
