"""A prior and a likelihood of a stranger's through all layers: a precision for each weight, and counts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import Tensor, nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.params import Params, flatten, unflatten
from novacula.curvature.structures.names import Structure
from novacula.evidence import ELBO, Laplace, LinearGaussian, tune
from novacula.likelihoods import Likelihood, Normal
from novacula.posteriors import laplace_posterior
from novacula.posteriors.leave_one_out.reference import reference
from novacula.prediction import choose, conformal, evaluate
from novacula.prediction.scores.by_example import by_example
from novacula.priors import Gaussian, Prior
from strangers import Fading, Poisson

STRUCTURES: tuple[Structure, ...] = ("exact", "kron", "diag", "last_layer", "matrix_free")
SIGMA = torch.tensor([0.4, 0.9], dtype=torch.float64)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def theta(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def precisions(prior: Prior, params: Params) -> Tensor:
    """λ of every weight, ``(P,)``: of `Fading` from its definition."""
    if not isinstance(prior, Fading):
        return flatten({k: p.expand(params[k].shape) for k, p in prior.precision(params).items()})
    places = {k: torch.ones(w.shape).cumsum(-1) if w.ndim else torch.ones(()) for k, w in params.items()}
    return flatten({k: prior.theta.detach().exp() * v.double() ** 2 for k, v in places.items()})


def newton(target: nv.Target, data: nv.Data, start: Params | None = None) -> Params:
    """The mode, by damped Newton steps on the negative log-joint."""
    like = target.params()

    def objective(v: Tensor) -> Tensor:
        w = unflatten(v, like)
        return -target.likelihood.log_prob(target.forward(w, data.x), data.y).sum() - target.prior.log_prob(w)

    v = flatten(start or like)
    for _ in range(200):
        g, h = torch.func.grad(objective)(v), torch.func.jacrev(torch.func.grad(objective))(v)
        if float(g.norm()) < 1e-10:
            break
        values, vectors = torch.linalg.eigh(h)
        step, size = vectors @ ((vectors.T @ g) / values.abs().clamp(min=1e-3)), 1.0
        while float(objective(v - size * step)) > float(objective(v)) and size > 1e-6:
            size /= 2
        v = v - size * step
    return unflatten(v.detach(), like)


def jacobian(target: nv.Target, params: Params, x: Tensor) -> Tensor:
    """``∂f/∂w``, ``(N, C, P)``, by autograd's own functional."""
    found = torch.autograd.functional.jacobian(lambda v: target.forward(unflatten(v, params), x), flatten(params))
    assert isinstance(found, Tensor)
    return found


def by_brute_force(target: nv.Target, params: Params, data: nv.Data) -> Tensor:
    """The Gauss–Newton matrix, with the Hessian in the outputs taken of ``−log p`` itself."""
    j, f = jacobian(target, params, data.x), target.forward(params, data.x).detach()
    total = torch.zeros(j.shape[2], j.shape[2], dtype=torch.float64)
    for n in range(data.n):

        def loss(g: Tensor, n: int = n) -> Tensor:
            return -target.likelihood.log_prob(g[None], data.y[n : n + 1])[0]

        h = torch.autograd.functional.hessian(loss, f[n])
        assert isinstance(h, Tensor)
        total += j[n].T @ h @ j[n]
    return total


def factors(target: nv.Target, params: Params, data: nv.Data) -> Tensor:
    """The Kronecker factors of one linear layer, ``B ⊗ A`` with ``A = XᵀX/N``, beside the exact block of its bias."""
    f = target.forward(params, data.x).detach()
    b = (target.likelihood.factor(f, data.y) ** 2).sum(0)
    return torch.block_diag(torch.kron(b, data.x.T @ data.x / data.n), b)


def expected(structure: Structure, h: Tensor, lam: Tensor, kron: Tensor) -> tuple[Tensor, Tensor]:
    """H and λ as a structure has them, of one linear layer with 3 inputs and 2 outputs."""
    if structure == "diag":
        return h.diagonal().diag(), lam
    if structure == "kron":  # one precision for all of a weight
        return kron, torch.cat([lam[:6].mean().expand(6), lam[6:]])
    return h, lam


# ------------------------------------------------------------------ one layer, Gaussian noise: closed forms


def linear(prior: Prior, n: int = 9) -> tuple[nv.Target, nv.Data]:
    """Three inputs, two outputs with noises of their own."""
    x = draw(n, 3)
    y = x @ draw(3, 2, seed=1) + 0.3 + SIGMA * draw(n, 2, seed=2)
    torch.manual_seed(1)
    return nv.Target(nn.Linear(3, 2).double(), Normal(log_sigma=SIGMA.log()), prior), nv.Data(x, y)


def closed_form(data: nv.Data, value: float) -> float:
    """Output d is ``N(0, σ_d² I + X diag(λ_w)⁻¹ Xᵀ + 1 1ᵀ/λ_bd)`` with ``λ_wi = (1 + i)² e^θ``, ``λ_bd`` alike."""
    x, y, total = data.x.numpy(), data.y.numpy(), 0.0
    for d in range(2):
        k = x @ np.diag(1 / np.array([1.0, 4.0, 9.0])) @ x.T / math.exp(value)
        k = k + 1 / (math.exp(value) * (1 + d) ** 2) + float(SIGMA[d]) ** 2 * np.eye(data.n)
        total += stats.multivariate_normal(np.zeros(data.n), k).logpdf(y[:, d])
    return float(total)


@pytest.mark.parametrize("estimator", [LinearGaussian(), Laplace("exact"), Laplace("last_layer")])
def test_evidence_and_its_gradient_have_their_closed_form(estimator: LinearGaussian | Laplace) -> None:
    leaf = theta(-0.3).requires_grad_()
    target, data = linear(Fading(leaf))
    found = estimator(target, data, {k: 3 + w for k, w in target.params().items()}, seed=0)
    assert found.kind == "exact"
    assert float(found) == pytest.approx(closed_form(data, -0.3), rel=1e-10)
    slope = (closed_form(data, -0.3 + 1e-5) - closed_form(data, -0.3 - 1e-5)) / 2e-5
    (gradient,) = torch.autograd.grad(found.value, leaf)
    assert float(gradient) == pytest.approx(slope, rel=1e-7)


def test_the_bound_is_the_evidence_where_the_posterior_is_exact() -> None:
    """Within five standard errors of 100 pairs of draws: 2 false alarms in 10⁶. The divergence has no noise."""
    leaf = theta(-0.3).requires_grad_()
    target, data = linear(Fading(leaf))
    found = ELBO("exact", samples=200)(target, data, newton(linear(Fading(theta(-0.3)))[0], data), seed=0)
    assert abs(float(found) - closed_form(data, -0.3)) < 5 * found.stderr
    slope = (closed_form(data, -0.3 + 1e-5) - closed_form(data, -0.3 - 1e-5)) / 2e-5
    (gradient,) = torch.autograd.grad(found.value, leaf)
    assert float(gradient) == pytest.approx(slope, rel=1e-7)


def test_leave_one_out_is_that_of_refits() -> None:
    target, data = linear(Fading(theta(-0.3)))
    mode, lam = newton(target, data), precisions(target.prior, target.params())
    found = reference(target, mode, data, seed=0)
    assert found.curvature is not None
    posterior = found.of(found.curvature)
    noise, laws, points = SIGMA.square(), [], []
    j = jacobian(target, mode, data.x)
    for i, row in enumerate(found.x):
        n = int((data.x == row).all(1).nonzero()[0, 0])
        rest = torch.arange(data.n) != n
        v = torch.linalg.inv(torch.einsum("ncp,c,ncq->pq", j[rest], 1 / noise, j[rest]) + lam.diag())
        mean = j[n] @ v @ torch.einsum("ncp,c,nc->p", j[rest], 1 / noise, data.y[rest])
        law = torch.distributions.MultivariateNormal(mean, j[n] @ v @ j[n].T + noise.diag())
        laws.append(float(law.log_prob(data.y[n])))
        points.append(float(torch.distributions.Normal(mean, SIGMA).log_prob(data.y[n]).sum()))
        torch.testing.assert_close(posterior.mean[i], mean, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(posterior.log_prob(1.0), laws, rtol=1e-7)
    # The choice of a predictive goes by these numbers.
    scores = choose(target, mode, data, structures=("exact",), temperatures=(1.0,), seed=0).scores
    assert [s.nll for s in scores] == pytest.approx([-np.mean(points), -np.mean(laws)], rel=1e-7)


def test_a_part_of_a_tensor_needs_one_precision() -> None:
    target, data = linear(Fading())
    with pytest.raises(InputError, match="one precision for all of weight; got 3"):
        nv.infer(nv.Subnetwork(nv.MAP(), optimiser=None), target, data, steps=1, seed=0)


# ------------------------------------------------------------------ every structure, against brute force


def rates(prior: Prior, n: int = 25) -> tuple[nv.Target, nv.Data]:
    """Counts of two kinds, log-linear in three inputs."""
    x = draw(n, 3)
    f = 0.8 * x @ draw(3, 2, seed=1) + torch.tensor([0.2, 1.1])
    y = torch.poisson(f.exp(), generator=torch.Generator().manual_seed(3))
    torch.manual_seed(1)
    return nv.Target(nn.Linear(3, 2).double(), Poisson(), prior), nv.Data(x, y)


def models() -> dict[str, tuple[nv.Target, nv.Data]]:
    scales = Gaussian(log_precision=torch.tensor([0.7, -0.4], dtype=torch.float64))
    return {"prior": linear(Fading(theta(-0.3))), "likelihood": rates(scales), "both": rates(Fading(theta(0.5)))}


@pytest.mark.filterwarnings("ignore:the Kronecker block of 'weight' takes one prior precision")
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("model", ["prior", "likelihood", "both"])
def test_posterior_and_evidence_of_every_structure(model: str, structure: Structure) -> None:
    """Against matrices by hand. Lanczos on 8 weights is exact but for its 16 probes: within five standard errors."""
    target, data = models()[model]
    mode = newton(target, data)
    h, lam = by_brute_force(target, mode, data), precisions(target.prior, mode)
    h, used = expected(structure, h, lam, factors(target, mode, data))
    v = torch.linalg.inv(h + used.diag())
    posterior = laplace_posterior(target, mode, data, structure=structure, check=False)
    new = draw(4, 3, seed=9)
    j = jacobian(target, mode, new)
    torch.testing.assert_close(posterior.functional_variance(new.unsqueeze(1)), j @ v @ j.mT, rtol=1e-6, atol=1e-9)

    found = Laplace(structure)(target, data, mode, seed=0)
    fit = float(target.likelihood.log_prob(target.forward(mode, data.x), data.y).sum())
    square = float((lam * flatten(mode) ** 2).sum())
    whiten = used.rsqrt()
    occam = float(torch.linalg.slogdet(torch.eye(8) + whiten[:, None] * h * whiten)[1])
    assert abs(float(found) - (fit - square / 2 - occam / 2)) < 1e-7 + 5 * found.stderr
    assert (found.stderr > 0) == (structure == "matrix_free")


@pytest.mark.parametrize("structure", ["exact", "diag", "last_layer", "matrix_free"])
def test_networks_of_two_layers(structure: Structure) -> None:
    """Counts and a precision for each weight, where outputs are not linear in the weights."""
    torch.manual_seed(2)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    target, data = nv.Target(net, Poisson(), Fading(theta(0.2))), rates(Fading())[1]
    params = target.params()
    h, lam = by_brute_force(target, params, data), precisions(target.prior, params)
    j = jacobian(target, params, data.x[:5])
    if structure == "last_layer":
        h, lam, j = h[16:, 16:], lam[16:], j[:, :, 16:]
    elif structure == "diag":
        h = h.diagonal().diag()
    posterior = laplace_posterior(target, params, data, structure=structure, check=False)
    want = j @ torch.linalg.inv(h + lam.diag()) @ j.mT
    # Conjugate gradients stop at a residual of a thousandth.
    off = 2e-3 * float(want.max()) if structure == "matrix_free" else 1e-9
    torch.testing.assert_close(posterior.functional_variance(data.x[:5].unsqueeze(1)), want, rtol=1e-6, atol=off)


@pytest.mark.parametrize("structure", ["exact", "kron", "diag", "last_layer"])
@pytest.mark.parametrize("model", ["prior", "likelihood", "both"])
def test_tuning_finds_the_maximum(model: str, structure: Structure) -> None:
    """Of the formula by hand, by a search in one dimension: a common factor of all precisions (and no noise)."""
    target, data = models()[model]
    if model == "likelihood":
        target = nv.Target(target.network, Poisson(), Gaussian(log_precision=theta(0.7), per="all"))
    mode = newton(target, data)
    h, lam = by_brute_force(target, mode, data), precisions(target.prior, mode)
    h, used = expected(structure, h, lam, factors(target, mode, data))
    fit = float(target.likelihood.log_prob(target.forward(mode, data.x), data.y).sum())
    spectrum = torch.linalg.eigvalsh(used.rsqrt()[:, None] * h * used.rsqrt())
    square = float((lam * flatten(mode) ** 2).sum())

    def evidence(a: float) -> float:
        return fit - (math.exp(a) * square - 8 * a + float((math.exp(a) + spectrum).log().sum())) / 2

    best = optimize.minimize_scalar(lambda a: -evidence(a), bounds=(-5, 5), method="bounded", options={"xatol": 1e-10})
    found = tune(target, data, mode, structure=structure, learn=("prior",), seed=0)
    assert float(found.evidence.value) == pytest.approx(-float(best.fun), rel=1e-9)
    moved = precisions(found.target.prior, mode) / lam
    torch.testing.assert_close(moved, theta(float(best.x)).exp().expand(8), rtol=1e-5, atol=0)
    assert abs(float(best.x)) > 0.02
    told = [w for w in found.warnings if "takes one prior precision" in w]
    assert bool(told) == (structure == "kron" and model != "likelihood")


# ------------------------------------------------------------------ counts: leave-one-out, scores, sets


def test_leave_one_out_of_counts_is_close_to_refits() -> None:
    """One Newton step from the mode of all: less than a fifth of the shift is left."""
    target, data = rates(Fading(theta(0.5)), n=30)
    mode = newton(target, data)
    found = reference(target, mode, data, seed=0)
    assert found.curvature is not None
    order = [int((data.x == row).all(1).nonzero()[0, 0]) for row in found.x]
    refits = []
    for n in order:
        rest = torch.arange(data.n) != n
        refits.append(target.forward(newton(target, nv.Data(data.x[rest], data.y[rest]), mode), data.x[n : n + 1])[0])
    true, start = torch.stack(refits).detach(), target.forward(mode, data.x[order]).detach()
    assert float((found.mean - true).norm() / (true - start).norm()) < 0.2
    train, mine, brute = (float(Poisson().log_prob(f, data.y[order]).mean()) for f in (start, found.mean, true))
    assert abs(mine - brute) < 0.15 * (train - brute)
    # The predictive density of each is an integral over its Gaussian: here by 60 points of Gauss–Hermite.
    posterior = found.of(found.curvature)
    z, weight = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(60))
    pairs, shares = torch.cartesian_prod(z, z), torch.outer(weight, weight).flatten() / (2 * math.pi)
    f = posterior.mean.unsqueeze(1) + pairs @ torch.linalg.cholesky(posterior.variance).mT
    logs = Poisson().log_prob(f, data.y[order].unsqueeze(1))
    want = (logs + shares.log()).logsumexp(1).mean()
    assert float(posterior.log_prob(1.0).mean()) == pytest.approx(float(want), abs=0.02)


def test_scores_and_sets_of_counts_are_those_by_hand() -> None:
    target, data = rates(Fading(theta(0.5)), n=60)
    fresh = rates(Fading(), n=150)[1]
    test = nv.Data(fresh.x[60:], fresh.y[60:])
    posterior = laplace_posterior(target, newton(target, data), data, structure="exact", check=False)
    found = nv.predict(posterior, test.x)
    parts, whole = by_example(found, test.y), evaluate(found, test.y)
    assert set(parts) == {"nll", "rmse", "crps"}
    assert {k: float(v.mean()) for k, v in parts.items()} == pytest.approx({k: whole[k] for k in parts}, rel=1e-9)
    mass = stats.poisson.logpmf(test.y.numpy(), found.outputs.exp().numpy()).sum(-1)
    np.testing.assert_allclose(parts["nll"], np.log(found.outputs.shape[0]) - np.logaddexp.reduce(mass, 0), rtol=1e-9)
    # Sets: the 90 scores' ⌈91 · 0.8⌉-th smallest, by hand, for each of the two counts.
    rule = conformal.calibrate(found, test.y, alpha=0.2)
    miss = (test.y - found.mean()).abs().sort(0).values[math.ceil(91 * 0.8) - 1]
    sets = rule(found)
    torch.testing.assert_close(sets.high - found.mean(), miss.expand(90, 2))
    torch.testing.assert_close(found.mean() - sets.low, miss.expand(90, 2))


# ------------------------------------------------------------------ whole runs


@pytest.mark.filterwarnings("ignore:the Kronecker block")
@pytest.mark.parametrize("likelihood", [Normal(0.5), Poisson()], ids=["normal", "counts"])
def test_a_whole_run(likelihood: Likelihood, tmp_path: Path) -> None:
    """Learn, choose, predict, save, load, report: what is read back is what was found."""
    x = draw(90, 4)
    f = 0.9 * x[:, :1] - 0.3 * x[:, 1:2] + 0.4
    rng = torch.Generator().manual_seed(2)
    y = likelihood.sample(f, rng)
    data, test = nv.Data(x[:60], y[:60]), nv.Data(x[60:], y[60:])
    torch.manual_seed(0)
    target = nv.Target(nn.Linear(4, 1).double(), likelihood, Fading())
    fit = nv.learn(target, data, lr=0.05, epochs=40, seed=0)
    learned = fit.target.prior
    assert isinstance(learned, Fading)
    # Learned by gradient, it is where Newton's method takes it: within a nat of the best evidence there is.
    best = tune(fit.target, data, fit.params, structure="exact", seed=0)
    assert float(best.evidence.value) - 1 < float(fit.evidence)
    assert float(fit.evidence) > float(Laplace("exact")(target, data, fit.params, seed=0))
    for wanted, folder in (("laplace", tmp_path / "a"), ("ensemble:members=2", tmp_path / "b")):
        run = fit.with_posterior(wanted, steps=None if wanted == "laplace" else 40)
        found = nv.predict(run.posterior, test.x)
        record = run.save(folder, test=test)
        assert record["prior"]["name"] == "Fading"
        want = {k: float(v.log().mean().exp()) for k, v in learned.precision(fit.params).items()}
        assert record["prior"]["precision"] == pytest.approx(want, rel=1e-12)
        back = nv.study.load_run(folder, target=target, data=data)
        assert isinstance(back.target.prior, Fading)
        assert float(back.target.prior.theta) == float(learned.theta)
        torch.testing.assert_close(back.predict(test.x).mean(), found.mean())
        torch.testing.assert_close(back.predict(test.x).variance(), found.variance())
        page = Path(nv.report(folder)).read_text(encoding="utf-8")
        assert "weight" in page
        assert f"{record['test']['nll']:.3f}"[:-1] in page
