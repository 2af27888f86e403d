"""Affine maps against scipy's resampling, matrix exponentials and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import torch
from torch import Tensor

from novacula.invariances import Affine
from novacula.invariances.affine import AFFINE_NAMES
from novacula.invariances.warp import symmetric_exp

F64 = torch.float64


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=rng(seed), dtype=F64)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def move(x: Tensor, padding: str = "zeros", **values: float) -> Tensor:
    """Move the content of all images by the given values of the generators."""
    names = tuple(name for name in AFFINE_NAMES if name in values)
    affine = Affine(eta=tensor(*(values[name] for name in names)), only=names, padding=padding)  # type: ignore[arg-type]
    return affine(x, x.new_ones(x.shape[0], len(names)))


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("turns", [1, 2, -1])
def test_quarter_turns_are_exact_and_counter_clockwise(size: int, turns: int) -> None:
    x = rand(3, 2, size, size)
    torch.testing.assert_close(move(x, rotation=turns / 2), torch.rot90(x, turns, (-2, -1)), rtol=0, atol=1e-12)
    right = torch.zeros(1, 1, size, size, dtype=F64)
    right[0, 0, size // 2, -1] = 1
    assert move(right, rotation=0.5)[0, 0, 0].sum() == pytest.approx(1)  # from the right edge to the top


def test_half_turn_of_a_non_square_image() -> None:
    x = rand(2, 3, 5, 8)
    torch.testing.assert_close(move(x, rotation=1.0), x.flip(-2, -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, 2), (-2, 1), (4, -3)])
def test_whole_pixel_translations_roll_with_zero_fill(right: int, down: int) -> None:
    x = rand(2, 3, 6, 11)
    expected = torch.roll(x, (down, right), (-2, -1))
    rows, columns = torch.arange(6) - down, torch.arange(11) - right
    inside = ((rows >= 0) & (rows < 6))[:, None] & ((columns >= 0) & (columns < 11))
    moved = move(x, translation_x=2 * right / 11, translation_y=2 * down / 6)
    torch.testing.assert_close(moved, expected * inside, rtol=0, atol=1e-12)


def reference(x: Tensor, values: dict[str, float], mode: str) -> Tensor:
    """The same map by scipy, from its definition with general matrix exponentials, in rows and columns."""
    r, s, d, h = (values.get(name, 0.0) for name in ("rotation", "scale", "stretch", "shear"))
    a = scipy.linalg.expm(math.pi * r * np.array([[0, 1], [-1, 0]])) @ (
        math.exp(s) * scipy.linalg.expm(np.array([[d, h], [h, -d]]))
    )
    height, width = x.shape[-2:]
    t = np.array([values.get("translation_x", 0.0) * width / 2, values.get("translation_y", 0.0) * height / 2])
    swap = np.array([[0, 1], [1, 0]])  # scipy's coordinates are (row, column)
    inverse, centre = swap @ np.linalg.inv(a) @ swap, np.array([(height - 1) / 2, (width - 1) / 2])
    offset = centre - inverse @ (centre + swap @ t)
    planes = [
        scipy.ndimage.affine_transform(plane.numpy(), inverse, offset, order=1, mode=mode) for plane in x.flatten(0, 1)
    ]
    return torch.from_numpy(np.stack(planes)).view_as(x)


@pytest.mark.parametrize("mode", [("zeros", "grid-constant"), ("border", "nearest"), ("reflection", "reflect")])
@pytest.mark.parametrize(
    "values",
    [
        {"rotation": 0.17},
        {"translation_x": 0.33, "translation_y": -0.21},
        {"scale": 0.4},
        {"scale": -0.6},
        {"stretch": 0.3},
        {"shear": 0.25},
        {"stretch": -0.9, "shear": 0.7},
        dict(zip(AFFINE_NAMES, (0.8, 0.2, -0.3, 0.15, 0.4, -0.25), strict=True)),
        dict(zip(AFFINE_NAMES, (-0.35, -0.1, 0.5, -0.3, -0.2, 0.6), strict=True)),
    ],
)
def test_maps_match_scipy_on_non_square_images(values: dict[str, float], mode: tuple[str, str]) -> None:
    x = rand(1, 2, 9, 14)
    torch.testing.assert_close(move(x, mode[0], **values), reference(x, values, mode[1]), rtol=0, atol=1e-10)


@pytest.mark.parametrize("radius", [0.0, 1e-9, 1e-3, 0.4999, 0.5001, 3.0])
def test_polar_form_matches_the_matrix_exponential(radius: float) -> None:
    d, h = (tensor(radius * v).requires_grad_() for v in (0.6, -0.8))
    generators = torch.tensor([[[1.0, 0], [0, -1]], [[0, 1], [1, 0]]], dtype=F64)
    expected = torch.linalg.matrix_exp(d * generators[0] + h * generators[1])
    closed = symmetric_exp(d, h)[0]
    torch.testing.assert_close(closed, expected, rtol=1e-14, atol=1e-15)
    weights = rand(2, 2)
    gradients = [torch.autograd.grad((m * weights).sum(), (d, h)) for m in (closed, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)


def test_gradient_at_the_identity_is_that_of_the_generators() -> None:
    """A ramp is interpolated exactly, so that its derivatives follow from the generators: −(∂A p + ∂t)."""
    rows, columns = torch.meshgrid(torch.arange(5.0, dtype=F64) - 2, torch.arange(8.0, dtype=F64) - 3.5, indexing="ij")
    x = torch.stack([columns, rows])[None]
    zero = torch.zeros(6, dtype=F64)
    moved = lambda eta: Affine(eta=eta, padding="border")(x, x.new_ones(1, 6))[0, :, 1:-1, 1:-1]  # noqa: E731
    jacobian = torch.autograd.functional.jacobian(moved, zero)
    u, v = x[0, :, 1:-1, 1:-1]
    o = torch.zeros_like(u)
    columns_of = [(math.pi * v, -math.pi * u), (o + 4, o), (o, o + 2.5), (u, v), (u, -v), (v, u)]
    expected = -torch.stack([torch.stack(pair) for pair in columns_of], -1)
    torch.testing.assert_close(jacobian, expected, rtol=0, atol=1e-12)


def test_the_order_of_only_is_that_of_eta() -> None:
    x = rand(2, 1, 7, 9)
    a = Affine(eta=tensor(0.3, 0.1), only=("scale", "rotation"))
    b = Affine(eta=tensor(0.1, 0, 0, 0.3, 0, 0))
    noise = rand(2, 2)
    full = torch.zeros(2, 6, dtype=F64)
    full[:, [3, 0]] = noise
    torch.testing.assert_close(a(x, noise), b(x, full), rtol=0, atol=1e-13)
    assert a.names == ("scale", "rotation")


def test_affine_projects_and_describes() -> None:
    affine = Affine(eta=tensor(-1.5, 0.6, -0.4, 0.3, -0.2, 2.0))
    assert affine.project(affine.eta).tolist() == [-1.0, 0.6, -0.4, 0.3, -0.2, 2.0]
    described = affine.describe()
    assert described == pytest.approx(
        {"rotation_degrees": 270, "translation_x": 0.3, "translation_y": 0.2, "scale": 0.3, "stretch": 0.2, "shear": 2}
    )
    assert Affine().eta.tolist() == pytest.approx([0.1] * 6)
    assert Affine(only=("rotation",), init=0.3).describe() == pytest.approx({"rotation_degrees": 54})
