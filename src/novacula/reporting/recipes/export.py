"""From extents to text that can be pasted into a training script or a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from novacula.core.errors import InputError
from novacula.reporting.recipes import albumentations, kornia, torchvision, ultralytics
from novacula.reporting.recipes.ranges import Ranges, ranges

Format = Literal["torchvision", "albumentations", "kornia", "ultralytics"]
FORMATS: tuple[Format, ...] = get_args(Format)
Size = tuple[int, int] | None

_WRITERS: dict[Format, Callable[[Ranges, Size], str]] = {
    "torchvision": torchvision.write,
    "albumentations": albumentations.write,
    "kornia": kornia.write,
    "ultralytics": ultralytics.write,
}


def export(record_or_extents: Mapping[str, Any], to: Format = "torchvision", *, size: Size = None) -> str:
    """Write learned extents as augmentations of another library.

    Each range becomes the library's own parameter with the same ends: a rotation of ±η half turns is ``degrees=180 η``,
    a shift of ±η half widths ``translate=η/2``. Where the library draws from another law within these ends (uniform
    factors, where ours are log-uniform), takes only part of it, or has nothing like it, a comment says so. Nothing is
    left out for being small: leave out what counts as none before.

    Args:
        record_or_extents: A run's record (the content of ``run.json``), or extents by name in the invariance's own
            units: ``dict(zip(invariance.names, invariance.eta.tolist()))``. What has no place in a library is named in
            a comment.
        to: ``"torchvision"`` (transforms v2), ``"albumentations"`` and ``"kornia"`` give Python, ``"ultralytics"``
            YAML.
        size: Height and width of the images in pixels, which deformations are measured in; without it a deformation is
            left out, and a comment says so.

    Returns:
        The text.

    Raises:
        InputError: If the format is unknown, the record has no extents, an extent is no finite number, two are of one
            kind, or the size is no pair of positive whole numbers.

    Example:
        >>> print(export({"rotation": 0.125, "translation_x": 0.2, "flip": 0.5}))
        from torchvision.transforms import InterpolationMode, v2
        <BLANKLINE>
        # shifts are rounded to whole pixels
        transform = v2.Compose(
            [
                v2.RandomAffine(degrees=22.5, translate=(0.1, 0), interpolation=InterpolationMode.BILINEAR),
                v2.RandomHorizontalFlip(p=0.5),
            ]
        )
    """
    if to not in FORMATS:
        raise InputError(f"a format among {', '.join(FORMATS)}", repr(to), f"use to={FORMATS[0]!r}")
    pair = size is None or (len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size))
    if not pair:
        raise InputError("size=(height, width) in pixels", repr(size), "use size=(32, 32), or leave it out")
    return _WRITERS[to](ranges(_extents(record_or_extents)), size)


def _extents(given: Mapping[str, Any]) -> Mapping[str, float]:
    # The extents of a record, or what was given.
    if not isinstance(given, Mapping):
        raise InputError("extents by name, or a run's record", f"a {type(given).__name__}", "{'rotation': 0.1}")
    if "invariance" not in given:
        return given
    found = given["invariance"]
    if not isinstance(found, Mapping) or not isinstance(found.get("eta"), Mapping):
        raise InputError(
            "the record of a run with an invariance", "one without", "export extents by name: {'rotation': 0.1}"
        )
    return found["eta"]
