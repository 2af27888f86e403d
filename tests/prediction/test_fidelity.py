"""Fidelity to a reference predictive, by hand and by identities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import multinomial, norm, rankdata
from torch import Tensor

from novacula.core.errors import InputError
from novacula.likelihoods import Bernoulli, Categorical, Normal
from novacula.prediction import Predictive, agreement, function_rhat, total_variation


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_agreement_and_total_variation_by_hand() -> None:
    a = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.3, 0.3, 0.4], [1.0, 0.0, 0.0]])
    b = torch.tensor([[0.5, 0.1, 0.4], [0.1, 0.4, 0.5], [0.2, 0.1, 0.7], [0.0, 0.5, 0.5]])
    assert agreement(a, b) == 0.5
    assert total_variation(a, b) == pytest.approx((0.3 + 0.1 + 0.3 + 1.0) / 4)


def test_total_variation_is_the_largest_difference_over_events() -> None:
    p, q = 2 * draw(5, 4), 2 * draw(5, 4, seed=1)
    p, q = p.softmax(1), q.softmax(1)
    events = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 4)
    want = ((p - q) @ events.T).amax(1).mean()
    assert total_variation(p, q) == pytest.approx(float(want))
    assert total_variation(p, q) == pytest.approx(total_variation(q, p))
    assert (total_variation(p, p), agreement(p, p)) == (0.0, 1.0)


def test_predictives_are_compared_by_their_means() -> None:
    f, g = 2 * draw(3, 20, 4), 2 * draw(2, 20, 4, seed=1)
    a, b = Predictive(Categorical(), f, "mixture"), Predictive(Categorical(), g, "mixture")
    p, q = f.softmax(-1).mean(0), g.softmax(-1).mean(0)
    assert agreement(a, b) == agreement(p, q) == float((p.argmax(1) == q.argmax(1)).double().mean())
    assert total_variation(a, q.float()) == pytest.approx(float((p - q).abs().sum(1).mean() / 2), rel=1e-6)
    c, d = Predictive(Bernoulli(), f, "mixture"), Predictive(Bernoulli(), g, "mixture")
    p, q = f.sigmoid().mean(0), g.sigmoid().mean(0)
    assert agreement(c, d) == float(((p > 0.5) == (q > 0.5)).double().mean())
    assert total_variation(c, d) == pytest.approx(float((p - q).abs().mean()))


def test_two_samples_of_one_distribution_are_as_far_apart_as_chance_says() -> None:
    """The expected distance of two empirical distributions of 20 draws over three classes, by enumeration of them.

    The mean of 4,000 pairs is within 5 standard errors: false alarms are below 1e-6.
    """
    law = multinomial(20, [0.5, 0.3, 0.2])
    counts = np.array([(i, j, 20 - i - j) for i in range(21) for j in range(21 - i)])
    weight = law.pmf(counts)
    gaps = 0.5 * np.abs(counts[:, None] - counts[None]).sum(-1) / 20
    want = weight @ gaps @ weight
    spread = math.sqrt(weight @ gaps**2 @ weight - want**2)
    a, b = (torch.tensor(law.rvs(4_000, random_state=s) / 20) for s in (0, 1))
    assert total_variation(a, b) == pytest.approx(want, abs=5 * spread / math.sqrt(4_000))


def test_function_rhat_is_that_of_every_probability() -> None:
    samples = (draw(3, 50, 4, 2) + torch.tensor([0.0, 1.0, 0.0, 3.0]).double()[:, None]).softmax(-1)
    samples[1, :, 3] = samples[1, :, 3].roll(1) ** 4
    found = function_rhat(samples)
    assert found.shape == (4, 2)
    for i in range(4):
        for c in range(2):
            assert float(found[i, c]) == pytest.approx(naive_rhat(samples[:, :, i, c].numpy()), rel=1e-9)
    assert float(found[3, 0]) > 1.1
    assert bool(function_rhat(torch.full((2, 8, 3, 2), 0.5)).isnan().all())


def naive_rhat(draws: np.ndarray) -> float:
    def plain(x: np.ndarray) -> float:
        k = x.shape[1]
        within, between = x.var(1, ddof=1).mean(), x.mean(1).var(ddof=1)
        return math.sqrt(((k - 1) / k * within + between) / within)

    def scores(x: np.ndarray) -> np.ndarray:
        ranks = rankdata(x).reshape(x.shape)
        return norm.ppf((ranks - 0.375) / (x.size + 0.25))

    half = draws.shape[1] // 2
    split = np.concatenate([draws[:, :half], draws[:, -half:]])
    folded = np.abs(split - np.median(split))
    return max(plain(scores(split)), plain(scores(folded)))


@pytest.mark.parametrize(
    ("a", "b", "match"),
    [
        (torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5, 0.5], [0.1, 0.9]]), "same rows"),
        (torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5, 0.3, 0.2]]), "same rows"),
        (torch.tensor([[0.5, 0.7]]), torch.tensor([[0.5, 0.5]]), "sum to 1"),
        (torch.tensor([[-0.5, 1.5]]), torch.tensor([[0.5, 0.5]]), "values from -0.5 to 1.5"),
        (torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.5]), r"shape \(2,\)"),
        (torch.tensor([[math.nan, 0.5]]), torch.tensor([[0.5, 0.5]]), "sum to 1"),
    ],
)
def test_what_are_no_probabilities_of_the_same_inputs_is_refused(a: Any, b: Any, match: str) -> None:
    for function in (agreement, total_variation):
        with pytest.raises(InputError, match=match):
            function(a, b)


def test_what_has_no_classes_or_chains_is_refused() -> None:
    f = draw(1, 3, 2)
    with pytest.raises(InputError, match="regression"):
        agreement(Predictive(Normal(), f, "plug-in"), Predictive(Normal(), f, "plug-in"))
    with pytest.raises(InputError, match="same rows"):
        agreement(Predictive(Bernoulli(), f, "plug-in"), Predictive(Categorical(), f, "plug-in"))
    for shape in ((8, 3, 2), (1, 8, 3, 2)):
        with pytest.raises(InputError, match="chains"):
            function_rhat(torch.zeros(shape))
