"""The log-density of all data over flat positions, recorded: against plain autograd, row by row."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from densities import Series, case, close
from novacula.core.errors import NovaculaWarning
from novacula.core.params import Params, flatten, stack, unflatten
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.inference.starts import starts
from novacula.invariances import Affine
from novacula.likelihoods import Likelihood, Normal
from novacula.priors import FanIn, Gaussian, Laplace, Prior, StudentT
from novacula.priors.scales import flat_precision
from novacula.target import Copies, LogDensity, Target
from novacula.target import flat as density
from novacula.target.flat import FlatDensity, flat_density


class Branches(nn.Module):
    """Whether an output is doubled depends on the weights' values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        f = self.layer(x)
        return 2 * f if float(self.layer.weight.detach().sum()) > 0 else f


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def prepared(
    network: nn.Module, likelihood: Likelihood | None = None, prior: Prior | None = None, **options: float
) -> tuple[Target, Data]:
    target, x, y = case(network, likelihood, prior, n=23, **options)
    return target.prepare(Data(x, y))


def positions(target: Target, rows: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    size = flatten(target.params()).numel()
    return 0.6 * torch.randn(rows, size, generator=rng, dtype=torch.float64)


def naive(target: Target, data: Data, q: Tensor) -> tuple[Tensor, Tensor]:
    """Row by row, from the target's own log-density of the whole set."""
    values, gradients = [], []
    for row in q:
        leaf = row.detach().requires_grad_()
        w = unflatten(leaf, target.params())
        value = target.log_density(w, data.x, data.y, data.n, generator(0))
        values.append(value.detach())
        gradients.append(torch.autograd.grad(value, leaf)[0])
    return torch.stack(values), torch.stack(gradients)


def recorded(full: FlatDensity) -> bool:
    return all(f.__qualname__.startswith("_without_grad") for f in full.functions.values())


@pytest.mark.parametrize(
    "target_and_data",
    [
        prepared(mlp()),
        prepared(mlp(), prior=FanIn(1.3, 0.4), temperature=0.3, likelihood_temperature=2.5),
        prepared(mlp(), prior=Laplace(0.8), likelihood=Normal(0.6, per_output=True), likelihood_temperature=0.7),
        prepared(nn.Sequential(nn.Linear(4, 7, bias=False), nn.Tanh(), nn.Linear(7, 3)), prior=StudentT()),
    ],
    ids=["relu", "tempered", "laplace", "student"],
)
def test_recorded_values_and_gradients_are_those_of_the_target(target_and_data: tuple[Target, Data]) -> None:
    target, data = target_and_data
    full = flat_density(target, data, target.params(), generator(0))
    for rows, seed in ((1, 0), (3, 1), (3, 2), (1, 3)):
        q = positions(target, rows, seed) * (1 + seed)
        assert close(full(q), naive(target, data, q))
    assert recorded(full)
    assert len(full.functions) == 2


def test_values_keep_the_precision_of_the_prior_in_single_precision() -> None:
    target, data = prepared(mlp())
    narrow, little = Target(mlp(), prior=Gaussian(precision=1.7)).prepare(Data(data.x.float(), data.y))
    q = positions(target, 2)
    value, gradient = flat_density(narrow, little, narrow.params(), generator(0))(q.float())
    expected = naive(target, data, q.float().double())
    assert value.dtype == torch.float64
    assert gradient.dtype == torch.float32
    assert torch.allclose(value, expected[0], rtol=1e-6)
    assert torch.allclose(gradient.double(), expected[1], rtol=1e-4, atol=1e-4)


def test_rows_do_not_depend_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    target, data = prepared(mlp())
    monkeypatch.setattr(density, "chunk_of", lambda params, rows=1: min(4, next(iter(params.values())).shape[0]))
    full = flat_density(target, data, target.params(), generator(0))
    q = positions(target, 11)
    expected = naive(target, data, q)
    assert close(full(q), expected)  # 4, 4 and 3 rows
    assert close(full(q[:9]), (expected[0][:9], expected[1][:9]))  # 4, 4 and 1
    assert {key[1][0] for key in full.functions} == {4, 3, 1}  # type: ignore[index]
    broken = q.clone()
    broken[1, 3], broken[6, 0] = torch.nan, torch.inf
    value, gradient = full(broken)
    kept = [i for i in range(11) if i not in {1, 6}]
    assert close((value[kept], gradient[kept]), (expected[0][kept], expected[1][kept]))
    assert not torch.isfinite(value[[1, 6]]).any()


def test_sizes_of_chunks_are_few_and_at_most_half_as_large_again() -> None:
    sizes = [density._rounded(n) for n in range(1, 200)]
    assert all(n <= size <= 1.5 * n for n, size in enumerate(sizes, 1))
    assert sorted(set(sizes)) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]


def test_data_in_parts_are_the_same_data(monkeypatch: pytest.MonkeyPatch) -> None:
    target, data = prepared(mlp(), likelihood_temperature=1.5)
    monkeypatch.setattr(density, "_AT_ONCE", 6)
    full = flat_density(target, data, target.params(), generator(0))
    assert [len(y) for _, y in full.parts] == [6, 6, 6, 5]
    for seed in (0, 1):
        q = positions(target, 2, seed)
        assert close(full(q), naive(target, data, q))
    # The first part, which counts the prior; those like it; the last one.
    assert len(full.functions) == 3
    assert recorded(full)


def test_an_invariance_is_drawn_once() -> None:
    rng = torch.Generator().manual_seed(1)
    data = Data(torch.rand(7, 1, 5, 4, generator=rng, dtype=torch.float64), torch.arange(7) % 2)
    net = nn.Sequential(nn.Flatten(), nn.Linear(20, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    target, data = Target(net, invariance=Affine(), copies=Copies(train=3)).prepare(data)
    full = flat_density(target, data, target.params(), generator(5))
    q = positions(target, 2)
    expected = []
    for row in q:
        w = unflatten(row, target.params())
        warped = target.warp(data.x, 3, generator(5))
        f = torch.stack([target.forward(w, warped[:, s]) for s in range(3)]).mean(0)
        expected.append(f.log_softmax(1)[torch.arange(7), data.y].sum() + target.prior.log_prob(w))
    assert torch.allclose(full(q)[0], torch.stack(expected).detach(), rtol=1e-9)
    assert torch.equal(full(q)[0], full(q)[0])


@pytest.mark.parametrize("network", [Series(), Branches()], ids=["lstm", "branches"])
def test_what_vmap_or_the_recording_does_not_cover_is_looped_over(network: nn.Module) -> None:
    target, data = prepared(network)
    full = flat_density(target, data, target.params(), generator(0))
    with pytest.warns(NovaculaWarning, match=f"vmap does not cover {type(network).__name__}") as said:
        assert close(full(positions(target, 3, 0)), naive(target, data, positions(target, 3, 0)))
    for rows, seed in ((3, 1), (1, 2), (2, 3)):
        q = positions(target, rows, seed)
        assert close(full(q), naive(target, data, q))
    assert len(said) == 1
    assert target.notes.looped


def test_a_plain_density_has_its_closed_form() -> None:
    mean, scale = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64), torch.tensor([1.0, 0.2], dtype=torch.float64)

    def log_density(w: Params) -> Tensor:
        return -0.5 * ((w["a"] - mean).square().sum() + (w["b"] / scale).square().sum())

    target = LogDensity(log_density, {"a": torch.zeros(1, 3).double(), "b": torch.zeros(2).double()})
    full = flat_density(target, None, target.params(), generator(0))
    for rows, seed in ((1, 0), (6, 1), (6, 2)):
        q = torch.randn(rows, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        gap = torch.cat([(q[:, :3] - mean), q[:, 3:] / scale], 1)
        slope = -torch.cat([gap[:, :3], gap[:, 3:] / scale], 1)
        assert close(full(q), (-0.5 * gap.square().sum(1), slope))
    assert recorded(full)


def test_a_density_that_branches_on_its_argument_is_evaluated_as_it_is() -> None:
    def log_density(w: Params) -> Tensor:
        return -(w["a"] ** 2).sum() if float(w["a"].detach().sum()) > 0 else -(w["a"] ** 4).sum()

    target = LogDensity(log_density, {"a": torch.zeros(2).double()})
    full = flat_density(target, None, target.params(), generator(0))
    q = torch.tensor([[1.0, 2.0], [-1.0, -2.0], [3.0, 1.0]], dtype=torch.float64)
    expected = (
        torch.tensor([-5.0, -17.0, -10.0], dtype=torch.float64),
        torch.tensor([[-2.0, -4.0], [4.0, 32.0], [-6.0, -2.0]], dtype=torch.float64),
    )
    with pytest.warns(NovaculaWarning, match="vmap does not cover log_density"):
        assert close(full(q), expected)
    assert close(full(q[:1]), (expected[0][:1], expected[1][:1]))
    assert close(full(q[1:2]), (expected[0][1:2], expected[1][1:2]))


def test_members_that_start_together_are_evaluated_as_dictionaries_are() -> None:
    target, data = prepared(mlp())
    params = starts(target, 3, 0)
    value, _ = flat_density(target, data, target.params(), generator(0))(flatten(params, batch_dims=1))
    each = [
        target.log_density({k: w[i] for k, w in params.items()}, data.x, data.y, data.n, generator(0)) for i in range(3)
    ]
    assert torch.allclose(value, torch.stack(each), rtol=1e-10)


def decays(prior: Prior, like: Params) -> bool:
    """Whether a prior's gradient is ``−λ w`` with the λ that it states, near its centre and far out."""
    rng = torch.Generator().manual_seed(0)
    flat = flat_precision(prior.precision(like), like)
    for scale in (1.0, 40.0):
        noise = {k: torch.randn(w.shape, generator=rng, dtype=torch.float64).to(w) for k, w in like.items()}
        leaves = {k: (scale * noise[k] / p.sqrt()).requires_grad_() for k, p in prior.precision(like).items()}
        found = torch.autograd.grad(prior.log_prob(leaves), list(leaves.values()))
        point, slope = flatten(leaves).detach(), flatten(dict(zip(leaves, found, strict=True)))
        same = torch.equal(flat_precision(prior.precision(leaves), leaves), flat)
        tolerance = torch.finfo(point.dtype).eps ** 0.75
        if not same or not torch.allclose(slope, -flat * point, rtol=tolerance, atol=0):
            return False
    return True


def test_priors_that_decay_say_so_and_no_others() -> None:
    like = {"w": torch.zeros(3, 2), "b": torch.zeros(3)}
    for prior, rates in ((Gaussian(2.5), (2.5, 2.5)), (FanIn(0.5, 2.0), (8.0, 0.25))):
        bound = prior.bind(like)
        assert bound.gaussian
        assert decays(bound, like)
        found = flat_precision(bound.precision(like), like)
        assert found.tolist() == pytest.approx([rates[0]] * 6 + [rates[1]] * 3)
    for prior in (Laplace(0.8), StudentT()):
        assert not prior.gaussian
        assert not decays(prior.bind(like), like)
    double = stack([{k: w.double() for k, w in like.items()}])
    assert decays(Gaussian(1e-6).bind(double), double)
