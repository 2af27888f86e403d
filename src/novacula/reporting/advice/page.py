"""The page of `novacula augment`: verdicts, pictures and what to do, from its saved results, without torch."""

from __future__ import annotations

import base64
import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np

from novacula.core.errors import DamagedRun, InputError
from novacula.core.storage.atomic import write_text
from novacula.core.storage.run import ADVICE, PICTURES, REPORT
from novacula.core.storage.seal import digest, read_sealed
from novacula.reporting.advice import words
from novacula.reporting.advice.gains import gains
from novacula.reporting.page import filled
from novacula.reporting.pictures import present
from novacula.reporting.recipes import export
from novacula.reporting.words.numbers import duration, number

_GAP = 2  # pixels between images


@dataclass(frozen=True)
class Strip:
    """Training images under a transformation."""

    label: str
    verdict: str
    source: str  # an image as a data URI
    width: int
    height: int


def read(folder: str | Path) -> dict[str, Any]:
    """The content of ``advice.json``; an InputError where there is none."""
    path = Path(folder) / ADVICE
    try:
        record = read_sealed(path, earlier=True)
    except (OSError, ValueError) as error:
        hint = "pass the --output folder of novacula augment"
        raise InputError("a folder with the results of novacula augment", f"{path}: {error}", hint) from error
    return record


def report(folder: str | Path) -> Path:
    """Write ``report.html`` into the folder of a comparison.

    Returns:
        The page's path.

    Raises:
        InputError: If the folder holds no finished comparison, or cannot be written.
    """
    record = read(folder)
    pictures = _pictures(Path(folder) / PICTURES, record.get("pictures"))
    page = Path(folder) / REPORT
    write_text(page, render(record, pictures))
    return page


def _pictures(path: Path, wanted: str | None) -> dict[str, np.ndarray]:
    # Versions that wrote no checksum may have left none.
    if wanted is None and not path.is_file():
        return {}
    try:
        content = path.read_bytes()
        if wanted not in (None, digest(content)):
            raise ValueError("its checksum is not that of the file that was written")
        with np.load(io.BytesIO(content)) as saved:
            return dict(saved)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        hint = f"run it again; the verdicts in {ADVICE} are whole"
        raise DamagedRun("the pictures of the comparison", f"{path}, damaged: {error}", hint) from error


def render(record: Mapping[str, Any], pictures: Mapping[str, np.ndarray]) -> str:
    """The page."""
    listed = words.rows(record)
    names = [row.name for row in listed]
    data = record["data"]
    return filled(
        "advice.html.j2",
        title=f"Augmentations for {data['name']}",
        subtitle=words.subtitle(record),
        headline=words.headline(record),
        caveats=words.caveats(record),
        rows=listed,
        comparison=words.comparison(record),
        gains=present(gains(record, names)),
        strips=strips(record, pictures, names),
        recipe=export(record, "torchvision", size=size_of(record)) if record["recommended"] else "",
        worth=number(record["thresholds"]["worth"]),
        slight=number(record["thresholds"]["slight"]),
        facts=[
            ("Data fingerprint", data["fingerprint"]),
            ("Seed", str(record["seed"])),
            ("Time", duration(record["seconds"])),
            ("Steps of a network", f"{record['plan']['steps']:,}, {record['plan']['batch_size']} images each"),
            ("Versions", ", ".join(f"{k} {v}" for k, v in record["versions"].items())),
        ],
    )


def size_of(record: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of the images."""
    height, width = record["data"]["input_shape"][1:]
    return height, width


def strips(record: Mapping[str, Any], pictures: Mapping[str, np.ndarray], names: list[str]) -> list[Strip]:
    """Pictures of training images as given, and under each transformation at each extent."""
    found = [_strip("as given", "", pictures["none"])] if "none" in pictures else []
    for name in names:
        for s in record["verdicts"][name]["strengths"]:
            images = pictures.get(f"{name}={s['extent']:.6g}")
            if images is not None:
                found.append(_strip(words.spoken(name, s["extent"]), s["verdict"], images))
    mixture = "+".join(f"{name}={extent:.6g}" for name, extent in record["recommended"].items())
    if "+" in mixture and mixture in pictures:
        found.append(_strip("all that is recommended", "", pictures[mixture]))
    if "trivial" in pictures:
        found.append(_strip(f"{words.POLICY}-like policy", "", pictures["trivial"]))
    return found


def _strip(label: str, verdict: str, images: np.ndarray) -> Strip:
    n, height, width, channels = images.shape
    row = np.full((height, n * (width + _GAP) - _GAP, 4), 0, dtype=np.uint8)
    for i, image in enumerate(images):
        at = i * (width + _GAP)
        row[:, at : at + width, :3] = image if channels == 3 else np.repeat(image, 3, 2)
        row[:, at : at + width, 3] = 255
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, row, format="png", metadata={"Software": "novacula"})
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Strip(label, verdict, source, row.shape[1], height)
