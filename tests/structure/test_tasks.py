"""Shared and private weights: each row by its own, copies that do not see each other, planted sharing."""

from __future__ import annotations

import copy
import pickle
import warnings
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import novacula as nv

F64 = torch.float64


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(18, 3)).double()


def drawn(network: nn.Module) -> nn.Module:
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for w in network.parameters():
            w.copy_(torch.randn(w.shape, generator=rng, dtype=F64))
    return network


def test_every_row_meets_the_sum_of_shared_and_its_own_weights() -> None:
    whole = drawn(nv.structure.share(network(), 3))
    x, task = torch.randn(7, 1, 5, 5, dtype=F64), torch.tensor([0, 2, 1, 1, 0, 2, 2])
    found, weights = whole(x, task), whole.state_dict()
    for row, t in enumerate(task.tolist()):
        alone = network()
        alone.load_state_dict(
            {
                f"{layer}.{kind}": weights[f"network.{layer}.shared.{kind}"]
                + weights[f"network.{layer}.private.{t}.{kind}"]
                for layer in (0, 3)
                for kind in ("weight", "bias")
            }
        )
        torch.testing.assert_close(found[row : row + 1], alone(x[row : row + 1]))


def test_all_tasks_begin_with_the_function_that_came_and_copies_are_apart() -> None:
    net = network()
    whole = nv.structure.share(net, 2)
    x, task = torch.randn(4, 1, 5, 5, dtype=F64), torch.tensor([0, 1, 1, 0])
    torch.testing.assert_close(whole(x, task), net(x), rtol=0, atol=0)
    drawn(whole)
    for other in (copy.deepcopy(whole), pickle.loads(pickle.dumps(whole))):
        torch.testing.assert_close(other(x, task), whole(x, task), rtol=0, atol=0)
        inner = {id(layer.which) for layer in other.modules() if hasattr(layer, "which")}
        assert len(inner) == 1
        assert inner != {id(whole.which)}
    with pytest.raises(nv.InputError):
        whole.get_submodule("network.0")(x)
    private = nv.structure.keep(whole, {"network.0": "private", "network.3": "shared"})
    assert sorted(nv.structure.parts(private)["network.3"]) == ["shared"]
    assert private(x, task).shape == (4, 3)


def test_what_does_not_fit_is_refused() -> None:
    for case in (lambda: nv.structure.share(network(), 1), lambda: nv.structure.share(nn.PReLU(), 2)):
        with pytest.raises(nv.InputError):
            case()


@pytest.mark.parametrize("shared", [True, False])
def test_planted_sharing_is_found(shared: bool) -> None:
    """Two tasks of one linear map or of two: 12 inputs, 8 outputs, 60 examples each."""
    rng = torch.Generator().manual_seed(4)

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng)

    x, task = randn(120, 12), torch.arange(120) % 2
    maps = [randn(12, 8) / 3] * 2 if shared else [randn(12, 8) / 3, randn(12, 8) / 3]
    y = torch.stack([row @ maps[t] for row, t in zip(x, task.tolist(), strict=True)]) + 0.2 * randn(120, 8)
    target = nv.Target(nv.structure.share(nn.Linear(12, 8), 2), nv.Normal(sigma=0.2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = nv.Data({"x": x, "task": task}, y)
        found = nv.study.relaxation(target, data, steps=60, rounds=3, lr=0.03, subset=120)
    assert found.share("shared" if shared else "private") > 0.9
    assert all(a.layer == b.layer for a, b in pairwise(found.trials))
