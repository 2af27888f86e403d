"""Extents as augmentations of kornia.

What its documentation and code (0.9.0) say of the parameters:

- ``RandomAffine``: ``degrees`` and ``shear`` (along x) in degrees, ``translate`` in fractions of width and height,
  ``scale`` an interval of factors, or two of them, for x and y. Content is sheared, scaled, turned and shifted.
- ``RandomBrightness`` adds the factor less 1, within [0, 2]; ``ColorJitter`` has the formulas of torchvision, and a hue
  within ± a fraction of the circle. ``RandomErasing``: areas as fractions of the image's, and aspect ratios.
- ``RandomElasticTransform``: uniform noise in [−1, 1] smoothed by a kernel of ``kernel_size`` (y, x) and ``sigma``
  pixels (y, x) with zeros outside, times ``alpha`` (x, y) in half sides.

All are in https://kornia.readthedocs.io/en/latest/augmentation.module.html. ``p`` is the probability of applying one.
"""

from __future__ import annotations

import math

from novacula.reporting.recipes import text
from novacula.reporting.recipes.ranges import Ranges, elastic
from novacula.reporting.recipes.text import around, call, factors, num, pair


def write(found: Ranges, size: tuple[int, int] | None) -> str:
    """Python for kornia."""
    steps = [_affine(found)] if found.moves else []
    notes: list[str | bool] = [
        found.axis != found.scale and text.INDEPENDENT,
        found.shear > 0 and text.SHEAR,
        max(found.axis, found.contrast, found.saturation) != 1 and text.SCALE,
    ]
    if found.amplitude and size is None:
        notes.append(text.NO_SIZE)
    elif found.amplitude and size is not None:
        steps.append(_elastic(found, size))
        notes.append("deformation: weaker near the borders here, where the smoothing meets zeros")
    steps += text.flips(found, "K.RandomHorizontalFlip", "K.RandomVerticalFlip")
    if found.brightness:
        reach = min(found.brightness, 1)
        steps.append(call("K.RandomBrightness", brightness=pair(1 - reach, 1 + reach), p="1.0"))
        notes.append("brightness and colours: for images in [0, 1], to which results are clipped")
    if found.contrast != 1 or found.saturation != 1 or found.hue:
        steps.append(
            call(
                "K.ColorJitter",
                contrast=factors(found.contrast),
                saturation=factors(found.saturation),
                hue=around(found.hue),
                p="1.0",
            )
        )
    if found.erasing:
        steps.append(call("K.RandomErasing", scale=pair(0, found.erasing), ratio="(1, 1)", p="1.0"))
        notes.append(text.ERASING)
    head = ["import kornia.augmentation as K"]
    return text.program(head, text.comments(found, notes), "K.AugmentationSequential", steps, many=True)


def _affine(found: Ranges) -> str:
    scale, stretched = factors(found.axis), found.axis != found.scale
    return call(
        "K.RandomAffine",
        degrees=num(found.degrees),
        translate=pair(*found.translate) if any(found.translate) else None,
        scale=f"{scale[:-1]}, {scale[1:]}" if stretched else scale if found.scale != 1 else None,
        shear=around(found.shear) if found.shear else None,
        p="1.0",
    )


def _elastic(found: Ranges, size: tuple[int, int]) -> str:
    height, width = size
    _, sigma, factor = elastic(found, width)
    kernel = 2 * math.ceil(4 * sigma) + 1
    return call(
        "K.RandomElasticTransform",
        kernel_size=f"({kernel}, {kernel})",
        sigma=pair(sigma, sigma),
        alpha=pair(2 * factor / width, 2 * factor / height),
        padding_mode='"border"',
        p="1.0",
    )
