"""Every structure against the dense GGN, network by network, and every gradient against finite differences."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
import zoo
from novacula.core.errors import InputError, NonFiniteError, NovaculaWarning
from novacula.core.forward import Forward
from novacula.core.params import Params, flatten
from novacula.core.rng import generator
from novacula.core.units import Units
from novacula.curvature import diagonal, exact, last_layer, matrix_free, plan, rows, self_check
from novacula.curvature.gradients.jacobian import coverage_of, jacobian
from novacula.curvature.precision import precision_vector
from novacula.curvature.problem import Covariance, Curvature, LogDet, Problem
from novacula.curvature.structures.lanczos import conjugate_gradients
from novacula.curvature.structures.matrix_free import MatrixFree, estimate
from novacula.curvature.structures.names import STRUCTURES as STRUCTURE_NAMES
from novacula.curvature.structures.names import Structure, build
from zoo import IN_PLACE, ZOO, Case, case, naive_dense, naive_rows

every_network = pytest.mark.parametrize("network", [*ZOO, IN_PLACE], ids=lambda c: c.name)


def precisions(params: Params) -> Params:
    """A scalar for some tensors and one number for each weight for the others."""
    found = {}
    for i, (name, w) in enumerate(params.items()):
        shape = w.shape if i % 2 else ()
        found[name] = 0.5 + torch.rand(shape, generator=generator(1, name), dtype=torch.float64)
    return found


def expanded(precision: Params, params: Params) -> Tensor:
    return torch.cat([precision[k].expand(w.shape).flatten() for k, w in params.items()])


def jacobians(network: Case, n: int, s: int) -> Tensor:
    unit = lambda f, y: torch.eye(f.shape[1], dtype=f.dtype).expand(len(f), -1, -1)  # noqa: E731
    return naive_rows(network.problem(n, s, factor=unit))


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def agree(found: Curvature, h: Tensor, network: Case, problem: Problem) -> None:
    """Everything the protocol offers against dense linear algebra with ``h``."""
    params = {k: problem.params[k] for k in found.names}
    keep = torch.cat([torch.full((w.numel(),), k in params) for k, w in problem.params.items()])
    precision = precisions(problem.params)
    lam = expanded(precision, params)
    close(found.dense(), h)
    close(flatten(found.diagonal()), h.diagonal())
    posterior = 0.8 * h + torch.diag(lam)
    value, stderr = found.log_det(precision, scale=0.8)
    close(value, torch.logdet(posterior) - lam.log().sum())
    assert stderr == 0
    sigma = torch.linalg.inv(posterior)
    covariance = found.covariance(precision, scale=0.8)
    close(flatten(covariance.solve(problem.params)), sigma @ flatten(params))
    j = jacobians(network, 2, 3)[..., keep]
    close(covariance.variance(network.inputs(2, 3)), j @ sigma @ j.mT)


@every_network
def test_rows(network: Case) -> None:
    problem = network.problem(4, batch=4)
    xs, y = next(problem.batches())
    close(rows(problem, xs, y), naive_rows(problem), 1e-12)
    some = list(problem.params)[1::2] or list(problem.params)
    keep = torch.cat([torch.full((w.numel(),), k in some) for k, w in problem.params.items()])
    close(rows(problem, xs, y, names=some), naive_rows(problem)[..., keep], 1e-12)


@pytest.mark.parametrize("name", STRUCTURE_NAMES)
def test_structures_by_name_say_what_their_variances_know_of_examples(name: Structure) -> None:
    network = case("mlp")
    problem = network.problem(5)
    found = build(name, problem, seed=3)
    assert found.structure == name
    keep = torch.cat([torch.full((w.numel(),), k in found.names) for k, w in problem.params.items()])
    precision = precisions(problem.params)
    sigma = torch.linalg.inv(
        naive_dense(problem)[keep][:, keep] + torch.diag(expanded(precision, problem.params)[keep])
    )
    j = jacobians(network, 2, 3)[..., keep]
    covariance = replace(found, tolerance=1e-9) if isinstance(found, MatrixFree) else found
    gap = covariance.covariance(precision).variance(network.inputs(2, 3)) - j @ sigma @ j.mT
    assert (float(gap.abs().max()) < 1e-7) == (found.leverage != "approximate")
    assert bool(keep.all()) == (found.leverage != "part")


@every_network
@pytest.mark.parametrize("side", ["primal", "dual"])
def test_exact(network: Case, side: str) -> None:
    problem = network.problem(5, scale=1.7)
    agree(exact(problem, side=side), naive_dense(problem), network, problem)  # type: ignore[arg-type]


@every_network
def test_diagonal(network: Case) -> None:
    problem = network.problem(5, scale=1.7)
    agree(diagonal(problem), torch.diag(naive_dense(problem).diagonal()), network, problem)


@every_network
def test_last_layer(network: Case) -> None:
    problem = network.problem(5, scale=1.7)
    if network.name == "buffered":
        with pytest.raises(InputError, match="none of its"):
            last_layer(problem)
        found = last_layer(problem, "body.2")
        assert found.fallback.keys() == {"body.2.weight", "body.2.bias"}
    else:
        found = last_layer(problem)
        assert bool(found.fallback) == (network.name == "tied_embedding")
    keep = torch.cat([torch.full((w.numel(),), k in found.names) for k, w in problem.params.items()])
    agree(found, naive_dense(problem)[keep][:, keep], network, problem)


class Scored(nn.Module):
    """Logits at every position of a sequence, of which the last that is not padded, or their mean, is the output."""

    def __init__(self, way: str, *, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.score, self.way = nn.Linear(1, 3).double(), nn.Linear(3, 2, bias=bias).double(), way
        self.other = nn.Linear(3, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.body(x.unsqueeze(-1)).cumsum(1))
        logits = self.score(h)
        if self.way == "last":
            return logits[torch.arange(len(x)), (x != 0).sum(1) - 1]
        if self.way == "two heads":
            return logits.mean(1) + self.other(h[:, 0])
        return {"mean": logits.mean(1), "softmax": logits.log_softmax(-1).mean(1)}[self.way]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("way", ["last", "mean"])
def test_the_last_layer_may_score_every_position(way: str, bias: bool) -> None:
    net, rng = Scored(way, bias=bias), generator(3)
    x = torch.randn(6, 5, generator=rng, dtype=torch.float64)
    x[1, 3:], x[4, 1:] = 0, 0
    units = Units(y_mean=torch.tensor([0.3, -1.0]).double(), y_sd=torch.tensor([0.7, 2.0]).double())
    data = nv.Data(x, torch.tensor([0, 1, 1, 0, 1, 1]))
    for target in (nv.Target(net), nv.Target(net).in_units(units)):
        problem = target.problem(target.params(), data, seed=0)
        found = last_layer(problem)
        assert set(found.names) == {"score.weight", "score.bias"} - (set() if bias else {"score.bias"})
        assert not found.fallback
        keep = torch.cat([torch.full((w.numel(),), k in found.names) for k, w in problem.params.items()])
        whole = exact(problem).dense()
        close(found.dense(), whole[keep][:, keep])
        precision = {k: torch.tensor(1.5).double() for k in problem.params}
        sigma = torch.linalg.inv(whole[keep][:, keep] + 1.5 * torch.eye(int(keep.sum())).double())
        j = jacobian(plan(problem), x.unsqueeze(1))[..., keep]
        close(found.covariance(precision).variance(x.unsqueeze(1)), j @ sigma @ j.mT)


@pytest.mark.parametrize("way", ["softmax", "two heads"])
def test_a_layer_that_is_not_last_or_not_alone_is_none(way: str) -> None:
    target = nv.Target(Scored(way))
    data = nv.Data(torch.randn(4, 5, generator=generator(0)).double(), torch.tensor([0, 1, 1, 0]))
    with pytest.raises(InputError, match="none of its"):
        last_layer(target.problem(target.params(), data, seed=0))


@every_network
def test_matrix_free(network: Case) -> None:
    """Products, solves and predictions; the quadrature with P orthogonal probes has no error left."""
    problem = network.problem(3, scale=1.7)
    h = naive_dense(problem)
    found = matrix_free(problem, tolerance=1e-10)
    v = torch.randn(2, len(h), generator=generator(0), dtype=torch.float64)
    close(found.product(v), v @ h)
    close(replace(found, plan=replace(found.plan, batched=False)).product(v), v @ h)
    precision = precisions(problem.params)
    lam = expanded(precision, problem.params)
    sigma = torch.linalg.inv(0.8 * h + torch.diag(lam))
    covariance = found.covariance(precision, scale=0.8)
    close(flatten(covariance.solve(problem.params)), sigma @ flatten(problem.params), 1e-8)
    if len(h) < 32:
        probes = torch.eye(len(h), dtype=torch.float64) * len(h) ** 0.5
        value = estimate(found.plan, lam, 0.8, probes, 200, 1e-10).value
        close(value, torch.logdet(0.8 * h + torch.diag(lam)) - lam.log().sum(), 1e-8)
        j = jacobians(network, 2, 3)
        close(covariance.variance(network.inputs(2, 3)), j @ sigma @ j.mT, 1e-8)
        close(found.dense(), h)
        close(flatten(found.diagonal()), h.diagonal())


@every_network
def test_self_check_finds_exact_exact(network: Case) -> None:
    check = self_check(exact, network.problem(5, scale=1.7), examples=3)
    assert check.exact
    assert str(check) == "exact: exact to 1e-06 on 3 examples"


# ---------------------------------------------------------------------- gradients


class Inside(nn.Module):
    """A network that uses a tensor of the user's own, which is no parameter."""

    def __init__(self, inner: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.change(x))


class Learnable:
    """A problem that depends on ``theta`` in every way there is, and its prior precisions.

    ``theta``: an extent that warps the inputs, a log noise scale, a tensor inside the network, and two log precisions.
    """

    def __init__(self, network: Case, n: int, s: int, batch: int) -> None:
        self.network, self.batch, self.n = network, batch, n
        self.user = torch.zeros(())
        self.xs, self.y = network.inputs(n, s), network.labels(n)
        self.forward = Forward(Inside(network.make(), lambda x: x + self.user * torch.sin(x)))

    def __call__(self, theta: Tensor) -> tuple[Problem, Params]:
        eta, log_sigma, self.user, log_precision = theta[0], theta[1], theta[2], theta[3:5]

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            for x, t in zip(self.xs.split(self.batch), self.y.split(self.batch), strict=True):
                yield x + eta * torch.cos(3 * x), t

        def factor(f: Tensor, y: Tensor) -> Tensor:
            return self.network.factor(f, y) * torch.exp(-log_sigma)

        params = self.forward.params()
        problem = Problem(self.forward, params, batches, factor, self.n, scale=1.3, differentiable=True)
        precision = {}
        for i, (k, w) in enumerate(params.items()):
            pattern = torch.linspace(1, 2, w.numel(), dtype=torch.float64).reshape(w.shape) if i % 3 == 0 else 1.0
            precision[k] = log_precision[i % 2].exp() * pattern
        return problem, precision


THETA = torch.tensor([0.3, -0.2, 0.4, 0.5, -0.7], dtype=torch.float64)


def check_gradient(value: Callable[[Tensor], Tensor], tolerance: float = 1e-6) -> None:
    """Against central differences, in all components of theta."""
    theta = THETA.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(theta), theta)
    step = 1e-5
    with torch.no_grad():
        expected = torch.stack(
            [(value(THETA + e) - value(THETA - e)) / (2 * step) for e in step * torch.eye(5).double()]
        )
    assert bool((expected.abs() > 1e-4).all()), "every component matters"
    torch.testing.assert_close(gradient, expected, rtol=tolerance, atol=tolerance)


STRUCTURES: dict[str, Callable[[Problem, Params], LogDet]] = {
    "primal": lambda p, precision: exact(p, side="primal").log_det(precision, scale=0.9),
    "dual": lambda p, precision: exact(p, side="dual").log_det(precision, scale=0.9),
    "diagonal": lambda p, precision: diagonal(p).log_det(precision, scale=0.9),
    "last_layer": lambda p, precision: last_layer(p, _head(p)).log_det(precision, scale=0.9),
}


def _head(problem: Problem) -> str | None:
    names = [k.removesuffix(".weight") for k in problem.params if k.endswith(".weight")]
    return names[-1] if names[-1] in {"inner.head", "inner.body.2"} else None


SMOOTH = (
    "mlp",
    "mlp_regression",
    "cnn",
    "group_norm",
    "attention",
    "tied_functional",
    "bare",
    "residual",
    "lstm",
    "buffered",
)


@pytest.mark.parametrize("structure", list(STRUCTURES))
@pytest.mark.parametrize(("name", "batch"), [*((name, 2) for name in SMOOTH), ("mlp", 4), ("residual", 4), ("lstm", 4)])
def test_gradients(name: str, batch: int, structure: str) -> None:
    """In two batches, with recomputation, and in one, without."""
    learnable = Learnable(case(name), 4, 2, batch)
    check_gradient(lambda theta: STRUCTURES[structure](*learnable(theta)).value)


@pytest.mark.parametrize(("name", "batch"), [("mlp_regression", 2), ("bare", 4), ("layer_norm", 2)])
@pytest.mark.parametrize("differentiable", [True, False])
def test_matrix_free_gradients(name: str, batch: int, differentiable: bool) -> None:
    """P orthogonal probes leave no randomness: value and gradient are those of the exact structure, tested above."""
    learnable = Learnable(case(name), 4, 2, batch)
    theta = THETA.clone().requires_grad_()
    problem, precision = learnable(theta)
    problem = replace(problem, differentiable=differentiable)
    scale = (theta[3] / 2).exp()
    expected = exact(problem).log_det(precision, scale=scale).value
    made = matrix_free(problem).plan
    probes = torch.eye(made.weights, dtype=torch.float64) * made.weights**0.5
    vector = precision_vector(precision, problem.params, made.names)
    found = estimate(made, vector, scale, probes, 100, 1e-9).value
    close(found, expected, 1e-7)
    close(*(torch.autograd.grad(value, theta, retain_graph=True)[0] for value in (found, expected)), 1e-6)


def test_nothing_is_recorded_unless_asked_for() -> None:
    theta = THETA.clone().requires_grad_()
    problem, precision = Learnable(case("mlp"), 4, 2, 2)(theta)
    problem = replace(problem, differentiable=False)
    for side in ("primal", "dual"):
        found = exact(problem, side=side)  # type: ignore[arg-type]
        assert not found.matrix.requires_grad
        assert found.log_det(precision).value.requires_grad
    assert not any(v.requires_grad for v in diagonal(problem).values.values())
    assert not last_layer(problem).exact.matrix.requires_grad
    with torch.no_grad():
        assert not exact(replace(problem, differentiable=True)).matrix.requires_grad


def test_the_scale_is_differentiable() -> None:
    problem = case("mlp").problem(5)
    precision = precisions(problem.params)
    for found in (exact(problem, side="primal"), exact(problem, side="dual"), diagonal(problem), last_layer(problem)):
        scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        (g,) = torch.autograd.grad(found.log_det(precision, scale=scale).value, scale)
        up, down = (found.log_det(precision, scale=0.7 + e).value for e in (1e-5, -1e-5))
        close(g, (up - down) / 2e-5, 1e-7)


# ---------------------------------------------------------------------- one eigendecomposition


@pytest.mark.parametrize("side", ["primal", "dual"])
def test_spectrum_gives_every_multiple_of_a_pattern(side: str) -> None:
    problem = case("cnn").problem(6, scale=2.0)
    found = exact(problem, side=side)  # type: ignore[arg-type]
    pattern = precisions(problem.params)
    spectrum = found.spectrum(pattern)
    for c in (1e-6, 0.3, 40.0):
        for scale in (0.5, 3.0):
            expected = found.log_det({k: c * v for k, v in pattern.items()}, scale=scale).value
            close(spectrum.log_det(c, scale=scale).value, expected, 1e-8)
    c = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(spectrum.log_det(c).value, c)
    up, down = (found.log_det({k: (0.3 + e) * v for k, v in pattern.items()}).value for e in (1e-5, -1e-5))
    close(g, (up - down) / 2e-5, 1e-6)


def test_the_smaller_side_is_chosen() -> None:
    assert exact(case("mlp").problem(5)).side == "dual"  # 39 weights, 15 rows
    assert exact(case("mlp").problem(20)).side == "primal"
    assert exact(case("mlp_rank_one").problem(20)).side == "dual"  # 31 weights, 20 rows of one column each


# ---------------------------------------------------------------------- sampling


def covariances(problem: Problem, precision: Params) -> dict[str, Covariance]:
    return {
        "primal": exact(problem, side="primal").covariance(precision, scale=0.8),
        "dual": exact(problem, side="dual").covariance(precision, scale=0.8),
        "diagonal": diagonal(problem).covariance(precision, scale=0.8),
        "last_layer": last_layer(problem).covariance(precision, scale=0.8),
        "matrix_free": matrix_free(problem, tolerance=1e-8).covariance(precision, scale=0.8),
    }


@pytest.mark.parametrize("kind", ["primal", "dual", "diagonal", "last_layer", "matrix_free"])
def test_samples_have_the_covariance(kind: str) -> None:
    """Samples, whitened by the dense covariance, have unit covariance.

    n times the squared error of its estimate has mean P(P+1), and is below twice that but for a probability < 1e-6.
    """
    problem = case("mlp_regression").problem(4, scale=1.7)
    precision = precisions(problem.params)
    covariance = covariances(problem, precision)[kind]
    h = naive_dense(problem)
    names = tuple(problem.params)
    if kind == "last_layer":
        names = ("2.weight", "2.bias")
        keep = torch.cat([torch.full((w.numel(),), k in names) for k, w in problem.params.items()])
        h = h[keep][:, keep]
    h = torch.diag(h.diagonal()) if kind == "diagonal" else h
    params = {k: problem.params[k] for k in names}
    posterior = 0.8 * h + torch.diag(expanded(precision, params))
    n = 120 if kind == "matrix_free" else 600
    samples = covariance.sample(n, generator(3, kind))
    assert {k: v.shape for k, v in samples.items()} == {k: (n, *w.shape) for k, w in params.items()}
    white = flatten(samples, batch_dims=1) @ torch.linalg.cholesky(posterior)
    p = white.shape[1]
    error = white.T @ white / n - torch.eye(p, dtype=torch.float64)
    assert n * float(error.square().sum()) < 2 * p * (p + 1)
    assert float(white.mean(0).square().sum()) * n < 4 * p  # chi-square with P ≥ 10 degrees: below 1e-5
    again = covariance.sample(2, generator(3, kind))
    torch.testing.assert_close(again, covariance.sample(2, generator(3, kind)), rtol=0, atol=0)


def test_probes_are_unbiased_and_know_their_error() -> None:
    """60 probes; five standard errors are exceeded with probability 6e-6 (Student's t with 59 degrees of freedom)."""
    problem = case("layer_norm").problem(5, scale=1.7)
    precision = precisions(problem.params)
    expected = exact(problem).log_det(precision).value
    value, stderr = matrix_free(problem, probes=60, tolerance=1e-3).log_det(precision)
    assert abs(float(value - expected)) < 5 * stderr
    assert stderr < 0.2 * float(expected)


# ---------------------------------------------------------------------- precision of numbers


@pytest.mark.parametrize(
    "name", ["cnn", "lstm", "attention", "scaled_dot_product", "conv_transpose", "batch_norm", "bare"]
)
def test_single_precision(name: str) -> None:
    """Single-precision networks give double-precision log-determinants, right to single precision."""
    network = case(name)
    problem = network.problem(4)
    single = network.problem(4, module=network.make().float())
    batches = problem.batches
    single = replace(single, batches=lambda: ((x.float(), y) for x, y in batches()))
    precision = precisions(problem.params)
    expected = exact(problem).log_det(precision).value
    for found in (exact(single, side="primal"), exact(single, side="dual")):
        assert found.log_det(precision).value.dtype == torch.float64
        close(found.log_det(precision).value, expected, 1e-4)
    h, v = naive_dense(problem), torch.randn(1, plan(problem).weights, generator=generator(0), dtype=torch.float64)
    close(matrix_free(single).product(v), v @ h, 1e-4)
    variance = diagonal(single).covariance(precision).variance(network.inputs(2, 2).float())
    assert variance.dtype == torch.float32
    close(variance.double(), diagonal(problem).covariance(precision).variance(network.inputs(2, 2)), 1e-4)


# ---------------------------------------------------------------------- the self-check


def test_self_check_names_what_is_off() -> None:
    def wrong(problem: Problem) -> Curvature:
        found = exact(problem, side="primal")
        factor = torch.ones(len(found.matrix), dtype=torch.float64)
        factor[-3:] = 1.1  # the last bias: its curvature is 21 % too large
        return replace(found, matrix=factor.unsqueeze(1) * found.matrix * factor)

    check = self_check(wrong, case("mlp").problem(9))
    assert not check.exact
    assert list(check.off()) == ["2.bias"]
    assert check.errors["2.bias"].trace == pytest.approx(0.21, rel=1e-9)
    assert check.errors["2.bias"].diagonal == pytest.approx(0.21, rel=1e-9)
    assert "2.bias: trace off by 0.21, diagonal off by 0.21, log-det off by" in str(check)


def test_self_check_covers_the_other_structures() -> None:
    problem = case("cnn").problem(6)
    check = self_check(diagonal, problem)
    assert check.total.trace < 1e-10
    assert check.total.diagonal < 1e-10
    assert check.total.log_det > 0.1
    assert self_check(last_layer, problem).exact
    assert self_check(lambda p: matrix_free(p, probes=8), problem, examples=2).exact  # within four standard errors


def test_self_check_sees_networks_that_mix_examples() -> None:
    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x - x.mean(0))

    forward = Forward(Mixing().double())
    problem = case("layer_norm").problem(6)
    check = self_check(exact, Problem(forward, forward.params(), problem.batches, zoo.categorical, 6))
    assert not check.exact
    assert "outputs of one example depend on the others in its batch" in str(check)


# ---------------------------------------------------------------------- memory and errors


def test_chunks_halve_when_memory_runs_out() -> None:
    network = case("mlp")
    problem = network.problem(8, batch=8)
    expected = exact(problem).dense()

    def scarce(f: Tensor, y: Tensor) -> Tensor:
        if len(f) > 3:
            raise torch.OutOfMemoryError("no memory")
        return network.factor(f, y)

    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        found = exact(replace(problem, factor=scarce), side="primal")
    assert [w.category for w in record] == [NovaculaWarning, NovaculaWarning]
    assert str(record[0].message) == "out of memory with 8 examples at once: going on with 4"
    assert str(record[1].message) == "out of memory with 4 examples at once: going on with 2"
    close(found.dense(), expected)


def test_chunks_follow_the_budget() -> None:
    problem = case("cnn").problem(7, batch=7)
    made = plan(problem, budget=2 * 156 * 3 * 8)
    assert [len(x) for x, _ in made.chunks()] == [2, 2, 2, 1]


def test_coverage_is_measured_once() -> None:
    problem = case("mlp").problem(3)
    xs, _ = next(problem.batches())
    first = coverage_of(problem, xs)
    assert coverage_of(replace(problem, scale=2.0), xs).anchor is first.anchor
    assert coverage_of(problem, torch.cat([xs, xs], -1)[..., :5]).anchor is first.anchor
    assert coverage_of(case("mlp").problem(3), xs).anchor is not first.anchor


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("0.bias"), "a prior precision for '0.bias'"),
        (lambda p: p.update({"0.bias": torch.ones(3)}), "broadcasts to '0.bias' of shape \\(4,\\)"),
        (lambda p: p.update({"0.bias": torch.ones(2, 4)}), "broadcasts to '0.bias' of shape \\(4,\\)"),
        (lambda p: p.update({"0.bias": torch.tensor(0.0)}), "positive, finite precision for '0.bias'"),
        (lambda p: p.update({"0.bias": torch.tensor(math.inf)}), "positive, finite precision for '0.bias'"),
    ],
)
@pytest.mark.parametrize("structure", [exact, diagonal, matrix_free])
def test_bad_precisions(
    structure: Callable[[Problem], Curvature], change: Callable[[Params], object], message: str
) -> None:
    problem = case("mlp").problem(3)
    precision = precisions(problem.params)
    change(precision)
    with pytest.raises(InputError, match=message):
        structure(problem).log_det(precision)


def test_bad_arguments() -> None:
    problem = case("mlp").problem(3)
    with pytest.raises(InputError, match="side 'auto'"):
        exact(problem, side="both")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="two probes or more"):
        matrix_free(problem, probes=1)
    with pytest.raises(InputError, match="names among"):
        plan(problem, ["nonsense"])
    with pytest.raises(InputError, match="name of a layer"):
        last_layer(problem, "nonsense")
    with pytest.raises(InputError, match="trainable parameters in layer '1'"):
        last_layer(problem, "1")
    with pytest.raises(InputError, match="at least one batch"):
        exact(replace(problem, batches=lambda: iter([])))
    with pytest.raises(InputError, match="at least one example"):
        self_check(exact, replace(problem, batches=lambda: iter([])))
    with pytest.raises(InputError, match=r"a factor of shape \(3, 3, K\)"):
        exact(replace(problem, factor=lambda f, y: f))


def test_networks_that_return_nan_are_refused() -> None:
    problem = case("mlp").problem(3)
    with pytest.raises(NonFiniteError, match="finite network outputs"):
        exact(replace(problem, params={k: w * math.nan for k, w in problem.params.items()}))
    with pytest.raises(NonFiniteError, match="factor"):
        exact(replace(problem, factor=lambda f, y: zoo.categorical(f, y) * math.inf))


def test_matrices_that_would_not_fit_are_refused() -> None:
    problem = replace(case("mlp").problem(3), size=10**9)
    with pytest.raises(InputError, match="use structure='kron'"):
        exact(problem, side="dual")


def test_unconverged_solves_warn() -> None:
    problem = case("cnn").problem(6, scale=1e4)
    precision = precisions(problem.params)
    with pytest.warns(NovaculaWarning, match="stopped after 2 iterations"):
        MatrixFree(matrix_free(problem).plan, 4, 2, 1e-8, 0).log_det(precision)


def test_small_networks_multiply_several_vectors_at_once() -> None:
    assert matrix_free(case("cnn").problem(3)).plan.batched
    large = replace(case("mlp"), build=lambda: nn.Linear(300, 300), shape=(300,))
    assert not matrix_free(large.problem(1)).plan.batched


def test_products_that_are_no_numbers_end_conjugate_gradients() -> None:
    with pytest.raises(NonFiniteError, match=r"finite products with the curvature; got NaN or infinity"):
        conjugate_gradients(lambda v: v * math.nan, torch.ones(2, 3, dtype=torch.float64), 5, 1e-6)


def test_conjugate_gradients_alone() -> None:
    """On a small matrix: solution, quadratic form, a zero right-hand side, and one that is an eigenvector."""
    rng = generator(5)
    a = torch.randn(6, 4, generator=rng, dtype=torch.float64)
    b = torch.eye(6, dtype=torch.float64) + a @ a.T
    values, vectors = torch.linalg.eigh(b)
    z = torch.stack([torch.randn(6, generator=rng, dtype=torch.float64), torch.zeros(6).double(), 2 * vectors[:, 5]])
    u, quadratic, residual = conjugate_gradients(lambda v: v @ b, z, 20, 1e-12)
    close(u, torch.linalg.solve(b, z.T).T)
    close(quadratic, ((z @ vectors).square() * values.log()).sum(1))
    assert float(residual.max()) < 1e-10


@pytest.mark.parametrize("side", ["primal", "dual"])
def test_a_prior_that_rounding_hides_leaves_a_number_and_a_warning(side: str) -> None:
    """Precisions of 1e-17, data that leave many directions alone: the closed form by singular values of the rows."""
    network, tiny = case("mlp"), 1e-17
    problem = network.problem(5)
    g = torch.cat([r.flatten(0, 1) for r in (naive_rows(problem),)]).double()
    g = torch.cat([g, g[:1]])  # the dual, too, has a direction of nothing
    made = replace(exact(problem, side=side), matrix=g if side == "dual" else g.T @ g)  # type: ignore[arg-type]
    precision = {k: torch.tensor(tiny).double().requires_grad_() for k in problem.params}
    s = torch.linalg.svdvals(g)
    s = s[s > 1e-9 * s[0]]
    with pytest.warns(NovaculaWarning, match="so wide that rounding hides it"):
        value, _ = made.log_det(precision)
    close(value, (s.square() / tiny).log1p().sum(), 1e-6)
    value.backward()
    slope = sum(float(p.grad) * tiny for p in precision.values() if p.grad is not None)
    assert slope == pytest.approx(-len(s), rel=1e-6)  # −γ: each direction that the data know counts once
    with pytest.warns(NovaculaWarning, match="rounding"):
        covariance = made.covariance({k: p.detach() for k, p in precision.items()})
    known = torch.linalg.svd(g, full_matrices=False).Vh[0]
    solved = covariance.apply(known.unsqueeze(0))[0] if side == "primal" else None
    if solved is not None:
        assert float(solved @ known) == pytest.approx(float(s[0]) ** -2, rel=1e-3)
        drawn = flatten({k: v[:1] for k, v in covariance.sample(1, generator(0)).items()})
        assert bool(torch.isfinite(drawn).all())


def test_curvatures_of_nan_have_no_covariance() -> None:
    problem = case("mlp").problem(5)
    found = exact(problem, side="primal")
    with pytest.raises(NonFiniteError, match="NaN"):
        replace(found, matrix=found.matrix * math.nan).covariance(precisions(problem.params))
