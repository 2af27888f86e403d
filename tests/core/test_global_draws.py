"""Torch's global generators, lent to others' code: one thread at a time, and put back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import torch

import novacula as nv
from novacula.core.rng import global_draws


def test_threads_take_turns_with_the_global_generators() -> None:
    """Each draws its own stream, and nobody's is put back under another's hands."""

    def drawn(seed: int) -> torch.Tensor:
        with global_draws(seed=seed):
            return torch.stack([torch.randn(50) for _ in range(40)])

    state = torch.get_rng_state()
    alone = [drawn(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(drawn, [0, 1, 2, 3] * 20), alone * 20, strict=True):
            assert torch.equal(found, expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_global_draws_go_on_from_where_they_stand_and_may_be_nested() -> None:
    with global_draws(seed=3):
        torch.randn(5)
        with global_draws():
            inner = torch.randn(5)
        assert torch.equal(torch.randn(5), inner)


def test_threads_that_are_started_under_a_seed_do_not_wait_for_ever() -> None:
    target, data = nv.Target(nv.networks.make("linear", (2,), 2)), nv.Data(torch.randn(12, 2), torch.arange(12) % 2)

    def trained() -> None:
        with nv.networks.seeded(0):
            nv.infer(nv.MAP(), target, data, steps=1, chains=2, workers=2, backend="threads")

    thread = Thread(target=trained, daemon=True)
    thread.start()
    thread.join(timeout=60)
    assert not thread.is_alive()
