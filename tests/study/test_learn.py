"""Learning a prior from the training data alone, end to end, on small problems with known answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.storage.run import Run
from novacula.data.data import Data
from novacula.evidence import Laplace
from novacula.invariances import Custom
from novacula.likelihoods import Categorical, Normal
from novacula.prediction import predict
from novacula.priors import Gaussian
from novacula.study import EmpiricalBayes, compare, learn
from novacula.target import Copies, Target


def small(width: int, outputs: int, inputs: int = 3, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, outputs))


def linear_data(n: int = 200, noise: float = 0.3) -> Data:
    rng = torch.Generator().manual_seed(4)
    x = torch.randn(n, 3, generator=rng)
    return Data(x, x @ torch.tensor([[1.0], [-0.5], [2.0]]) + noise * torch.randn(n, 1, generator=rng))


def signed_data(n: int = 160) -> Data:
    # Classes depend on |x₀| alone: the sign of x₀ is noise.
    rng = torch.Generator().manual_seed(5)
    x = 2 * torch.rand(n, 2, generator=rng) - 1
    return Data(x, (x[:, 0].abs() > 0.5).long())


def test_learned_noise_is_that_of_the_data() -> None:
    """The noise of 200 points has a relative standard error of 5 %; 20 % is four of them (false alarms < 1e-4)."""
    data = linear_data(noise=0.3)
    target = Target(nn.Linear(3, 1), likelihood=Normal(sigma=1.0), prior=Gaussian(precision=1.0))
    fit = learn(target, data, epochs=60, batch_size=50)
    assert float(fit.target.learnable()["likelihood.log_sigma"].exp()) == pytest.approx(0.3, rel=0.2)
    assert fit.evidence.kind == "exact"
    assert float(fit.evidence) > float(Laplace(structure="exact")(target, data, fit.params, seed=0))


@pytest.mark.parametrize("lr", [0.02, 0.05])
def test_a_symmetry_of_the_data_is_found_and_what_matters_is_kept(lr: float) -> None:
    """Classes depend on the radius alone: any turn is admissible, and no change of the radius.

    The network learns at two paces; at the slower one it takes a third of the run to learn anything.
    """
    rng = torch.Generator().manual_seed(5)
    radius, angle = torch.rand(160, generator=rng), (2 * torch.rand(160, generator=rng) - 1) * torch.pi
    data = Data(radius.unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], 1), (radius > 0.6).long())

    def move(x: torch.Tensor, noise: torch.Tensor, eta: torch.Tensor) -> torch.Tensor:
        turn, factor = torch.pi * eta[0] * noise[:, 0], (eta[1] * noise[:, 1]).exp()
        c, s = factor * turn.cos(), factor * turn.sin()
        return torch.stack([c * x[:, 0] - s * x[:, 1], s * x[:, 0] + c * x[:, 1]], 1)

    invariance = Custom(move, eta=torch.tensor([0.1, 0.3]), noise_shape=(2,), names=("turn", "factor"), limits=(-1, 1))
    target = Target(small(12, 2, inputs=2), likelihood=Categorical(), invariance=invariance)
    fit = learn(target, data, epochs=48, lr=lr, seed=1, folds=0, structures=("last_layer",))
    assert fit.target.invariance is not None
    turn, factor = fit.target.invariance.eta.abs().tolist()
    assert turn > 0.7
    assert factor < 0.15
    assert [r["epoch"] for r in fit.history] == list(range(1, 49))


def test_learning_changes_nothing_of_the_users() -> None:
    net, data = small(5, 2, inputs=2), signed_data(40)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    target = Target(net)
    hyper = {k: v.clone() for k, v in target.learnable().items()}
    state = torch.get_rng_state()
    fit = learn(target, data, epochs=2)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(torch.equal(v, hyper[k]) for k, v in target.learnable().items())
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(fit.target.learnable()["prior.log_precision"], hyper["prior.log_precision"])


def test_the_same_seed_gives_the_same_result_and_a_resumed_run_too(tmp_path: Path) -> None:
    data, target = signed_data(60), Target(small(5, 2, inputs=2))

    class Stop(Exception):
        pass

    def interrupt(done: int, total: int, record: dict[str, float]) -> None:
        if done == 2:
            raise Stop

    whole, again = learn(target, data, epochs=4, seed=7), learn(target, data, epochs=4, seed=7)
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stop):
        learn(target, data, epochs=4, seed=7, checkpoint=path, progress=interrupt)
    resumed = learn(target, data, epochs=4, seed=7, checkpoint=path, resume=True)
    for other in (again, resumed):
        assert all(torch.equal(w, other.params[k]) for k, w in whole.params.items())
        assert float(other.evidence) == float(whole.evidence)
        assert other.history == whole.history


def test_a_saved_run_holds_what_was_learned(tmp_path: Path) -> None:
    train, test = signed_data(80).split(60)
    fit = learn(Target(small(5, 2, inputs=2)), train, epochs=2)
    record = fit.save(tmp_path / "run", test=test, command="a command")
    run = Run.read(tmp_path / "run")
    assert run.record == record
    assert run.record["data"]["n_train"] == 60
    assert run.record["evidence"]["value"] == pytest.approx(float(fit.evidence))
    assert set(run.record["prior"]["precision"]) == set(fit.params)
    saved = run.weights()
    assert all((saved[f"weights/{k}"] == w.numpy()).all() for k, w in fit.params.items())
    mean = predict(fit.point, test.x).mean()
    assert run.record["map_test"]["accuracy"] == pytest.approx(float((mean.argmax(1) == test.y).double().mean()))


def test_kinks_are_mentioned() -> None:
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    fit = learn(Target(net), signed_data(40), epochs=1)
    assert any("ReLU" in w for w in fit.warnings)


def test_labels_that_do_not_fit_are_refused_before_training() -> None:
    data = Data(torch.zeros(6, 2), torch.tensor([0, 1, 2, 0, 1, 2]))
    with pytest.raises(InputError, match="label"):
        learn(Target(small(4, 2, inputs=2)), data, epochs=1)


def test_models_are_compared_by_both_scores() -> None:
    data = signed_data(100)
    models = {str(w): Target(small(w, 2, inputs=2), copies=Copies(evidence=1)) for w in (2, 8)}
    found = compare(models, data, epochs=3)
    assert [e.name for e in found.entries] == ["2", "8"]
    assert found.best().name in models
    assert "| 8 | 42 |" in found.table()
    with pytest.raises(InputError, match="model"):
        compare({}, data)


def test_hyperparameters_that_are_not_to_be_learned_stay() -> None:
    method = EmpiricalBayes(learn=("prior",))
    target = Target(nn.Linear(3, 1), likelihood=Normal(sigma=0.5))
    fit = learn(target, linear_data(40), epochs=2, method=method)
    assert float(fit.target.learnable()["likelihood.log_sigma"].exp()) == pytest.approx(0.5)


def test_many_classes_that_look_like_measurements_are_classes_to_a_likelihood_of_classes() -> None:
    data = nv.Data(torch.randn(400, 3, generator=torch.Generator().manual_seed(0)), torch.arange(400) % 200)
    fit = nv.learn(nv.Target(torch.nn.Linear(3, 200)), data, epochs=1, folds=0)
    assert nv.predict(fit.posterior, data.x[:2]).mean().shape == (2, 200)
