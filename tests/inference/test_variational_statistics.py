"""Variational methods of networks that keep statistics of the batches: gradients, statistics, what draws predict."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.inference import IVON, MAP, Dropout, MeanField, infer
from novacula.inference.method import Start
from novacula.prediction import predict
from novacula.priors import Gaussian, StudentT
from novacula.target import Target
from novacula.target.batch import Batch
from novacula.target.training import misfit_gradient


def normed(dtype: torch.dtype = torch.float64, *, noisy: bool = False) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        layers = [nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), *([nn.Dropout(0.3)] if noisy else []), nn.Linear(6, 2)]
        return nn.Sequential(*layers).to(dtype)


def task(n: int = 120, dtype: torch.dtype = torch.float64) -> Data:
    x = 5 + 3 * torch.randn(n, 3, generator=generator(1), dtype=dtype)  # far from the statistics of a fresh network
    return Data(x, (x[:, 0] > x[:, 1]).long())


@pytest.mark.parametrize("noisy", [False, True])
def test_the_misfit_of_a_batch_has_the_gradient_of_finite_differences(noisy: bool) -> None:
    target, data = Target(normed(noisy=noisy)), task(9)
    rng = generator(3)
    own = {k: w + 0.1 * torch.randn(w.shape, generator=rng, dtype=w.dtype) for k, w in target.params().items()}
    w = {k: torch.stack([v, 1.3 * v]) for k, v in own.items()}
    names = target.forward.trains(data.x).moving
    held = {k: b.expand(2, *b.shape) for k, b in target.forward.module.named_buffers() if k in names}

    def misfit(params: Params) -> Tensor:
        return misfit_gradient(target, params, held, data.x.unsqueeze(1), data.y, 7)[0]

    losses, grads, moved = misfit_gradient(target, w, held, data.x.unsqueeze(1), data.y, 7)
    torch.testing.assert_close(losses, misfit(w))
    for k, g in grads.items():
        step = 1e-6 * torch.randn(w[k].shape, generator=rng, dtype=torch.float64)
        slope = misfit({**w, k: w[k] + step}) - misfit({**w, k: w[k] - step})
        torch.testing.assert_close(slope / 2, (g * step).flatten(1).sum(1), rtol=1e-5, atol=1e-12)
    # The running mean moves a tenth of the way to the batch's.
    h = data.x @ w["0.weight"][1].T + w["0.bias"][1]
    torch.testing.assert_close(moved["1.running_mean"][1], 0.1 * h.mean(0))


@pytest.mark.parametrize("prior", [Gaussian(2.0), StudentT()])
def test_the_bound_of_mean_field_has_the_gradient_of_finite_differences(prior: Gaussian | StudentT) -> None:
    target, data = Target(normed(), prior=prior, temperature=0.7), task(12)
    method, batch = MeanField(samples=4, init_sd=0.1), Batch(data.x, data.y, 50, 0, 10)
    start = Start({k: torch.stack([w, -w]) for k, w in target.params().items()}, 10)
    state = method.init(target, data, generator(2), start)

    def bound(state: object) -> tuple[Tensor, Params]:
        _, elbo, grads, _ = method.gradient(target, state, batch, generator(5))  # type: ignore[arg-type]
        return elbo, grads

    _, grads = bound(state)
    rng = generator(6)
    for part in ("mean", "log_sd"):
        for k, w in getattr(state, part).items():
            step = 1e-5 * torch.randn(w.shape, generator=rng, dtype=torch.float64)
            ahead, behind = (
                bound(replace(state, **{part: {**getattr(state, part), k: w + s}}))[0] for s in (step, -step)
            )
            slope = (grads[f"{part[0] if part == 'mean' else 's'}:{k}"] * step).flatten(1).sum(1)
            torch.testing.assert_close((ahead - behind) / -100, slope, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("method", [IVON(), MeanField()], ids=["ivon", "mean-field"])
def test_statistics_follow_and_draws_have_their_own(method: IVON | MeanField) -> None:
    """Of fresh networks, whose statistics are far from the data's: as good as MAP, or nearly, by two chains."""
    data, new = task(dtype=torch.float32), task(400, dtype=torch.float32)
    target = Target(normed(torch.float32), prior=Gaussian(1.0))
    posterior = infer(method, target, data, steps=400, batch_size=30, chains=2, seed=0)
    assert not any("stayed as the network had them" in w for w in posterior.warnings)
    point = infer(MAP(), target, data, steps=300, batch_size=30, seed=0)
    loss = -float(predict(posterior, new.x, samples=20, seed=1).log_prob(new.y).mean())
    assert loss < -float(predict(point, new.x, seed=1).log_prob(new.y).mean()) + 0.05
    assert loss < 0.2  # ln 2 of a guess
    mode = posterior.parts[1].mode
    h = data.x @ mode["0.weight"].T + mode["0.bias"]
    torch.testing.assert_close(mode["1.running_mean"], h.mean(0), rtol=1e-3, atol=1e-3)
    draws = posterior.sample(4, generator(0))
    for i in range(4):
        h = data.x @ draws["0.weight"][i].T + draws["0.bias"][i]
        torch.testing.assert_close(draws["1.running_mean"][i], h.mean(0), rtol=1e-3, atol=1e-3)


def test_a_run_goes_on_with_the_statistics_that_it_had(tmp_path: object) -> None:
    data, target = task(dtype=torch.float32), Target(normed(torch.float32))
    file = tmp_path / "run.safetensors"  # type: ignore[operator]
    options = {"steps": 20, "batch_size": 30, "seed": 0}
    for method in (IVON(), MeanField()):
        whole = infer(method, target, data, **options)
        infer(method, target, data, checkpoint=file, **options)
        again = infer(method, target, data, checkpoint=file, resume=True, **options)
        for k, w in whole.mode.items():
            assert torch.equal(w, again.mode[k])
        file.unlink()


def test_dropout_trains_with_the_statistics_of_thinned_networks() -> None:
    data, new = task(dtype=torch.float32), task(400, dtype=torch.float32)
    target = Target(normed(torch.float32, noisy=True), prior=Gaussian(1.0))
    posterior = infer(Dropout(), target, data, steps=400, batch_size=30, chains=2, seed=0)
    assert not any("stayed as the network had them" in w for w in posterior.warnings)
    assert -float(predict(posterior, new.x, samples=30, seed=1).log_prob(new.y).mean()) < 0.3  # ln 2 of a guess
    for part in posterior.parts:
        h = data.x @ part.mode["0.weight"].T + part.mode["0.bias"]
        # Averages over the last tens of batches of 30: a few hundredths of the spread.
        assert float(((part.mode["1.running_mean"] - h.mean(0)) / h.std(0)).abs().max()) < 0.3
        drawn = part.sample(3, generator(0))
        assert torch.equal(drawn["1.running_mean"][2], part.mode["1.running_mean"])
        assert not torch.equal(drawn["3.mask"][0], drawn["3.mask"][1])


def test_the_step_of_dropout_is_that_of_a_plain_module_in_train_mode() -> None:
    """One step of Adam at rate lr moves each weight by lr times the sign of its gradient: that of plain autograd."""
    target, data = Target(normed(noisy=True), prior=Gaussian(1e-9)), task(16)
    method = Dropout(lr=1e-3, schedule="constant")
    state = method.init(target, data, generator(2), Start({k: w.unsqueeze(0) for k, w in target.params().items()}, 10))
    batch = Batch(data.x, data.y, 16, 0, 10)
    after, info = method.step(target, state, batch, generator(5))
    target.warp(data.x, 1, rng := generator(5))
    mask = state.masks.draw(16, data.x, rng)["3.mask"]
    net = normed().train()
    f = net[3](net[2](net[1](net[0](data.x))) * mask.flatten(1))
    loss = nn.functional.cross_entropy(f, data.y)
    loss.backward()
    assert info.loss == pytest.approx(float(loss.detach()), rel=1e-9)
    slopes = {"0.weight": net[0].weight.grad, "1.weight": net[1].weight.grad, "4.weight": net[3].weight.grad}
    for k, g in slopes.items():
        assert g is not None
        sure = g.abs() > 1e-6
        moved = (after.params[k][0] - state.params[k][0])[sure]
        torch.testing.assert_close(moved, -1e-3 * g[sure].sign(), rtol=1e-2, atol=0)
    torch.testing.assert_close(after.statistics["1.running_mean"][0], net[1].running_mean)
