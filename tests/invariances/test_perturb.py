"""Perturbed data against scipy's resampling and the distributions they are drawn from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.invariances.perturb import Perturbation, parse, perturb

ROTATE, TRANSLATE, SCALE = Perturbation("rotate", 180), Perturbation("translate", 0.2), Perturbation("scale", 0.5)


def ramps(n: int, height: int, width: int) -> Tensor:
    """Images whose channels are their own coordinates from the centre, in pixels, and a constant 1."""
    rows = torch.arange(height, dtype=torch.float64) - (height - 1) / 2
    columns = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    grids = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([*grids, torch.ones(height, width, dtype=torch.float64)]).expand(n, -1, -1, -1)


def maps(perturbations: list[Perturbation], n: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """The inverse maps (row, column, 1) → (row, column), measured from perturbed ramps; shape (n, 2, 3)."""
    x = ramps(n, height, width)
    y = perturb(x, perturbations, seed)
    found = np.zeros((n, 2, 3))
    for i in range(n):
        whole = (y[i, 2] > 1 - 1e-9).numpy()  # pixels that were interpolated from inside the image only
        design = x[i, :, whole].numpy().T
        found[i] = np.linalg.lstsq(design, y[i, :2, whole].numpy().T, rcond=None)[0].T
    return found


def test_rotation_is_a_rotation_by_a_uniform_angle() -> None:
    """On non-square images; Kolmogorov–Smirnov at p > 1e-6, its false-alarm rate (seeded)."""
    inverse = maps([ROTATE], 300, 15, 21)
    linear = inverse[..., :2]
    np.testing.assert_allclose(linear @ linear.transpose(0, 2, 1), np.eye(2)[None].repeat(300, 0), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(linear), 1, atol=1e-9)
    np.testing.assert_allclose(inverse[..., 2], 0, atol=1e-9)
    angles = np.arctan2(linear[:, 0, 1], linear[:, 0, 0])
    assert scipy.stats.kstest(angles, scipy.stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-6
    small = maps([Perturbation("rotate", 30)], 200, 15, 21)[..., :2]
    angles = np.degrees(np.arctan2(small[:, 0, 1], small[:, 0, 0]))
    assert scipy.stats.kstest(angles, scipy.stats.uniform(-30, 60).cdf).pvalue > 1e-6


def test_translation_is_a_fraction_of_width_and_height() -> None:
    """Kolmogorov–Smirnov at p > 1e-6 an axis; uncorrelated within 5 sd (6e-7); false-alarm rate below 3e-6."""
    inverse = maps([TRANSLATE], 300, 12, 20)
    np.testing.assert_allclose(inverse[..., :2], np.eye(2)[None].repeat(300, 0), atol=1e-9)
    down, right = -inverse[:, 0, 2] / 12, -inverse[:, 1, 2] / 20
    for shift in (down, right):
        assert scipy.stats.kstest(shift, scipy.stats.uniform(-0.2, 0.4).cdf).pvalue > 1e-6
    assert abs(np.corrcoef(down, right)[0, 1]) < 5 / math.sqrt(300)


def test_scale_shrinks_the_content() -> None:
    """Kolmogorov–Smirnov at p > 1e-6, its false-alarm rate."""
    inverse = maps([SCALE], 300, 14, 20)
    factors = 1 / inverse[:, 0, 0]
    np.testing.assert_allclose(inverse[..., :2], np.eye(2) / factors[:, None, None], atol=1e-9)
    assert scipy.stats.kstest(factors, scipy.stats.uniform(0.5, 0.5).cdf).pvalue > 1e-6


def test_a_list_is_one_map_in_the_order_given() -> None:
    """The map of a list is the product of the single maps, whose draws are re-made here from their streams."""
    kinds = [TRANSLATE, Perturbation("rotate", 40), Perturbation("scale", 0.8)]
    n, height, width = 6, 24, 17
    found = maps(kinds, n, height, width, seed=5)
    u = [
        torch.rand(n, 2, generator=generator(5, "perturb", k, p.kind), dtype=torch.float64).numpy()
        for k, p in enumerate(kinds)
    ]
    for i in range(n):
        angle = np.radians(40 * (2 * u[1][i, 0] - 1))
        # Row and column: counter-clockwise on the screen takes (row 0, column 1) up to (row −sin, column cos).
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        factor = 0.8 + 0.2 * u[2][i, 0]
        shift = 0.2 * (2 * u[0][i, ::-1] - 1) * [height, width]
        forward = factor * turn  # p' = forward (p + shift)
        np.testing.assert_allclose(found[i, :, :2], np.linalg.inv(forward), atol=1e-9)
        np.testing.assert_allclose(found[i, :, 2], -shift, atol=1e-8)


def test_values_match_scipy_with_a_zero_background() -> None:
    n, height, width = 5, 11, 16
    x = torch.rand(n, 2, height, width, generator=generator(1), dtype=torch.float64)
    kinds = [Perturbation("scale", 0.7), Perturbation("rotate", 25), TRANSLATE]
    inverse = maps(kinds, n, height, width, seed=2)
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    y = perturb(x, kinds, 2)
    for i in range(n):
        offset = centre + inverse[i, :, 2] - inverse[i, :, :2] @ centre
        for c in range(2):
            expected = scipy.ndimage.affine_transform(
                x[i, c].numpy(), inverse[i, :, :2], offset, order=1, mode="grid-constant"
            )
            np.testing.assert_allclose(y[i, c].numpy(), expected, atol=1e-8)


def test_draws_are_a_function_of_the_seed_and_differ_between_images() -> None:
    x = torch.rand(1, 1, 9, 9, generator=generator(3)).expand(50, -1, -1, -1)
    y = perturb(x, [ROTATE], 0)
    assert torch.equal(y, perturb(x, [ROTATE], 0))
    assert not torch.equal(y, perturb(x, [ROTATE], 1))
    assert y.dtype == torch.float32
    assert torch.unique(y.flatten(1), dim=0).shape[0] == 50
    assert torch.equal(perturb(x[:20], [ROTATE], 0), y[:20])
    torch.testing.assert_close(perturb(x.double(), [ROTATE], 0).float(), y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(perturb(x, [ROTATE], 0), y)
    same = perturb(x, [], 0)
    assert torch.equal(same, x)
    assert same.data_ptr() != x.data_ptr()
    assert perturb(x[:0], [ROTATE], 0).shape == (0, 1, 9, 9)


def test_large_data_in_pieces_equal_small_data(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(10, 2, 6, 7, generator=generator(4), dtype=torch.float64)
    whole = perturb(x, [ROTATE, SCALE], 0)
    monkeypatch.setattr("novacula.invariances.perturb._CHUNK", 3 * 42)
    torch.testing.assert_close(perturb(x, [ROTATE, SCALE], 0), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("text", "kind", "amount"), [("rotate=180", "rotate", 180.0), (" scale = .5 ", "scale", 0.5)])
def test_parse_reads_and_str_writes(text: str, kind: str, amount: float) -> None:
    p = parse(text)
    assert (p.kind, p.amount) == (kind, amount)
    assert parse(str(p)) == p


@pytest.mark.parametrize("amount", [0.1 + 0.2, 1 / 3, 1e-7])
def test_text_keeps_every_digit(amount: float) -> None:
    p = Perturbation("translate", amount)
    assert parse(str(p)) == p


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spin=3", "rotate, translate or scale; got 'spin=3'. Try: write rotate=DEGREES"),
        ("rotate", "kind=amount"),
        ("", "kind=amount"),
        ("rotate=", "a number after rotate=; got ''. Try: use rotate=180"),
        ("rotate=ninety", "a number after rotate=; got 'ninety'"),
        ("rotate=1=2", "a number after rotate=; got '1=2'"),
        ("rotate=nan", "a finite number after rotate="),
        ("translate=inf", "a finite number after translate="),
        ("rotate=181", "degrees from 0 to 180; got 181"),
        ("rotate=-5", "degrees from 0 to 180; got -5"),
        ("translate=30", "fraction of the width and height from 0 to 1; got 30"),
        ("scale=0", "smallest factor above 0 and at most 1; got 0"),
        ("scale=1.5", "smallest factor above 0 and at most 1; got 1.5"),
    ],
)
def test_bad_text_is_explained(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        parse(text)
    assert message in str(error.value)


def test_bad_objects_are_explained() -> None:
    with pytest.raises(InputError, match=r"among rotate, translate and scale; got 'spin'"):
        Perturbation("spin", 1.0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="got nan"):
        Perturbation("rotate", math.nan)
    with pytest.raises(InputError, match=r"image \(n, C, H, W\); got shape \(5, 3\)"):
        perturb(torch.zeros(5, 3), [ROTATE], 0)
    with pytest.raises(InputError, match=r"floating-point numbers; got dtype torch\.uint8"):
        perturb(torch.zeros(5, 1, 4, 4, dtype=torch.uint8), [ROTATE], 0)
