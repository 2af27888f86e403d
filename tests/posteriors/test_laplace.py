"""Laplace posteriors, `infer`, and leave-one-out, against closed forms and brute force."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.params import Params, flatten, unflatten
from novacula.core.rng import generator
from novacula.curvature import exact, kron
from novacula.data.data import Data
from novacula.inference import MAP, Laplace, LaplacePosterior, Point, infer, laplace_posterior, weights_of
from novacula.invariances import Affine
from novacula.likelihoods import Categorical, Normal
from novacula.posteriors.leave_one_out.early_stopping import full_gradient, stopping_precision
from novacula.posteriors.leave_one_out.newton import LeaveOneOut, without_self
from novacula.posteriors.leave_one_out.reference import leading, reference
from novacula.priors import Gaussian
from novacula.target import Copies, Target
from novacula.target.copies import fixed_copies, fixed_outputs

PRECISION = {"weight": 0.7, "bias": 2.5}
SIGMA = torch.tensor([0.4, 0.9], dtype=torch.float64)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(build: Callable[..., nn.Module], *args: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return build(*args).double()


def linear_gaussian(n: int = 9) -> tuple[Target, Data]:
    """Three inputs, two outputs with noises of their own, a precision for each tensor."""
    x = draw(n, 3)
    y = x @ draw(3, 2, seed=1) + 0.3 + SIGMA * draw(n, 2, seed=2)
    log = torch.tensor([PRECISION["weight"], PRECISION["bias"]], dtype=torch.float64).log()
    prior = Gaussian(log_precision=log, names=("weight", "bias"))
    return Target(seeded(nn.Linear, 3, 2), likelihood=Normal(log_sigma=SIGMA.log()), prior=prior), Data(x, y)


def design(x: Tensor) -> Tensor:
    """``J (N, 2, 8)`` of a linear layer: the weight's six entries row by row, then two biases."""
    n = len(x)
    rows = torch.zeros(n, 2, 8, dtype=torch.float64)
    for c in range(2):
        rows[:, c, 3 * c : 3 * c + 3] = x
        rows[:, c, 6 + c] = 1
    return rows


def conjugate(data: Data, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The exact posterior's mean and covariance, from the rows ``keep``."""
    keep = torch.ones(data.n, dtype=torch.bool) if keep is None else keep
    j, y = design(data.x[keep]), data.y[keep]
    noise = SIGMA.square().reciprocal()
    prior = torch.tensor([PRECISION["weight"]] * 6 + [PRECISION["bias"]] * 2, dtype=torch.float64)
    covariance = torch.linalg.inv(torch.einsum("ncp,c,ncq->pq", j, noise, j) + torch.diag(prior))
    return covariance @ torch.einsum("ncp,c,nc->p", j, noise, y), covariance


def exact_posterior(**options: float) -> tuple[LaplacePosterior, Data, Tensor, Tensor]:
    target, data = linear_gaussian()
    mean, covariance = conjugate(data)
    mode = unflatten(mean, target.params())
    return laplace_posterior(target, mode, data, structure="exact", **options), data, mean, covariance


# ------------------------------------------------------------------ the posterior


def test_a_linear_gaussian_posterior_is_exact() -> None:
    post, _, mean, covariance = exact_posterior()
    basis = [
        flatten(post.covariance.solve(unflatten(e, post.mode))) for e in torch.eye(8, dtype=torch.float64).unbind(0)
    ]
    torch.testing.assert_close(torch.stack(basis), covariance, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(flatten(post.mode), mean)
    x = draw(5, 3, seed=9)
    j = design(x)
    torch.testing.assert_close(post.functional_variance(x.unsqueeze(1)), j @ covariance @ j.mT, rtol=1e-10, atol=1e-12)


def test_temperature_scales_the_covariance_without_factorising_again() -> None:
    post, _, _, covariance = exact_posterior()
    cold = post.with_temperature(0.2)
    assert cold.covariance is post.covariance
    x = draw(4, 3, seed=9)
    expected = 0.2 * design(x) @ covariance @ design(x).mT
    torch.testing.assert_close(cold.functional_variance(x.unsqueeze(1)), expected, rtol=1e-10, atol=1e-12)
    a, b = (flatten(p.sample(3, generator(0)), batch_dims=1) - flatten(p.mode) for p in (post, cold))
    torch.testing.assert_close(b, 0.2**0.5 * a)


def test_the_temperature_is_by_default_that_of_the_target() -> None:
    target, data = linear_gaussian()
    tempered = dataclasses.replace(target, temperature=0.3)
    assert laplace_posterior(tempered, target.params(), data, structure="exact", check=False).temperature == 0.3
    given = laplace_posterior(tempered, target.params(), data, structure="exact", temperature=2.0, check=False)
    assert given.temperature == 2.0


@pytest.mark.parametrize("structure", ["exact", "kron", "diag", "last_layer", "matrix_free"])
def test_samples_have_the_covariance_that_predictions_use(structure: str) -> None:
    """Along eight fixed directions, the variance of the draws is within 6 standard errors: false alarms < 1e-7."""
    target, data = linear_gaussian()
    post = laplace_posterior(target, target.params(), data, structure=structure, temperature=0.5, check=False)
    n = 200 if structure == "matrix_free" else 4_000  # each of its draws costs a Lanczos run
    samples = flatten(post.sample(n, generator(3)), batch_dims=1) - flatten(post.mode)
    x = draw(4, 3, seed=9)
    outputs = torch.einsum("ncp,sp->snc", design(x), samples)
    variance = post.functional_variance(x.unsqueeze(1)).diagonal(dim1=1, dim2=2)
    assert ((outputs.square().mean(0) / variance - 1).abs() < 6 * (2 / n) ** 0.5).all()
    assert (outputs.mean(0).abs() < 6 * (variance / n).sqrt()).all()


def test_parameters_that_are_not_covered_stay_at_the_mode() -> None:
    net = seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    data = Data(draw(12, 3), torch.arange(12) % 2)
    target = Target(net)
    post = laplace_posterior(target, target.params(), data, structure="last_layer", check=False)
    samples = post.sample(5, generator(1))
    assert set(samples) == set(target.params())
    assert torch.equal(samples["0.weight"], post.mode["0.weight"].expand(5, 4, 3))
    assert float(samples["2.weight"].std(0).min()) > 0
    # Its outputs' variance is that of a linear model in the features.
    features = torch.tanh(net[0](data.x)).detach()  # type: ignore[index]
    p = target.forward(post.mode, data.x).softmax(-1)
    phi = torch.cat([features, torch.ones(12, 1, dtype=torch.float64)], 1)
    h = torch.einsum("nc,cd,ni,nj->cidj", p, torch.eye(2).double(), phi, phi) - torch.einsum(
        "nc,nd,ni,nj->cidj", p, p, phi, phi
    )
    covariance = torch.linalg.inv(h.reshape(10, 10) + torch.eye(10)).reshape(2, 5, 2, 5)
    expected = torch.einsum("ni,cidj,nj->ncd", phi, covariance, phi)
    torch.testing.assert_close(post.functional_variance(data.x.unsqueeze(1)), expected, rtol=1e-8, atol=1e-10)


def test_reservations_name_what_the_structure_does_not_cover() -> None:
    net = seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 2)))
    target = Target(net)
    post = laplace_posterior(target, target.params(), Data(draw(12, 3), torch.arange(12) % 2), check=False)
    assert any("1.weight" in w for w in post.warnings)


@pytest.mark.parametrize(("options", "match"), [({"structure": "full"}, "last_layer"), ({"temperature": 0.0}, "zero")])
def test_bad_options_are_refused(options: dict[str, object], match: str) -> None:
    target, data = linear_gaussian()
    with pytest.raises(InputError, match=match):
        laplace_posterior(target, target.params(), data, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=match):
        Laplace(**options)  # type: ignore[arg-type]


# ------------------------------------------------------------------ infer


def test_infer_trains_and_then_approximates() -> None:
    target, data = linear_gaussian(40)
    mean, _ = conjugate(data)
    post = infer(Laplace("exact", optimiser=MAP(lr=0.05)), target, data, epochs=400, batch_size=40)
    assert isinstance(post, LaplacePosterior)
    torch.testing.assert_close(flatten(post.mode), mean, rtol=0, atol=1e-3)
    assert post.warnings == ()
    plain = infer(MAP(lr=0.05), target, data, epochs=400, batch_size=40)
    assert isinstance(plain, Point)
    assert all(torch.equal(plain.mode[k], post.mode[k]) for k in plain.mode)
    assert weights_of(post) is post.mode
    assert plain.target.likelihood is target.likelihood


def test_a_resumed_laplace_run_is_bit_identical(tmp_path: Path) -> None:
    target, data = linear_gaussian(20)
    method, file = Laplace("kron", check=False), tmp_path / "run.safetensors"
    whole = infer(method, target, data, epochs=4, batch_size=7)

    class Stop(Exception):
        pass

    def stop(done: int, total: int, record: dict[str, float]) -> None:
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        infer(method, target, data, epochs=4, batch_size=7, checkpoint=file, progress=stop)
    resumed = infer(method, target, data, epochs=4, batch_size=7, checkpoint=file, resume=True)
    assert all(torch.equal(whole.mode[k], resumed.mode[k]) for k in whole.mode)


def test_infer_refuses_no_chains_and_labels_that_do_not_fit() -> None:
    target, data = linear_gaussian()
    with pytest.raises(InputError, match="chains as a whole number of 1 or more"):
        infer(MAP(), target, data, epochs=1, chains=0)
    with pytest.raises(InputError, match="outputs"):
        infer(MAP(), target, Data(data.x, data.y[:, :1]), epochs=1)


# ------------------------------------------------------------------ leave-one-out


def brute_force(target: Target, data: Data, start: Params) -> Tensor:
    """Outputs of each example after training on all others to the minimum, by damped Newton steps from ``start``."""
    found = []
    for n in range(data.n):
        keep = torch.arange(data.n) != n
        w = newton(target, data.x[keep], data.y[keep], start)
        found.append(target.forward(w, data.x[n : n + 1])[0])
    return torch.stack(found).detach()


def newton(target: Target, x: Tensor, y: Tensor, start: Params) -> Params:
    """The minimum of the negative log-joint, to a gradient below 1e-7."""

    def objective(v: Tensor) -> Tensor:
        w = unflatten(v, start)
        return -target.likelihood.log_prob(target.forward(w, x), y).sum() - target.prior.log_prob(w)

    v = flatten(start)
    for _ in range(200):
        g = torch.func.grad(objective)(v)
        if float(g.norm()) < 1e-7:
            break
        h = torch.func.jacrev(torch.func.grad(objective))(v)
        values, vectors = torch.linalg.eigh(h)
        step = vectors @ ((vectors.T @ g) / values.abs().clamp(min=1e-3))
        size = 1.0
        while float(objective(v - size * step)) > float(objective(v)) and size > 1e-6:
            size /= 2
        v = v - size * step
    return unflatten(v.detach(), start)


def test_leave_one_out_of_linear_regression_is_that_of_refits() -> None:
    target, data = linear_gaussian()
    mean, _ = conjugate(data)
    found = reference(target, unflatten(mean, target.params()), data, seed=0)
    assert found.curvature is not None
    posterior = found.of(found.curvature)
    order = [int((data.x == row).all(1).nonzero()[0, 0]) for row in found.x]
    for i, n in enumerate(order):
        w, covariance = conjugate(data, torch.arange(data.n) != n)
        j = design(data.x[n : n + 1])[0]
        torch.testing.assert_close(posterior.mean[i], j @ w, rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(posterior.variance[i], j @ covariance @ j.T, rtol=1e-8, atol=1e-9)
        # The log predictive density is the conjugate one.
        law = torch.distributions.MultivariateNormal(j @ w, 0.6 * j @ covariance @ j.T + torch.diag(SIGMA.square()))
        assert float(posterior.log_prob(0.6)[i]) == pytest.approx(float(law.log_prob(data.y[n])), rel=1e-7)


def test_leave_one_out_of_a_tempered_likelihood_is_that_of_twice_the_noise() -> None:
    """Gaussian noise to the power 1/4 pins the weights as much as noise of twice the size does."""
    target, data = linear_gaussian()
    wide = dataclasses.replace(target, likelihood=Normal(log_sigma=(2 * SIGMA).log()))
    tempered = dataclasses.replace(target, likelihood_temperature=4.0)
    start = {k: w + 0.3 for k, w in target.params().items()}  # no optimum: early stopping counts too
    found, expected = (reference(t, start, data, seed=0) for t in (tempered, wide))
    assert found.damping == pytest.approx(expected.damping, rel=1e-6)
    torch.testing.assert_close(found.mean, expected.mean)
    assert found.curvature is not None
    assert expected.curvature is not None
    torch.testing.assert_close(found.of(found.curvature).variance, expected.of(expected.curvature).variance)


def classification(net: nn.Module, n: int, precision: float) -> tuple[Target, Data, Params]:
    """Three classes in four dimensions, with overlap; trained to the minimum."""
    x = draw(n, 4)
    y = (x @ draw(4, 3, seed=1) + 1.5 * draw(n, 3, seed=2)).argmax(1)
    target = Target(net, prior=Gaussian(precision=precision, per="all"))
    return target, Data(x, y), newton(target, x, y, target.params())


def shifts(target: Target, data: Data, params: Params) -> tuple[Tensor, Tensor, LeaveOneOut, Tensor]:
    """Leave-one-out's shifts of the outputs and those of refits; the posterior and the refits' outputs."""
    found = reference(target, params, data, seed=0)
    assert found.structure == "exact"
    order = torch.tensor([int((data.x == row).all(1).nonzero()[0, 0]) for row in found.x])
    refits = brute_force(target, data, params)[order]
    f = target.forward(params, found.x).detach()
    assert found.curvature is not None
    return found.mean - f, refits - f, found.of(found.curvature), refits


def test_leave_one_out_of_logistic_regression_is_close_to_refits() -> None:
    target, data, params = classification(seeded(nn.Linear, 4, 3), 24, 0.5)
    mine, true, posterior, refits = shifts(target, data, params)
    assert float((mine - true).norm() / true.norm()) < 0.12
    score = float(posterior.log_prob().mean())
    brute = float(Categorical().log_prob(refits, posterior.y).mean())
    train = float(Categorical().log_prob(target.forward(params, data.x), data.y).mean())
    assert abs(score - brute) < 0.1 * (train - brute)


def test_leave_one_out_of_a_small_network_is_close_to_refits() -> None:
    net = seeded(lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)))
    target, data, params = classification(net, 40, 1.0)
    mine, true, posterior, refits = shifts(target, data, params)
    assert torch.corrcoef(torch.stack([mine.flatten(), true.flatten()]))[0, 1] > 0.9
    score = float(posterior.log_prob().mean())
    brute = float(Categorical().log_prob(refits, posterior.y).mean())
    train = float(Categorical().log_prob(target.forward(params, data.x), data.y).mean())
    # With 27 weights and 40 examples the network's curvature counts: first order sees the optimism to a third.
    assert abs(score - brute) < (train - brute) / 3


def test_without_self_inverts_what_the_example_contributes() -> None:
    a, factor = draw(5, 3, 3), 0.3 * draw(5, 3, 2, seed=1)
    v = a @ a.mT
    h = torch.linalg.inv(torch.linalg.inv(v) + factor @ factor.mT)
    found, cut = without_self(h, factor)
    torch.testing.assert_close(found, v, rtol=1e-8, atol=1e-10)
    assert cut == 0
    # An example that the covariance does not know about cannot be taken out of it: the leverage is cut off.
    found, cut = without_self(v * 1e4, factor)
    assert cut == 5
    assert torch.isfinite(found).all()


def test_early_stopping_is_measured_as_the_precision_it_amounts_to() -> None:
    """The minimum of ``A(w) + τ/2 ‖w − w₀‖²`` for a quadratic A has exactly this τ."""
    target, data = linear_gaussian()
    w0 = flatten(target.params())
    mean, covariance = conjugate(data)
    h = torch.linalg.inv(covariance)
    for tau in (0.0, 3.0):
        stopped = torch.linalg.solve(h + tau * torch.eye(8).double(), h @ mean + tau * w0)
        params = unflatten(stopped, target.params())
        torch.testing.assert_close(
            flatten(full_gradient(target, params, data, seed=0)), -tau * (stopped - w0), rtol=1e-8, atol=1e-8
        )
        found = stopping_precision(target, params, data, data.x, data.y, copies=1, seed=0)
        assert found == pytest.approx(tau, abs=1e-6)
    assert stopping_precision(target, target.params(), data, data.x, data.y, copies=1, seed=0) == 0


def test_a_subset_stands_for_all() -> None:
    # Twenty copies of each of 60 examples, seen through a subset: the leverages are those of all data.
    target, _, _ = classification(seeded(nn.Linear, 4, 3), 60, 0.5)
    x, y = draw(60, 4).repeat(20, 1), (torch.arange(60) % 3).repeat(20)
    data = Data(x, y)
    params = newton(target, x, y, target.params())
    found = reference(target, params, data, seed=0, examples=700)
    full = reference(target, params, data, seed=0, examples=2_000)
    assert (len(found.y), len(full.y)) == (700, 1200)
    assert float(found.factor.norm() / full.factor.norm()) == pytest.approx(1.0, abs=0.02)
    scores = [float(Categorical().log_prob(r.mean, r.y).mean()) for r in (found, full)]
    assert scores[0] == pytest.approx(scores[1], abs=0.02)


def test_leading_columns_are_the_best_approximation() -> None:
    factor = Categorical().factor(2 * draw(6, 4), torch.zeros(6, dtype=torch.int64))
    whole, few = factor @ factor.mT, leading(factor, 2)
    values, vectors = torch.linalg.eigh(whole)
    best = (vectors[..., 2:] * values[:, None, 2:]) @ vectors[..., 2:].mT
    assert few.shape == (6, 4, 2)
    torch.testing.assert_close(few @ few.mT, best, rtol=1e-10, atol=1e-12)
    assert leading(factor, 4) is factor


def test_an_approximate_structure_borrows_the_means_and_keeps_its_variance() -> None:
    net = seeded(lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)))
    target, data, params = classification(net, 24, 0.5)
    found = reference(target, params, data, seed=0)
    curvature = kron(target.problem(params, data, seed=0))
    mine = found.of(curvature)
    assert torch.equal(mine.mean, found.mean)
    expected = laplace_posterior(target, params, data, structure="kron", check=False)
    torch.testing.assert_close(mine.variance, expected.functional_variance(found.x.unsqueeze(1)))


def test_a_predictive_that_is_too_wide_is_named_with_both_numbers() -> None:
    target, data, params = classification(seeded(nn.Linear, 4, 3), 200, 0.05)
    with pytest.warns(NovaculaWarning, match="is worse than its own point estimate"):
        hot = laplace_posterior(target, params, data, structure="exact", temperature=1_000.0)
    assert hot.held_out is not None
    mine, point, _ = hot.held_out.compare(1_000.0)
    (warning,) = hot.warnings
    assert f"{-mine:.4f}" in warning
    assert f"{-point:.4f}" in warning
    assert mine < point
    # The same covariance at another temperature is judged by itself.
    assert hot.with_temperature(1e-4).warnings == ()


def test_examples_of_too_much_influence_are_counted() -> None:
    # Interpolating logistic regression: every example holds its own outputs in place, and nothing else does.
    rng = torch.Generator().manual_seed(0)
    data = Data(draw(12, 40), torch.randint(3, (12,), generator=rng))
    target = Target(seeded(nn.Linear, 40, 3), prior=Gaussian(precision=1e-3, per="all"))
    loose = reference(target, newton(target, data.x, data.y, target.params()), data, seed=0)
    assert loose.cut > 6
    assert not loose.believable
    target, data, params = classification(seeded(nn.Linear, 4, 3), 60, 0.5)
    tight = reference(target, params, data, seed=0)
    assert tight.cut == 0
    assert tight.believable


def test_the_few_are_the_first_and_stand_for_all() -> None:
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3)))
    x = torch.rand(300, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = Data(x, torch.arange(300) % 3)
    target = Target(net, invariance=Affine(eta=torch.full((6,), 0.3)), copies=Copies(evidence=32))
    found = reference(target, target.params(), data, seed=0)
    assert (len(found.y), found.copies) == (256, 32)
    few = found.few
    assert len(few.y) == 20_000 // (32 * 3)
    assert torch.equal(few.mean, found.mean[: len(few.y)])
    assert few.problem(data, seed=1).scale == pytest.approx(300 / len(few.y))
    assert few.structure == found.structure


def test_a_reference_is_the_last_layer_where_the_whole_matrix_is_too_large() -> None:
    net = seeded(lambda: nn.Sequential(nn.Linear(4, 9_000), nn.Tanh(), nn.Linear(9_000, 3), nn.Tanh(), nn.Linear(3, 3)))
    data = Data(draw(600, 4), torch.arange(600) % 3)
    target = Target(net)
    found = reference(target, target.params(), data, seed=0)
    assert found.structure == "last_layer"
    assert len(found.y) == 600
    # Nothing is affordable where no linear layer ends the network.
    bare = Target(seeded(lambda: nn.Sequential(nn.Linear(4, 9_000), nn.Tanh(), nn.Linear(9_000, 3), nn.Tanh())))
    fit = reference(bare, bare.params(), data, seed=0)
    assert fit.structure == "fit"
    torch.testing.assert_close(fit.mean, bare.forward(bare.params(), fit.x).detach())


# ------------------------------------------------------------------ fixed copies


def test_all_inputs_meet_the_same_transformations_and_small_batches_change_nothing() -> None:
    x = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3)))
    target = Target(net, invariance=Affine(eta=torch.full((6,), 0.3)), copies=Copies(predict=4))
    same = fixed_copies(target, x[:1].expand(5, 1, 6, 6), 4, seed=2)
    assert torch.equal(same, same[:1].expand_as(same))
    assert not torch.equal(same[0, 0], same[0, 1])
    w = target.params()
    whole = fixed_outputs(target, w, x, copies=4, seed=2)
    parts = torch.cat([fixed_outputs(target, w, part, copies=4, seed=2) for part in x.split(2)])
    torch.testing.assert_close(whole, parts, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(fixed_outputs(target, w, x, copies=4, seed=2, chunk=1), whole, rtol=1e-12, atol=1e-12)
    each = fixed_outputs(target, w, x, copies=4, seed=2, average=False)
    torch.testing.assert_close(each.mean(1), whole)


def test_the_exact_curvature_is_the_one_the_posterior_reports() -> None:
    target, data = linear_gaussian()
    post = laplace_posterior(target, target.params(), data, structure="exact", check=False)
    assert post.structure == "exact"
    torch.testing.assert_close(post.curvature.dense(), exact(target.problem(post.mode, data, seed=1)).dense())
