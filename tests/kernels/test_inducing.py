"""Inducing points against exact processes: a bound that is reached, averages without bias, and what is learned.

Seeds are fixed. Where a mean of draws is compared, it is within four of its own standard errors: a false alarm in one
of 16,000 seeds.
"""

from __future__ import annotations

import math

import pytest
import torch

import novacula as nv
from novacula.kernels import Invariant, SquaredExponential, inducing, process
from novacula.kernels.inducing import Belief, Sites, _Run
from novacula.kernels.observed import Gaussians, gaussians


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _kernel(length: float = 1.5, amplitude: float = 0.8) -> SquaredExponential:
    return SquaredExponential(*(torch.tensor(math.log(v), dtype=torch.float64) for v in (length, amplitude)))


def _turns(extent: float) -> nv.Affine:
    return nv.Affine(eta=torch.tensor([extent]).double(), only=("rotation",))


def test_with_all_inputs_as_points_the_process_is_the_exact_one() -> None:
    x = torch.randn(25, 2, generator=_rng(), dtype=torch.float64)
    data = nv.Data(x, torch.stack([torch.sin(x.sum(1)), x[:, 0] * x[:, 1]], 1))
    new = torch.randn(6, 2, generator=_rng(1), dtype=torch.float64)
    exact, found = process(_kernel(), data, steps=0), inducing(_kernel(), data, points=25, steps=0)
    assert float(found.bound) == pytest.approx(exact.log_evidence, abs=1e-4)
    for ours, theirs in zip(found.outputs(new), exact.outputs(new), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    below = [float(inducing(_kernel(), data, points=m, steps=0).bound) for m in (5, 10, 15)]
    assert below[0] < below[1] < below[2] < exact.log_evidence
    assert found.bound.kind == "lower bound"


def test_the_bound_is_that_of_titsias() -> None:
    # −½ Σ (k_nn − q_nn)/s² + log N(m; 0, Q + S), with noise that differs from example to example.
    x, m = torch.randn(12, 2, generator=_rng(2), dtype=torch.float64), torch.randn(12, 2, generator=_rng(3)).double()
    s = 0.2 + torch.rand(12, 2, generator=_rng(4), dtype=torch.float64)
    run, kernel, rows = _Run(nv.Data(x, m), Gaussians(m, s), 5, 12, 0), _kernel(), torch.arange(12)
    z = run.choose(kernel, 0)
    found = run.bound(kernel, z, Sites.of(run.reach(kernel, z, rows, 0), run.weight, m))
    k = kernel(z, x)
    q = k.T @ torch.linalg.solve(kernel(z, z), k)
    expected = -0.5 * ((kernel(x, x) - q).diagonal()[:, None] / s.square()).sum()
    for c in range(2):
        of_class = torch.distributions.MultivariateNormal(torch.zeros(12).double(), q + s[:, c].square().diag())
        expected = expected + of_class.log_prob(m[:, c])
    assert float(found) == pytest.approx(float(expected), abs=1e-5)


def test_estimates_have_no_bias_and_squares_of_averages_have() -> None:
    x = torch.rand(6, 1, 6, 6, generator=_rng(), dtype=torch.float64)
    data = nv.Data(x, torch.randn(6, 2, generator=_rng(1), dtype=torch.float64))
    run = _Run(data, gaussians(data, 0.01, 0.3), 4, 6, 0)
    few, many = (Invariant(_kernel(), _turns(0.6), copies=s) for s in (2, 200))
    z, rows = run.choose(few, 0), torch.arange(6)
    sites = Sites.of(run.reach(few, z, rows, 7), run.weight, data.y)
    q = Belief.of(few, z, sites)
    truth = torch.stack([run.fit(many, z, q, rows, seed) for seed in range(4)]).mean()
    draws = torch.stack([run.fit(few, z, q, rows, seed) for seed in range(300)])
    error = float(draws.std()) / math.sqrt(300)
    assert abs(float(draws.mean() - truth)) < 4 * error
    # The same copies twice in the place of independent ones are what is to be avoided.
    halves = Invariant.halves
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Invariant, "halves", lambda self, x, stream: (halves(self, x, stream)[0],) * 2)
        biased = torch.stack([run.fit(few, z, q, rows, seed) for seed in range(300)])
    assert abs(float(biased.mean() - truth)) > 8 * error


def test_at_500_digits_bound_and_evidence_agree_within_one_part_in_a_hundred() -> None:
    data, kernel = nv.load("digits").subset(range(500)), Invariant(_kernel(2.5, 2.5), _turns(0.15), copies=4)
    exact, found = process(kernel, data, steps=0), inducing(kernel, data, points=300, steps=0)
    assert abs(float(found.bound) - exact.log_evidence) < 0.01 * abs(exact.log_evidence)
    assert found.bound.stderr < 0.001 * abs(exact.log_evidence)
    new = nv.load("digits").x[500:520].double()
    assert float((found.outputs(new)[0] - exact.outputs(new)[0]).abs().mean()) < 0.2


def test_learning_in_minibatches_ends_where_the_exact_evidence_has_its_maximum() -> None:
    x = 4 * torch.rand(150, 1, generator=_rng(), dtype=torch.float64)
    data = nv.Data(x, torch.sin(3 * x) + 0.2 * torch.randn(150, 1, generator=_rng(1), dtype=torch.float64))
    exact = process(_kernel(1.0, 0.5), data, steps=80, lr=0.1)
    found = inducing(_kernel(1.0, 0.5), data, points=20, steps=120, lr=0.1, batch_size=50)
    assert found.noise == pytest.approx(float(exact.observed.noise[0, 0]), rel=0.05)
    assert float(found.bound) > exact.log_evidence - 1.5
    assert float(found.kernel.log_length) == pytest.approx(float(exact.kernel.log_length), abs=0.3)


def test_bad_input_is_refused() -> None:
    data = nv.load("digits").subset(range(20))
    for option in ({"points": 0}, {"batch_size": 0}, {"lr": -1.0}, {"alpha": 0.0}):
        with pytest.raises(nv.InputError, match=next(iter(option))):
            inducing(_kernel(), data, **option)
