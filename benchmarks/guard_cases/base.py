"""What the cases share: small problems, made by torch's own generators, and what is asked of a posterior."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import novacula as nv

Case = Callable[[], Any]


class Skip(Exception):
    """A case that cannot run here, and why."""


def rng(seed: int = 0) -> torch.Generator:
    """A generator."""
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal draws."""
    return torch.randn(*shape, generator=rng(seed), dtype=dtype)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initial weights that are a function of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def mlp(inputs: int, outputs: int, *, width: int = 5, seed: int = 0, drop: float = 0.0) -> nn.Module:
    """A network of two layers in float64."""
    with seeded(seed):
        layers = [nn.Flatten(), nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, outputs)]
        if drop:
            layers.insert(3, nn.Dropout(drop))
        return nn.Sequential(*layers).double().eval()


def classes(n: int = 24, d: int = 3, k: int = 3, seed: int = 1) -> nv.Data:
    """Points whose class depends on their first coordinates."""
    x = normal(n, d, seed=seed)
    return nv.Data(x, (x[:, :k] + 0.5 * normal(n, k, seed=seed + 1)).argmax(1))


def measured(n: int = 24, d: int = 3, outputs: int = 1, seed: int = 1) -> nv.Data:
    """A smooth function with noise."""
    x = normal(n, d, seed=seed)
    means = torch.stack([torch.sin(x[:, i] + i) + x[:, (i + 1) % d] for i in range(outputs)], 1)
    return nv.Data(x, means + 0.2 * normal(n, outputs, seed=seed + 1))


def labelled(n: int = 24, d: int = 3, seed: int = 1) -> nv.Data:
    """Two labels for each point."""
    x = normal(n, d, seed=seed)
    return nv.Data(x, (x[:, :2] + 0.5 * normal(n, 2, seed=seed + 1) > 0).double(), task="multilabel")


def images(n: int = 14, side: int = 6, channels: int = 1, k: int = 3, seed: int = 3) -> nv.Data:
    """Random images with classes."""
    x = torch.rand(n, channels, side, side, generator=rng(seed), dtype=torch.float64)
    return nv.Data(x, x.flatten(1)[:, :k].argmax(1))


def digits(n: int = 200) -> nv.Data:
    """The first digits."""
    return nv.load("digits").subset(slice(0, n))


def concrete() -> nv.Data:
    """The concrete data, standardised.

    Raises:
        Skip: If they are not there.
    """
    path = Path(os.environ.get("NOVACULA_DATA", "")) / "uci-concrete.npz"
    if not path.is_file():
        raise Skip("uci-concrete.npz is not in the folder NOVACULA_DATA")
    source = np.load(path)
    x, y = source["x"][:300], source["y"][:300]
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    return nv.Data(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32).unsqueeze(1))


def trained(target: nv.Target, data: nv.Data, steps: int = 40) -> dict[str, Tensor]:
    """Weights near a mode."""
    return nv.infer(nv.MAP(lr=0.03), target, data, steps=steps, batch_size=data.n, seed=0).mode


def leaves(target: nv.Target) -> tuple[nv.Target, dict[str, Tensor]]:
    """The target with all that can be learned as leaves that take gradients."""
    found = {k: v.detach().clone().requires_grad_() for k, v in target.learnable().items()}
    return target.with_learnable(found), found


def gradients(value: Tensor, found: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    """Gradients by name; None where there is none."""
    if not value.requires_grad:
        return dict.fromkeys(found)
    grads = torch.autograd.grad(value, list(found.values()), allow_unused=True)
    return dict(zip(found, grads, strict=True))


def or_refused(ask: Callable[[], Any]) -> Any:
    """An answer, or that it is refused."""
    try:
        return ask()
    except nv.InputError:
        return {"refused": True}


def posterior_facts(posterior: Any, x: Tensor | None = None, *, samples: int = 8) -> dict[str, Any]:
    """Mode, draws and predictions of a posterior."""
    found: dict[str, Any] = {"mode": posterior.mode, "draws": posterior.sample(5, rng(1))}
    if isinstance(posterior, nv.inference.Draws):
        found |= {"all": posterior.flat, "log_density": posterior.log_density}
        found |= {"diagnostics": posterior.diagnostics.to_dict()}
    if x is not None:
        predictive = nv.predict(posterior, x, samples=samples)
        found |= {"mean": predictive.mean(), "entropy": predictive.entropy()}
    return found
