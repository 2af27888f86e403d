"""What each verb must do with a network, against an answer that shares nothing with it: one check a verb.

A check returns a remark for the table, and fails by an assertion.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from menagerie.truth import Truth, columns, naive_gradient, products, unchanged
from novacula.core.params import Params, flatten, stack, unstack
from novacula.core.rng import generator
from novacula.curvature.structures.names import STRUCTURES, build
from novacula.data.data import Data
from novacula.inference import MAP, SGLD, Laplace, Subnetwork, infer
from novacula.posteriors.base import Point, Posterior
from novacula.prediction import predict
from novacula.priors import Gaussian
from novacula.runs.catalogue.methods import METHODS, Trained, method_of, read_method
from novacula.study import learn, load_posterior
from novacula.target import Target
from novacula.target.batch import Batch
from novacula.target.many import loss_and_gradient
from zoo import Case

Check = Callable[[Case], str]
EXAMPLES = 12
SETTINGS = {
    "ensemble": "members=2",
    "swag": "rank=2,points=4",
    "multi-swag": "members=2,rank=2,points=4",
    "sgld": "keep=4",
    "csgld": "keep=4,cycles=2",
    "sghmc": "keep=4",
    "hmc": "leapfrogs=2,keep=4",
    "nuts": "max_depth=2,keep=4",
    "smc": "particles=6,moves=1,leapfrogs=2",
}
"""Small settings of the methods that have names."""
STEPS = {"hmc": 10, "nuts": 8, "smc": 60}
"""Of methods that see all data in each step; others take eight, of six examples."""


def target_and_data(case: Case) -> tuple[nn.Module, Target, Data]:
    """The module as it was built, a target that copies it, and a dozen examples of its dtype."""
    module = case.make(double=False)
    dtype = next(w.dtype for w in module.parameters() if w.is_floating_point())
    x = case.inputs(EXAMPLES, 1)[:, 0]
    data = Data(x if case.tokens else x.to(dtype), case.labels(EXAMPLES), tokens=bool(case.tokens), dtype=dtype)
    return module, Target(module, prior=Gaussian(2.0)), data


def forward(case: Case) -> str:
    """Outputs, and probabilities of a point estimate, are those of the module, each example alone."""
    module = case.make()
    target, x = Target(module), case.inputs(5, 1)[:, 0]
    target.forward.check(x)
    with torch.no_grad():
        f = torch.cat([module(row.unsqueeze(0).clone()) for row in x])
        torch.testing.assert_close(target.forward(target.params(), x), f, rtol=1e-9, atol=1e-10)
    probabilities = predict(Point(target.params(), target), x).mean()
    torch.testing.assert_close(probabilities, f.softmax(1), rtol=1e-9, atol=1e-10)
    unchanged(module, case.make())
    return ""


def gradient(case: Case) -> str:
    """The gradient of the log-density of three networks at once is that of backward passes through the module."""
    module = case.make()
    target = Target(module, prior=Gaussian(2.0))
    x, y = case.inputs(4, 1)[:, 0], case.labels(4)
    target.forward.check(x)
    rng = generator(1, case.name)
    members = [
        {k: w + 0.1 * torch.randn(w.shape, generator=rng, dtype=w.dtype) for k, w in target.params().items()}
        for _ in range(3)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        losses, found = loss_and_gradient(target, stack(members), Batch(x, y, 10, 0, 1), rng)
    for i, (w, g) in enumerate(zip(members, unstack(found), strict=True)):
        loss, expected = naive_gradient(case.make(), w, x, y, total=10, precision=2.0)
        torch.testing.assert_close(losses[i], loss, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(flatten(g), flatten(expected), rtol=1e-6, atol=1e-8)
    return "one at a time" if target.notes.looped else "side by side"


def structure(name: str) -> Check:
    """A curvature against the rows of the naive Gauss–Newton matrix."""

    def check(case: Case) -> str:
        problem = case.problem(1 if name == "kron" else 4, 1)
        problem.forward.check(case.inputs(4, 1)[:, 0])
        truth = Truth.of(problem)
        found = build(name, problem)  # type: ignore[arg-type]
        if name == "kron":
            return products(case, problem, truth, found)  # type: ignore[arg-type]
        truth = truth.of_names(found.names)
        if name == "matrix_free":
            truth.check_products(found)  # type: ignore[arg-type]
        else:
            truth.check_diagonal(found.diagonal())
            truth.check_log_det(found, whole=name != "diag")
        if name != "diag":
            truth.check_variance(found, case, columns(case, problem))
        return ", ".join(found.fallback.values()) if name == "last_layer" else ""

    return check


def posterior_of(case: Case, name: str) -> tuple[Target, Data, Posterior]:
    """What a method leaves after a few steps."""
    _, target, data = target_and_data(case)
    chains, steps = 1, STEPS.get(name, 8)
    if name == "map":
        method = MAP(lr=0.02)
    elif name == "laplace":
        method = Laplace("kron", optimiser=MAP(lr=0.02), check=False)
    elif name == "subnetwork":
        method = Subnetwork(SGLD(lr=1e-3, keep=4), tuple(target.params())[::2], epochs=1)
    else:
        settings = SETTINGS.get(name)
        made = read_method(f"{name}:{settings}" if settings else name)
        method, _, chains, _ = method_of(made, Trained(lr=0.02, steps=steps))
        chains = min(chains, 2)
    return target, data, infer(method, target, data, steps=steps, batch_size=6, chains=chains, seed=3)


def method(name: str) -> Check:
    """A method's mode is finite and has moved, its draws disagree, and its predictions are distributions."""

    def check(case: Case) -> str:
        target, data, posterior = posterior_of(case, name)
        own, mode = target.params(), posterior.mode
        assert all(torch.isfinite(mode[k]).all() for k in own)
        points = [mode] if name == "map" else draws(posterior)
        assert any(not torch.equal(point[k], w) for point in points for k, w in own.items()), "no weight has moved"
        probabilities = predict(posterior, data.x, samples=6).mean()
        torch.testing.assert_close(probabilities.sum(1), torch.ones_like(probabilities[:, 0]))
        alone = predict(posterior, data.x[3:4], samples=6).mean()
        torch.testing.assert_close(alone, probabilities[3:4], rtol=1e-3, atol=1e-4)
        if name != "map":
            with torch.no_grad():
                outputs = torch.stack([posterior.target.forward(w, data.x) for w in points])
            assert torch.isfinite(outputs).all()
            assert float(outputs.std(0).amax()) > 0, "draws do not change predictions"
        return ""

    return check


def draws(posterior: Posterior, n: int = 12) -> list[Params]:
    return unstack(posterior.sample(n, generator(0)))


def learns(case: Case) -> str:
    """`learn` gives a finite evidence, weights that have moved, and predictions; and leaves the module alone."""
    module, target, data = target_and_data(case)
    fit = learn(target, data, epochs=1, folds=2, seed=0)
    assert torch.isfinite(fit.evidence.value)
    assert any(not torch.equal(fit.params[k], w) for k, w in target.params().items())
    probabilities = predict(fit.posterior, data.x).mean()
    assert torch.isfinite(probabilities).all()
    torch.testing.assert_close(probabilities.sum(1), torch.ones_like(probabilities[:, 0]))
    unchanged(module, case.make(double=False))
    return ""


def saves(case: Case) -> str:
    """What is read back, into a network with other weights, predicts what was saved: a mode and an ensemble."""
    _, target, data = target_and_data(case)
    fit = learn(target, data, epochs=1, folds=0, seed=0)
    other = case.make(double=False)
    with torch.no_grad():
        for w in other.parameters():
            if w.requires_grad:  # frozen weights are the network's own constants
                w.add_(0.3)
    for result in (fit, fit.with_posterior("ensemble:members=2", steps=3)):
        with tempfile.TemporaryDirectory() as folder:
            result.save(Path(folder) / "run")
            read = load_posterior(Path(folder) / "run", target=Target(other), data=data)
        assert torch.equal(predict(result.posterior, data.x).mean(), predict(read, data.x).mean())
    return ""


POSTERIORS = ("map", "laplace", *METHODS, "subnetwork")
VERBS: dict[str, Check] = {
    "forward": forward,
    "gradient": gradient,
    **{name: structure(name) for name in STRUCTURES},
    **{name: method(name) for name in POSTERIORS},
    "learn": learns,
    "save": saves,
}
