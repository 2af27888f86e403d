"""Weights of signs alone, against all of them written out."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from novacula.priors import Signs


@pytest.mark.parametrize(("prior", "size"), [(Signs(0.7), 0.7), (Signs(0.7, fan_in=True), 0.7 / math.sqrt(3))])
def test_probabilities_of_all_signs_sum_to_one_and_draws_are_among_them(prior: Signs, size: float) -> None:
    like = {"w": torch.zeros(1, 3), "b": torch.zeros(2)}
    every = [
        {"w": size * torch.tensor([s[:3]]), "b": 0.7 * torch.tensor(s[3:])}
        for s in itertools.product((-1.0, 1.0), repeat=5)
    ]
    assert sum(math.exp(float(prior.log_prob(p))) for p in every) == pytest.approx(1)
    drawn = prior.sample(like, 6, torch.Generator().manual_seed(0))
    for i in range(6):
        one = {k: w[i] for k, w in drawn.items()}
        assert float(prior.log_prob(one)) == pytest.approx(-5 * math.log(2))
        assert float(prior.log_prob({k: 1.01 * w for k, w in one.items()})) == -math.inf
    # The precision is that of a Gaussian of the same variance.
    torch.testing.assert_close(drawn["w"].square() * prior.precision(like)["w"], torch.ones(6, 1, 3))
    torch.testing.assert_close(drawn["b"].square() * prior.precision(like)["b"], torch.ones(6, 2))
