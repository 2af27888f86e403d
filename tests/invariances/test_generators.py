"""Maps along learned generators against `Affine`, matrix exponentials and what an angle is."""

from __future__ import annotations

import dataclasses
import math

import pytest
import scipy.linalg
import torch
from torch import Tensor

import novacula as nv
from novacula.invariances import Generators

F64 = torch.float64
TURN = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=F64)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.mark.parametrize(
    ("entries", "name", "value"),
    [
        ([0, math.pi * 0.3, 0, -math.pi * 0.3, 0, 0], "rotation", 0.3),  # counter-clockwise as seen: y points down
        ([0.2, 0, 0, 0, 0.2, 0], "scale", 0.2),
        ([0.2, 0, 0, 0, -0.2, 0], "stretch", 0.2),
        ([0, 0.2, 0, 0.2, 0, 0], "shear", 0.2),
        ([0, 0, 0.3, 0, 0, 0], "translation_x", 0.3 * math.sqrt(9 * 6) / 6),
        ([0, 0, 0, 0, 0, 0.3], "translation_y", 0.3 * math.sqrt(9 * 6) / 9),
    ],
)
def test_single_generators_are_those_of_affine(entries: list[float], name: str, value: float) -> None:
    x, u = drawn(0, 3, 2, 9, 6), torch.tensor([[1.0], [-0.7], [0.4]], dtype=F64)
    ours = Generators((2, 9, 6), eta=torch.tensor(entries, dtype=F64))
    theirs = nv.Affine(eta=torch.tensor([value], dtype=F64), only=(name,))  # type: ignore[arg-type]
    torch.testing.assert_close(ours(x, u), theirs(x, u), rtol=0, atol=1e-9)


def test_rows_and_signals_are_mapped_by_the_exponential_of_the_sum() -> None:
    eta, u = drawn(1, 18) / 2, drawn(2, 4, 2)
    for shape in ((3,), (2, 3)):
        x = drawn(3, 4, *shape)
        found = Generators(shape, count=2, eta=eta)(x, u)
        for n in range(4):
            flow = u[n, 0] * eta[:9].view(3, 3) + u[n, 1] * eta[9:].view(3, 3)
            expected = x[n] @ torch.from_numpy(scipy.linalg.expm(flow.numpy())).T
            torch.testing.assert_close(found[n], expected)


def test_gradients_reach_the_entries() -> None:
    x, u = drawn(4, 2, 1, 6, 5), torch.tensor([[0.8], [-0.5]], dtype=F64)
    start = 0.2 * drawn(5, 6)
    smooth = drawn(6, 2, 1, 6, 5)

    def value(eta: Tensor) -> Tensor:
        return (Generators((1, 6, 5), eta=eta)(x, u) * smooth).sum()

    assert torch.autograd.gradcheck(value, start.requires_grad_(), eps=1e-7, atol=1e-4)


def test_angles_and_displacements() -> None:
    one = Generators((2,), eta=(TURN * math.pi / 2).flatten())
    assert one.angle(TURN) == pytest.approx(0, abs=1e-6)
    assert one.angle(torch.eye(2)) == pytest.approx(90)
    assert one.angle(TURN + math.tan(math.radians(20)) * torch.eye(2)) == pytest.approx(20)
    assert one.displacement(drawn(7, 50, 2)) == pytest.approx(math.pi / 2)
    image = Generators((1, 8, 5), eta=torch.tensor([0.0, -0.5, 0.0, 0.5, 0.0, 0.0]))
    assert image.displacement(torch.zeros(1, 1, 8, 5)) == pytest.approx(0.5)
    shifted = Generators((1, 8, 8), eta=torch.tensor([0.0, 0.0, 0.3, 0.0, 0.0, 0.4]))
    distance = math.sqrt(sum(((2 * i - 7) / 8) ** 2 for i in range(8)) / 8 * 2)
    assert shifted.displacement(torch.zeros(1, 1, 8, 8)) == pytest.approx(0.5 / distance)


def test_signs_and_lengths_are_those_of_representatives() -> None:
    one = Generators((2,), count=2, seed=3)
    eta = torch.tensor([0.1, -3.0, 2.0, 0.0, 9.0, 0.0, 0.0, 0.0])
    assert torch.equal(one.magnitude(eta), torch.tensor([-0.1, 3.0, -2.0, 0.0, 9.0, 0.0, 0.0, 0.0]))
    short = one.project(eta).view(2, 4)
    assert torch.equal(short[0], eta[:4])
    assert float(short[1].norm()) == pytest.approx(math.pi * math.sqrt(2))
    x, u = drawn(8, 4, 2), drawn(9, 4, 2)
    other = dataclasses.replace(one, eta=-one.eta)
    torch.testing.assert_close(one(x, u), other(x, -u))


def test_what_does_not_fit_is_refused() -> None:
    cases = [
        lambda: Generators((1, 2, 3, 4)),
        lambda: Generators((65,)),
        lambda: Generators((2,), count=0),
        lambda: Generators((2,), eta=torch.zeros(3)),
        lambda: Generators((2,))(torch.zeros(3, 4), torch.zeros(3, 1)),
        lambda: Generators((2,)).angle(torch.zeros(3, 3)),
    ]
    for case in cases:
        with pytest.raises(nv.InputError):
            case()
