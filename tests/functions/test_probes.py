"""Probes: tasks against their definitions word by word, and networks that read words."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from novacula.core.errors import InputError
from novacula.data.data import Data
from novacula.evidence import Counting
from novacula.functions.probes import NETWORKS, SPLITS, network, probe, split
from novacula.likelihoods import Bernoulli
from novacula.target import Target


def test_answers_are_the_definitions() -> None:
    d = 6
    for number in range(2**d):
        word = format(number, f"0{d}b")
        expected = {
            "identity": word,
            "copy": str(int(word[:3] == word[3:])),
            "parity": str(word.count("1") % 2),
            "palindrome": str(int(word == word[::-1])),
            "addition": format(int(word[:3], 2) + int(word[3:], 2), "04b"),
            "map1": format((5 * number + 3) % 64, "06b"),
            "map2": format((5 * (5 * number + 3) + 3) % 64, "06b"),
        }
        for name, text in expected.items():
            task = probe(name, d)
            assert "".join(str(int(v)) for v in task.x[number]) == word
            assert "".join(str(int(v)) for v in task.y[number]) == text, (name, word)


def test_the_map_is_one_cycle() -> None:
    y = probe("map1", 4).y @ torch.tensor([8.0, 4, 2, 1])
    seen, n = set(), 0
    for _ in range(16):
        n = int(y[n])
        seen.add(n)
    assert len(seen) == 16


def test_splits_are_parts_of_all_words() -> None:
    task = probe("parity", 4)
    for how in SPLITS:
        train, test = split(task, how, seed=3)
        assert sorted([*train.tolist(), *test.tolist()]) == list(range(16))
        assert len(train) == (16 if how == "all" else 8)
    assert split(task, "odd")[0].tolist() == list(range(1, 16, 2))
    assert split(task, "inside")[0].tolist() == list(range(4, 12))
    assert split(task, "random", seed=1)[0].tolist() != split(task, "random", seed=2)[0].tolist()


@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_read_words_and_end_in_a_linear_layer(kind: str) -> None:
    net = network(kind, 4, 3, width=5)
    x = probe("identity").x
    f = net(x)
    assert f.shape == (16, 3)
    # Every bit counts, and words are read one by one.
    flipped = [net((x - torch.eye(4)[i]).abs()) for i in range(4)]
    assert all(float((f - g).detach().abs().max()) > 1e-6 for g in flipped)
    torch.testing.assert_close(net(x[3:5]), f[3:5])
    found = Counting(200, heads=20)(Target(net, likelihood=Bernoulli()), _data(3), seed=0)
    assert found.parts["evaluations"] == 10


def _data(columns: int):

    return Data(probe("identity").x, probe("identity").y[:, :columns], task="multilabel")


def test_arithmetic_units_add_and_multiply() -> None:
    net = network("arithmetic", 2, 1, width=1)
    held: dict[str, Any] = {"sums.weight": [[9.0, -9.0]], "products.weight": [[9.0, 9.0]], "out.weight": [[1.0, 10.0]]}
    held["out.bias"] = [0.0]
    net.load_state_dict({k: torch.tensor(v) for k, v in held.items()})
    torch.testing.assert_close(net(probe("identity", 2).x)[:, 0], torch.tensor([0.0, -1.0, 1.0, 10.0]))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: probe("sorting"), "a task among"),
        (lambda: probe("parity", 5), "an even number"),
        (lambda: split(probe("parity"), "even"), "a split among"),
        (lambda: network("transformer", 4, 1), "a network among"),
        (lambda: network("mlp", 4, 1, width=0), "width"),
    ],
)
def test_what_is_unknown_is_refused(call, said: str) -> None:
    with pytest.raises(InputError, match=said):
        call()
