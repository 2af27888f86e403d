"""Images as arrays: modes, orientation and size, each by a rule that is written here, as Pillow decodes them.

===========================  ============================================================================
mode                         what becomes of it
===========================  ============================================================================
``L``, ``1``                 grey; 0 and 255 for bits
``RGB``                      colour
``P``, ``CMYK``, ``YCbCr`` … colour, by Pillow's conversion
``LA``, ``RGBA``, ``P`` …    with transparency: laid over white, as people see them
``I;16``, ``I`` up to 65535  grey, divided by 65535 without rounding: then all images are floats in [0, 1]
===========================  ============================================================================

A set of images is grey where all are, otherwise colour. Photographs are turned as their EXIF orientation says.

To a size S: the shorter side is scaled to S pixels (bilinear, with antialiasing) and the longer one in proportion,
rounded down; then the S × S pixels in the middle are cut out, as torchvision's ``Resize(S)`` and ``CenterCrop(S)`` do.
"""

from __future__ import annotations

import importlib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from novacula.core.errors import InputError

MOST_PIXELS = 2**26
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # Pillow tells by the content, and knows others
_GREY, _DEEP = frozenset({"L", "1", "LA", "La"}), frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_DEEPEST = 65_535
_TURNED = frozenset({5, 6, 7, 8})  # EXIF orientations that exchange width and height
_ORIENTATION = 274


@dataclass(frozen=True)
class Look:
    """What all images of a set become."""

    colour: bool  # whether they have three channels rather than one
    deep: bool  # whether they are floats in [0, 1] rather than bytes, since one has 16 bits
    height: int  # pixels
    width: int  # pixels
    size: int | None = None  # the size to which they are brought, or None where all have one already

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return 3 if self.colour else 1, self.height, self.width


@dataclass(frozen=True)
class Survey:
    """What a set of images is, from the files' headers."""

    look: Look
    said: tuple[str, ...]  # what was decided, in sentences


def survey(files: Sequence[Path], size: int | None = None, *, colour: bool | None = None) -> Survey:
    """Look at the headers of files.

    Args:
        files: Images, at least one.
        size: The size to which they are to be brought, in pixels; None for as they are.
        colour: Whether they are to be colour; by default where one is.

    Returns:
        What they all become.

    Raises:
        InputError: If one cannot be read, is of a mode without a rule, or sizes differ and none is asked for.
    """
    if size is not None and not 1 <= size <= int(MOST_PIXELS**0.5):
        raise InputError("a size of 1 or more pixels", str(size), "--size 64 (size=64 in Python)")
    pillow = _pillow(files[0])
    heads = [_head(pillow, file) for file in files]
    modes, sizes = Counter(mode for mode, _, _ in heads), Counter(place for _, place, _ in heads)
    clear = sum(seen for _, _, seen in heads)
    if size is None and len(sizes) > 1:
        first, other = heads[0][1], next(i for i, h in enumerate(heads) if h[1] != heads[0][1])
        (width, height), times = sizes.most_common(1)[0]
        got = f"{heads[other][1]} (width, height) in {files[other]}, {first} in {files[0]}"
        hint = f"--size {min(width, height)} (size={min(width, height)} in Python): shorter side, then the centre"
        raise InputError("images of one size, or a size to bring them to", f"{got}; {times:,} are alike", hint)
    if colour is None:
        colour = any(mode not in _GREY | _DEEP for mode in modes)
    width, height = next(iter(sizes)) if size is None else (size, size)
    deep = bool(_DEEP & modes.keys())
    return Survey(Look(colour, deep, height, width, size), _said(modes, sizes, clear, size))


def decoded(file: Path, look: Look) -> np.ndarray:
    """One image by its look, ``(channels, height, width)``: bytes, or float32 in [0, 1] where the set is deep."""
    try:
        image = _opened(_pillow(file), file)
        deep = image.mode in _DEEP
        image = _levels(image, file) if deep else _plain(image, colour=look.colour)
        if look.size is not None:
            image = _centred(image, look.size)
        if image.size != (look.width, look.height):
            got = f"{image.size} (width, height) in {file}"
            raise InputError(f"images of {(look.width, look.height)}, as the others", got, "--size 64, or leave it out")
        a = np.asarray(image)
    except InputError:
        raise
    except Exception as error:  # each of Pillow's formats reports damage by errors of its own
        raise InputError("an image that can be read", f"{file}: {error}", "replace or remove it") from error
    if look.deep and not deep:
        a = a.astype(np.float32) / np.float32(255)
    elif deep and not look.deep:
        a = np.round(a * 255).astype(np.uint8)
    a = np.moveaxis(a, -1, 0) if a.ndim == 3 else a[None]
    return np.repeat(a, 3, axis=0) if look.colour and len(a) == 1 else a


def _said(modes: Counter[str], sizes: Counter[tuple[int, int]], clear: int, size: int | None) -> tuple[str, ...]:
    said = []
    if size is not None:
        widths, heights = zip(*sizes, strict=True)
        which = f"{min(widths)} to {max(widths)} pixels wide and {min(heights)} to {max(heights)} high"
        said.append(f"images ({which}) brought to {size} × {size}: the shorter side scaled, then the centre")
    if len(modes) > 1 or modes.keys() - {"L", "RGB", "1"}:
        said.append("modes of images: " + ", ".join(f"{n:,} {mode}" for mode, n in modes.most_common()))
    if clear:
        said.append(f"{clear:,} image{'s' * (clear > 1)} with transparency laid over white")
    if _DEEP & modes.keys():
        said.append(f"16-bit images divided by {_DEEPEST:,}")
    return tuple(said)


def _head(pillow: Any, file: Path) -> tuple[str, tuple[int, int], bool]:
    # Mode, upright size (width, height), and whether there is transparency; nothing is decoded.
    _check_regular(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's own bound, and of odd metadata
            with pillow.open(file, formats=_FORMATS) as image:
                size, mode = image.size, image.mode
                turned = image.getexif().get(_ORIENTATION) in _TURNED
                clear = mode in _ALPHA or "transparency" in image.info
    except Exception as error:
        raise InputError("an image that can be read", f"{file}: {error}", "replace or remove it") from error
    _check_pixels(size, file)
    if mode == "F":
        raise InputError("images with 8 or 16 bits a channel", f"mode F in {file}", "convert them, or use .npz")
    return mode, (size[1], size[0]) if turned else size, clear


def _opened(pillow: Any, file: Path) -> Any:
    _check_regular(file)
    upright = importlib.import_module("PIL.ImageOps").exif_transpose  # as people see it, however the camera was held
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pillow.open(file, formats=_FORMATS) as image:
            _check_pixels(image.size, file)
            image.load()
            return upright(image)


def _levels(image: Any, file: Path) -> Any:
    # A grey image of 16 bits as floats in [0, 1].
    a = np.asarray(image).astype(np.float32)
    if a.min() < 0 or a.max() > _DEEPEST:
        got = f"values from {a.min():g} to {a.max():g} in {file}"
        raise InputError("images with 8 or 16 bits a channel", got, "convert them, or use .npz")
    return _pillow(file).fromarray(a / np.float32(_DEEPEST))


def _plain(image: Any, *, colour: bool) -> Any:
    if image.mode in _ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        white = importlib.import_module("PIL.Image").new("RGBA", image.size, "white")
        white.alpha_composite(image)
        image = white
    return image.convert("RGB" if colour else "L")


def _centred(image: Any, size: int) -> Any:
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if short != size:
        scaled = max(size, int(size * long / short))
        wide, high = (size, scaled) if width <= height else (scaled, size)
        image = image.resize((wide, high), importlib.import_module("PIL.Image").Resampling.BILINEAR)
    left, top = round((image.size[0] - size) / 2), round((image.size[1] - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _check_regular(file: Path) -> None:
    if not file.is_file():
        raise InputError("an image that can be read", f"{file}, which is no regular file", "replace or remove it")


def _check_pixels(size: tuple[int, int], file: Path) -> None:
    if size[0] * size[1] > MOST_PIXELS:
        got = f"{size[0]} x {size[1]} in {file}"
        raise InputError(f"images of at most {MOST_PIXELS:,} pixels", got, "resize it")


def _pillow(path: Path) -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError:
        hint = "pip install 'novacula[images]'"
        raise InputError("Pillow to read images", f"none installed, for {path}", hint) from None
