"""The policy `Trivial`: what it draws, what each change does, and that nothing but training sees it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.invariances import Affine, Compose, Flip, Trivial

F64 = torch.float64
GREY = ("identity", "rotation", "shear_x", "shear_y", "translation_x", "translation_y", "brightness", "contrast")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=rng(seed), dtype=F64)


def changed(name: str, x: Tensor, u: Tensor, **options: str) -> Tensor:
    """Every image by one change, with strengths ``u`` in [−1, 1]."""
    policy = Trivial(only=(name,), **options)  # type: ignore[arg-type]
    return policy(x, torch.stack([torch.zeros_like(u), (u + 1) / 2], 1))


def test_the_list_suits_the_image() -> None:
    assert Trivial().choices(rand(2, 1, 4, 5)) == GREY
    assert Trivial().choices(rand(2, 4, 4, 5)) == GREY
    assert Trivial().choices(rand(2, 3, 4, 5)) == (*GREY, "saturation", "hue")
    assert Trivial(only=("hue", "identity")).choices(rand(2, 3, 4, 5)) == ("hue", "identity")


@pytest.mark.parametrize("channels", [1, 3])
def test_changes_are_drawn_uniformly_and_strengths_too(channels: int) -> None:
    """Chi-square of 8,000 draws and a Kolmogorov–Smirnov test: false-alarm rate 2e-6 a case (seeded).

    Draws are told by what came out: each image is compared with what each change alone makes of it.
    """
    policy, x = Trivial(), rand(1, channels, 5, 6).expand(8000, -1, -1, -1)
    names, noise = policy.choices(x), policy.noise(8000, x, rng(1))
    assert scipy.stats.kstest(noise[:, 1].numpy(), scipy.stats.uniform.cdf).pvalue > 1e-6
    out, u = policy(x, noise), 2 * noise[:, 1] - 1
    # Rounding may depend on how many images are changed at once, so that the nearest is an image's origin.
    apart = torch.stack([(out - changed(name, x, u)).abs().flatten(1).amax(1) for name in names])
    origin = apart.argmin(0)
    assert float(apart.amin(0).max()) < 1e-5
    assert scipy.stats.chisquare(origin.bincount(minlength=len(names)).numpy()).pvalue > 1e-6
    still = origin == 0
    assert torch.equal(out[still], x[still])
    # Strength does not depend on the choice.
    assert abs(float(torch.corrcoef(noise.T)[0, 1])) < 5 / math.sqrt(8000)


def test_one_image_does_not_depend_on_the_others() -> None:
    policy, x = Trivial(), rand(40, 3, 6, 7)
    noise = policy.noise(40, x, rng(2))
    alone = torch.cat([policy(x[n : n + 1], noise[n : n + 1]) for n in range(40)])
    torch.testing.assert_close(policy(x, noise), alone, rtol=0, atol=1e-14)
    assert policy(x[:0], policy.noise(0, x[:0], rng())).shape == (0, 3, 6, 7)
    for dtype in (torch.float32, torch.bfloat16):
        assert policy(x.to(dtype), noise).dtype == dtype


@pytest.mark.parametrize("name", ["rotation", "shear_x", "shear_y", "translation_x", "translation_y"])
def test_geometric_changes_match_scipy(name: str) -> None:
    height, width, u = 7, 40, torch.tensor([0.6, -0.35, 1.0], dtype=F64)
    x = rand(3, 2, height, width)
    out = changed(name, x, u, padding="border")
    for n in range(3):
        s = float(u[n])
        angle = math.radians(135 * s)
        # The map of content, in (x, y) with y down; counter-clockwise as seen for a positive strength.
        matrix = {
            "rotation": np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]),
            "shear_x": np.array([[1, 0.99 * s], [0, 1]]),
            "shear_y": np.array([[1, 0], [0.99 * s, 1]]),
        }.get(name, np.eye(2))
        shift = {"translation_x": np.array([32 * s, 0]), "translation_y": np.array([0, 7 * s])}.get(name, np.zeros(2))
        inverse = np.linalg.inv(matrix)[::-1, ::-1]  # to (row, column)
        centre = np.array([(height - 1) / 2, (width - 1) / 2])
        offset = centre - inverse @ (centre + shift[::-1])
        for c in range(2):
            expected = scipy.ndimage.affine_transform(x[n, c].numpy(), inverse, offset, order=1, mode="nearest")
            np.testing.assert_allclose(out[n, c].numpy(), expected, atol=1e-10)


def test_blends_match_their_definitions() -> None:
    x, u = rand(3, 3, 4, 5) - 0.3, torch.tensor([0.6, -1.0, 0.2], dtype=F64)
    factor = (1 + 0.99 * u).view(3, 1, 1, 1)
    grey = (x * torch.tensor([0.299, 0.587, 0.114], dtype=F64).view(3, 1, 1)).sum(1, keepdim=True)
    starts = {
        "brightness": x.flatten(1).min(1).values.view(3, 1, 1, 1),
        "contrast": grey.mean((2, 3), keepdim=True),
        "saturation": grey,
    }
    for name, start in starts.items():
        torch.testing.assert_close(changed(name, x, u), start + factor * (x - start), rtol=0, atol=1e-14)
    half = changed("hue", x, torch.ones(3, dtype=F64))  # red to cyan: the channels' middle is mirrored
    ends = x.amax(1) + x.amin(1)
    torch.testing.assert_close(half, ends.unsqueeze(1) - x, rtol=0, atol=1e-14)


def test_a_composition_with_a_policy_is_one() -> None:
    both = Compose(Flip(eta=torch.tensor([0.5])), Trivial())
    assert (both.averages_predictions, both.learnable, both.names) == (False, (), ("flip",))
    x = rand(6, 1, 5, 5)
    assert both(x, both.noise(6, x, rng())).shape == x.shape
    assert Compose(Flip(), Affine()).averages_predictions
    assert Compose(Flip(), Affine()).learnable == ("eta",)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Trivial(only=("zoom",)), "'zoom' in only"),  # type: ignore[arg-type]
        (lambda: Trivial(only=()), "one or more different names"),
        (lambda: Trivial(padding="zero"), "padding to be one of 'zeros'"),  # type: ignore[arg-type]
        (lambda: Trivial(eta=torch.zeros(1)), r"shape \(0,\).*got shape \(1,\)"),
        (lambda: Trivial(only=("hue",)).noise(2, rand(2, 1, 4, 4), rng()), "change the hue of; got images with 1"),
        (lambda: Trivial().noise(2, rand(2, 7), rng()), r"image \(n, C, H, W\); got shape \(2, 7\)"),
        (lambda: Trivial()(rand(2, 1, 4, 4), rand(2, 3)), r"noise of shape \(2, 2\)"),
    ],
)
def test_bad_input_is_explained(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
