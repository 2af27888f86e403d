"""Units: a network in the data's own units is the same model as one on standardised data."""

import math

import pytest
import torch
from torch import nn

import novacula as nv
from novacula.core.units import Units
from novacula.data.standardise import Standardiser
from novacula.evidence import Laplace
from novacula.posteriors import laplace_posterior


def _nets():
    with nv.networks.seeded(0):
        return {
            "linear": nn.Linear(3, 2).double(),
            "mlp": nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double(),
        }


def _both(net):
    # The same model twice: on standardised data, and between the units of raw data of very different sizes.
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(17, 3, generator=rng, dtype=torch.float64) * torch.tensor([1e-4, 1.0, 3e5]) + 0.3
    y = torch.randn(17, 2, generator=rng, dtype=torch.float64) * torch.tensor([2e3, 5e-3]) - 4
    raw = nv.Data(x, y)
    scale = Standardiser.fit(raw)
    units = Units(scale.x_mean, scale.x_sd, scale.y_mean, scale.y_sd)
    plain = nv.Target(net, likelihood=nv.Normal(sigma=0.7))
    return (plain, scale.apply(raw)), (plain.in_units(units), raw), scale


@pytest.mark.parametrize("net", ["linear", "mlp"])
@pytest.mark.parametrize("structure", ["exact", "kron", "diag", "last_layer", "matrix_free"])
def test_evidence_is_that_of_standardised_data_in_other_units(net, structure):
    (plain, standard), (scaled, raw), scale = _both(_nets()[net])
    a = Laplace(structure)(plain, standard, plain.params(), seed=0)
    b = Laplace(structure)(scaled, raw, scaled.params(), seed=0)
    assert float(b) == pytest.approx(float(a) - raw.n * scale.log_y_scale, rel=1e-9)
    assert b.kind == a.kind


@pytest.mark.parametrize("net", ["linear", "mlp"])
@pytest.mark.parametrize("structure", ["exact", "kron", "last_layer"])
def test_predictions_are_in_the_units_of_the_data(net, structure):
    (plain, standard), (scaled, raw), scale = _both(_nets()[net])
    a = laplace_posterior(plain, plain.params(), standard, structure=structure, seed=0, check=False)
    b = laplace_posterior(scaled, scaled.params(), raw, structure=structure, seed=0, check=False)
    p = nv.predict(a, standard.x).in_units(scale)
    q = nv.predict(b, raw.x)
    torch.testing.assert_close(q.mean(), p.mean(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(q.variance(), p.variance(), rtol=1e-8, atol=0)
    torch.testing.assert_close(q.log_prob(raw.y), p.log_prob(raw.y), rtol=1e-9, atol=1e-9)


def test_noise_keeps_one_sigma_where_the_scales_are_one():
    sigma = nv.Normal(sigma=2.0).in_units(torch.tensor([3.0, 3.0])).sigma
    assert sigma.ndim == 0
    assert float(sigma) == pytest.approx(6.0)
    assert nv.Normal(sigma=2.0).in_units(torch.tensor([3.0, 0.5])).sigma.tolist() == pytest.approx([6.0, 1.0])


def test_logits_over_a_temperature():
    target = nv.Target(nn.Linear(2, 3))
    x = torch.tensor([[1.0, -2.0]])
    cooler = target.in_units(target.forward.units.scaled(1 / 2.0, 3))
    torch.testing.assert_close(cooler.forward(target.params(), x), target.forward(target.params(), x) / 2)
    again = cooler.in_units(cooler.forward.units.scaled(1 / 4.0, 3))
    torch.testing.assert_close(again.forward(target.params(), x), target.forward(target.params(), x) / 8)


@pytest.mark.parametrize("structure", ["exact", "kron", "diag", "last_layer", "matrix_free"])
def test_one_scale_stands_for_all_outputs(structure):
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    data = nv.Data(torch.randn(20, 3, dtype=torch.float64), torch.arange(20) % 3)
    target = nv.Target(net)
    each = target.in_units(target.forward.units.scaled(1 / 2.5, 3))
    a, b = (Laplace(structure)(t, data, t.params(), seed=0) for t in (target.calibrated(2.5), each))
    assert float(a) == pytest.approx(float(b), rel=1e-12)
    assert float(a) != pytest.approx(float(Laplace(structure)(target, data, target.params(), seed=0)))


def test_likelihoods_without_noise_of_one_size_refuse_units():
    with pytest.raises(nv.InputError, match="Gaussian noise"):
        nv.Categorical().in_units(torch.ones(2))


def test_no_units_change_nothing():
    x = torch.randn(3, 2)
    assert Units().inward(x) is x
    assert Units().outward(x) is x
    tokens = torch.arange(3)
    assert Units(torch.ones(1), torch.ones(1)).inward(tokens) is tokens
    assert math.isclose(float(Units(torch.ones(1), torch.full((1,), 2.0)).inward(torch.tensor([3.0]))), 1.0)
