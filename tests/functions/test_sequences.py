"""Sequences of random networks against their recursion and against coins."""

from __future__ import annotations

import math
from typing import ClassVar, Self

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.functions import Sequences

PLACES = torch.zeros(40, 1)


class Planted:
    """Weights that are known: the same for every sequence but for their sign."""

    gaussian: ClassVar[bool] = False

    def __init__(self, **weights: Tensor) -> None:
        self.weights = weights

    def bind(self, params: Params) -> Self:
        return self

    def sample(self, params: Params, n: int, rng: torch.Generator) -> Params:
        signs = (-1.0) ** torch.arange(n)
        return {k: signs.reshape(-1, *[1] * w.ndim) * w for k, w in self.weights.items()}


def test_each_symbol_follows_from_those_before():
    prior = Planted(weight=torch.tensor([[0.7, -1.9, 0.4]]), bias=torch.tensor([0.3]))
    found = Sequences(nn.Linear(3, 1), 3, prior)(PLACES, 6, torch.Generator().manual_seed(0))
    for i, row in enumerate((2 * found.int() - 1).tolist()):
        for t in range(3, 40):  # the first three follow from symbols that are not told
            f = (-1) ** i * (0.7 * row[t - 3] - 1.9 * row[t - 2] + 0.4 * row[t - 1] + 0.3)
            assert row[t] == (1 if f > 0 else -1)
    assert not torch.equal(found[0], found[1])


def test_the_temperature_is_that_of_the_logit():
    prior = Planted(weight=torch.zeros(1, 2), bias=torch.tensor([0.8]))
    found = Sequences(nn.Linear(2, 1), 2, prior, temperature=0.5)(PLACES, 1000, torch.Generator().manual_seed(1))
    p = 1 / (1 + math.exp(-1.6))
    for rows, chance in ((found[::2], p), (found[1::2], 1 - p)):
        # 20,000 tosses: five standard deviations, 6e-7
        assert abs(float(rows.float().mean()) - chance) < 5 * math.sqrt(p * (1 - p) / 20_000)


def test_random_networks_write_simpler_sequences_than_coins():
    net = nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 1))
    x = torch.arange(64.0)[:, None]
    written = nv.functions.sample(Sequences(net, 8, nv.FanIn()), x, 500, seed=0)
    coins = nv.functions.sample(nv.functions.Coins(), x, 500, seed=0)
    bits = [nv.functions.lz_bits(s.labels).mean() for s in (written, coins)]
    assert bits[0] < 0.7 * bits[1]
    assert len(written.counts) < 250  # of 500 sequences
    assert len(coins.counts) == 500


def test_what_is_refused():
    with pytest.raises(InputError, match="one output"):
        Sequences(nn.Linear(3, 2), 3)
    with pytest.raises(InputError, match="temperature"):
        Sequences(nn.Linear(3, 1), 3, temperature=-1.0)
    with pytest.raises(InputError):
        Sequences(nn.Linear(4, 1), 3)
