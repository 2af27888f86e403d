"""Recipes against what the libraries document of their parameters, and against what our invariances do to images.

The pasted text is executed with stand-ins that record their arguments. What a library makes of them is emulated by its
documented formula; what ours do is measured on images. The stand-ins for albumentations 2.0.8, kornia 0.9.0 and
ultralytics 8.4.190 were compared with the libraries themselves once: the affine matrices of their random draws, the
range of their factors and areas, and the spread of their displacements.
"""

from __future__ import annotations

import ast
import dataclasses
import math
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import novacula as nv
from novacula.core.errors import InputError
from novacula.invariances import Affine, Colour, Deformation, Erasing, Invariance
from novacula.reporting.recipes import FORMATS, Format, export

F64 = torch.float64
HEIGHT, WIDTH = 40, 60
PYTHON: tuple[Format, ...] = ("torchvision", "albumentations", "kornia")
Calls = dict[str, dict[str, Any]]


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


# ---------------------------------------------------------------- reading what was written


class Recorder(ModuleType):
    """A module whose classes only remember what they were called with."""

    def __init__(self, name: str, calls: Calls) -> None:
        super().__init__(name)
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in ("v2", "transforms", "augmentation"):
            return self
        if name in ("InterpolationMode", "BORDER_REPLICATE"):
            return SimpleNamespace(BILINEAR="bilinear")

        def made(*steps: Any, **arguments: Any) -> str:
            assert name not in self._calls
            self._calls[name] = arguments if not steps else {"steps": steps}
            return name

        return made


def calls(text: str, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The calls of a Python recipe, by the name of what is called."""
    found: Calls = {}
    for name in ("torchvision", "torchvision.transforms", "albumentations", "cv2", "kornia", "kornia.augmentation"):
        monkeypatch.setitem(sys.modules, name, Recorder(name, found))
    exec(compile(text, "recipe", "exec"), {})
    return found


def settings(text: str) -> dict[str, Any]:
    """The rows of a YAML recipe; numbers and lists of numbers look the same in Python."""
    rows = [line.split(": ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {key: ast.literal_eval(value) for key, value in rows}


# ---------------------------------------------------------------- what ours do, measured


def measured(name: str, eta: float, u: float) -> tuple[np.ndarray, np.ndarray]:
    """The map ``p' = A p + t`` in pixels of one draw, read off an image of coordinates."""
    invariance = Affine(eta=tensor(eta), only=(name,), padding="border")  # type: ignore[arg-type]
    y, x = torch.meshgrid(torch.arange(HEIGHT, dtype=F64), torch.arange(WIDTH, dtype=F64), indexing="ij")
    image = torch.stack([x - (WIDTH - 1) / 2, y - (HEIGHT - 1) / 2]).unsqueeze(0)
    from_ = invariance(image, tensor(u).view(1, 1))[0].numpy()  # where each pixel came from
    i, j = HEIGHT // 2, WIDTH // 2
    inverse = np.stack([from_[:, i, j + 1] - from_[:, i, j], from_[:, i + 1, j] - from_[:, i, j]], 1)
    at = np.array([j - (WIDTH - 1) / 2, i - (HEIGHT - 1) / 2])
    matrix = np.linalg.inv(inverse)
    return matrix, at - matrix @ from_[:, i, j]


def right_angle(matrix: np.ndarray) -> float:
    """By how many degrees the angle between the images of the axes is less than 90°."""
    a, b = matrix[:, 0], matrix[:, 1]
    return 90 - math.degrees(math.acos(a @ b / math.sqrt((a @ a) * (b @ b))))


# ---------------------------------------------------------------- what the libraries do, by their documentation


def turn(degrees: float) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s], [s, c]])


def slide(x: float = 0.0, y: float = 0.0) -> np.ndarray:
    return np.array([[1, math.tan(math.radians(x))], [math.tan(math.radians(y)), 1]])


@dataclasses.dataclass
class Ends:
    """What a library's affine map is made of, each by its ends."""

    angle: tuple[float, float] = (0, 0)
    x: tuple[float, float] = (0, 0)
    y: tuple[float, float] = (0, 0)
    scale_x: tuple[float, float] = (1, 1)
    scale_y: tuple[float, float] = (1, 1)
    linked: bool = True  # whether both factors are one draw
    shear: tuple[float, float] = (0, 0)  # along x
    shear_y: tuple[float, float] = (0, 0)

    def matrix(self, end: int, *, shear_last: bool = False) -> np.ndarray:
        """The matrix of all first, or all last ends."""
        shear = slide(self.shear[end], self.shear_y[end])
        rest = np.diag([self.scale_x[end], self.scale_y[end]])
        return shear @ turn(self.angle[end]) @ rest if shear_last else turn(self.angle[end]) @ rest @ shear


def affine_ends(to: Format, text: str, monkeypatch: pytest.MonkeyPatch) -> Ends:
    """The ends of the ranges that a recipe asks its library for."""

    def both(value: Any) -> tuple[float, float]:
        return (-value, value) if isinstance(value, (int, float)) else tuple(value)  # type: ignore[return-value]

    if to == "ultralytics":
        rows = settings(text)
        gain = rows["scale"]
        scale = tuple(gain) if isinstance(gain, list) else (1 - gain, 1 + gain)
        shift, shear = rows["translate"], both(rows["shear"])
        x, y = (-shift * WIDTH, shift * WIDTH), (-shift * HEIGHT, shift * HEIGHT)
        return Ends(both(rows["degrees"]), x, y, scale, scale, True, shear, shear)
    found = calls(text, monkeypatch)
    if to == "albumentations":
        given = found["Affine"]
        assert given["p"] == 1
        shift, scale = given["translate_percent"], given["scale"]
        if isinstance(scale, tuple):
            assert given["keep_ratio"] is True
            scale = {"x": scale, "y": scale}
        x, y = (tuple(v * side for v in shift[k]) for k, side in (("x", WIDTH), ("y", HEIGHT)))
        shear = given["shear"]
        return Ends(given["rotate"], x, y, scale["x"], scale["y"], given["keep_ratio"], shear["x"], shear["y"])
    given = found["RandomAffine"]
    # Without p=1 kornia applies it to half of the images; torchvision's nearest neighbours are not our interpolation.
    assert given["p"] == 1 if to == "kornia" else given["interpolation"] == "bilinear"
    scale = given.get("scale", (1, 1))
    shift = given.get("translate", (0, 0))
    assert to == "kornia" or len(scale) == 2
    return Ends(
        both(given["degrees"]),
        both(shift[0] * WIDTH),
        both(shift[1] * HEIGHT),
        scale[:2],
        scale[-2:],
        len(scale) == 2,
        both(given.get("shear", 0)),
    )


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("eta", [0.137, -0.31])
def test_rotations_and_shifts_have_the_same_law(to: Format, eta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are uniform in the same parameter, so that equal ends are equal laws; the middle is compared too."""
    ends = affine_ends(to, export({"rotation": eta}, to), monkeypatch)
    low, high = ends.angle
    assert low == -high
    ours = measured("rotation", abs(eta), 1.0)[0]
    # Positive angles turn one way in one library and the other way in another; ranges are symmetric.
    assert any(np.abs(turn(angle) - ours).max() < 1e-6 for angle in (low, high))
    half = measured("rotation", abs(eta), 0.5)[0]
    assert any(np.abs(turn(angle / 2) - half).max() < 1e-6 for angle in (low, high))
    others = {"x": ends.x, "y": ends.y, "scale": ends.scale_x, "shear": ends.shear}
    assert others == {"x": (0, 0), "y": (0, 0), "scale": (1, 1), "shear": (0, 0)}
    extents = {"translation_x": eta, "translation_y": eta if to == "ultralytics" else 2 * eta}
    ends = affine_ends(to, export(extents, to), monkeypatch)
    for side, (name, value) in zip((ends.x, ends.y), extents.items(), strict=True):
        for end, u in ((0, -1.0), (1, 1.0)):
            matrix, shift = measured(name, abs(value), u)
            np.testing.assert_allclose(matrix, np.eye(2), atol=1e-9)
            assert side[end] == pytest.approx(shift[0 if name == "translation_x" else 1], abs=1e-6)
    assert ends.angle == (0, 0)


@pytest.mark.parametrize("to", FORMATS)
def test_scales_and_shears_have_the_same_ends(to: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = affine_ends(to, export({"scale": -0.23}, to), monkeypatch)
    assert ends.linked
    for end, u in ((0, -1.0), (1, 1.0)):
        np.testing.assert_allclose(ends.matrix(end), measured("scale", 0.23, u)[0], atol=1e-6)
    ends = affine_ends(to, export({"shear": 0.19}, to), monkeypatch)
    for end, u in ((0, -1.0), (1, 1.0)):
        theirs = ends.matrix(end, shear_last=to in ("albumentations", "ultralytics"))
        assert right_angle(theirs) == pytest.approx(right_angle(measured("shear", 0.19, u)[0]), abs=1e-6)
    assert abs(right_angle(measured("shear", 0.19, 1.0)[0])) > 20


@pytest.mark.parametrize("to", ["albumentations", "kornia"])
def test_stretches_have_the_same_ends_along_each_axis(to: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    text = export({"stretch": 0.17, "scale": 0.11}, to)
    ends = affine_ends(to, text, monkeypatch)
    assert not ends.linked
    stretch, scale = (measured(name, eta, 1.0)[0] for name, eta in (("stretch", 0.17), ("scale", 0.11)))
    widest = (stretch @ scale)[0, 0]
    for found in (ends.scale_x, ends.scale_y):
        assert found == pytest.approx((1 / widest, widest), abs=1e-6)
    assert "# stretch: the factors along x and y are independent here" in text


@pytest.mark.parametrize("to", ["torchvision", "ultralytics"])
def test_what_a_library_lacks_is_said(to: Format) -> None:
    text = export({"stretch": 0.2, "rotation": 0.1, "time_shift": 0.3, "my_own": 0.1, "log_gain": 0.0}, to)
    for name in ("stretch", "time_shift", "my_own"):
        assert f"# {name}: nothing like it here; left out" in text
    assert "log_gain" not in text
    assert ("RandomAffine" in text) == (to == "torchvision")
    assert export({"stretch": 0.2}, "torchvision").count("v2") == 0


def test_one_shift_for_two_is_the_smaller() -> None:
    text = export({"translation_x": 0.1, "translation_y": 0.3}, "ultralytics")
    assert settings(text)["translate"] == pytest.approx(0.05)
    assert "±0.05 of the width and ±0.15 of the height" in text
    assert settings(export({"translation_y": 0.3}, "ultralytics"))["translate"] == pytest.approx(0.15)


# ---------------------------------------------------------------- mirror images, colours


@pytest.mark.parametrize("to", FORMATS)
def test_mirror_images_keep_their_probabilities(to: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    text = export({"flip": 0.42, "flip_vertical": 0.7}, to)  # 0.7 acts as 0.5, as it does in ours
    if to == "ultralytics":
        assert (settings(text)["fliplr"], settings(text)["flipud"]) == (0.42, 0.5)
        return
    found = calls(text, monkeypatch)
    names = ("HorizontalFlip", "VerticalFlip")
    names = names if to == "albumentations" else tuple(f"Random{name}" for name in names)
    assert [found[name]["p"] for name in names] == [0.42, 0.5]


def colour_factors(name: str, eta: float) -> list[float]:
    """The factor (or what is added) at both ends, measured on an image."""
    image = torch.rand(1, 3, 6, 5, generator=torch.Generator().manual_seed(0), dtype=F64)
    grey = (image * tensor(0.299, 0.587, 0.114).view(3, 1, 1)).sum(1, keepdim=True)
    colour, found = Colour(eta=tensor(eta), only=(name,)), []  # type: ignore[arg-type]
    for u in (-1.0, 1.0):
        out = colour(image, tensor(u).view(1, 1))
        start = {"brightness": image, "contrast": grey.mean(), "saturation": grey}[name]
        value = out - image if name == "brightness" else (out - start) / (image - start)
        assert float(value.std()) < 1e-9
        found.append(float(value.mean()))
    return found


def hue_turn(eta: float) -> float:
    """By how much of the circle a red image turns at the end."""
    red = tensor(1.0, 0.0, 0.0).view(1, 3, 1, 1)
    r, g, b = Colour(eta=tensor(eta), only=("hue",))(red, tensor(1.0).view(1, 1)).flatten().tolist()
    assert (r, b) == pytest.approx((1.0, 0.0))  # between red and yellow: the hue is a sixth of the green
    return g / 6


@pytest.mark.parametrize("to", PYTHON)
def test_factors_of_colour_have_the_same_ends(to: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    found = calls(export({"contrast": 0.27, "saturation": -0.4, "hue": 0.21}, to), monkeypatch)
    given = found["ColorJitter"]
    assert given["contrast"] == pytest.approx(colour_factors("contrast", 0.27), abs=1e-6)
    assert given["saturation"] == pytest.approx(colour_factors("saturation", 0.4), abs=1e-6)
    hue = given["hue"] if isinstance(given["hue"], tuple) else (-given["hue"], given["hue"])
    assert hue == pytest.approx((-hue_turn(0.21), hue_turn(0.21)), abs=1e-6)
    # A brightness that is left out must be a factor of 1 in the library: its default is one in all but albumentations.
    assert given.get("brightness") == ((1, 1) if to == "albumentations" else None)


def test_brightness_has_the_same_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = colour_factors("brightness", 0.13)
    given = calls(export({"brightness": 0.13}, "albumentations"), monkeypatch)["RandomBrightnessContrast"]
    assert given["brightness_limit"] == pytest.approx(ours, abs=1e-6)
    assert (given["contrast_limit"], given["brightness_by_max"]) == ((0, 0), True)
    given = calls(export({"brightness": 0.13}, "kornia"), monkeypatch)["RandomBrightness"]
    assert [v - 1 for v in given["brightness"]] == pytest.approx(ours, abs=1e-6)
    # Where brightness multiplies, a pixel of 1/2 moves as far.
    text = export({"brightness": 0.13}, "torchvision")
    gain = calls(text, monkeypatch)["ColorJitter"]["brightness"]
    assert [0.5 * (1 + sign * gain) - 0.5 for sign in (-1, 1)] == pytest.approx(ours, abs=1e-6)
    assert "ours adds ±0.13, this multiplies" in text
    assert settings(export({"brightness": 0.13}, "ultralytics"))["hsv_v"] == pytest.approx(gain)
    assert settings(export({"brightness": 0.8}, "ultralytics"))["hsv_v"] == 1


def test_colours_for_ultralytics() -> None:
    text = export({"saturation": 0.4, "hue": 0.21, "contrast": 0.2}, "ultralytics")
    rows = settings(text)
    assert rows["hsv_h"] == pytest.approx(hue_turn(0.21), abs=1e-6)
    assert 1 - rows["hsv_s"] == pytest.approx(colour_factors("saturation", 0.4)[0], abs=1e-6)
    assert "# contrast: nothing like it here" in text
    assert f"up to {math.exp(0.4):.5f}" in text


# ---------------------------------------------------------------- erased squares, deformations


def test_erased_areas_have_the_same_law(monkeypatch: pytest.MonkeyPatch) -> None:
    u = torch.linspace(0, 0.999, 9, dtype=F64)
    noise = torch.stack([u, u.flip(0), u.square()], 1)
    white = torch.ones(9, 1, 6, 9, dtype=F64)
    areas = 1 - Erasing(eta=tensor(0.45))(white, noise).mean((1, 2, 3))
    for to, name in (("torchvision", "RandomErasing"), ("albumentations", "Erasing"), ("kornia", "RandomErasing")):
        given = calls(export({"erasing": 0.45}, to), monkeypatch)[name]  # type: ignore[arg-type]
        low, high = given["scale"]  # areas are uniform between these fractions
        torch.testing.assert_close(low + u * (high - low), areas, rtol=0, atol=1e-6)
        assert (given["ratio"], given["p"]) == ((1, 1), 1)
    # Ultralytics erases 2 to 33 % of the image, how often is all that can be said: the mean area is the same.
    often = settings(export({"erasing": 0.45}, "ultralytics"))["erasing"]
    assert often * (0.02 + 0.33) / 2 == pytest.approx(0.45**2 / 2, abs=1e-6)
    assert settings(export({"erasing": 1.0}, "ultralytics"))["erasing"] == 1


def smoothing(sigma: float) -> np.ndarray:
    """A Gaussian kernel of unit sum, as the libraries cut it: four widths to each side."""
    at = np.arange(-math.ceil(4 * sigma), math.ceil(4 * sigma) + 1)
    weights = np.exp(-0.5 * (at / sigma) ** 2)
    return weights / weights.sum()


@pytest.mark.parametrize("to", PYTHON)
@pytest.mark.parametrize("side", [48, 90])
def test_deformations_have_the_same_covariance(to: Format, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of the image; to 1e-3 of the amplitude, for kernels are cut and sampled at pixels."""
    deformation = Deformation(eta=tensor(0.04, math.log(0.07)), grid=40)
    z = torch.eye(1600, dtype=F64).view(-1, 1, 40, 40).expand(-1, 2, -1, -1)
    middle = side // 2
    field = deformation.field(side, side, z)[:, 0, middle].T * side  # pixels; of one row of the image
    ours = (field @ field[middle]).numpy()
    text = export(dict(zip(deformation.names, deformation.eta.tolist(), strict=True)), to, size=(side, side))
    found = calls(text, monkeypatch)
    given = found["RandomElasticTransform" if to == "kornia" else "ElasticTransform"]
    sigma = given["sigma"][0] if to == "kornia" else given["sigma"]
    reach = {
        "torchvision": given["alpha"] if to == "torchvision" else 0,  # over the side, and 2 over the side is a pixel
        "kornia": given["alpha"][0] * side if to == "kornia" else 0,  # 2 over the side is a pixel
        "albumentations": 2 * given["alpha"] if to == "albumentations" else 0,  # pixels
    }[to] / 2
    kernel = smoothing(sigma)
    across = np.convolve(kernel, kernel)  # the covariance along an axis of white noise of variance 1
    centre = len(kernel) - 1
    theirs = [reach**2 / 3 * across[centre] * across[centre + lag] for lag in range(middle // 2)]
    np.testing.assert_allclose(np.sqrt(theirs[0]), np.sqrt(ours[middle]), rtol=1e-3)
    np.testing.assert_allclose(theirs, ours[middle : middle + middle // 2], atol=3e-3 * ours[middle])
    if to == "kornia":
        assert given["kernel_size"] == (len(kernel), len(kernel))
        assert given["alpha"][0] == given["alpha"][1]
    if to == "albumentations":
        assert given["noise_distribution"] == "uniform"  # else it is normal, and divided by its largest value


def test_deformations_need_a_size_that_fits() -> None:
    extents = {"amplitude": 0.03, "log_smoothness": math.log(0.3)}
    for to in PYTHON:
        assert "export with size=(height, width)" in export(extents, to)
    assert "too smooth for the kernel" in export(extents, "torchvision", size=(32, 32))
    assert "RandomElasticTransform" in export(extents, "kornia", size=(32, 32))
    assert "below one pixel" in export({"amplitude": 0.03, "log_smoothness": -3.0}, "albumentations", size=(8, 8))
    wide = export({"amplitude": 0.03, "log_smoothness": -3.0}, "torchvision", size=(40, 80))
    assert "pull/9300" in wide
    assert "deformation: nothing like it here" in export(extents, "ultralytics", size=(32, 32))


def test_sides_that_differ_for_kornia(monkeypatch: pytest.MonkeyPatch) -> None:
    text = export({"amplitude": 0.03, "log_smoothness": -2.5}, "kornia", size=(30, 50))
    x, y = calls(text, monkeypatch)["RandomElasticTransform"]["alpha"]
    assert x * 50 == pytest.approx(y * 30)  # as many pixels along both


# ---------------------------------------------------------------- what comes in


ALL: Invariance = nv.Compose(
    Affine(), nv.Flip(only=("flip", "flip_vertical")), Deformation(), Colour(only=("brightness", "contrast")), Erasing()
)


@pytest.mark.parametrize("to", FORMATS)
def test_records_and_extents_read_alike(to: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    extents = dict(zip(ALL.names, ALL.eta.tolist(), strict=True))
    text = nv.export(extents, to=to, size=(32, 32))
    assert nv.export({"invariance": {"name": "Compose", "eta": extents}, "versions": {}}, to=to, size=(32, 32)) == text
    assert nv.export({f"affine1_{k}" if k == "scale" else k: v for k, v in extents.items()}, to, size=(32, 32)) == text
    if to != "ultralytics":
        container = calls(text, monkeypatch)[{"kornia": "AugmentationSequential"}.get(to, "Compose")]["steps"]
        # One for each part, and brightness apart but in torchvision.
        assert len(container if to == "kornia" else container[0]) == (6 if to == "torchvision" else 7)


@pytest.mark.parametrize("to", FORMATS)
def test_nothing_is_written_as_nothing(to: Format) -> None:
    text = export({"rotation": 0.0, "flip": 0.0, "log_smoothness": -1.9}, to)
    if to == "ultralytics":
        assert set(settings(text).values()) == {0}
    else:
        assert text == "# no transformation: train on the images as they are"


def test_extents_beyond_their_limits_act_as_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    given = calls(export({"rotation": 1.3, "translation_x": -2.5, "hue": 1.2, "erasing": -0.1}), monkeypatch)
    assert given["RandomAffine"]["degrees"] == 180
    assert given["RandomAffine"]["translate"] == (1, 0)
    assert given["ColorJitter"]["hue"] == 0.5
    assert "RandomErasing" not in given


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: export({}, "keras"), "among torchvision, alb.*got 'keras'. Try: use to="),  # type: ignore[arg-type]
        (lambda: export({"rotation": math.nan}), "a finite number as the extent 'rotation'; got nan"),
        (lambda: export({"rotation": "much"}), "finite number.*got 'much'"),  # type: ignore[dict-item]
        (lambda: export({"rotation": 0.1, "affine2_rotation": 0.2}), "not 'rotation' twice; got 'affine2_rotation'"),
        (lambda: export({"invariance": None}), "record of a run with an invariance; got one without"),
        (lambda: export({"rotation": 0.1}, size=(32,)), r"size=\(height, width\) in pixels; got \(32,\)"),  # type: ignore[arg-type]
        (lambda: export({"rotation": 0.1}, size=(32, 0)), r"in pixels; got \(32, 0\)"),
    ],
)
def test_bad_input_is_explained(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
