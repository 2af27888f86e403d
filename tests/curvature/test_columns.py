"""Random combinations of outputs that stand for all of many."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.curvature import kron
from novacula.curvature.structures.names import build, columns_of
from novacula.likelihoods import Bernoulli, Categorical, Likelihood, Normal


@pytest.mark.parametrize("likelihood", [Categorical(), Bernoulli(), Normal()], ids=lambda x: type(x).__name__)
def test_combinations_are_those_of_the_factors_columns(likelihood: Likelihood) -> None:
    rng = torch.Generator().manual_seed(0)
    f = torch.randn(4, 5, generator=rng, dtype=torch.float64)
    y = f.argmax(1) if likelihood.task == "classification" and isinstance(likelihood, Categorical) else (f > 0).double()
    bound = likelihood.bind(5)
    whole = bound.factor(f, y)
    mix = torch.randn(4, whole.shape[2], 3, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(bound.combined(f, y, lambda width: mix), whole @ mix)


def test_many_outputs_cost_as_many_combinations_as_tell_their_eigenvalues() -> None:
    assert columns_of(128, 50) == 128
    assert columns_of(200, 400) == 32  # 64 · 200 / 400
    assert columns_of(200, 100_000) == 16
    assert columns_of(200, 10) == 200


def classes(outputs: int, n: int) -> tuple[nv.Target, nv.Data]:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(n, 3, generator=rng, dtype=torch.float64)
    y = torch.arange(n) % outputs
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, outputs)).double()
    return nv.Target(net, likelihood=Categorical(outputs)), nv.Data(x, y)


def test_kronecker_factors_of_combinations_are_those_of_all_columns_in_the_mean() -> None:
    # 200 outputs, 40 examples: of 16 combinations in the mean of 100 seeds. The trace of the last layer's output factor
    # within 4 standard errors of its exact value: false alarm 6e-5.
    target, data = classes(200, 40)
    problem = target.problem(target.params(), data, seed=0)
    exact = sum(block.dense().diagonal().sum() for block in kron(problem).blocks.values())
    drawn = [
        sum(block.dense().diagonal().sum() for block in kron(problem.sketched(16, seed)).blocks.values())
        for seed in range(100)
    ]
    found = torch.stack([torch.as_tensor(d) for d in drawn])
    assert abs(float(found.mean() - exact)) < 4 * float(found.std()) / 10
    assert float(found.std()) < 0.1 * float(exact)


def test_evidence_of_many_classes_says_that_combinations_stand_for_outputs_and_agrees_with_all_columns() -> None:
    target, data = classes(150, 600)
    params = target.params()
    found = nv.evidence.Laplace("kron", repeats=4)(target, data, params, seed=0)
    assert any("16 random combinations" in said for said in found.assumptions)
    assert found.stderr > 0
    problem = target.problem(params, data, seed=0)
    gap = build("kron", problem).log_det(target.prior.precision(params)).value - (
        kron(problem).log_det(target.prior.precision(params)).value
    )
    assert abs(float(gap)) < 0.03 * abs(float(kron(problem).log_det(target.prior.precision(params)).value))


def test_few_classes_take_every_column() -> None:
    target, data = classes(7, 30)
    found = nv.evidence.Laplace("kron")(target, data, target.params(), seed=0)
    assert not any("combinations" in said for said in found.assumptions)


def test_a_last_layer_of_too_many_weights_is_refused_by_its_size_before_anything_is_built() -> None:
    net = nn.Sequential(nn.Linear(8, 128), nn.Tanh(), nn.Linear(128, 1_000))
    data = nv.Data(torch.randn(2_000, 8, generator=torch.Generator().manual_seed(0)), torch.arange(2_000) % 1_000)
    target = nv.Target(net)
    with pytest.raises(InputError, match="129,000 weights"):
        build("last_layer", target.problem(target.params(), data, seed=0))
