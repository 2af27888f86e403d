"""Multilevel splitting on cases whose probability is known otherwise."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.evidence import Splitting
from novacula.kernels import orthant
from novacula.priors import Signs
from novacula.target.many import outputs, prior_outputs
from novacula.target.margins import FITS, closeness, margins

LN10 = math.log(10)


def perceptron(x: Tensor, y: Tensor) -> tuple[nv.Target, nv.Data]:
    net = nn.Linear(x.shape[1], 1, bias=False).to(x.dtype)
    return nv.Target(net, likelihood=nv.Bernoulli()), nv.Data(x, y[:, None], task="multilabel")


def alternating(n: int) -> Tensor:
    return (torch.arange(n) % 2).double()


def test_orthogonal_inputs_fit_with_one_half_each() -> None:
    target, data = perceptron(torch.eye(24).double(), alternating(24))
    found = Splitting(particles=150, moves=6, attempts=1)(target, data, seed=0)
    # The interval is Student's with three degrees of freedom: 5 standard errors, 6e-3 at fixed seed; .35 nats of bias.
    assert abs(float(found) + 24 * math.log(2)) < 5 * found.stderr + 0.1
    assert found.stderr < 0.8
    assert found.parts["converged"] == 1
    assert found.loss == "zero training error"


@pytest.mark.parametrize(("tolerance", "particles"), [(1e9, 40), (1e-9, 80)])
def test_pilots_choose_the_effort_and_nothing_else(tolerance: float, particles: int) -> None:
    target, data = perceptron(torch.eye(6).double(), alternating(6))
    chosen = Splitting(particles=40, moves=3, attempts=2, tolerance=tolerance)(target, data, seed=4)
    fixed = Splitting(particles=particles, moves=3, attempts=1)(target, data, seed=4)
    # Whatever the pilots' populations were: what is reported are fresh ones, those of the effort alone.
    assert (float(chosen), chosen.stderr) == (float(fixed), fixed.stderr)
    assert chosen.parts["particles"] == particles == fixed.parts["particles"]
    assert chosen.parts["evaluations"] > fixed.parts["evaluations"]


def test_correlated_inputs_are_orthants() -> None:
    k = torch.full((20, 20), 0.5, dtype=torch.float64) + 0.5 * torch.eye(20)
    y = (torch.arange(20) < 7).double()
    target, data = perceptron(torch.linalg.cholesky(k), y)
    exact = orthant(k, 2 * y - 1, seed=0)
    found = Splitting(particles=150, moves=6, attempts=1)(target, data, seed=1)
    assert abs(float(found) - float(exact)) < 5 * found.stderr + 0.1


def test_signs_are_counted_exhaustively() -> None:
    x = torch.randn(7, 13, generator=generator(3), dtype=torch.float64)
    y = (torch.randn(7, generator=generator(4)) > 0).double()
    target, data = perceptron(x, y)
    target = nv.Target(target.network, likelihood=nv.Bernoulli(), prior=Signs())
    all_signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=13)), dtype=torch.float64)
    fitting = ((all_signs @ x.T) * (2 * y - 1) > 0).all(1)
    exact = math.log(float(fitting.double().mean()))
    estimate, post = Splitting(particles=300, attempts=1).fit(target, data, seed=0)
    assert abs(float(estimate) - exact) < 5 * estimate.stderr + 0.1
    # The networks at the end are those that were counted.
    drawn = post.flat.flatten(0, 1)
    assert ((drawn @ x.T) * (2 * y - 1) > 0).all()
    assert set(map(tuple, drawn.tolist())) <= set(map(tuple, all_signs[fitting].tolist()))


def test_a_network_with_three_classes_agrees_with_brute_force_and_draws_its_posterior() -> None:
    x = torch.randn(6, 4, generator=generator(0))
    y = torch.tensor([0, 1, 2, 1, 0, 2])
    net = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 3))
    target, data = nv.Target(net), nv.Data(x, y)
    n = 200_000
    probe = torch.randn(1, 4, generator=generator(9))
    f = prior_outputs(target, torch.cat([x, probe]), n, generator(1, "brute"))
    fits = (f[:, :6].argmax(2) == y).all(1)
    hits = int(fits.sum())
    assert hits > 30
    estimate, post = Splitting(particles=300, moves=4, attempts=1).fit(target, data, seed=3)
    assert abs(float(estimate) - math.log(hits / n)) < 5 * math.hypot(estimate.stderr, hits**-0.5) + 0.05
    drawn = outputs(target, post.sample(1200, generator(5)), torch.cat([x, probe]))
    assert (drawn[:, :6].argmax(2) == y).all()
    share = (drawn[:, 6].argmax(1) == 0).double().mean()
    brute = (f[fits, 6].argmax(1) == 0).double().mean()
    assert abs(float(share - brute)) < 5 * 0.5 * hits**-0.5 + 0.1


def test_margins_and_closeness_by_hand() -> None:
    f = torch.tensor([[[1.0, 3.0], [2.0, -1.0]], [[3.0, 1.0], [2.0, 2.0]], [[1.0, 1.0], [5.0, 5.0]]])
    y = torch.tensor([1, 0])
    assert margins(f, y).tolist() == [[2.0, 3.0], [-2.0, 0.0], [0.0, 0.0]]
    score = closeness(f, y)
    assert score[0] == FITS
    # Outputs about their means are ±1 in the first row and 0 in the second.
    assert float(score[1]) == pytest.approx(-1 / math.sqrt(0.5))
    assert float(score[2]) == -math.inf
    assert float(closeness(torch.full((1, 2, 2), math.nan), y)[0]) == -math.inf
    torch.testing.assert_close(closeness(7 * f, y), score)
    labels = torch.tensor([[1.0], [0.0]])
    assert margins(torch.tensor([[[2.0], [3.0]]]), labels).tolist() == [[2.0, -3.0]]


def test_labels_that_nothing_fits_are_refused_or_bounded() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    target, data = perceptron(x, torch.tensor([1.0, 0.0, 0.0]))
    with pytest.raises(InputError, match="rows 0 and 2"):
        Splitting()(target, data, seed=0)
    # Of x and −x a network without a bias gives contrary signs, always.
    target, data = perceptron(torch.tensor([[1.0, 0.2], [-1.0, -0.2], [0.3, 1.0]]), torch.tensor([1.0, 1.0, 0.0]))
    found = Splitting(particles=40, moves=2, attempts=1, steps=12)(target, data, seed=0)
    assert found.kind == "upper bound"
    assert found.parts["converged"] == 0
    assert any("no network that fits" in w for w in found.warnings)


def test_measurements_have_no_fit() -> None:
    data = nv.Data(torch.randn(5, 2, generator=generator(0)), torch.randn(5, generator=generator(1)))
    with pytest.raises(InputError, match="classes"):
        Splitting()(nv.Target(nn.Linear(2, 1), likelihood=nv.Normal()), data, seed=0)


def test_more_networks_than_memory_holds_are_refused_before_they_are_drawn() -> None:
    target, data = perceptron(torch.eye(6), alternating(6).float())
    annealing = nv.evidence.Annealing(method=nv.SMC(10**10, "elliptical"))
    for far in (Splitting(particles=10**10), Splitting(populations=10**9), annealing):
        with pytest.raises(InputError, match=r"draws that fit in 4 GiB; got .* GiB"):
            far(target, data, seed=0)


def test_inputs_that_repeat_with_one_label_count_once() -> None:
    x = torch.eye(8).double()[[0, 1, 2, 3, 4, 5, 6, 7, 2, 5]]
    target, data = perceptron(x, alternating(8)[[0, 1, 2, 3, 4, 5, 6, 7, 2, 5]])
    found = Splitting(particles=200, moves=4, attempts=1)(target, data, seed=2)
    # The truth is 2^-8: 5 standard errors of Student's interval, 8e-3 at fixed seed.
    assert abs(float(found) + 8 * math.log(2)) < 5 * found.stderr + 0.1


class Untrustworthy(nn.Module):
    """A perceptron without a bias, whose outputs are zero where one weight is above 0 and NaN where another is."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 1, bias=False)
        self.other = nn.Linear(1, 2, bias=False)
        self.other.weight.data.abs_().neg_()  # as a target's network must be sound where it stands

    def forward(self, x: Tensor) -> Tensor:
        ties, none = self.other.weight[:, 0] > 0
        return torch.where(none, math.nan, self.inner(x) * ~ties)


def test_outputs_that_tie_or_are_no_numbers_do_not_fit() -> None:
    """Of the networks one half ties, and one half is NaN: the probability of a fit is a quarter of 2^-4."""
    y = alternating(4).float()[:, None]
    target = nv.Target(Untrustworthy(), likelihood=nv.Bernoulli())
    data, exact = nv.Data(torch.eye(4), y, task="multilabel"), -6 * math.log(2)
    # 8e-3 at fixed seed, and five standard deviations of a count of 312.
    found = Splitting(particles=400, attempts=1)(target, data, seed=0)
    assert abs(float(found) - exact) < 5 * found.stderr + 0.1
    assert float(nv.evidence.Counting(20_000)(target, data, seed=0)) == pytest.approx(exact, abs=5 * 312**-0.5)
    # As it stands it ends in a linear layer, of which nothing follows.
    with pytest.raises(InputError, match="whose outputs are others than those of 'inner'"):
        nv.evidence.Counting(20_000, heads=10)(target, data, seed=0)


def test_few_populations_are_refused() -> None:
    with pytest.raises(InputError, match="four or more populations"):
        Splitting(populations=2)
