"""Influence of training examples: closed forms, leaving one out in earnest, structures that agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import novacula as nv
from novacula import InputError
from novacula.paths import influence


def measurements(n: int = 25) -> nv.Data:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=rng).double()
    return nv.Data(x, x @ torch.randn(3, 2, generator=rng).double() + 0.3 * torch.randn(n, 2, generator=rng).double())


def ridge(x: torch.Tensor, y: torch.Tensor, precision: float, sigma: float) -> dict[str, torch.Tensor]:
    """The mode of a linear network without bias."""
    gram = x.T @ x / sigma**2 + precision * torch.eye(3).double()
    return {"weight": (torch.linalg.inv(gram) @ x.T @ y / sigma**2).T.contiguous()}


@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_of_squares_the_weights_move_as_retrained_ones_do(temperature: float) -> None:
    """The loss is a parabola: its change to first order in the weights is exact in them, for every example left out."""
    data, sigma, precision = measurements(), 0.5, 2.0
    prior = nv.Gaussian(precision=precision)
    net = nn.Linear(3, 2, bias=False).double()
    target = nv.Target(net, nv.Normal(sigma=sigma), prior, likelihood_temperature=temperature)
    x, y, noise = data.x, data.y, sigma * temperature**0.5
    mode = ridge(x, y, precision, noise)
    asked = measurements(4)
    found = influence(target, data, mode, asked, structure="exact")
    slope = -(asked.y - asked.x @ mode["weight"].T)[:, :, None] * asked.x[:, None] / sigma**2  # (M, 2, 3)
    for n in range(data.n):
        left = torch.arange(data.n) != n
        moved = ridge(x[left], y[left], precision, noise)["weight"] - mode["weight"]
        torch.testing.assert_close(found.values[:, n], (slope * moved).sum((1, 2)), rtol=1e-8, atol=1e-12)


def fit(net: nn.Module, data: nv.Data, weights: torch.Tensor, precision: float) -> None:
    """The mode of the weighted examples, by L-BFGS to the end."""
    options = {"max_iter": 300, "tolerance_grad": 1e-10, "tolerance_change": 1e-14, "line_search_fn": "strong_wolfe"}
    optimiser = torch.optim.LBFGS(net.parameters(), **options)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = weights @ nn.functional.cross_entropy(net(data.x), data.y, reduction="none")
        loss = loss + precision / 2 * sum(w.square().sum() for w in net.parameters())
        loss.backward()
        return loss

    optimiser.step(closure)


def test_leaving_one_out_of_a_convex_model() -> None:
    """Softmax regression of 3 classes, 40 examples, retrained without each: correlations, and the slope, near one."""
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(55, 4, generator=rng).double()
    labels = (x[:, :3] + torch.randn(55, 3, generator=rng).double()).argmax(1)
    train, asked = nv.Data(x[:40], labels[:40]), nv.Data(x[40:], labels[40:])
    net = nn.Linear(4, 3).double()
    fit(net, train, torch.ones(40).double(), 0.5)
    mode = {k: w.clone() for k, w in net.state_dict().items()}
    target = nv.Target(net, prior=nv.Gaussian(precision=0.5))

    def losses() -> torch.Tensor:
        return nn.functional.cross_entropy(net(asked.x), asked.y, reduction="none").detach()

    before, truth = losses(), []
    for n in range(40):
        net.load_state_dict(mode)
        fit(net, train, (torch.arange(40) != n).double(), 0.5)
        truth.append(losses() - before)
    net.load_state_dict(mode)
    wanted = torch.stack(truth, 1).numpy()
    for structure, least in (("exact", 0.97), ("kron", 0.85)):
        found = influence(target, train, None, asked, structure=structure).values.numpy()
        assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > least
    exact = influence(target, train, None, asked, structure="exact").values.numpy()
    assert (exact * wanted).sum() / (exact**2).sum() == pytest.approx(1, abs=0.1)


def test_structures_that_hold_the_same_matrix_agree() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    data = measurements()
    target = nv.Target(net, nv.Normal(sigma=0.4))
    exact = influence(target, data, None, data, structure="exact")
    free = influence(target, data, None, data, structure="matrix_free")
    assert exact.corrected
    assert free.corrected
    assert float((exact.values - free.values).abs().max()) < 0.01 * float(exact.values.abs().max())
    helps, harms = exact.most(3, 2)
    assert exact.values[3, helps[0]] == exact.values[3].max()
    assert exact.values[3, harms[0]] == exact.values[3].min()


def test_bad_input_is_refused() -> None:
    data, net = measurements(), nn.Linear(3, 2).double()
    target = nv.Target(net, nv.Normal(sigma=0.4))
    with pytest.raises(InputError, match="structure"):
        influence(target, data, None, data, structure="guess")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="weights of the network"):
        influence(target, data, {"weight": torch.zeros(1)}, data)
    with pytest.raises(InputError, match="finite weights"):
        influence(target, data, {k: w * float("nan") for k, w in net.state_dict().items()}, data)
    with pytest.raises(InputError, match="an example that was asked"):
        influence(target, data, None, data, structure="exact").most(99)
