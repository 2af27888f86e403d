"""What all invariances have in common, their noise, `Custom` and `Compose`, and bad input."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.invariances import Affine, Colour, Compose, Custom, Deformation, Erasing, Flip, Invariance, TimeWarp

F64 = torch.float64


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=rng(seed), dtype=F64)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def gain(x: Tensor, noise: Tensor, eta: Tensor) -> Tensor:
    return x * (eta * noise).exp().view(-1, *[1] * (x.ndim - 1))


# Each invariance with extents inside their range, inputs that it takes, and the extents that make it the identity.
CASES: dict[str, tuple[Invariance, Tensor, Tensor]] = {
    "affine": (Affine(eta=tensor(0.3, 0.2, 0.15, 0.1, 0.12, 0.08)), rand(4, 2, 7, 10), torch.zeros(6, dtype=F64)),
    "affine gaussian": (
        Affine(eta=tensor(0.1, 0.2), only=("shear", "rotation"), distribution="gaussian", padding="reflection"),
        rand(4, 1, 9, 6),
        tensor(0.0, 0.0),
    ),
    "flip": (Flip(eta=tensor(0.3)), rand(4, 3, 5, 8), tensor(0.0)),
    "both flips": (Flip(eta=tensor(0.3, 0.2), only=("flip_vertical", "flip")), rand(4, 3, 5, 8), tensor(0.0, 0.0)),
    "erasing": (Erasing(eta=tensor(0.7), fill=0.3), rand(4, 3, 5, 8), tensor(0.0)),
    "deformation": (Deformation(eta=tensor(0.04, math.log(0.2)), grid=5), rand(4, 2, 7, 10), tensor(0.0, -2.0)),
    "colour": (Colour(eta=tensor(0.3, 0.2, 0.4)), rand(4, 3, 5, 6), torch.zeros(3, dtype=F64)),
    "hue": (Colour(eta=tensor(0.4, 0.3), only=("hue", "contrast")), rand(4, 3, 5, 6), tensor(0.0, 0.0)),
    "time": (TimeWarp(eta=tensor(0.3, 0.2)), rand(4, 2, 11), tensor(0.0, 0.0)),
    "custom": (Custom(gain, eta=tensor(0.3), names=("gain",)), rand(4, 7), tensor(0.0)),
    "compose": (
        Compose(Affine(eta=tensor(0.2), only=("rotation",)), Deformation(eta=tensor(0.03, -1.5), grid=4), Colour()),
        rand(4, 3, 6, 9),
        tensor(0.0, 0.0, -1.5, 0.0, 0.0, 0.0),
    ),
}
CASE = pytest.mark.parametrize("name", CASES)


# ---------------------------------------------------------------- what all have in common


@CASE
def test_zero_extents_are_the_identity(name: str) -> None:
    invariance, x, zero = CASES[name]
    still = dataclasses.replace(invariance, eta=zero)  # type: ignore[type-var]
    torch.testing.assert_close(still(x, still.noise(4, x, rng())), x, rtol=0, atol=1e-13)


@CASE
def test_replacing_eta_keeps_everything_else_and_carries_gradients(name: str) -> None:
    invariance, x, _ = CASES[name]
    eta = (invariance.eta * 1.1).requires_grad_()
    other = dataclasses.replace(invariance, eta=eta)  # type: ignore[type-var]
    assert other.eta is eta
    for field in dataclasses.fields(invariance):  # type: ignore[arg-type]
        if field.name not in ("eta", "parts"):
            assert getattr(other, field.name) == getattr(invariance, field.name)
    noise = other.noise(4, x, rng())
    (gradient,) = torch.autograd.grad((other(x, noise) * rand(*x.shape, seed=1)).sum(), eta)
    assert gradient.shape == eta.shape
    assert (gradient != 0).all()
    assert not invariance(x, noise).requires_grad
    assert len(invariance.names) == len(eta) == len(set(invariance.names))
    assert invariance.learnable == ("eta",)


@pytest.mark.parametrize("name", [name for name in CASES if "flip" not in name])
def test_gradients_in_eta_match_finite_differences(name: str) -> None:
    invariance, x, _ = CASES[name]
    noise = invariance.noise(4, x, rng(3))
    moved = lambda eta: dataclasses.replace(invariance, eta=eta)(x, noise)  # noqa: E731  # type: ignore[type-var]
    assert torch.autograd.gradcheck(moved, (invariance.eta.detach().clone().requires_grad_(),))


@CASE
def test_noise_is_a_function_of_the_generator_and_follows_the_inputs(name: str) -> None:
    invariance, x, _ = CASES[name]
    state = torch.get_rng_state()
    first, second = invariance.noise(12, x, rng(5)), invariance.noise(12, x, rng(5))
    assert torch.equal(first, second)
    assert not torch.equal(first, invariance.noise(12, x, rng(6)))
    assert first.shape[0] == 12
    assert first.dtype == F64
    assert torch.equal(torch.get_rng_state(), state)
    # Inputs decide the precision, also with extents in another; half precision computes positions in single.
    exact = invariance(x, invariance.noise(4, x, rng()))
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.03)):
        low = invariance(x.to(dtype), invariance.noise(4, x, rng()))
        assert low.dtype == dtype
        torch.testing.assert_close(low.double(), exact, rtol=0.02, atol=tolerance)
    empty = x[:0]
    assert invariance(empty, invariance.noise(0, empty, rng())).shape == empty.shape


@CASE
def test_autocast_does_not_coarsen_positions(name: str) -> None:
    invariance, x, _ = CASES[name]
    x = x.float()
    noise = invariance.noise(4, x, rng())
    plain = invariance(x, noise)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(invariance(x, noise), plain, rtol=0, atol=1e-6)


# ---------------------------------------------------------------- noise


@pytest.mark.parametrize("distribution", ["uniform", "gaussian"])
@pytest.mark.parametrize("copies", [1, 8])
def test_noise_has_its_distribution(distribution: str, copies: int) -> None:
    """Kolmogorov–Smirnov on one copy per input; 2 coordinates. False-alarm rate 2e-6 a case (seeded)."""
    affine = Affine(only=("rotation", "scale"), distribution=distribution)  # type: ignore[arg-type]
    x = torch.zeros(4000, 1, 2, 3, dtype=F64)
    u = affine.noise(4000 * copies, x, rng(7)).unflatten(0, (4000, copies))[:, -1]
    law = scipy.stats.uniform(-1, 2) if distribution == "uniform" else scipy.stats.norm(scale=1 / math.sqrt(3))
    assert law.std() == pytest.approx(1 / math.sqrt(3))
    for k in range(2):
        assert scipy.stats.kstest(u[:, k].numpy(), law.cdf).pvalue > 1e-6


def test_copies_of_an_input_fill_the_strata() -> None:
    """Exact; that the orders of two coordinates are unrelated is tested with a false-alarm rate of 6e-7 (5 sd)."""
    affine = Affine(only=("rotation", "scale"))
    u = affine.noise(500 * 8, torch.zeros(500, 1, 2, 3), rng(8)).unflatten(0, (500, 8))
    strata = ((u + 1) * 4).floor().long()
    assert torch.equal(strata.sort(1).values, torch.arange(8)[None, :, None].expand(500, 8, 2))
    r = np.corrcoef(u.flatten(0, 1).T.numpy())[0, 1]
    assert abs(r) < 5 / math.sqrt(500 * 7)
    assert u.max() < 1
    # Seven draws for three inputs belong to no copies: independent.
    assert affine.noise(7, torch.zeros(3, 1, 2, 3), rng()).shape == (7, 2)


# ---------------------------------------------------------------- custom, compose


def test_copies_of_an_input_come_in_opposite_pairs() -> None:
    affine, x = Affine(), torch.zeros(5, 1, 6, 4)
    for distribution in ("uniform", "gaussian"):
        noise = dataclasses.replace(affine, distribution=distribution).noise(40, x, torch.Generator().manual_seed(2))
        halves = noise.unflatten(0, (5, 2, 4))
        assert torch.allclose(halves[:, 0], -halves[:, 1], atol=1e-5)
        assert halves[:, 0].abs().min() > 0
    odd = affine.noise(15, x, torch.Generator().manual_seed(2)).unflatten(0, (5, 3))
    assert not torch.allclose(odd.sum(1), torch.zeros(5, 6), atol=1e-2)


def test_pairs_take_the_noise_from_the_gradient_at_small_extents() -> None:
    # f(x + η u) = f + η u f' + η² u² f''/2: the gradient in η of a pair's mean is η u² f'', that of one draw u f' + ….
    moved = Custom(lambda x, u, eta: x + eta * u, eta=torch.tensor([0.01], dtype=torch.float64))
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    spread = {}
    for copies in (1, 2):
        eta = moved.eta.clone().requires_grad_()
        noise = moved.noise(50 * copies, x, torch.Generator().manual_seed(0))
        f = (dataclasses.replace(moved, eta=eta)(x.repeat_interleave(copies, 0), noise).exp()).view(50, copies).mean(1)
        spread[copies] = torch.stack([torch.autograd.grad(v, eta, retain_graph=True)[0] for v in f]).std()
    assert spread[2] < 0.05 * spread[1]


def test_custom_wraps_any_function() -> None:
    def roll(x: Tensor, noise: Tensor, eta: Tensor) -> Tensor:
        return x.roll(1, -1) * eta + noise.sum((1, 2)).view(-1, 1, 1, 1)

    x = rand(3, 1, 5, 7)
    custom = Custom(roll, eta=tensor(0.2), noise_shape=(2, 3), limits=(0.0, 0.5))
    noise = custom.noise(3, x, rng())
    assert noise.shape == (3, 2, 3)
    for n in range(3):
        torch.testing.assert_close(custom(x, noise)[n], 0.2 * x[n].roll(1, -1) + noise[n].sum())
    assert custom.names == ("eta_0",)
    assert custom.project(tensor(0.9)).tolist() == [0.5]
    assert custom.describe() == {"eta_0": 0.2}
    assert Custom(gain, tensor(0.5, -2.0), names=("a", "b")).describe() == {"a": 0.5, "b": -2.0}
    assert TimeWarp(only=("time_scale", "time_shift")).project(tensor(-3.0, 2.0)).tolist() == [-3.0, 2.0]
    scalar = Custom(gain, eta=tensor(0.2), noise_shape=())
    assert scalar.noise(6, x, rng()).shape == (6,)


def test_compose_is_sequential_application() -> None:
    both, x, _ = CASES["compose"]
    assert isinstance(both, Compose)
    parts = [part.noise(4, x, rng) for rng in [rng(9)] for part in both.parts]
    noise = both.noise(4, x, rng(9))
    assert torch.equal(noise, torch.cat([p.flatten(1) for p in parts], 1))
    expected = x
    for part, piece in zip(both.parts, parts, strict=True):
        expected = part(expected, piece)
    torch.testing.assert_close(both(x, noise), expected, rtol=0, atol=0)
    assert both.names == ("rotation", "amplitude", "log_smoothness", "brightness", "contrast", "saturation")
    projected = both.project(tensor(3.0, 2.0, 9.0, 4.0, 5.0, 6.0))
    assert projected.tolist() == [1.0, 0.5, 0.0, 4.0, 5.0, 6.0]


def test_compose_names_and_nests() -> None:
    twice = Compose(Affine(only=("scale", "rotation")), Affine(eta=tensor(0.25), only=("rotation",)), Flip())
    assert twice.names == ("scale", "affine1_rotation", "affine2_rotation", "flip")
    assert list(twice.describe()) == [
        "scale",
        "affine1_rotation_degrees",
        "affine2_rotation_degrees",
        "flip_probability",
    ]
    nested = Compose(Compose(Affine(only=("rotation",)), Flip()), Colour(only=("contrast",)))
    eta = tensor(0.5, 0.0, 0.0).requires_grad_()
    nested = dataclasses.replace(nested, eta=eta)
    x = rand(3, 2, 6, 6)
    torch.testing.assert_close(
        nested(x, nested.noise(3, x, rng()).sign()).flatten(1).sort(1).values, x.flatten(1).sort(1).values
    )
    assert nested.describe() == {"rotation_degrees": 90.0, "flip_probability": 0.0, "contrast": 0.0}


def test_compose_follows_in_place_steps_of_an_optimiser() -> None:
    eta = tensor(0.3, 0.2).requires_grad_()
    both = Compose(Affine(only=("rotation",)), Colour(only=("contrast",)), eta=eta)
    x, optimiser = rand(4, 1, 6, 6), torch.optim.SGD([eta], lr=0.01)
    noise = both.noise(4, x, rng())
    for _ in range(3):
        optimiser.zero_grad()
        both(x, noise).square().sum().backward()
        optimiser.step()
    fresh = dataclasses.replace(both, eta=eta.detach().clone())
    assert not torch.equal(eta, tensor(0.3, 0.2))
    torch.testing.assert_close(both(x, noise), fresh(x, noise), rtol=0, atol=0)


# ---------------------------------------------------------------- bad input

IMAGE = torch.zeros(2, 1, 4, 5)
BAD = {
    "unknown name": (lambda: Affine(only=("rotate",)), "'rotate' in only"),  # type: ignore[arg-type]
    "bare string": (lambda: Affine(only="rotation"), r"Try: write only=\('rotation',\)"),  # type: ignore[arg-type]
    "repeated name": (lambda: Affine(only=("scale", "scale")), "different names"),
    "no names": (lambda: Colour(only=()), "one or more different names"),
    "distribution": (lambda: Affine(distribution="normal"), "distribution to be one of"),  # type: ignore[arg-type]
    "padding": (lambda: TimeWarp(padding="zero"), "padding to be one of 'zeros'"),  # type: ignore[arg-type]
    "list": (lambda: Affine(eta=[0.1] * 6), "got a list"),  # type: ignore[arg-type]
    "length": (lambda: Affine(eta=torch.zeros(5)), r"shape \(6,\).*got shape \(5,\)"),
    "unknown flip": (lambda: Flip(only=("up",)), "'up' in only"),  # type: ignore[arg-type]
    "two probabilities": (
        lambda: Flip(eta=torch.zeros(2)),
        r"shape \(1,\), one extent each for flip; got shape \(2,\)",
    ),
    "grey hue": (
        lambda: Colour(only=("hue", "saturation"))(IMAGE, torch.zeros(2, 2)),
        r"the hue and the saturation of; got images with 1.* Try: use Colour\(only=\('brightness', 'contr",
    ),
    "erased table": (lambda: Erasing().noise(2, torch.zeros(2, 7), rng()), r"image \(n, C, H, W\); got shape \(2, 7\)"),
    "integers": (lambda: Flip(eta=torch.zeros(1, dtype=torch.long)), "got dtype torch.int64"),
    "not finite": (lambda: Colour(eta=torch.tensor([0.0, math.nan, 0.0])), "all finite; got nan for contrast"),
    "init": (lambda: Affine(init=math.inf), "got inf for rotation"),
    "smoothness": (lambda: Deformation(smoothness=0.0), "smoothness > 0"),
    "tensor amplitude": (lambda: Deformation(torch.tensor([0.1, 0.2])), "plain numbers"),  # type: ignore[arg-type]
    "grid": (lambda: Deformation(grid=1), "grid=1"),
    "not callable": (lambda: Custom(3, torch.zeros(1)), "got a int"),  # type: ignore[arg-type]
    "names": (lambda: Custom(gain, torch.zeros(2), names=("a", "a")), "different strings"),
    "too few names": (lambda: Custom(gain, torch.zeros(2), names=("a",)), r"shape \(1,\).*got shape \(2,\)"),
    "limits": (lambda: Custom(gain, torch.zeros(1), limits=(1.0, 0.0)), "swap them"),
    "result": (
        lambda: Custom(lambda x, u, eta: x[:1], torch.zeros(1))(IMAGE, torch.zeros(2, 1)),
        "return 2 transformed",
    ),
    "no parts": (Compose, "one or more invariances; got none"),
    "no image": (
        lambda: Affine()(torch.zeros(2, 4, 5), torch.zeros(2, 6)),
        r"image \(n, C, H, W\); got shape \(2, 4, 5\)",
    ),
    "table": (lambda: Flip().noise(2, torch.zeros(2, 7), rng()), r"image \(n, C, H, W\); got shape \(2, 7\)"),
    "no tensor": (lambda: Flip().noise(2, IMAGE.numpy(), rng()), "got a ndarray. Try: convert it with torch.as_tensor"),
    "integer image": (lambda: Deformation().noise(2, IMAGE.byte(), rng()), r"uint8.*x.float\(\).div\(255\)"),
    "no signal": (lambda: TimeWarp().noise(2, IMAGE, rng()), r"signal \(n, C, T\); got shape"),
    "noise": (lambda: Affine()(IMAGE, torch.zeros(2, 5)), r"noise of shape \(2, 6\)"),
    "composed noise": (lambda: Compose(Affine(), Flip())(IMAGE, torch.zeros(2, 6)), r"noise of shape \(2, 7\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_explained(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("name", ["affine", "colour", "time warp"])
def test_the_sign_that_a_magnitude_drops_is_that_of_the_noise(name: str) -> None:
    made, x = {
        "affine": (Affine(eta=-tensor(0.3, 0.1, 0.2, 0.1, 0.05, 0.2)), rand(4, 3, 8, 6)),
        "colour": (Colour(eta=-tensor(0.3, 0.1, 0.2)), rand(4, 3, 8, 6)),
        "time warp": (TimeWarp(eta=-tensor(0.3, 0.1)), rand(4, 3, 16)),
    }[name]
    found = made.magnitude(made.eta)
    assert found.tolist() == made.eta.abs().tolist()
    noise = made.noise(4, x, rng())
    torch.testing.assert_close(dataclasses.replace(made, eta=found)(x, -noise), made(x, noise))


def test_a_magnitude_keeps_signs_that_mean_something() -> None:
    deformation, custom = Deformation(eta=tensor(-0.1, -1.2)), Custom(gain, eta=tensor(-0.2))
    assert deformation.magnitude(deformation.eta).tolist() == [0.1, -1.2]
    assert custom.magnitude(custom.eta).tolist() == [-0.2]
    both = Compose(Flip(eta=tensor(0.2)), deformation, Affine(eta=tensor(-0.4), only=("rotation",)))
    assert both.magnitude(both.eta).tolist() == [0.2, 0.1, -1.2, 0.4]
