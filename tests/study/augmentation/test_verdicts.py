"""From tables of losses to verdicts: naive recomputation, and what is claimed where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import false_discovery_control
from torch import Tensor

from novacula.study.augmentation.verdicts import LEVELS, Gain, Judged, gains, judge, slight, training_noise, worth

FOLDS = torch.tensor([0, 1, 2] * 80)


def simulated(
    seed: int, truth: list[float], starts: int = 3, tau: float = 0.03, spread: float = 0.3
) -> dict[str, Tensor]:
    """Losses of none (several starts) and of arms (one start) whose true gains are known."""
    rng = np.random.default_rng(seed)
    n = len(FOLDS)
    example = rng.gamma(0.5, 0.6, n)

    def network(gain: float, own: np.ndarray) -> np.ndarray:
        luck = tau * rng.normal(size=3)
        return example - gain + own + luck[FOLDS.numpy()] + 0.1 * rng.normal(size=n)

    none = np.stack([network(0.0, np.zeros(n)) for _ in range(starts)])
    found = {"none": torch.tensor(none)}
    for i, gain in enumerate(truth):
        found[f"arm{i}"] = torch.tensor(network(gain, spread * rng.normal(size=n))[None])
    return found


def test_a_gain_is_the_paired_mean_with_both_errors() -> None:
    folds = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    none = torch.tensor([[1.0, 2, 0, 1, 3, 1, 2], [1.5, 1, 1, 0, 2, 1, 4]], dtype=torch.float64)
    arm = torch.tensor([[0.5, 1, 1, 1, 2, 2, 1]], dtype=torch.float64)
    found = gains({"none": none, "arm": arm}, folds)["arm"]
    base = [1.25, 1.5, 0.5, 0.5, 2.5, 1.0, 3.0]
    d = [b - a for b, a in zip(base, arm[0].tolist(), strict=True)]
    assert found.value == pytest.approx(sum(d) / 7)
    inside = sum((v - sum(d[:4]) / 4) ** 2 for v in d[:4]) + sum((v - sum(d[4:]) / 3) ** 2 for v in d[4:])
    # Replicates: means of two starts in each fold; the variance of a pair is half its squared difference.
    pairs = [(4 / 4, 3.5 / 4), (6 / 3, 7 / 3)]
    noise = sum((a - b) ** 2 / 2 for a, b in pairs) / 2
    assert training_noise({"none": none, "arm": arm}, folds) == pytest.approx((noise, 2.0))
    assert found.stderr**2 == pytest.approx(inside / (7 - 2) / 7 + noise * (1 / 2 + 1 / 4))
    assert (found.networks, found.n) == (2, 7)


def test_examples_that_one_of_them_lacks_do_not_count() -> None:
    folds = torch.tensor([0, 0, 0, 1, 1, 1])
    none = torch.tensor([[1.0, 2, 4, 1, 3, 1], [1.5, 1, 3, 0, 2, 1]], dtype=torch.float64)
    arm = torch.tensor([[0.5, 1, 1, math.nan, math.nan, math.nan]], dtype=torch.float64)
    found = gains({"none": none, "arm": arm}, folds)["arm"]
    assert (found.value, found.networks, found.n) == (pytest.approx((0.75 + 0.5 + 2.5) / 3), 1, 3)


def test_the_spread_of_repeated_training_is_found() -> None:
    # 24 arms and 40 draws: the mean of the estimates is within 10 % of the truth but once in several thousand times.
    # A network's own scatter over examples, .1²/80, is a part of what its mean loss varies by.
    truth = 0.03**2 + 0.1**2 / 80
    found = [training_noise(simulated(s, [0.0] * 24), FOLDS)[0] for s in range(40)]
    assert sum(found) / 40 == pytest.approx(truth, rel=0.15)
    assert training_noise(simulated(0, [0.0] * 24), FOLDS)[1] == 6 + 23 * 2


def test_a_standard_error_is_that_of_repeated_comparisons() -> None:
    # 100 repetitions of 8 arms: the ratio's own error is about 4 %.
    values, errors = [], []
    for s in range(100):
        found = gains(simulated(s, [0.1] * 8), FOLDS)
        values += [g.value for g in found.values()]
        errors += [g.stderr for g in found.values()]
    assert np.std(values) / np.sqrt(np.mean(np.square(errors))) == pytest.approx(1, abs=0.15)
    assert np.mean(values) == pytest.approx(0.1, abs=0.01)


def test_claims_are_those_of_benjamini_and_hochberg() -> None:
    rng = np.random.default_rng(3)
    found = {f"a{i}": Gain(v, 0.03, 40.0, 3, 240) for i, v in enumerate(rng.normal(0, 0.12, 17))}
    for look, level in enumerate(LEVELS):
        judged = judge(found, {}, 0.3, look, len(found))
        p = [g.beyond(worth(0.3)) for g in found.values()]
        adjusted = false_discovery_control(p, method="bh")
        claimed = {name for name, q in zip(found, adjusted, strict=True) if q <= level}
        assert 3 < len(claimed) < 15
        assert claimed == {name for name, j in judged.items() if j.verdict in {"needed", "harmful"}}
        for name, j in judged.items():
            beyond = j.interval[0] > worth(0.3) or j.interval[1] < -worth(0.3)
            assert beyond == (name in claimed)
            assert j.verdict not in {"needed", "harmful"} or (j.verdict == "needed") == (found[name].value > 0)


def test_no_effect_is_two_tests_and_decisions_stay() -> None:
    quiet, wide = Gain(0.004, 0.01, 200.0, 9, 800), Gain(0.004, 0.03, 200.0, 9, 800)
    judged = judge({"quiet": quiet, "wide": wide}, {}, 0.4, 0, 2)
    assert (judged["quiet"].verdict, judged["wide"].verdict) == ("no effect", "undecided")
    assert judge({"quiet": quiet}, {}, 0.4, 0, 2, skilled=False)["quiet"].verdict == "undecided"
    low, high = judged["quiet"].interval
    assert -slight(0.4) < low < high < slight(0.4)
    assert high - low == pytest.approx(2 * 1.6525 * 0.01, rel=1e-3)  # the 95 % quantile of t with 200 degrees
    later = judge({"quiet": Gain(0.5, 0.01, 200.0, 9, 800), "wide": wide}, judged, 0.4, 1, 2)
    assert later["quiet"] is judged["quiet"]


def test_what_counts_is_a_share_of_the_loss_within_bounds() -> None:
    assert [worth(v) for v in (0.01, 0.5, 3.0)] == pytest.approx([0.005, 0.01, 0.02])
    assert [slight(v) for v in (0.01, 0.3, 3.0)] == pytest.approx([0.01, 0.03, 0.05])


def test_false_claims_are_rare_through_all_looks() -> None:
    # True gains exactly at the worth, the least favourable case: 100 reports, at most 5 % of which may claim anything.
    # More than 12 of 100 happen with probability .0015 at the full 5 %.
    nll, wrong = 0.3, 0
    for s in range(100):
        judged: dict[str, Judged] = {}
        parts = [simulated(7919 * s + look, [worth(nll)] * 10, spread=0.0) for look in range(3)]
        # Later looks add starts; all of them share the examples of the first, as a comparison does.
        shift = [parts[0]["none"].mean(0) - p["none"].mean(0) for p in parts]
        for look in range(3):
            tables = {
                k: torch.cat([p[k] + (d if look else 0.0) for p, d in zip(parts[: look + 1], shift, strict=False)])
                for k in parts[0]
            }
            judged = judge(gains(tables, FOLDS), judged, nll, look, 10)
        wrong += any(j.verdict in {"needed", "harmful"} for j in judged.values())
    assert wrong <= 12


def test_true_gains_and_losses_are_claimed() -> None:
    truth = [0.25, 0.25, -0.25, 0.0, 0.0, 0.0]
    found = gains(simulated(5, truth), FOLDS)
    judged = judge(found, {}, 0.3, 0, len(truth))
    assert [judged[f"arm{i}"].verdict for i in range(3)] == ["needed", "needed", "harmful"]
    assert all(judged[f"arm{i}"].verdict in {"undecided", "no effect"} for i in range(3, 6))


def test_without_replicates_nothing_is_claimed() -> None:
    folds = torch.tensor([0, 0, 0, 1, 1, 1])
    tables = {"none": torch.ones(1, 6, dtype=torch.float64) * 5, "arm": torch.rand(1, 6, dtype=torch.float64)}
    (gain,) = gains(tables, folds).values()
    assert math.isinf(gain.stderr)
    assert judge({"arm": gain}, {}, 5.0, 0, 1)["arm"].verdict == "undecided"
