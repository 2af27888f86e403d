"""Monte-Carlo EM against the exact evidence of linear Gaussian models."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.inference import MAP, SGLD, Laplace
from novacula.likelihoods import Categorical, Normal
from novacula.priors import Gaussian
from novacula.study import learn_from_draws
from novacula.target import Target


def problem() -> tuple[Target, Data]:
    """Three inputs of unlike sizes, one output, noise .4, weights of sd 1.5 and a bias of 3."""
    rng = generator(1)
    x = torch.randn(60, 3, generator=rng, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.5])
    y = x @ torch.tensor([[1.5], [-2.0], [0.7]], dtype=torch.float64) + 3
    y = y + 0.4 * torch.randn(60, 1, generator=rng, dtype=torch.float64)
    return Target(nn.Linear(3, 1).double(), likelihood=Normal(sigma=1.0), prior=Gaussian(1.0)), Data(x, y)


def evidence(data: Data, logs: Tensor) -> Tensor:
    """The exact log evidence: logs are log λ of weights and of the bias, and log σ."""
    phi = torch.cat([data.x, torch.ones(60, 1, dtype=torch.float64)], 1)
    variance = torch.exp(-torch.stack([logs[0], logs[0], logs[0], logs[1]]))
    covariance = torch.exp(2 * logs[2]) * torch.eye(60, dtype=torch.float64) + phi @ torch.diag(variance) @ phi.T
    zero = torch.zeros(60, dtype=torch.float64)
    return torch.distributions.MultivariateNormal(zero, covariance).log_prob(data.y[:, 0])


def test_it_finds_the_maximum_of_the_evidence() -> None:
    """Exact posteriors (Laplace of a linear model): EM converges to the maximum, but for the noise of 1,000 draws.

    The bias's precision rests on one weight; its log moves by about √(2/1000) = .045 a round; .2 is four of these.
    """
    target, data = problem()
    method = Laplace("exact", optimiser=MAP(lr=0.05), check=False)
    found = learn_from_draws(method, target, data, rounds=20, steps=100, batch_size=60, draws=1_000, seed=2)
    logs = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logs], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = -evidence(data, logs)
        value.backward()
        return value

    optimiser.step(closure)
    learned = found.target.learnable()
    mine = torch.cat([learned["prior.log_precision"].double(), learned["likelihood.log_sigma"].double().flatten()])
    assert torch.allclose(mine, logs.detach(), atol=0.2)
    assert float(evidence(data, logs.detach()) - evidence(data, mine)) < 0.05
    assert len(found.history) == 20


def test_one_round_is_the_closed_form_of_the_m_step() -> None:
    """Precisions become the inverse mean square of the drawn weights, the noise the root mean square residual."""
    target, data = problem()
    found = learn_from_draws(SGLD(lr=1e-2, keep=20), target, data, rounds=1, steps=400, draws=20, seed=3)
    drawn = found.posterior.sample(20, generator(0))
    learned = found.target.learnable()
    for i, w in enumerate(drawn.values()):
        assert float(learned["prior.log_precision"][i]) == pytest.approx(-float(w.square().mean().log()), abs=1e-4)
    f = torch.einsum("nd,sod->sno", data.x, drawn["weight"]) + drawn["bias"][:, None]
    rms = float((f - data.y).square().mean().sqrt())
    assert float(learned["likelihood.log_sigma"].exp()) == pytest.approx(rms, rel=1e-4)
    assert {k: w.shape for k, w in found.params.items()} == {k: w.shape for k, w in target.params().items()}


def test_what_has_no_evidence_is_refused() -> None:
    target, data = problem()
    for options in ({"temperature": 0.5}, {"likelihood_temperature": 2.0}):
        tempered = Target(target.network, likelihood=Normal(), **options)
        with pytest.raises(InputError, match="temperature 1"):
            learn_from_draws(SGLD(), tempered, data)
    with pytest.raises(InputError, match="positive rounds"):
        learn_from_draws(SGLD(), target, data, rounds=0)
    classes = Data(data.x, (data.y[:, 0] > 0).long())
    with pytest.raises(InputError):
        learn_from_draws(SGLD(), Target(nn.Linear(3, 1).double(), likelihood=Categorical()), classes)
