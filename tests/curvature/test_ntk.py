"""The NTK-subset estimate against naive rows, its bounds, and its gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError, NonFiniteError
from novacula.core.forward import Forward
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.curvature import NTK, exact, ntk_gram
from novacula.curvature.problem import Problem
from zoo import IN_PLACE, ZOO, Case, case, categorical, naive_rows

every_network = pytest.mark.parametrize("network", [*ZOO, IN_PLACE], ids=lambda c: c.name)


def scalars(params: Params) -> Params:
    return {k: 0.5 + torch.rand((), generator=generator(1, k), dtype=torch.float64) for k in params}


def naive_log_det(rows: Tensor, precision: Params, params: Params, scale: float) -> Tensor:
    lam = torch.cat([precision[k].expand(w.shape).flatten() for k, w in params.items()])
    return torch.logdet(torch.eye(len(rows), dtype=torch.float64) + scale * (rows / lam) @ rows.T)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def by_position(found: NTK) -> NTK:
    """The same with every weight's Gram matrix from positions, whatever that costs, and small chunks."""
    made = found.plan
    matrices = {k for k in made.coverage.covered if k.endswith("weight") and made.problem.params[k].ndim > 1}
    return replace(found, by_position=frozenset(matrices), plan=replace(made, chunk=[2]))


@every_network
@pytest.mark.parametrize("two_pass", [False, True])
def test_all_outputs(network: Case, two_pass: bool) -> None:
    problem = network.problem(5, scale=1.7)
    params = problem.params
    rows = naive_rows(problem).flatten(0, 1) / 1.7**0.5
    precision = scalars(params)
    expected = 1.7 * naive_log_det(rows, precision, params, 0.8)
    found = ntk_gram(problem, outputs="all", two_pass=two_pass)
    for ntk in (found, by_position(found)):
        close(ntk.log_det(precision, scale=0.8).value, expected)
        assert ntk.grams.shape == (len(params), len(rows), len(rows))
        # Tensor by tensor, too.
        parts = rows.split([w.numel() for w in params.values()], 1)
        close(ntk.grams, torch.stack([g @ g.T for g in parts]))


@every_network
def test_sampled_rows_are_signed_sums_of_the_factor_columns(network: Case) -> None:
    problem = network.problem(5, scale=1.7)
    rows = naive_rows(problem) / 1.7**0.5
    signs = torch.randint(0, 2, rows.shape[:2], generator=generator(4, "signs")) * 2.0 - 1
    expected = 1.7 * naive_log_det(
        torch.einsum("nk,nkp->np", signs.double(), rows), scalars(problem.params), problem.params, 1.0
    )
    for two_pass in (False, True):
        for chunk in (1, 2, 5):
            found = ntk_gram(problem, seed=4, two_pass=two_pass)
            found = replace(found, plan=replace(found.plan, chunk=[chunk]))
            close(found.log_det(scalars(problem.params)).value, expected)


def test_other_seeds_give_other_rows() -> None:
    problem = case("mlp").problem(5)
    values = [float(ntk_gram(problem, seed=s).log_det(scalars(problem.params)).value) for s in (0, 1, 0)]
    assert values[0] == values[2] != values[1]


def test_random_signs_give_the_fisher_information_in_expectation() -> None:
    """100 draws of the trace of K; five standard errors are exceeded with probability 2e-6 (Student's t)."""
    problem = case("mlp").problem(4)
    expected = naive_rows(problem).square().sum()
    traces = [ntk_gram(problem, seed=s).grams.diagonal(dim1=1, dim2=2).sum() for s in range(100)]
    found = torch.stack(traces)
    assert abs(float(found.mean() - expected)) < 5 * float(found.std()) / 10


def test_a_score_replaces_the_signs() -> None:
    """The gradient of log p(ỹ|f̄) at a class that the score draws: e_ỹ − p."""
    problem = case("mlp").problem(5)

    def score(f: Tensor, rng: torch.Generator) -> Tensor:
        y = torch.multinomial(f.detach().softmax(-1), 1, generator=rng).squeeze(-1)
        return nn.functional.one_hot(y, f.shape[1]).to(f) - f.softmax(-1)

    drawn: list[Tensor] = []

    def keep(f: Tensor, rng: torch.Generator) -> Tensor:
        drawn.append(score(f, rng))
        return drawn[-1]

    found = ntk_gram(problem, score=keep, seed=2)
    value = found.log_det(scalars(problem.params)).value
    v = torch.cat(drawn).unsqueeze(-1)
    rows = naive_rows(replace(problem, batches=lambda: iter([(case("mlp").inputs(5, 2), torch.arange(5))]),
                              factor=lambda f, y: v[y])).flatten(0, 1)  # fmt: skip
    close(value, naive_log_det(rows, scalars(problem.params), problem.params, 1.0))


def test_the_whole_data_set_gives_the_exact_number() -> None:
    for name in ("cnn", "layer_norm", "mlp_rank_one"):
        problem = case(name).problem(6)
        precision = scalars(problem.params)
        close(ntk_gram(problem, outputs="all").log_det(precision).value, exact(problem).log_det(precision).value)


def test_bounds_for_subsets_and_sampling() -> None:
    """All partitions' blocks bound the exact number from above (Fischer), always.

    The mean over random rows lies below that of all rows (Jensen): 60 draws, five standard errors are exceeded with
    probability 6e-6.
    """
    network = case("mlp")
    problem = network.problem(8)
    precision = {k: 0.1 * v for k, v in scalars(problem.params).items()}
    whole = float(exact(problem).log_det(precision).value)
    xs, y = network.inputs(8, 2), network.labels(8)

    def part(i: int, m: int) -> Problem:
        return replace(problem, batches=lambda: iter([(xs[i : i + m], y[i : i + m])]), size=m, scale=8 / m)

    means = []
    for m in (8, 4, 2, 1):
        values = [float(ntk_gram(part(i, m), outputs="all").log_det(precision).value) for i in range(0, 8, m)]
        means.append(sum(values) / len(values))
    assert means[0] == pytest.approx(whole, rel=1e-10)
    assert means[0] < means[1] < means[2] < means[3]
    sampled = torch.tensor([float(ntk_gram(problem, seed=s).log_det(precision).value) for s in range(60)])
    assert float(sampled.mean()) + 5 * float(sampled.std()) / 60**0.5 < whole


def test_elementwise_precisions() -> None:
    """Given as a pattern, or only when the log-determinant is asked for."""
    for name in ("mlp", "cnn", "bare", "lstm"):
        problem = case(name).problem(5, scale=1.7)
        params = problem.params
        pattern = {
            k: 0.5 + torch.rand(w.shape, generator=generator(2, k), dtype=torch.float64) for k, w in params.items()
        }
        numbers = scalars(params)
        both = {k: numbers[k] * pattern[k] for k in params}
        rows = naive_rows(problem).flatten(0, 1) / 1.7**0.5
        expected = 1.7 * naive_log_det(rows, both, params, 0.8)
        for two_pass in (False, True):
            given = ntk_gram(problem, outputs="all", pattern=pattern, two_pass=two_pass)
            close(given.log_det(numbers, scale=0.8).value, expected)
            asked = ntk_gram(problem, outputs="all", two_pass=two_pass)
            close(asked.log_det(both, scale=0.8).value, expected)
            some = dict(list(pattern.items())[:2])
            mixed = ntk_gram(problem, outputs="all", pattern=some, two_pass=two_pass)
            rest = {k: numbers[k] * (1.0 if k in some else pattern[k]) for k in params}
            close(mixed.log_det(rest, scale=0.8).value, expected)


# ---------------------------------------------------------------------- gradients


class Inside(nn.Module):
    def __init__(self, inner: nn.Module, world: World) -> None:
        super().__init__()
        self.inner, self.change = inner, world.change

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.change(x))


class World:
    """A problem that depends on an extent, a noise scale, a tensor in the network, and two log precisions."""

    def __init__(self, network: Case, n: int, batch: int, *, elementwise: bool = False) -> None:
        self.network, self.batch, self.n, self.elementwise = network, batch, n, elementwise
        self.xs, self.y, self.user = network.inputs(n, 2), network.labels(n), torch.zeros(())
        self.forward = Forward(Inside(network.make(), self))

    def change(self, x: Tensor) -> Tensor:
        return x + self.user * torch.sin(x)

    def __deepcopy__(self, memo: object) -> World:
        return self  # a network that is copied goes on using the user's tensor

    def __call__(self, theta: Tensor) -> tuple[Problem, Params]:
        eta, log_sigma, self.user = theta[0], theta[1], theta[2]

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            for x, t in zip(self.xs.split(self.batch), self.y.split(self.batch), strict=True):
                yield x + eta * torch.cos(3 * x), t

        params = self.forward.params()
        problem = Problem(
            self.forward,
            params,
            batches,
            lambda f, y: self.network.factor(f, y) * torch.exp(-log_sigma),
            self.n,
            scale=1.3,
            differentiable=True,
        )
        precision = {}
        for i, (k, w) in enumerate(params.items()):
            pattern = torch.linspace(1, 2, w.numel(), dtype=torch.float64).reshape(w.shape)
            precision[k] = theta[3 + i % 2].exp() * (pattern if self.elementwise and i % 3 == 0 else 1.0)
        return problem, precision


THETA = torch.tensor([0.3, -0.2, 0.4, 0.5, -0.7], dtype=torch.float64)
SMOOTH = ("mlp", "mlp_regression", "cnn", "group_norm", "attention", "tied_functional", "bare", "residual", "lstm")


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("kind", ["plain", "two_pass", "by_position", "elementwise"])
def test_gradients(name: str, kind: str) -> None:
    world = World(case(name), 4, 2, elementwise=kind == "elementwise")

    def value(theta: Tensor) -> Tensor:
        problem, precision = world(theta)
        found = ntk_gram(
            problem, seed=3, two_pass=kind != "plain", outputs="all" if kind == "by_position" else "sampled"
        )
        found = by_position(found) if kind == "by_position" else found
        return found.log_det(precision, scale=0.9).value

    theta = THETA.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(theta), theta)
    step = 1e-5
    with torch.no_grad():
        shifts = step * torch.eye(5, dtype=torch.float64)
        expected = torch.stack([(value(THETA + e) - value(THETA - e)) / (2 * step) for e in shifts])
    assert bool((expected.abs() > 1e-4).all()), "every component matters"
    close(gradient, expected, 1e-6)


@pytest.mark.parametrize("two_pass", [False, True])
def test_log_probabilities_come_from_the_same_pass(two_pass: bool) -> None:
    world = World(case("cnn"), 4, 2)

    def log_prob(f: Tensor, y: Tensor) -> Tensor:
        return f.log_softmax(-1).gather(1, y.unsqueeze(1)).squeeze(1)

    theta = THETA.clone().requires_grad_()
    problem, precision = world(theta)
    found = ntk_gram(problem, two_pass=two_pass, log_prob=log_prob)
    expected = torch.cat([log_prob(problem.forward.average(problem.params, xs), y) for xs, y in problem.batches()])
    close(found.log_probs, expected)
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    total = found.log_det(precision).value
    (g,) = torch.autograd.grad((weights * found.log_probs).sum() + total, theta, retain_graph=True)
    (e,) = torch.autograd.grad((weights * expected).sum(), theta, retain_graph=True)
    (d,) = torch.autograd.grad(ntk_gram(problem, two_pass=two_pass).log_det(precision).value, theta)
    close(g, d + e)


def test_precisions_alone_need_no_graph_of_the_network() -> None:
    world = World(case("mlp"), 4, 2, elementwise=True)
    for two_pass in (False, True):
        gradients = []
        for differentiable in (True, False):
            theta = THETA.clone().requires_grad_()
            problem, precision = world(theta)
            found = ntk_gram(replace(problem, differentiable=differentiable), two_pass=two_pass)
            assert found.grams.requires_grad == differentiable
            gradients.append(torch.autograd.grad(found.log_det(precision).value, theta, allow_unused=True)[0])
        assert bool((gradients[1][:3] == 0).all())
        close(gradients[1][3:], gradients[0][3:])


# ---------------------------------------------------------------------- choices and errors


def wide(*, batch: int = 4) -> Problem:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 40), nn.Tanh(), nn.Linear(40, 3)
        )
    forward = Forward(network.double())
    xs = torch.randn(12, 2, 1, 6, 6, generator=generator(0), dtype=torch.float64)
    y = torch.zeros(12, dtype=torch.long)
    return Problem(
        forward,
        forward.params(),
        lambda: zip(xs.split(batch), y.split(batch), strict=True),
        categorical,
        12,
        differentiable=True,
    )


def test_wide_layers_do_not_form_rows() -> None:
    found = ntk_gram(wide())
    assert found.by_position == {"3.weight"}
    precision = scalars(found.plan.problem.params)
    close(found.log_det(precision).value, replace(found, by_position=frozenset()).log_det(precision).value)


def test_large_problems_take_two_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not ntk_gram(wide()).two_pass
    monkeypatch.setattr("novacula.curvature.structures.ntk.PLAIN", 2**14)
    monkeypatch.setattr("novacula.curvature.structures.ntk.CHUNK", 2**11)
    found = ntk_gram(wide())
    assert found.two_pass
    assert found.plan.chunk[0] == 2**11 // (8 * (30 + 40 + 123))


def test_single_precision() -> None:
    network = case("cnn")
    problem = network.problem(5)
    single = network.problem(5, module=network.make().float())
    batches = problem.batches
    single = replace(single, batches=lambda: ((x.float(), y) for x, y in batches()))
    precision = scalars(problem.params)
    value = ntk_gram(single).log_det(precision).value
    assert value.dtype == torch.float64
    close(value, ntk_gram(problem).log_det(precision).value, 1e-4)


def test_a_gram_matrix_that_lost_its_definiteness_is_repaired() -> None:
    found = ntk_gram(case("linear_only").problem(3))
    k = torch.tensor([[4.0, 6.0, 0.0], [6.0, 4.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)  # eigenvalues 10, 1, −2
    found.__dict__["_computed"] = (torch.stack([k, 0 * k]), torch.zeros(0))
    ones = {name: torch.ones(()) for name in found.names}
    close(found.log_det(ones).value, torch.tensor(11.0 * 2.0, dtype=torch.float64).log())
    found.__dict__["_computed"] = (torch.stack([k * math.nan, k]), torch.zeros(0))
    with pytest.raises(NonFiniteError, match="Gram matrix"):
        found.log_det(ones)


def test_bad_arguments() -> None:
    problem = case("mlp").problem(3)
    with pytest.raises(InputError, match="outputs='sampled' or 'all'"):
        ntk_gram(problem, outputs="some")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="outputs='sampled' or 'all'"):
        ntk_gram(problem, outputs="all", score=lambda f, rng: f)
    with pytest.raises(InputError, match=r"a prior precision for '2.weight'"):
        ntk_gram(problem).log_det({"0.weight": torch.ones(()), "0.bias": torch.ones(())})


def test_one_subset_does_not_know_its_spread() -> None:
    assert math.isnan(ntk_gram(case("mlp").problem(3)).log_det(scalars(case("mlp").problem(3).params)).stderr)
