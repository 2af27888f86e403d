"""Extents as transforms of torchvision (v2).

What its documentation and code say of the parameters:

- ``RandomAffine``: ``degrees`` within ±, ``translate`` at most these fractions of width and height, ``scale`` an
  interval of factors, ``shear`` degrees of a slide along x. Content moves by ``T C R(a) S Sh C⁻¹``: sheared first,
  shifted last, as ours does. Shifts are rounded to pixels.
  https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.v2.RandomAffine.html
- ``ColorJitter``: brightness multiplies; contrast blends with the mean of the grey image, saturation with the grey
  image (our formulas); hue within ± this fraction of the circle, at most 0.5.
  https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.v2.ColorJitter.html
- ``RandomErasing``: ``scale`` an interval of areas as fractions, ``ratio`` of aspect ratios.
  https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.v2.RandomErasing.html
- ``ElasticTransform``: uniform noise smoothed by ``sigma`` pixels, times ``alpha`` in halves of a pixel, by a kernel of
  ``8 sigma`` pixels with reflected borders. Up to a fix (https://github.com/pytorch/vision/pull/9300) the sides were
  exchanged, which matters where they differ.
  https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.v2.ElasticTransform.html
"""

from __future__ import annotations

from novacula.reporting.recipes import text
from novacula.reporting.recipes.ranges import Ranges, elastic
from novacula.reporting.recipes.text import LEFT_OUT, call, factors, num, pair

_BRIGHTNESS = "brightness: ours adds ±{}, this multiplies; the same on a mid-grey pixel of images in [0, 1]"


def write(found: Ranges, size: tuple[int, int] | None) -> str:
    """Python for torchvision."""
    moves = bool(found.degrees or any(found.translate) or found.scale != 1 or found.shear)
    steps = [_affine(found)] if moves else []
    notes: list[str | bool] = [
        any(found.translate) and text.WHOLE,
        found.axis != found.scale and LEFT_OUT.format("stretch"),
        found.shear > 0 and text.SHEAR,
        max(found.scale, found.contrast, found.saturation) != 1 and text.SCALE,
    ]
    if found.amplitude and size is None:
        notes.append(text.NO_SIZE)
    elif found.amplitude and size is not None:
        _, sigma, factor = elastic(found, size[1])
        if int(8 * sigma + 1) // 2 < min(size):
            steps.append(call("v2.ElasticTransform", alpha=num(2 * factor), sigma=num(sigma)))
            notes.append(
                size[0] != size[1] and "deformation: needs the fix https://github.com/pytorch/vision/pull/9300"
            )
        else:
            notes.append("deformation: too smooth for the kernel here, which must fit into the image; left out")
    steps += text.flips(found, "v2.RandomHorizontalFlip", "v2.RandomVerticalFlip")
    if jitter := _jitter(found):
        steps.append(jitter)
        notes.append(found.brightness > 0 and _BRIGHTNESS.format(num(found.brightness)))
    if found.erasing:
        steps.append(call("v2.RandomErasing", p="1", scale=pair(0, found.erasing), ratio="(1, 1)"))
        notes.append(text.ERASING)
    head = [f"from torchvision.transforms import {'InterpolationMode, ' if moves else ''}v2"]
    return text.program(head, text.comments(found, notes), "v2.Compose", steps, many=False)


def _affine(found: Ranges) -> str:
    return call(
        "v2.RandomAffine",
        degrees=num(found.degrees),
        translate=pair(*found.translate) if any(found.translate) else None,
        scale=factors(found.scale) if found.scale != 1 else None,
        shear=text.around(found.shear) if found.shear else None,
        interpolation="InterpolationMode.BILINEAR",
    )


def _jitter(found: Ranges) -> str | None:
    arguments = {
        "brightness": num(min(2 * found.brightness, 1)) if found.brightness else None,
        "contrast": factors(found.contrast) if found.contrast != 1 else None,
        "saturation": factors(found.saturation) if found.saturation != 1 else None,
        "hue": num(found.hue) if found.hue else None,
    }
    return call("v2.ColorJitter", **arguments) if any(arguments.values()) else None
