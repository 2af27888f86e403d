"""Posteriors cross to files and processes, and say the same there."""

from __future__ import annotations

import io
import multiprocessing
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.curvature.structures.names import STRUCTURES
from novacula.posteriors.base import Posterior


def data() -> nv.Data:
    x = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
    return nv.Data(x, (x[:, 0] > 0).long())


def posterior(structure: Any, members: int) -> Posterior:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        target = nv.Target(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    method = nv.Laplace(structure)
    return nv.infer(method if members == 1 else nv.Ensemble(method, members=members), target, data(), steps=5, seed=0)


def by_torch(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def means(post: Posterior) -> Tensor:
    return nv.predict(post, data().x, seed=0).mean()


WAYS: dict[str, Callable[[Any], Any]] = {"pickle": lambda p: pickle.loads(pickle.dumps(p)), "torch": by_torch}


@pytest.mark.filterwarnings("ignore::novacula.NovaculaWarning")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_laplace_posteriors_are_kept(structure: str, members: int, way: str) -> None:
    post = posterior(structure, members)
    back = WAYS[way](post)
    torch.testing.assert_close(means(back), means(post))
    drawn, again = (p.sample(3, torch.Generator().manual_seed(1)) for p in (post, back))
    for name, w in drawn.items():
        torch.testing.assert_close(again[name], w)


@pytest.mark.filterwarnings("ignore::novacula.NovaculaWarning")
def test_laplace_posteriors_cross_to_processes_and_back() -> None:
    posts = [posterior(structure, 1) for structure in STRUCTURES]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.map(means, posts)
    for found, post in zip(there, posts, strict=True):
        torch.testing.assert_close(found, means(post))
