"""How many threads a network is worth: its operations, counted, beside PyTorch's own count."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import novacula as nv
from novacula.cli.threads import LARGE, operations, suit_threads


@pytest.mark.parametrize(("name", "shape"), [("mlp", (1, 8, 8)), ("cnn", (1, 28, 28)), ("resnet", (3, 32, 32))])
def test_operations_are_those_that_pytorch_counts(name: str, shape: tuple[int, ...]) -> None:
    net = nv.networks.make(name, shape, 3, seed=0)
    data = nv.Data(torch.rand(6, *shape), torch.arange(6) % 3)
    with FlopCounterMode(display=False) as counted:
        net(data.x[:1])
    assert operations(*nv.Target(net).prepare(data)) == counted.get_total_flops()


def test_small_networks_get_one_thread_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", said.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(key, raising=False)
    small, large = torch.nn.Linear(4, 3), torch.nn.Sequential(torch.nn.Linear(4, 10_000), torch.nn.Linear(10_000, 3))
    prepared = [nv.Target(net).prepare(nv.Data(torch.rand(6, 4), torch.arange(6) % 3)) for net in (small, large)]
    suit_threads(None, *prepared[0])
    assert said == [1]
    suit_threads(4, *prepared[0])  # said by options, which were heeded before
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    suit_threads(None, *prepared[0])
    assert said == [1]
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("novacula.cli.threads.LARGE", operations(*prepared[1]))
    suit_threads(None, *prepared[1])
    assert said == [1, 8]
    assert LARGE == 10**7
