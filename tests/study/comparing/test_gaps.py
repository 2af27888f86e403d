"""Gaps between models, against ties and differences that were planted, and against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from novacula.study.comparing.gaps import ALPHA, gaps


def drawn(
    rng: torch.Generator,
    offsets: dict[str, float],
    n: int = 300,
    k: int = 3,
    trainings: int = 1,
    *,
    network: float = 0.05,
    example: float = 0.3,
) -> tuple[dict[str, Tensor], Tensor]:
    """Losses of models with a common difficulty of examples, and noise of networks and of examples."""
    folds = torch.stack([torch.randperm(n, generator=rng) % k for _ in range(trainings)])
    common = torch.randn(n, generator=rng, dtype=torch.float64)
    losses: dict[str, Tensor] = {}
    for name, offset in offsets.items():
        own = example * torch.randn(n, generator=rng, dtype=torch.float64)
        of_networks = network * torch.randn(trainings, k, generator=rng, dtype=torch.float64)
        losses[name] = offset + common + own + of_networks.gather(1, folds)
    return losses, folds


def called_worse(losses: dict[str, Tensor], folds: Tensor) -> set[str]:
    best = min(losses, key=lambda name: float(losses[name].mean()))
    return {name for name, gap in gaps(losses, folds, best).items() if gap.real}


@pytest.mark.parametrize(("models", "trainings"), [(2, 1), (12, 1), (5, 3)])
def test_that_a_planted_tie_is_called_tied(models: int, trainings: int) -> None:
    # At α = 0.05, 34 or more of 400 draws come by chance in 0.3 %; with this seed there were 5, 12 and 9.
    rng = torch.Generator().manual_seed(1)
    wrong = sum(
        bool(called_worse(*drawn(rng, dict.fromkeys(map(str, range(models)), 0.0), trainings=trainings)))
        for _ in range(400)
    )
    assert wrong <= 400 * ALPHA + 3 * math.sqrt(400 * ALPHA * (1 - ALPHA))


def test_one_network_of_each_model() -> None:
    # Its error is that of the examples. Where networks differ by nothing else, 34 or more false alarms of 400 come by
    # chance in 0.3 %; with this seed there were 18.
    rng = torch.Generator().manual_seed(5)
    losses, folds = drawn(rng, {"a": 0.0, "b": 0.1}, k=1)
    gap, d = gaps(losses, folds, "a")["b"], (losses["b"] - losses["a"])[0]
    assert (gap.value, gap.stderr) == pytest.approx((float(d.mean()), float(d.std()) / len(d) ** 0.5))
    assert gap.freedom == len(d) - 1
    tied = [drawn(rng, {"a": 0.0, "b": 0.0, "c": 0.0}, k=1, network=0.0) for _ in range(400)]
    assert sum(bool(called_worse(*one)) for one in tied) <= 33


def test_that_a_planted_better_model_is_found() -> None:
    # A gap of 0.3 has an error of about 0.05; it is missed in less than one of a thousand draws.
    rng = torch.Generator().manual_seed(2)
    found = [called_worse(*drawn(rng, {"a": 0.0, "b": 0.3, "c": 0.3, "d": 0.3}, n=900)) for _ in range(50)]
    assert sum(worse == {"b", "c", "d"} for worse in found) >= 45


def test_the_variance_of_a_gap_against_draws() -> None:
    # The mean squared error against the mean estimated variance; 300 draws fix the ratio to 8 %.
    rng = torch.Generator().manual_seed(3)
    found = [gaps(*drawn(rng, dict.fromkeys("abcdef", 0.0), trainings=2), "a")["b"] for _ in range(300)]
    squares = sum(g.value**2 for g in found) / len(found)
    assert squares == pytest.approx(sum(g.stderr**2 for g in found) / len(found), rel=0.35)


def test_that_trainings_shrink_the_noise_of_training_alone() -> None:
    rng = torch.Generator().manual_seed(4)
    noisy = gaps(*drawn(rng, {"a": 0.0, "b": 0.3, "c": 0.5}, network=0.2, example=1e-3), "a")["b"]
    assert not noisy.real
    assert noisy.trainings_needed is not None
    assert noisy.trainings_needed > 1
    spread = gaps(*drawn(rng, {"a": 0.0, "b": 0.02, "c": 0.02}, network=0.0, example=1.0), "a")["b"]
    assert not spread.real
    assert spread.trainings_needed is None
    wanted = spread.n * (spread.margin * spread.stderr / spread.value) ** 2
    assert spread.examples_needed == math.ceil(wanted)


def test_equal_losses_are_tied_and_nothing_tells_them_apart() -> None:
    losses, folds = drawn(torch.Generator().manual_seed(5), {"a": 0.0})
    gap = gaps({"a": losses["a"], "b": losses["a"].clone()}, folds, "a")["b"]
    assert not gap.real
    assert gap.examples_needed is None
