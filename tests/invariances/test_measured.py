"""Units of extents, and the meaning of their signs, found by trying on inputs."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Tensor

import novacula as nv
from novacula.core.errors import InputError
from novacula.invariances import Affine, Compose, Custom, OnPart
from novacula.invariances.measured import measured, unit_of, within


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def inputs(n: int = 64, d: int = 40) -> Tensor:
    return 3 * torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def shift(x: Tensor, u: Tensor, eta: Tensor) -> Tensor:
    """Two shifts, of which the second is five times the first."""
    return x + u[:, :1] * eta[0] + 5 * u[:, 1:] * eta[1]


def test_the_unit_of_a_shift_is_that_which_moves_inputs_by_twice_their_spread() -> None:
    """E (∂T/∂eta)² = 1/3, so that u = √12 s; 64 probes give it to 9 %, and the ratio of two alike to the same."""
    found = unit_of(measured(Custom(shift, eta=tensor(0.1, 0.0)), inputs()))
    assert float(found[0]) == pytest.approx(math.sqrt(12) * 3, rel=0.4)
    assert float(found[1]) == pytest.approx(math.sqrt(12) * 3 / 5, rel=0.4)


def test_other_units_scale_the_unit_alone() -> None:
    """Extents in thousandths have a thousandth of the unit."""
    mine = unit_of(measured(Custom(shift, eta=tensor(0.1, 0.2)), inputs()))
    small = Custom(lambda x, u, eta: shift(x, u, 1000 * eta), eta=tensor(1e-4, 2e-4))
    torch.testing.assert_close(1000 * unit_of(measured(small, inputs())), mine)


def test_signs_that_carry_no_meaning_are_found() -> None:
    """A gain that is the same under opposite noise, beside a drift that is not."""
    both = Custom(lambda x, u, e: x * (u[:, :1] * e[0]).exp() + e[1] * (1 + u[:, 1:]), eta=tensor(-0.2, -0.3))
    found = measured(both, inputs())
    assert isinstance(found, Custom)
    assert found.signed == (False, True)
    torch.testing.assert_close(found.magnitude(found.eta), tensor(0.2, -0.3))
    torch.testing.assert_close(both.magnitude(both.eta), tensor(-0.2, -0.3))


def test_parts_are_measured_and_what_is_the_houses_own_has_units_of_one() -> None:
    images = torch.rand(8, 1, 10, 10, generator=torch.Generator().manual_seed(0))
    gain = Custom(lambda x, u, e: x * (u[:, :1, None, None] * e).exp(), eta=torch.tensor([0.1]), names=("gain",))
    found = measured(Compose(Affine(only=("rotation",)), gain), images)
    assert found.names == ("rotation", "gain")
    assert unit_of(found)[0] == 1
    assert unit_of(found)[1] != 1
    assert unit_of(OnPart(gain, "a")).tolist() == [1.0]
    assert unit_of(None).tolist() == []


def test_what_cannot_be_measured_has_a_unit_of_one() -> None:
    """Extents that do nothing, constant inputs, and units that are given."""
    idle = Custom(lambda x, u, eta: x, eta=tensor(0.1))
    assert unit_of(measured(idle, inputs())).tolist() == [1.0]
    given = Custom(shift, eta=tensor(0.1, 0.0), unit=tensor(2.0, 3.0))
    assert measured(given, inputs()) is given
    assert unit_of(measured(Custom(shift, eta=tensor(0.1, 0.0)), torch.ones(5, 3))).tolist() == [1.0, 1.0]
    with pytest.raises(InputError, match="positive unit for each of 2"):
        Custom(shift, eta=tensor(0.1, 0.0), unit=tensor(1.0, 0.0))
    with pytest.raises(InputError, match="whether each of 2 extents is signed"):
        Custom(shift, eta=tensor(0.1, 0.0), signed=(True,))


def test_within_gives_the_nearest_admissible_value() -> None:
    assert within(Affine(only=("rotation",)), 0, 1.3) == 1
    assert within(nv.Flip(), 0, 0.9) == 0.5


def test_what_is_learned_does_not_hang_on_the_units_of_an_extent() -> None:
    """Signals shifted at random, by steps or by thousands of them: the same run, up to rounding."""
    g = torch.Generator().manual_seed(1)
    y = torch.arange(90) % 3
    t = torch.arange(24.0)
    peaks = torch.exp(-(((t - 12) / (1.0 + y[:, None])) ** 2))

    def moved(x: Tensor, steps: Tensor) -> Tensor:
        waves = torch.fft.rfft(x)
        k = torch.arange(waves.shape[1])
        return torch.fft.irfft(waves * torch.exp(-2j * math.pi * k * steps[:, None] / 24), n=24)

    x = moved(peaks, 4 * (2 * torch.rand(90, generator=g) - 1)) + 0.1 * torch.randn(90, 24, generator=g)
    network = torch.nn.Sequential(torch.nn.Linear(24, 16), torch.nn.GELU(), torch.nn.Linear(16, 3))
    found = []
    for unit in (1.0, 1e-3):
        roll = Custom(lambda x, u, eta, unit=unit: moved(x, u[:, 0] * eta[0] / unit), eta=torch.tensor([0.5 * unit]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", nv.NovaculaWarning)
            fit = nv.learn(nv.Target(network, invariance=roll), nv.Data(x, y), epochs=30, seed=0)
        assert all(type(entry["converged"]) is bool for entry in fit.hyper.values())
        found.append(fit.hyper.get("eta_0", {"value": 0.0})["value"] / unit)
    assert found[0] > 0.6
    assert found[1] == pytest.approx(found[0], rel=0.02)
