"""Extents as training arguments of ultralytics, in YAML.

What its documentation and code (8.4) say of the arguments:

- ``degrees`` ±; ``translate`` ± this fraction of width and height alike; ``scale`` a gain 1 ± this, or both ends of the
  factor; ``shear`` degrees ± along x and y independently, after the rotation.
- ``flipud``, ``fliplr``: probabilities. ``hsv_h`` ± this fraction of the circle; ``hsv_s`` and ``hsv_v`` multiply the
  saturation and the value of the HSV model by 1 ± this.
- ``erasing``: a probability, in classification, of erasing an area of 2 to 33 % of the image.

https://docs.ultralytics.com/guides/yolo-data-augmentation and https://docs.ultralytics.com/usage/cfg. The defaults are
not 0, so every argument is written.
"""

from __future__ import annotations

from novacula.reporting.recipes import text
from novacula.reporting.recipes.ranges import Ranges
from novacula.reporting.recipes.text import LEFT_OUT, num

_AREA = (0.02 + 0.33) / 2  # the mean area that is erased where something is


def write(found: Ranges, size: tuple[int, int] | None) -> str:
    """YAML for ultralytics."""
    x, y = found.translate
    shift = min(x, y) if x and y else max(x, y)
    low = 1 - 1 / found.saturation
    rows = {
        "degrees": num(found.degrees),
        "translate": num(shift),
        "scale": "0" if found.scale == 1 else f"[{num(1 / found.scale)}, {num(found.scale)}]",
        "shear": num(found.shear / 2),
        "flipud": num(found.flip_vertical),
        "fliplr": num(found.flip),
        "hsv_h": num(found.hue),
        "hsv_s": num(low),
        "hsv_v": num(min(2 * found.brightness, 1)),
        "erasing": num(min(found.erasing / 2 / _AREA, 1)),
    }
    notes = [
        "training arguments; mosaic, mixup and the rest stay at their defaults",
        "classification takes flips, hsv_* and erasing of these, colours only with auto_augment off",
        x != y and f"translate: one for both here, ours ±{num(x)} of the width and ±{num(y)} of the height",
        found.scale != 1 and "scale: two ends need a recent release (8.4); factors are uniform, ours log-uniform",
        found.shear > 0 and "shear: along x and y independently, after the rotation; together they reach our angle",
        found.axis != found.scale and LEFT_OUT.format("stretch"),
        found.amplitude > 0 and LEFT_OUT.format("deformation"),
        found.contrast != 1 and LEFT_OUT.format("contrast"),
        low > 0
        and f"hsv_s: of the HSV model, symmetric about 1; ours reaches as low, and up to {num(found.saturation)}",
        found.brightness > 0
        and f"hsv_v: ours adds ±{num(found.brightness)}, this multiplies; the same on a mid-grey pixel",
        found.erasing > 0 and "erasing: how often, of squares of 2 to 33 % of the area; the mean erased area is ours",
    ]
    return "\n".join([*text.comments(found, notes), *(f"{key}: {value}" for key, value in rows.items())])
