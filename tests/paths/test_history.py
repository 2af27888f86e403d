"""Planted curves: grokking, double descent, noise, and networks whose curves are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from novacula import InputError
from novacula.paths import History, history

AT = torch.tensor([0.0, 10, 20, 50, 100, 200, 500, 1000, 2000])


def shares(curve: list[float], n: int = 400) -> Tensor:
    """Labels that are right for the first examples: known examples stay known."""
    return (torch.arange(n) < n * torch.tensor(curve)[:, None]).double()


def losses(curve: list[float], n: int = 400) -> Tensor:
    """Losses of these means, with noise of examples that all checkpoints share."""
    rng = torch.Generator().manual_seed(0)
    own = torch.randn(n, generator=rng, dtype=torch.float64)
    each = 0.05 * torch.randn(len(curve), n, generator=rng, dtype=torch.float64)
    return torch.tensor(curve, dtype=torch.float64)[:, None] + 0.5 * own + each


TRAIN, FLAT = [0.1, 0.5, 0.92, 1, 1, 1, 1, 1, 1], [1.0] * 9
LATE, EARLY = [0.1, 0.12, 0.15, 0.2, 0.2, 0.3, 0.7, 0.97, 1], [0.1, 0.5, 0.85, 0.9, 0.93, 0.93, 0.93, 0.94, 0.94]
HUMP, FALLING = [2.3, 1.0, 0.6, 0.9, 1.4, 1.6, 1.2, 0.7, 0.4], [2.3, 1.5, 1.2, 1.0, 0.9, 0.85, 0.8, 0.79, 0.78]


def test_planted_grokking_is_found_with_its_steps() -> None:
    found = History(AT, losses(FLAT), losses(FLAT), shares(TRAIN), shares(LATE)).grokking
    assert found is not None
    assert (found.fitted, found.understood) == (20, 1000)
    assert found.gain == pytest.approx(0.97 - 0.15, abs=1 / 400)
    for test in (EARLY, [0.1] * 9, [0.1] * 7 + [0.2, 0.23]):
        assert History(AT, losses(FLAT), losses(FLAT), shares(TRAIN), shares(test)).grokking is None
    # Of four unseen examples, one more that is right says nothing.
    assert History(AT, losses(FLAT), losses(FLAT), shares(TRAIN), shares([0.0] * 7 + [0.25] * 2, 4)).grokking is None
    by_loss = History(AT, -losses(TRAIN), -losses(LATE)).grokking
    assert by_loss is not None
    assert by_loss.understood == 1000


def test_planted_double_descent_is_found_with_its_steps() -> None:
    found = History(AT, losses(FLAT), losses(HUMP)).double_descent
    assert found is not None
    assert (found.first, found.peak, found.second) == (20, 200, 2000)
    assert found.rise == pytest.approx(1.4 - 0.9, abs=0.03)  # of medians of three
    spike = [*FALLING[:5], 1.6, *FALLING[6:]]
    for curve in (FALLING, spike, HUMP[:6] + [1.5] * 3):
        assert History(AT, losses(FLAT), losses(curve)).double_descent is None
    assert History(AT, losses(FLAT), losses(HUMP, 5) * 0.001 + 3 * losses(FLAT, 5)).double_descent is None
    said = History(AT, losses(FLAT), losses(HUMP), shares(TRAIN), shares(LATE)).words
    assert "descended twice: least at step 20" in said[1]
    assert said[0].startswith("It grokked")


def test_noise_makes_neither() -> None:
    """Curves of no trend; the alarm is rung once in a hundred by noise of examples, so that of 60 none is by seed."""
    rng = torch.Generator().manual_seed(1)
    for _ in range(60):
        own = History(AT, losses(FLAT), 1 + torch.randn(9, 50, generator=rng, dtype=torch.float64))
        assert own.double_descent is None
        assert own.grokking is None


def test_checkpoints_are_evaluated() -> None:
    """A linear classifier that knows its rows at the second checkpoint, and the others at the last."""
    rows = torch.eye(4)
    train, test = (
        nv.Data(rows[:2].repeat(9, 1), torch.tensor([0, 1] * 9)),
        nv.Data(rows[2:].repeat(30, 1), torch.tensor([0, 1] * 30)),
    )
    scales = [(0.01, -1.0), (9.0, -1.0), (9.0, -1.0), (9.0, -0.9), (9.0, 9.0)]
    made = [{"weight": torch.tensor([[a, 0, b, 0], [0, a, 0, b]]), "bias": torch.zeros(2)} for a, b in scales]
    made[0]["weight"][:, :2] *= -1
    found = history(nn.Linear(4, 2), made, train, test, at=[0, 10, 20, 40, 90])
    expected = nn.functional.cross_entropy(test.x @ made[3]["weight"].T, test.y)
    torch.testing.assert_close(found.test_losses[3].mean(), expected.double(), rtol=1e-5, atol=0)
    assert found.grokking is not None
    assert (found.grokking.fitted, found.grokking.understood, found.grokking.gain) == (10, 90, 1.0)
    record = found.to_dict()
    assert record["test_accuracy"] == [0, 0, 0, 0, 1]
    assert record["grokking"]["understood"] == 90
    with pytest.raises(InputError, match="four checkpoints"):
        history(nn.Linear(4, 2), made[:3], train, test)
    with pytest.raises(InputError, match="increasing step"):
        history(nn.Linear(4, 2), made, train, test, at=[0, 1, 2, 2, 3])
