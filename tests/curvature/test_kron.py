"""Kronecker factors against formulas written out by hand, and everything made of them against dense matrices."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor, nn
from torch.nn import functional as F

from novacula.core.errors import InputError, NonFiniteError, NovaculaWarning
from novacula.core.forward import Forward
from novacula.core.params import Params, flatten, unflatten
from novacula.core.rng import generator
from novacula.curvature.gradients.capture import Captured
from novacula.curvature.problem import Problem
from novacula.curvature.structures import kron_covariance
from novacula.curvature.structures.kron import Kron, kron
from zoo import ZOO, Case, case, gaussian, naive_dense, naive_rows

Sharing = Literal["expand", "reduce"]
SIGMA = torch.tensor([0.2, -0.4], dtype=torch.float64)
LAYERS = {  # The parameters of linear and convolution layers that are used nowhere else; others are named as fallbacks.
    "conv_transpose": {"3.weight", "3.bias"},
    "group_norm": {"0.weight", "0.bias", "4.weight", "4.bias"},
    "batch_norm": {"0.weight", "0.bias", "4.weight", "4.bias", "6.weight", "6.bias"},
    "layer_norm": {"0.weight", "0.bias", "3.weight", "3.bias"},
    "attention": {"head.weight", "head.bias"},
    "attention_weights": {"head.weight", "head.bias"},
    "transformer": {f"{layer}.{k}" for layer in ("0.linear1", "0.linear2", "2") for k in ("weight", "bias")},
    "tied_functional": {"encode.bias", "head.weight", "head.bias"},
    "tied_embedding": {"mix.weight", "mix.bias"},
    "bare": {"head.weight", "head.bias"},
    "embedding": {"2.weight", "2.bias", "4.weight", "4.bias"},
    "residual": {"stem.weight", "conv.weight", "conv.bias", "head.weight", "head.bias"},
    "lstm": {"head.weight", "head.bias"},
}


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=generator(3, *shape), dtype=torch.float64)


def precisions(problem: Problem) -> Params:
    """A different 0-dim precision for each parameter."""
    return {name: torch.tensor(0.3 + 0.4 * i, dtype=torch.float64) for i, name in enumerate(problem.params)}


def dense_precision(problem: Problem, precision: Params) -> Tensor:
    """Λ as a matrix."""
    return flatten({name: precision[name].expand(w.shape) for name, w in problem.params.items()}).diag()


def parts(problem: Problem, matrix: Tensor) -> dict[str, Tensor]:
    """The diagonal blocks of a ``(P, P)`` matrix, by parameter."""
    sizes = [w.numel() for w in problem.params.values()]
    rows = matrix.split(sizes, 0)
    return {name: row.split(sizes, 1)[i] for i, (name, row) in enumerate(zip(problem.params, rows, strict=True))}


def check_blocks(problem: Problem, found: Kron, names: set[str] | None = None) -> None:
    """Assert that blocks agree with those of the dense GGN."""
    truth, blocks = parts(problem, naive_dense(problem)), parts(problem, found.dense())
    for name in names or set(truth):
        torch.testing.assert_close(blocks[name], truth[name], rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


def naive_factors(problem: Problem, sharing: Sharing) -> dict[str, tuple[Tensor, Tensor]]:
    """The formulas of the module's docstring, example by example, for an `nn.Sequential` of layers used once.

    Patches come from `F.unfold`, cotangents from one backward pass a column; copies are averaged at each position.
    """
    module = problem.forward.module
    assert isinstance(module, nn.Sequential)
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    for xs, y in problem.batches():
        for n in range(len(xs)):
            h, before, after = xs[n], {}, {}
            for name, layer in module.named_children():
                before[name], h = h, layer(h)
                after[name] = h
            f = h.mean(0, keepdim=True)
            columns = problem.factor(f, y[n : n + 1])[0].detach().unbind(-1)
            for name, layer in module.named_children():
                if isinstance(layer, nn.Conv2d):
                    a = F.unfold(before[name], layer.kernel_size, layer.dilation, layer.padding, layer.stride).mT
                elif isinstance(layer, nn.Linear):
                    a = before[name].reshape(len(xs[n]), -1, layer.in_features)
                else:
                    continue
                a = a.mean(0).detach()
                outer = torch.zeros(layer.weight.shape[0], layer.weight.shape[0], dtype=a.dtype)
                for v in columns:
                    (b,) = torch.autograd.grad(f[0], after[name], v, retain_graph=True)
                    b = b.sum(0)
                    b = b.flatten(1).T if isinstance(layer, nn.Conv2d) else b.reshape(-1, b.shape[-1])
                    for row in [b.sum(0)] if sharing == "reduce" else b:
                        outer += torch.outer(row, row)
                rows = [a.mean(0)] if sharing == "reduce" else a
                inner = torch.stack([torch.outer(row, row) for row in rows]).mean(0)
                old = sums.get(f"{name}.weight", (torch.zeros_like(inner), torch.zeros_like(outer)))
                sums[f"{name}.weight"] = (old[0] + inner / problem.size, old[1] + problem.scale * outer)
    return sums


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("sharing", ["expand", "reduce"])
@pytest.mark.parametrize("name", ["mlp", "mlp_rank_one", "linear_shared", "cnn", "group_norm", "batch_norm"])
def test_factors_are_the_formulas(name: str, sharing: Sharing, copies: int) -> None:
    problem = case(name).problem(5, copies, batch=2, scale=1.7)
    found = parts(problem, kron(problem, sharing=sharing).dense())
    truth = naive_factors(problem, sharing)
    assert truth
    for weight, (a, b) in truth.items():
        torch.testing.assert_close(found[weight], torch.kron(b, a))


def test_trace_of_a_convolution() -> None:
    """By hand: the trace of expand is (mean squared patch norm) · (sum of squared cotangents over positions)."""
    module = nn.Sequential(nn.Conv2d(1, 2, 2, bias=False), nn.Flatten(), nn.Linear(8, 1, bias=False)).double()
    problem = Problem(
        Forward(module),
        Forward(module).params(),
        lambda: iter([(x.unsqueeze(1), torch.zeros(3, 1))]),
        lambda f, y: torch.full_like(f, 2.0).unsqueeze(-1),
        size=3,
    )
    x = randn(3, 1, 3, 3)
    head = module[2].weight.detach()
    patches = sum(float(x[n, 0, i : i + 2, j : j + 2].square().sum()) for n in range(3) for i in (0, 1) for j in (0, 1))
    expected = patches / (3 * 4) * 3 * 4 * float(head.square().sum())
    assert float(parts(problem, kron(problem).dense())["0.weight"].trace()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
@pytest.mark.parametrize("copies", [1, 3])
def test_exact_for_deep_linear_networks(sharing: Sharing, copies: int) -> None:
    module = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(3, 2)).double()
    linear = Case("deep", lambda: module, (4,), 2, gaussian(SIGMA))
    problem = linear.problem(6, copies, batch=4, scale=0.8)
    check_blocks(problem, kron(problem, sharing=sharing))


def test_reduce_is_exact_for_linear_networks_that_pool() -> None:
    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(2, 3, (2, 3)),
            nn.Conv2d(3, 4, 2, padding="same", padding_mode="circular", bias=False),  # all positions count alike
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 2),
        )

    problem = Case("pooling", build, (2, 4, 5), 2, gaussian(SIGMA)).problem(5, 2, batch=3)
    check_blocks(problem, kron(problem, sharing="reduce"))
    expanded = parts(problem, kron(problem, sharing="expand").dense())
    assert not torch.allclose(expanded["0.weight"], parts(problem, naive_dense(problem))["0.weight"], rtol=0.1)


def test_grouped_convolutions_are_blocks_of_groups() -> None:
    """Depthwise, one position: every group is a linear layer of its own, exact with a Gaussian likelihood."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 6, (2, 3), groups=3), nn.Flatten(), nn.Linear(6, 2))

    problem = Case("grouped", build, (3, 2, 3), 2, gaussian(SIGMA)).problem(5, 2, batch=3)
    truth, found = parts(problem, naive_dense(problem)), parts(problem, kron(problem).dense())
    mask = torch.block_diag(*[torch.ones(12, 12, dtype=torch.bool)] * 3)
    torch.testing.assert_close(found["0.weight"][mask], truth["0.weight"][mask])
    assert not found["0.weight"][~mask].any()


@pytest.mark.parametrize("c", ZOO, ids=lambda c: c.name)
def test_zoo_fallbacks_are_named_and_exact(c: Case) -> None:
    problem = c.problem(5, 2, batch=2, scale=1.3)
    found = kron(problem)
    assert found.structure == "kron"
    assert found.names == tuple(problem.params)
    layers = LAYERS.get(c.name, set(problem.params))
    assert found.fallback == {name: "exact block" for name in problem.params if name not in layers}
    exact = set(found.fallback) | {name for name in layers if name.endswith("bias")}
    if exact:
        check_blocks(problem, found, exact)
    reference = naive_rows(problem).flatten(0, 1).square().sum(0)
    diagonals = unflatten(reference, problem.params)
    cheap = kron(problem, fallback="diagonal", exact_up_to=0)
    for name in exact:
        torch.testing.assert_close(cheap.diagonal()[name], diagonals[name], atol=1e-12, rtol=1e-9)
        assert cheap.fallback[name] == "diagonal"
    if exact:
        assert min(exact) in cheap.warnings[0]
    else:
        assert not cheap.warnings


@pytest.mark.parametrize("name", ["mlp", "mlp_rank_one", "linear_only", "tied_modules", "repeated", "buffered"])
def test_traces_are_near_the_truth(name: str) -> None:
    """A factor N, R or C too large or too small would show; the gap is KFAC's independence assumption."""
    problem = case(name).problem(12, 1)
    assert float(kron(problem).dense().trace() / naive_dense(problem).trace()) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
@pytest.mark.parametrize("name", ["cnn", "scaled_dot_product", "repeated", "tied_embedding", "group_norm"])
def test_equal_copies_count_as_one(name: str, sharing: Sharing) -> None:
    one = case(name).problem(4, 1)
    four = replace(one, batches=lambda: ((xs.expand(-1, 4, *xs.shape[2:]), y) for xs, y in one.batches()))
    torch.testing.assert_close(kron(four, sharing=sharing).dense(), kron(one, sharing=sharing).dense())


def test_batches_and_scale() -> None:
    c = case("cnn")
    whole = kron(c.problem(6, 2, batch=6)).dense()
    torch.testing.assert_close(kron(c.problem(6, 2, batch=4)).dense(), whole)
    torch.testing.assert_close(kron(c.problem(6, 2, batch=1, scale=2.5)).dense(), 2.5 * whole)


def test_large_factors_fall_back() -> None:
    problem = case("cnn").problem(4, 2)
    found = kron(problem, factors_up_to=23)
    assert found.fallback == {"5.weight": "exact block"}
    check_blocks(problem, found, {"5.weight"})


@pytest.mark.parametrize("fallback", ["exact", "diagonal"])
@pytest.mark.parametrize("c", ZOO, ids=lambda c: c.name)
def test_log_determinant_spectrum_and_covariance(c: Case, fallback: Literal["exact", "diagonal"]) -> None:
    """All against the same H as a dense matrix."""
    problem = c.problem(5, 2)
    found, precision = kron(problem, fallback=fallback), precisions(problem)
    dense, prior = found.dense(), dense_precision(problem, precision)
    value, stderr = found.log_det(precision, scale=0.7)
    posterior = 0.7 * dense + prior
    expected = torch.linalg.slogdet(posterior)[1] - prior.diagonal().log().sum()
    assert float(value) == pytest.approx(float(expected), rel=1e-10)
    assert stderr == 0
    relative = found.eigenvalues(precision)
    for name, block in parts(problem, dense).items():
        eigenvalues = torch.linalg.eigvalsh(block) / precision[name]
        torch.testing.assert_close(relative[name,].sort().values, eigenvalues, atol=1e-10, rtol=1e-9)
    torch.testing.assert_close(flatten(found.diagonal()), dense.diagonal())

    covariance = found.covariance(precision, scale=0.7)
    v = unflatten(randn(len(dense)), problem.params)
    torch.testing.assert_close(flatten(covariance.solve(v)), torch.linalg.solve(posterior, flatten(v)))
    other = replace(problem, batches=lambda: iter([(c.inputs(3, 4), c.labels(3))]), size=3, scale=1.0)
    other = replace(other, factor=lambda f, y: torch.eye(f.shape[1], dtype=f.dtype).expand(len(f), -1, -1))
    jacobian = naive_rows(other)
    truth = jacobian @ torch.linalg.solve(posterior, jacobian.mT)
    torch.testing.assert_close(covariance.variance(c.inputs(3, 4)), truth)


def test_variances_are_added_in_the_networks_order(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = case("transformer").problem(3, 1)
    covariance, seen = kron(problem).covariance(precisions(problem)), []
    product = kron_covariance.KronCovariance._product

    def spy(
        self: kron_covariance.KronCovariance, captured: Captured, name: str, gradients: list[list[Tensor]]
    ) -> Tensor:
        seen.append(name)
        return product(self, captured, name, gradients)

    monkeypatch.setattr(kron_covariance.KronCovariance, "_product", spy)
    covariance.variance(case("transformer").inputs(2, 1))
    assert seen == [name for name in problem.params if name in LAYERS["transformer"] and name.endswith("weight")]


@pytest.mark.parametrize("shape", [(1, 2), (2, 9), (4, 5), (9, 2)], ids=["one", "early", "pairs", "late"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("copies", [1, 2])
def test_every_contraction_of_the_variance(
    shape: tuple[int, int], groups: int, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions, kernel = shape
    layer = nn.Conv1d(2, 4, kernel, groups=groups)
    module = nn.Sequential(layer, nn.Tanh(), nn.Flatten(), nn.Linear(4 * positions, 3))
    c = Case("contraction", lambda: module, (2, positions + kernel - 1), 3)
    problem = c.problem(5, 1)
    found, precision = kron(problem), precisions(problem)
    covariance, xs = found.covariance(precision), randn(3, copies, 2, positions + kernel - 1)
    posterior = found.dense() + dense_precision(problem, precision)
    eye = replace(problem, factor=lambda f, y: torch.eye(3, dtype=f.dtype).expand(len(f), -1, -1), size=3)
    jacobian = naive_rows(replace(eye, batches=lambda: iter([(xs, torch.zeros(3))])))
    truth = jacobian @ torch.linalg.solve(posterior, jacobian.mT)
    for run in (kron_covariance._pairs, kron_covariance._jacobian):
        monkeypatch.setattr(kron_covariance, "_choose", lambda *_, run=run: (run, 1))
        torch.testing.assert_close(covariance.variance(xs), truth)
    monkeypatch.undo()
    monkeypatch.setattr(kron_covariance, "_FLOATS_RECORDED", 1)
    monkeypatch.setattr(kron_covariance, "_FLOATS_MULTIPLIED", 1)
    torch.testing.assert_close(covariance.variance(xs), truth)


def test_the_cheapest_contraction_is_chosen() -> None:
    chosen = {shape: kron_covariance._choose(*shape)[0] for shape in [(1, 10, 9, 9), (4, 10, 64, 64), (64, 2, 16, 9)]}
    assert [f.__name__ for f in chosen.values()] == ["_one_position", "_pairs", "_jacobian"]


def test_elementwise_precisions() -> None:
    """Exact for dense and diagonal blocks; the mean, with a warning, for Kronecker products."""
    problem = case("layer_norm").problem(5, 1)
    found = kron(problem)
    full = {
        name: torch.rand(w.shape, generator=generator(1, name), dtype=w.dtype) + 0.5
        for name, w in problem.params.items()
    }
    mean = {name: p.mean() if found.fallback.get(name) is None and p.ndim == 2 else p for name, p in full.items()}
    posterior = found.dense() + dense_precision(problem, mean)
    expected = torch.linalg.slogdet(posterior)[1] - dense_precision(problem, mean).diagonal().log().sum()
    assert float(found.log_det(mean).value) == pytest.approx(float(expected), rel=1e-10)
    with pytest.warns(NovaculaWarning, match=r"'[03]\.weight' takes one prior precision"):
        relative = found.eigenvalues(full)
    for name, block in parts(problem, found.dense()).items():
        whiten = mean[name].expand(problem.params[name].shape).flatten().rsqrt()
        want = torch.linalg.eigvalsh(whiten[:, None] * block * whiten)
        torch.testing.assert_close(relative[name,].sort().values, want, atol=1e-10, rtol=1e-9)
    with pytest.warns(NovaculaWarning, match="mean"):
        assert float(found.log_det(full).value) == pytest.approx(float(expected), rel=1e-10)
    with pytest.warns(NovaculaWarning, match="mean"):
        covariance = found.covariance(full)
    v = unflatten(randn(len(posterior)), problem.params)
    torch.testing.assert_close(flatten(covariance.solve(v)), torch.linalg.solve(posterior, flatten(v)))

    cheap = kron(problem, exact_up_to=0)
    posterior = cheap.dense() + dense_precision(problem, mean)
    expected = torch.linalg.slogdet(posterior)[1] - dense_precision(problem, mean).diagonal().log().sum()
    assert float(cheap.log_det(mean).value) == pytest.approx(float(expected), rel=1e-10)
    torch.testing.assert_close(flatten(cheap.covariance(mean).solve(v)), torch.linalg.solve(posterior, flatten(v)))


def test_constant_full_precisions_are_no_approximation() -> None:
    problem = case("mlp").problem(5, 1)
    found, precision = kron(problem), precisions(problem)
    full = {name: precision[name].expand(w.shape) for name, w in problem.params.items()}
    assert float(found.log_det(full).value) == pytest.approx(float(found.log_det(precision).value), rel=1e-12)


def test_samples_have_the_covariance() -> None:
    """Squares of random projections of 2,000 draws follow χ²; 40 two-sided tests at 1e-7: false-alarm rate 4e-6."""
    problem = case("layer_norm").problem(5, 1)
    found, precision = kron(problem, exact_up_to=6), precisions(problem)
    assert set(found.fallback.values()) == {"exact block"}
    sigma = torch.linalg.inv(2 * found.dense() + dense_precision(problem, precision))
    covariance = found.covariance(precision, scale=2.0)
    draws = covariance.sample(2_000, generator(0, "draws"))
    assert all(draws[name].shape == (2_000, *w.shape) for name, w in problem.params.items())
    samples = flatten(draws, batch_dims=1)
    for u in randn(40, len(sigma)):
        statistic = float((samples @ u).square().sum() / (u @ sigma @ u))
        assert 0.5e-7 < chi2.cdf(statistic, 2_000) < 1 - 0.5e-7
    again = covariance.sample(2_000, generator(0, "draws"))
    assert all(torch.equal(draws[name], again[name]) for name in draws)


def test_float32_stays_float32_and_log_determinants_do_not() -> None:
    c = case("mlp")
    module = c.make().float()
    base = c.problem(4, 1, module=module)
    problem = replace(base, batches=lambda: ((xs.float(), y) for xs, y in base.batches()))
    found = kron(problem)
    precision = {name: torch.tensor(0.5) for name in problem.params}
    assert found.log_det(precision).value.dtype == torch.float64
    covariance = found.covariance(precision)
    assert covariance.variance(c.inputs(2, 1).float()).dtype == torch.float32
    assert all(s.dtype == torch.float32 for s in covariance.sample(1, generator(0)).values())


SMOOTH = ["mlp", "mlp_multilabel", "mlp_rank_one", "cnn", "conv1d", "group_norm", "transformer", "repeated", "lstm"]


@pytest.mark.parametrize("name, sharing", [*((n, "expand") for n in SMOOTH), ("cnn", "reduce"), ("repeated", "reduce")])
def test_gradients_against_finite_differences(name: str, sharing: Sharing) -> None:
    """In an extent that deforms the inputs, a noise level, the prior's precision and a scale."""
    c = case(name)
    base = c.problem(3, 2, batch=2)

    def value(theta: Tensor, *, differentiable: bool, two_pass: bool = False) -> Tensor:
        problem = replace(
            base,
            batches=lambda: ((xs * (1 + theta[0] * torch.cos(3 * xs)), y) for xs, y in base.batches()),
            factor=lambda f, y: c.factor(f, y) * torch.exp(-theta[1]),
            differentiable=differentiable,
        )
        precision = {n: torch.exp(theta[2]) * p for n, p in precisions(base).items()}
        return kron(problem, sharing=sharing, two_pass=two_pass).log_det(precision, scale=1 + theta[3]).value

    theta = torch.tensor([0.2, 0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(value(theta, differentiable=True), theta)
    (again,) = torch.autograd.grad(value(theta, differentiable=True, two_pass=True), theta)
    torch.testing.assert_close(again, found)
    step = 1e-4
    for i in range(4):
        shift = torch.zeros(4, dtype=torch.float64)
        shift[i] = step
        high, low = (value(theta.detach() + s * shift, differentiable=False) for s in (1, -1))
        assert float(found[i]) == pytest.approx(float((high - low) / (2 * step)), rel=1e-4, abs=1e-7)


def noise_problem(log_sigma: Tensor, *, differentiable: bool) -> Problem:
    """Only the noise is learned: the network's graph is not needed."""
    return case("mlp_regression").problem(5, 2, factor=gaussian(log_sigma), differentiable=differentiable)


def test_gradient_in_the_noise_alone() -> None:
    log_sigma = SIGMA.clone().requires_grad_()
    precision = precisions(noise_problem(SIGMA, differentiable=False))
    (found,) = torch.autograd.grad(
        kron(noise_problem(log_sigma, differentiable=True)).log_det(precision).value, log_sigma
    )
    step = 1e-5
    for i in range(2):
        shift = torch.zeros(2, dtype=torch.float64)
        shift[i] = step
        high, low = (
            kron(noise_problem(SIGMA + s * shift, differentiable=False)).log_det(precision).value for s in (1, -1)
        )
        assert float(found[i]) == pytest.approx(float((high - low) / (2 * step)), rel=1e-6)


def test_gradient_where_eigenvalues_coincide() -> None:
    """Two identical outputs: B has a double eigenvalue; compare with the gradient of the dense log-determinant."""
    module = nn.Linear(3, 2).double()
    extent = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    x = randn(4, 1, 3)
    forward = Forward(module)
    problem = Problem(
        forward,
        forward.params(),
        lambda: iter([(x * torch.cos(extent * x), torch.zeros(4))]),
        lambda f, y: torch.eye(2, dtype=f.dtype).expand(len(f), 2, 2),
        size=4,
        differentiable=True,
    )
    precision = {name: torch.tensor(0.5, dtype=torch.float64) for name in problem.params}
    (found,) = torch.autograd.grad(kron(problem).log_det(precision).value, extent)
    dense = kron(problem).dense()
    (expected,) = torch.autograd.grad(torch.logdet(dense + 0.5 * torch.eye(len(dense), dtype=dense.dtype)), extent)
    assert float(found) == pytest.approx(float(expected), rel=1e-10)


def test_without_differentiability_nothing_is_recorded() -> None:
    log_sigma = SIGMA.clone().requires_grad_()
    problem = noise_problem(log_sigma, differentiable=False)
    extent = torch.ones((), dtype=torch.float64, requires_grad=True)
    moved = replace(problem, batches=lambda: ((xs * extent, y) for xs, y in problem.batches()))
    found = kron(moved)
    assert not found.dense().requires_grad
    assert not found.log_det(precisions(problem)).value.requires_grad


def test_prior_tuning_reuses_the_eigendecomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = case("cnn").problem(4, 1)
    found = kron(problem)
    first = float(found.log_det(precisions(problem)).value)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("decomposed again")

    monkeypatch.setattr(torch.linalg, "eigh", fail)
    log_precision = torch.zeros((), dtype=torch.float64, requires_grad=True)
    for _ in range(3):
        value = found.log_det({n: p * log_precision.exp() for n, p in precisions(problem).items()}).value
        value.backward()
        assert float(value.detach()) == pytest.approx(first, rel=1e-12)
    found.covariance(precisions(problem))


@pytest.mark.parametrize("option", [{"sharing": "both"}, {"fallback": "none"}])
def test_unknown_options(option: dict[str, str]) -> None:
    with pytest.raises(InputError, match=next(iter(option.values()))):
        kron(case("mlp").problem(3, 1), **option)  # type: ignore[arg-type]


def test_no_data_and_missing_precisions() -> None:
    problem = case("mlp").problem(3, 1)
    with pytest.raises(InputError, match="at least one example"):
        kron(replace(problem, batches=lambda: iter(())))
    precision = precisions(problem)
    del precision["0.bias"]
    for use in (Kron.log_det, Kron.covariance):
        with pytest.raises(InputError, match=r"0\.bias"):
            use(kron(problem), precision)
        with pytest.raises(InputError, match="positive"):
            use(kron(problem), {**precision, "0.bias": torch.tensor(-1.0)})


def test_no_examples_to_predict() -> None:
    c = case("mlp")
    problem = c.problem(3, 1)
    assert kron(problem).covariance(precisions(problem)).variance(c.inputs(2, 1)[:0]).shape == (0, 3, 3)


def test_non_finite_data() -> None:
    problem = case("cnn").problem(4, 1)
    spoilt = replace(problem, batches=lambda: ((xs / (xs - xs[0, 0, 0, 0, 0]), y) for xs, y in problem.batches()))
    with pytest.raises(NonFiniteError, match=r"0\.weight"):
        kron(spoilt)
