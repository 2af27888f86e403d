"""What probes find, against functions that are drawn and counted."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from novacula.core.errors import InputError
from novacula.evidence import Splitting
from novacula.functions import sample
from novacula.functions.probes import network, probe
from novacula.study.probes import Effort, Probed, probes

SMALL = Effort(
    bits=2,
    width=8,
    draws=200_000,
    heads=20,
    splitting=Splitting(particles=60, moves=4, attempts=1, steps=30),
    members=6,
    steps=400,
)


def test_what_is_found_is_what_is_drawn() -> None:
    # Exclusive or of two bits, all four words: the share of networks that compute "0110" on the square.
    (found,) = probes(["parity"], ["mlp"], ["all"], effort=SMALL, seed=1)
    torch.manual_seed(0)
    drawn = sample(network("mlp", 2, 1, width=8), probe("parity", 2).x, 100_000, prior=SMALL.prior, seed=0)
    truth = drawn.probability("0110")
    assert found.log10 is not None
    slack = 2.5 * (math.log10(truth.high / truth.low) / 2 + found.log10.high - found.log10.value)  # 5 standard errors
    assert abs(found.log10.value - math.log10(truth.value)) < slack
    assert slack < 0.25
    assert found.fitted is not None
    assert found.fitted.value > 0.4
    # Trained on the two odd words, "1?0?": networks that find the rule are those that say 0110 among all that fit.
    (odd,) = probes(["parity"], ["mlp"], ["odd"], effort=SMALL, seed=1)
    fits = drawn.counts[(drawn.labels[:, 1] == 1) & (drawn.labels[:, 3] == 0)].sum()
    assert odd.random_rule is not None
    assert odd.trained_on == 2
    assert abs(odd.random_rule.value - truth.value * drawn.n / fits) < 0.12  # 5 standard errors of 240 networks


def test_what_is_known_is_not_sought_again() -> None:
    told: list[int] = []
    effort = replace(SMALL, draws=1_000, steps=5, members=2, splitting=Splitting(20, moves=1, attempts=1, steps=3))
    found = probes(["copy"], ["cnn", "recurrent"], ["all"], effort=effort, told=lambda rows, n: told.append(n))
    assert told == [2, 2]
    restored = [Probed.of(p.to_dict()) for p in found]
    assert restored == found
    marked = replace(restored[0], by="known")
    again = probes(["copy"], ["recurrent", "cnn"], ["all"], effort=effort, done=[marked])
    assert again == [found[1], marked]


def test_words_with_one_answer_are_told_and_names_are_checked() -> None:
    # Of 01 and 11 both are odd: the palindromes of two bits among 00 01 10 11 are the first and last.
    (found,) = probes(["copy"], ["mlp"], ["inside"], effort=SMALL)
    assert found.log10 is None
    assert "two classes" in found.said[0]
    with pytest.raises(InputError, match="a network among"):
        probes(["copy"], ["lstm"], ["all"], effort=SMALL)
    with pytest.raises(InputError, match="members"):
        Effort(members=0)


def test_what_cannot_be_fitted_is_said() -> None:
    short = Splitting(20, moves=1, attempts=1, steps=4)
    effort = replace(SMALL, bits=4, width=1, draws=2_000, steps=20, splitting=short)
    (found,) = probes(["parity"], ["mlp"], ["all"], effort=effort)
    assert found.kind == "upper bound"
    assert found.said[0].startswith("cannot be fitted within 4 levels of splitting or 20 steps")
