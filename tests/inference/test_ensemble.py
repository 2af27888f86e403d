"""Members side by side: their starts, ensembles, mixtures, and the predictions they make."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.inference import MAP, SGLD, Draws, Ensemble, Laplace, Mixture, Point, infer
from novacula.inference.loop import run
from novacula.inference.starts import initial_weights, starts
from novacula.likelihoods import Normal
from novacula.posteriors.mixture import mixture
from novacula.prediction import predict
from novacula.priors import Gaussian
from novacula.target import LogDensity, Target


def problem(n: int = 40) -> tuple[Target, Data]:
    rng = generator(3)
    x = torch.randn(n, 3, generator=rng, dtype=torch.float64)
    y = ((x[:, 0] - x[:, 1] * x[:, 2]) > 0).long() + (x[:, 1] > 1).long()
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    return Target(net, prior=Gaussian(2.0)), Data(x, y)


def one(params: Params, i: int) -> Params:
    return {k: w[i : i + 1] for k, w in params.items()}


def test_starts_are_the_network_and_fresh_draws_of_its_own_initialisation() -> None:
    target, _ = problem()
    before = torch.random.get_rng_state()
    first = starts(target, 200, 5)
    assert torch.equal(torch.random.get_rng_state(), before)
    own = target.params()
    assert all(torch.equal(first[k][0], own[k]) for k in own)
    # nn.Linear: uniform in ±1/√fan_in. The largest of 199·15 draws is within .1 % of the bound but for e⁻³.
    for name, fan in (("0.weight", 3), ("2.bias", 5)):
        values = first[name][1:]
        assert float(values.abs().max()) <= fan**-0.5
        assert float(values.abs().max()) > 0.98 * fan**-0.5
        assert float(values.std()) == pytest.approx(fan**-0.5 / math.sqrt(3), rel=0.05)
    assert not torch.equal(first["0.weight"][1], first["0.weight"][2])
    again = starts(target, 3, 5)
    assert all(torch.equal(again[k], first[k][:3]) for k in own)


def test_members_of_an_ensemble_that_does_not_say_where_start_where_the_run_says() -> None:
    target, data = problem()

    def weights(method: Ensemble, **where: str) -> Tensor:
        posterior = infer(method, target, data, steps=1, seed=2, **where)  # type: ignore[arg-type]
        return torch.stack([part.mode["0.weight"] for part in posterior.parts])

    still = MAP(lr=1e-12)
    for where in ("near", "fresh"):
        told = weights(Ensemble(still, members=3, start=where))
        assert torch.equal(weights(Ensemble(still, members=3), others=where), told)
    other = weights(Ensemble(still, members=3, start="near"), others="fresh")
    assert torch.equal(other, weights(Ensemble(still, members=3, start="near")))
    assert not torch.equal(other, told)


def test_a_parameter_without_an_initialisation_is_named() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.slope = nn.Linear(3, 2), nn.Parameter(torch.tensor(2.0))

        def forward(self, x: Tensor) -> Tensor:
            return self.slope * self.body(x)

    with pytest.warns(NovaculaWarning, match="share the first values of slope"):
        found = initial_weights(Target(Scaled()), 2, 0)
    assert [float(w["slope"]) for w in found] == [2.0, 2.0]
    with pytest.warns(NovaculaWarning, match="or start near them"):
        first = starts(Target(Scaled()), 4, 0)["slope"]
    # Members of a network that nothing draws must differ, too. False alarm: 8 standard deviations.
    assert first.unique().numel() == 4
    assert float((first - 2).abs().max()) < 8 * 0.02 * 2


def test_attention_initialises_its_own_projections() -> None:
    found = initial_weights(Target(nn.TransformerEncoderLayer(4, 2, dim_feedforward=5, dropout=0.0)), 2, 0)
    assert not torch.equal(found[0]["self_attn.in_proj_weight"], found[1]["self_attn.in_proj_weight"])


def test_chains_of_a_plain_density_start_where_it_is_finite() -> None:
    def log_density(w: Params) -> Tensor:
        return torch.log(0.01 - w["a"].abs()).sum()  # NaN beyond ±.01

    first = starts(LogDensity(log_density, {"a": torch.zeros(2)}), 6, 1)
    assert float(first["a"][0].abs().max()) == 0
    assert float(first["a"].abs().max()) < 0.01
    assert len(torch.unique(first["a"], dim=0)) == 6


def test_members_are_the_same_runs_alone() -> None:
    target, data = problem()
    first = starts(target, 3, 0)
    together = run(MAP(lr=0.02), target, data, start=first, epochs=4, batch_size=16, seed=1).state.params
    for i in range(3):
        alone = run(MAP(lr=0.02), target, data, start=one(first, i), epochs=4, batch_size=16, seed=1).state.params
        assert all(torch.allclose(together[k][i], alone[k][0], rtol=1e-10, atol=1e-12) for k in alone)


def test_members_of_a_network_that_vmap_does_not_cover_train_one_by_one() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.body(x)
            return self.head(h.tanh() if float(self.body.bias.detach().sum()) < 1e9 else h)

    x = torch.randn(12, 4, generator=generator(0), dtype=torch.float64)
    target, data = Target(Branching().double()), Data(x, (x.sum(1) > 0).long())
    first = starts(target, 2, 0)
    with pytest.warns(NovaculaWarning, match="vmap does not cover Branching"):
        together = run(MAP(), target, data, start=first, epochs=2, batch_size=5).state.params
    alone = run(MAP(), target, data, start=one(first, 1), epochs=2, batch_size=5).state.params
    assert all(torch.allclose(together[k][1], alone[k][0], rtol=1e-10, atol=1e-12) for k in alone)
    assert predict(infer(Ensemble(MAP(), 2), target, data, epochs=1), x).mean().shape == (12, 2)


def test_an_ensemble_is_chains_and_its_prediction_the_members_average(tmp_path: Path) -> None:
    target, data = problem()
    post = infer(Ensemble(MAP(lr=0.02), members=3), target, data, epochs=3, batch_size=16, seed=4)
    assert isinstance(post, Mixture)
    assert len(post.components) == 3
    own = torch.stack([predict(c, data.x).mean() for c in post.components])
    prediction = predict(post, data.x)
    assert torch.allclose(prediction.mean(), own.mean(0))
    assert prediction.samples.shape == (3, 40, 3)
    assert float(prediction.entropy().epistemic.min()) >= 0
    y = data.y
    assert torch.allclose(prediction.log_prob(y), own[:, torch.arange(40), y].mean(0).log())
    path = tmp_path / "run.safetensors"
    method = Ensemble(MAP(lr=0.02), members=3)
    infer(method, target, data, epochs=3, batch_size=16, seed=4, checkpoint=path)
    resumed = infer(method, target, data, epochs=3, batch_size=16, seed=4, checkpoint=path, resume=True)
    assert torch.allclose(predict(resumed, data.x).mean(), prediction.mean(), rtol=0, atol=0)


def test_an_ensemble_of_laplace_posteriors_is_a_mixture_of_gaussians() -> None:
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).unsqueeze(1)
    data = Data(x, torch.sin(3 * x))
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    target = Target(net, likelihood=Normal(sigma=0.1))
    post = infer(Ensemble(Laplace("exact", optimiser=MAP(lr=0.05), check=False), members=2), target, data, epochs=100)
    assert isinstance(post, Mixture)
    own = [predict(c, x) for c in post.components]
    found = predict(post, x, samples=4000)
    assert torch.allclose(found.mean(), torch.stack([p.mean() for p in own]).mean(0), atol=0.01)
    # Law of total variance; 2,000 fixed draws a component give the spread to a few per cent.
    means, variances = torch.stack([p.mean() for p in own]), torch.stack([p.variance() for p in own])
    assert torch.allclose(found.variance(), variances.mean(0) + means.var(0, correction=0), rtol=0.15, atol=2e-4)


def test_a_mixture_draws_evenly_from_its_components() -> None:
    target, _ = problem()
    points = [Point({k: torch.full_like(w, float(i)) for k, w in target.params().items()}, target) for i in range(3)]
    post = mixture(points)
    drawn = post.sample(8, generator(0))["0.bias"][:, 0]
    counts = torch.bincount(drawn.long(), minlength=3)
    assert sorted(counts.tolist()) == [2, 3, 3]
    assert post.mode is points[0].mode
    assert mixture([points[1]]) is points[1]
    assert len(mixture([post, points[0]]).components) == 4
    with pytest.raises(InputError, match="at least one posterior"):
        mixture([])


def test_ensembles_refuse_nonsense() -> None:
    with pytest.raises(InputError, match="members as a whole number of 1 or more"):
        Ensemble(MAP(), members=0)
    with pytest.raises(InputError, match="ensemble of ensembles"):
        Ensemble(Ensemble(MAP()))


def test_a_run_can_start_from_given_weights() -> None:
    target, data = problem()
    init = {k: w + 1 for k, w in target.params().items()}
    still = infer(MAP(lr=1e-300), target, data, init=init, steps=1).mode
    assert all(torch.allclose(still[k], init[k]) for k in init)
    with pytest.raises(InputError, match=r"init\['2.weight'\]"):
        infer(MAP(), target, data, init={k: w for k, w in init.items() if k != "2.weight"}, steps=1)


@pytest.mark.parametrize("method", [MAP(lr=0.02), SGLD(lr=1e-3, keep=4)])
def test_workers_share_the_chains(method: MAP | SGLD, tmp_path: Path) -> None:
    target, data = problem()
    options = {"steps": 12, "batch_size": 16, "seed": 4}
    done: list[tuple[int, int]] = []
    post = infer(
        method,
        target,
        data,
        chains=3,
        workers=2,
        backend="threads",
        checkpoint=tmp_path / "c.safetensors",
        progress=lambda i, n, _: done.append((i, n)),
        **options,
    )
    assert done == [(1, 2), (2, 2)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c-0.safetensors", "c-1.safetensors"]
    if isinstance(post, Draws):
        assert post.flat.shape[:2] == (4, 3)
    else:
        assert isinstance(post, Mixture)
        assert len(post.components) == 3
    again = infer(method, target, data, chains=3, workers=2, **options)
    assert torch.equal(predict(post, data.x).mean(), predict(again, data.x).mean())


def _trained(target: Target, steps: int = 1000) -> Target:
    """The target with weights that were trained on other data."""
    _, data = problem(200)
    found = infer(MAP(lr=1e-2), target, data, steps=steps, seed=9)
    assert isinstance(found, Point)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    net.load_state_dict(found.mode)
    return Target(net, prior=Gaussian(2.0))


def _gap(w: Params, own: Params) -> float:
    return max(float((w[k] - own[k]).norm() / own[k].norm()) for k in own)


def test_members_of_a_trained_network_start_near_it_and_a_warning_says_so() -> None:
    target = _trained(problem()[0])
    own = target.params()
    with pytest.warns(NovaculaWarning, match="all members start near them"):
        first = starts(target, 5, 0)
    assert _gap({k: w[0] for k, w in first.items()}, own) == 0
    gaps = [_gap({k: w[i] for k, w in first.items()}, own) for i in range(1, 5)]
    # A fiftieth in the mean square; three weights at least, so 5 times that has a false alarm below 1e-12.
    assert min(gaps) > 0
    assert max(gaps) < 0.1
    assert len(set(gaps)) == 4


def test_members_are_drawn_anew_where_told() -> None:
    target = _trained(problem()[0])
    own = target.params()
    fresh = starts(target, 3, 0, others="fresh")
    assert min(_gap({k: w[i] for k, w in fresh.items()}, own) for i in (1, 2)) > 0.3
    headed = starts(target, 3, 0, redraw=("2",))
    for i in (1, 2):
        assert float((headed["0.weight"][i] - own["0.weight"]).norm() / own["0.weight"].norm()) < 0.1
        assert float((headed["2.weight"][i] - own["2.weight"]).norm() / own["2.weight"].norm()) > 0.3
    with pytest.raises(InputError, match="named head"):
        starts(target, 3, 0, redraw=("head",))
    with pytest.raises(InputError, match="a start among auto"):
        Ensemble(start="cold")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", [Ensemble(MAP(lr=1e-6), members=3), MAP(lr=1e-6)])
def test_weights_given_as_init_are_those_of_all_members(method: Ensemble | MAP) -> None:
    target, data = problem()
    own = {k: w + 3.0 for k, w in target.params().items()}
    post = infer(method, target, data, init=own, steps=1, chains=1 if isinstance(method, Ensemble) else 3, seed=0)
    assert len(post.parts) == 3
    assert all(_gap(p.mode, own) < 0.1 for p in post.parts)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["mlp", "cnn", "norm", "lstm", "attention"])
def test_fresh_networks_are_not_taken_for_trained_ones(kind: str) -> None:
    # By the bound of the test, one false alarm in a million networks.
    made = {
        "mlp": lambda: nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 3)),
        "cnn": lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 2)),
        "norm": lambda: nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.BatchNorm1d(8), nn.Linear(8, 2)).eval(),
        "lstm": lambda: nn.LSTM(3, 4, batch_first=True),
        "attention": lambda: nn.MultiheadAttention(8, 2, batch_first=True),
    }[kind]
    with torch.random.fork_rng(devices=[]):
        for seed in range(5):
            torch.manual_seed(seed)
            starts(Target(made()), 2, 0)  # a warning would be an error
