"""Images: observations against arithmetic, risks against the truth of a linear smoother, and small images end to end.

False alarms: noise is drawn from fixed seeds, and bounds are several standard errors wide.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import novacula as nv
from novacula.study.restoring.network import Hourglass
from novacula.study.restoring.observing import Seen, noise_of, observed


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _scene(side: int = 48) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    disc = ((x - 0.4).square() + (y - 0.6).square() < 0.06).float()
    return torch.stack([0.2 + 0.5 * x, 0.3 + 0.4 * disc, 0.7 - 0.5 * y * (1 - disc)])


def test_the_noise_is_found_in_the_image_alone() -> None:
    for sigma in (0.05, 0.2):
        noisy = _scene(96) + sigma * torch.randn(3, 96, 96, generator=_rng())
        assert noise_of(noisy) == pytest.approx(sigma, rel=0.05)
    holes = noisy.clone()
    known = torch.rand(96, 96, generator=_rng(1)) < 0.9
    holes[:, ~known] = 0.0
    assert noise_of(holes, known) == pytest.approx(0.2, rel=0.08)
    assert noise_of(_scene()) < 0.01
    few = torch.rand(96, 96, generator=_rng(1)) < 0.5  # of 5 × 5 pixels .5^25 are known, of 3 × 3 one in 512
    holes[:, ~few] = 0.0
    assert noise_of(holes, few) == pytest.approx(0.2, rel=0.15)
    with pytest.raises(nv.InputError, match="squares of 2 × 2 known pixels"):
        noise_of(holes, torch.rand(96, 96, generator=_rng(1)) < 0.05)


def test_texture_is_hardly_taken_for_noise() -> None:
    # Waves of six pixels, four times as high as the noise. What is left of them is known: differences of k-th order
    # multiply a wave by (2 sin(π/6))^2k and noise by C(2k, k): by 1 and 70 for k = 4, by 1 and 2 for k = 1.
    sigma, at = 0.03, torch.arange(128)
    wave = (math.pi / 3 * at).sin()
    texture = 0.12 * (wave[:, None] * wave).expand(3, 128, 128)
    noisy = 0.5 + texture + sigma * torch.randn(3, 128, 128, generator=_rng(4))
    first = (noisy[:, 1:, 1:] - noisy[:, :-1, 1:] - noisy[:, 1:, :-1] + noisy[:, :-1, :-1]) / 2
    assert float(first.abs().median()) / 0.6745 > 1.15 * sigma
    assert noise_of(noisy) == pytest.approx(sigma, rel=0.02)


def test_what_is_seen_of_an_image() -> None:
    image, mask = torch.rand(3, 12, 14, generator=_rng()), torch.rand(12, 14, generator=_rng(1)) < 0.8
    seen = observed(image, "inpaint", mask, 2, 0.1, 0.2, 0)
    assert bool((seen.fitted[0] | seen.held[0] == mask).all())
    assert not bool((seen.fitted & seen.held).any())
    other = torch.rand(3, 12, 14, generator=_rng(2))
    by_hand = (other - image)[:, seen.fitted[0]].square().mean()
    torch.testing.assert_close(seen.error(other, seen.fitted), by_hand)
    small = observed(image, "superres", None, 3, 0.1, 0.2, 0)
    large = torch.rand(2, 3, 36, 42, generator=_rng(3))
    blocks = large.unflatten(-1, (14, 3)).unflatten(-3, (12, 3)).mean((-1, -3))
    torch.testing.assert_close(small.of(large), blocks)
    torch.testing.assert_close(small.of(large[0]), blocks[0])


def test_risks_are_those_of_a_linear_smoother() -> None:
    # Ridge regression on random features, every pixel of the same leverage on average: risks are known from the truth.
    n, p, sigma = 4_000, 400, 0.3
    phi = torch.randn(n, p, generator=_rng()).double()
    clean = phi @ torch.randn(p, generator=_rng(1)).double() / p**0.5
    y = clean + sigma * torch.randn(n, generator=_rng(2)).double()
    held = torch.rand(n, generator=_rng(3)) < 0.25
    a = phi[~held]
    fit = phi @ torch.linalg.solve(a.T @ a + 30 * torch.eye(p).double(), a.T @ y[~held])
    seen = Seen(y.reshape(1, 1, n), 1, ~held.reshape(1, 1, n), held.reshape(1, 1, n), sigma)
    found = seen.risks(fit.reshape(1, 1, n))
    truth = [float((fit - clean)[m].square().mean()) for m in (~held, held)]
    # The standard error of a mean square of 1,000 residuals is about .006 here.
    assert found[0] == pytest.approx(truth[0], abs=0.01)
    assert found[1] == pytest.approx(truth[1], abs=0.02)


def test_the_errors_of_risks_are_those_of_draws() -> None:
    # One smoother on 200 draws of the noise, which fix a standard deviation to 5 %. Residuals of one draw share its
    # error, whose part is small: 15 % are allowed.
    n, p, sigma = 1_000, 60, 0.3
    phi = torch.randn(n, p, generator=_rng()).double()
    clean = phi @ torch.randn(p, generator=_rng(1)).double() / p**0.5
    held, rng = torch.rand(n, generator=_rng(3)) < 0.25, _rng(4)
    a = phi[~held]
    hat = phi @ torch.linalg.solve(a.T @ a + 30 * torch.eye(p).double(), a.T)
    risks, doubts = [], []
    for _ in range(200):
        y = clean + sigma * torch.randn(n, generator=rng).double()
        seen = Seen(y.reshape(1, 1, n), 1, ~held.reshape(1, 1, n), held.reshape(1, 1, n), sigma)
        image = (hat @ y[~held]).reshape(1, 1, n)
        risks.append(seen.risks(image))
        doubts.append(seen.doubts(image))
    spread, told = torch.tensor(risks).std(0), torch.tensor(doubts).mean(0)
    torch.testing.assert_close(told, spread, rtol=0.15, atol=0.0)


def test_an_image_is_denoised_and_its_intervals_hold_the_truth() -> None:
    clean = _scene()
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=_rng(5))
    net, before = Hourglass(4, 3, (8, 16)), torch.get_rng_state()
    code = torch.rand(1, 4, 48, 48, generator=_rng(6))
    found = nv.restore(noisy, network=net, code=code, steps=250, patience=80, draws=6, every=4, evidence=True)
    assert bool((torch.get_rng_state() == before).all())
    error = float((found.image - clean).square().mean())
    assert error < 0.5 * 0.01
    low, high = found.interval(0.9)
    assert 0.8 < float(((clean >= low) & (clean <= high)).float().mean()) < 0.99
    assert found.step <= len(found.trace) <= 250
    assert found.draws.shape == (6, 3, 48, 48)
    assert found.wbic is not None
    assert math.isfinite(found.wbic)
    assert found.errors[found.kept] == min(found.errors.values())
    assert found.errors[found.kept] == pytest.approx(error, rel=0.6)


def test_gaps_are_filled_and_resolution_raised() -> None:
    clean = _scene(32)
    mask = torch.rand(32, 32, generator=_rng(7)) < 0.7
    holes = torch.where(mask, clean, 0.0)
    found = nv.restore(holes, "inpaint", mask=mask, steps=150, draws=2, every=2)
    missing = float((found.image - clean)[:, ~mask].square().mean())
    assert missing < 0.1 * float((holes - clean)[:, ~mask].square().mean())
    raised = nv.restore(clean.unsqueeze(1).mean(1), "superres", factor=2, steps=10, draws=0)
    assert raised.image.shape == (3, 64, 64)


def test_bad_input_is_refused() -> None:
    image = torch.rand(16, 16, generator=_rng())
    with pytest.raises(nv.InputError, match="an image"):
        nv.restore(torch.rand(2, 16, 16))
    with pytest.raises(nv.InputError, match="between 0 and 1"):
        nv.restore(255 * image)
    with pytest.raises(nv.InputError, match="a task among"):
        nv.restore(image, "sharpen")  # type: ignore[arg-type]
    with pytest.raises(nv.InputError, match="mask="):
        nv.restore(image, "inpaint")
    with pytest.raises(nv.InputError, match="100 known pixels"):
        nv.restore(image, "inpaint", mask=torch.zeros(16, 16, dtype=torch.bool))
    with pytest.raises(nv.InputError, match="a network whose output"):
        nv.restore(image, network=nn.Conv2d(8, 2, 1))
    with pytest.raises(nv.InputError, match="a network for inputs"):
        nv.restore(image, network=nn.Conv2d(5, 1, 1))
