"""The loop, checkpoints, Adam, MAP and the target density."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from scipy.stats import norm
from torch import nn

from novacula.core.errors import InputError, NonFiniteError
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.inference import infer
from novacula.inference.checkpoint import pack, unpack
from novacula.inference.loop import run
from novacula.inference.optimising.adam import adam_init, adam_step, cooldown, one_cycle
from novacula.inference.optimising.map import MAP
from novacula.invariances import Affine
from novacula.likelihoods import Categorical, Normal
from novacula.priors import Gaussian
from novacula.target import Copies, Target
from novacula.target.batch import Batch
from novacula.target.many import loss_and_gradient


def regression(n: int = 30) -> Data:
    rng = torch.Generator().manual_seed(2)
    x = torch.randn(n, 3, generator=rng, dtype=torch.float64)
    y = x @ torch.tensor([[1.0, -2.0], [0.5, 0.0], [3.0, 1.0]], dtype=torch.float64)
    return Data(x, y + 0.1 * torch.randn(n, 2, generator=rng, dtype=torch.float64))


def linear(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(3, 2).double()


def images(n: int = 24) -> tuple[Data, nn.Module]:
    rng = torch.Generator().manual_seed(3)
    x, y = torch.rand(n, 1, 6, 5, generator=rng), torch.arange(n) % 3
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(nn.Flatten(), nn.Linear(30, 7), nn.Tanh(), nn.Linear(7, 3))
    return Data(x, y), net


def test_log_density_is_the_full_data_sum_tempered_as_a_whole() -> None:
    data, net = regression(), linear()
    target = Target(net, likelihood=Normal(sigma=0.7), prior=Gaussian(precision=2.5), temperature=0.4)
    w = target.params()
    f = target.forward(w, data.x).numpy()
    expected = norm.logpdf(data.y.numpy(), f, 0.7).sum()
    expected += sum(norm.logpdf(v.numpy(), 0, 2.5**-0.5).sum() for v in w.values())
    got = target.log_density(w, data.x, data.y, data.n, generator(0))
    assert float(got) == pytest.approx(expected / 0.4, rel=1e-6)
    # A batch that holds every example twice stands for the same data.
    twice = target.log_density(w, torch.cat([data.x] * 2), torch.cat([data.y] * 2), data.n, generator(0))
    assert float(twice) == pytest.approx(float(got), rel=1e-12)


def test_learnable_tensors_are_named_and_replaced() -> None:
    _, net = images()
    target = Target(net, likelihood=Categorical(), invariance=Affine(only=("rotation", "scale")))
    found = target.learnable()
    assert list(found) == ["prior.log_precision", "invariance.eta"]
    assert found["prior.log_precision"].shape == (4,)
    changed = target.with_learnable({"invariance.eta": torch.tensor([0.7, 0.2])})
    assert changed.invariance is not None
    assert changed.invariance.describe()["rotation_degrees"] == pytest.approx(126.0)
    assert changed.forward is target.forward
    assert torch.equal(target.learnable()["invariance.eta"], torch.tensor([0.1, 0.1]))


def test_a_users_precision_receives_the_gradient() -> None:
    log_precision = torch.tensor(0.3, requires_grad=True)
    target = Target(linear(), likelihood=Normal(), prior=Gaussian(log_precision=log_precision))
    (grad,) = torch.autograd.grad(target.prior.log_prob(target.params()), log_precision)
    w2 = sum(float((w**2).sum()) for w in target.params().values())
    assert float(grad) == pytest.approx(8 / 2 - w2 / 2 * float(log_precision.detach().exp()), rel=1e-5)


def test_target_refuses_a_temperature_of_zero_and_no_copies() -> None:
    with pytest.raises(InputError, match="temperature"):
        Target(linear(), temperature=0.0)
    with pytest.raises(InputError, match="train as a whole number"):
        Copies(train=0)


def test_problem_repeats_its_batches_exactly() -> None:
    data, net = images()
    target = Target(net, invariance=Affine(), copies=Copies(evidence=3))
    problem = target.problem(target.params(), data, seed=4, chunk=7)
    first, second = list(problem.batches()), list(problem.batches())
    assert [len(y) for _, y in first] == [7, 7, 7, 3]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))
    assert first[0][0].shape == (7, 3, 1, 6, 5)


def test_adam_is_that_of_torch() -> None:
    rng = torch.Generator().manual_seed(0)
    w = {"a": torch.randn(3, 2, generator=rng), "b": torch.randn(4, generator=rng)}
    reference = {k: v.clone().requires_grad_() for k, v in w.items()}
    optimiser = torch.optim.Adam(reference.values(), lr=0.03)
    state = adam_init(w)
    for _ in range(5):
        grads = {k: torch.randn(v.shape, generator=rng) for k, v in w.items()}
        for k, v in reference.items():
            v.grad = grads[k].clone()
        optimiser.step()
        w, state = adam_step(w, grads, state, 0.03)
    assert all(torch.allclose(w[k], reference[k], atol=1e-6) for k in w)


def test_the_cooldown_is_a_trapezium() -> None:
    # Of area (.7 + .95 + a bit for the start at .04) / 2, and at its top between the twentieth and .7.
    values = torch.tensor([cooldown(i / 1_000) for i in range(1_001)], dtype=torch.float64)
    assert float(torch.trapezoid(values)) / 1_000 == pytest.approx(0.825 + 0.04 * 0.024, abs=2e-3)
    assert bool((values[50:701] == 1).all())
    assert values[[0, 850, 1_000]].tolist() == pytest.approx([0.04, 0.5, 1e-4])


def test_one_cycle_peaks_at_the_end_of_the_warmup() -> None:
    values = [one_cycle(i / 100) for i in range(101)]
    assert max(values) == values[25] == 1.0
    assert all(b > a for a, b in pairwise(values[:26]))
    assert all(b < a for a, b in pairwise(values[25:]))


def test_loss_and_gradient_agree_with_autograd_on_the_module() -> None:
    data, net = regression(), linear()
    target = Target(net, likelihood=Normal(sigma=0.5), prior=Gaussian(precision=3.0))
    batch = Batch(data.x[:10], data.y[:10], data.n, 0, 10)
    stacked = {k: w.unsqueeze(0) for k, w in target.params().items()}
    loss, grads = loss_and_gradient(target, stacked, batch, generator(0))
    f = net(data.x[:10])
    misfit = -torch.distributions.Normal(f, 0.5).log_prob(data.y[:10]).sum() / 10
    expected = misfit * 30 - sum(torch.distributions.Normal(0, 3**-0.5).log_prob(w).sum() for w in net.parameters())
    (expected / 30).backward()
    assert loss.tolist() == pytest.approx([float(misfit.detach())], rel=1e-6)
    assert all(torch.allclose(grads[k][0], w.grad, rtol=1e-6) for k, w in net.named_parameters())


def test_map_reaches_the_posterior_mode_of_linear_regression() -> None:
    data, net = regression(), linear()
    target = Target(net, likelihood=Normal(sigma=0.5), prior=Gaussian(precision=3.0))
    w = run(MAP(lr=0.05), target, data, epochs=1500, batch_size=30).state.params
    w = {k: v[0] for k, v in w.items()}
    design = torch.cat([data.x, torch.ones(30, 1, dtype=torch.float64)], 1)
    mode = torch.linalg.solve(design.T @ design / 0.25 + 3 * torch.eye(4), design.T @ data.y / 0.25)
    found = torch.cat([w["weight"].T, w["bias"][None]])
    assert torch.allclose(found, mode, atol=1e-5)


def test_a_resumed_run_is_bit_identical(tmp_path: Path) -> None:
    data, net = images()
    target = Target(net, invariance=Affine(), copies=Copies(train=2))

    class Stop(Exception):
        pass

    def interrupt(done: int, total: int, record: dict[str, float]) -> None:
        if done == 3:
            raise Stop

    whole = run(MAP(), target, data, epochs=5, batch_size=7, seed=3)
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stop):
        run(MAP(), target, data, epochs=5, batch_size=7, seed=3, checkpoint=path, progress=interrupt)
    resumed = run(MAP(), target, data, epochs=5, batch_size=7, seed=3, checkpoint=path, resume=True)
    assert all(torch.equal(w, resumed.state.params[k]) for k, w in whole.state.params.items())
    assert resumed.history == whole.history
    assert resumed.steps == whole.steps == 20


def test_the_order_of_batches_has_a_seed_of_its_own() -> None:
    """Without noise, the weights are a function of the order alone; with the order of a seed, they are that seed's."""
    data, target = regression(), Target(linear(), likelihood=Normal(sigma=0.3))
    runs = {
        (seed, order): infer(MAP(), target, data, epochs=2, batch_size=7, seed=seed, order=order).mode["weight"]
        for seed, order in ((0, None), (1, 0), (1, None), (1, 1))
    }
    assert torch.equal(runs[0, None], runs[1, 0])
    assert torch.equal(runs[1, None], runs[1, 1])
    assert not torch.equal(runs[0, None], runs[1, None])


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    data, net = images()
    target, path = Target(net), tmp_path / "checkpoint.safetensors"
    run(MAP(), target, data, epochs=1, seed=3, checkpoint=path)
    with pytest.raises(InputError, match="same run"):
        run(MAP(), target, data, epochs=1, seed=4, checkpoint=path, resume=True)
    path.write_bytes(b"garbage")
    with pytest.raises(InputError, match="readable"):
        run(MAP(), target, data, epochs=1, seed=3, checkpoint=path, resume=True)


def test_pack_and_unpack_nest() -> None:
    state = adam_init({"a": torch.ones(2)})
    tensors, plain = pack((state, {"x": 3}, 2.5))
    assert set(tensors) == {"state/0/m/a", "state/0/v/a"}
    again = unpack((state, {"x": 0}, 0.0), tensors, plain)
    assert again[1:] == ({"x": 3}, 2.5)


def test_the_loop_stops_at_non_finite_losses() -> None:
    data, net = regression(), linear()
    target = Target(net, likelihood=Normal(sigma=1.0))
    with pytest.raises(NonFiniteError, match="at step"):
        run(MAP(lr=1e200, schedule="constant"), target, data, epochs=20)


@pytest.mark.parametrize("options", [{}, {"epochs": 1, "steps": 1}, {"epochs": 0}, {"epochs": 1, "batch_size": 0}])
def test_the_loop_refuses_senseless_lengths(options: dict[str, int]) -> None:
    with pytest.raises(InputError):
        run(MAP(), Target(linear(), likelihood=Normal()), regression(), **options)


def test_steps_end_a_run_within_an_epoch() -> None:
    outcome = run(MAP(), Target(linear(), likelihood=Normal()), regression(), steps=7, batch_size=8)
    assert outcome.steps == 7
    assert [r["step"] for r in outcome.history] == [4, 7]


def test_methods_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        MAP().lr = 1.0  # type: ignore[misc]
