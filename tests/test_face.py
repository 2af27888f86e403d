"""The Python face: what somebody might well write either works, with the right number, or is an `InputError`.

An `InputError` says what was expected, what came and what to try; nothing else may be raised, whatever verb is given
whatever object.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import novacula as nv
from face import (
    NETWORKS,
    NUMBERS,
    OUTPUTS,
    STRANGE_TENSORS,
    Acts,
    C,
    Case,
    D,
    N,
    inputs,
    labels,
    measured,
    net,
    target,
)
from face import data as some_data

SHORT: dict[str, Any] = {"epochs": 1, "folds": 0}


@pytest.fixture(scope="module")
def fit() -> Any:
    return nv.learn(target(), some_data(), **SHORT)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def refused(case: Case) -> nv.InputError:
    """Call what must be refused, and return how."""
    with pytest.raises(nv.InputError) as caught:
        case()
    assert len(str(caught.value)) < 1_000  # no weights, no data
    return caught.value


# ---------------------------------------------------------------------- what is no batch


@pytest.mark.parametrize("name", STRANGE_TENSORS)
@pytest.mark.parametrize("verb", ["inputs", "labels", "predict", "learn", "infer", "cross_fit", "evidence"])
def test_what_is_no_batch_is_refused(fit: Any, verb: str, name: str) -> None:
    it = STRANGE_TENSORS[name]
    verbs: dict[str, Case] = {
        "inputs": lambda: nv.Data(it(), labels()),
        "labels": lambda: nv.Data(inputs(), it()),
        "predict": lambda: nv.predict(fit.posterior, it()),
        "learn": lambda: nv.learn(target(), it(), **SHORT),
        "infer": lambda: nv.infer(nv.MAP(), target(), it(), steps=1),
        "cross_fit": lambda: nv.cross_fit(target(), it(), steps=1),
        "evidence": lambda: nv.evidence.Laplace()(target(), it(), fit, seed=0),
    }
    refused(verbs[verb])


# ---------------------------------------------------------------------- what a network does


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("verb", ["learn", "infer"])
def test_outputs_that_no_likelihood_takes_are_refused(verb: str, name: str) -> None:
    model = nv.Target(Acts(OUTPUTS[name]))
    error = refused(
        (lambda: nv.learn(model, some_data(), **SHORT))
        if verb == "learn"
        else (lambda: nv.infer(nv.MAP(), model, some_data(), steps=1))
    )
    if "Error" in name or "error" in name or name == "StopIteration":
        # Its own error is the cause, and the message says what was fed to it.
        assert "mine" in str(error.__cause__)
        assert "mine" in error.got
        assert type(error.__cause__).__name__ in error.got
        assert f"(8, {D})" in error.expected
        assert "float32" in error.expected


@pytest.mark.parametrize("method", [nv.MAP(), nv.SGLD(), nv.Ensemble(members=2), None])
def test_a_network_that_fails_later_on_is_blamed_with_its_own_error(method: Any) -> None:
    class Touchy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(D, C)

        def forward(self, x: Tensor) -> Tensor:
            if not torch._C._functorch.is_batchedtensor(x) and bool((x > 3).any()):
                raise KeyError("mine")
            return self.layer(x)

    x = inputs()
    x[-1] = 100.0  # which is not among the rows that are tried at first
    model = nv.Target(Touchy())
    error = refused(
        (lambda: nv.learn(model, (x, labels()), **SHORT))
        if method is None
        else (lambda: nv.infer(method, model, (x, labels()), steps=2, batch_size=N))
    )
    assert isinstance(error.__cause__, KeyError)
    assert "mine" in error.got


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("verb", ["Target", "learn", "infer", "cross_fit", "compare"])
def test_what_is_no_network_for_the_data_is_refused(verb: str, name: str) -> None:
    it = NETWORKS[name]
    verbs: dict[str, Case] = {
        "Target": lambda: nv.learn(nv.Target(it()), some_data(), **SHORT),
        "learn": lambda: nv.learn(it(), some_data(), **SHORT),
        "infer": lambda: nv.infer(nv.MAP(), it(), some_data(), steps=1),
        "cross_fit": lambda: nv.cross_fit(it(), some_data(), steps=1),
        "compare": lambda: nv.study.compare({"a": it()}, some_data(), epochs=1, folds=2),
    }
    if name == "a target" and verb != "Target":
        return  # which is what these verbs take
    refused(verbs[verb])


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("likelihood", nv.Normal),
        ("likelihood", "normal"),
        ("likelihood", None),
        ("likelihood", nv.Gaussian()),
        ("prior", nv.Gaussian),
        ("prior", "gaussian"),
        ("prior", None),
        ("prior", 1.0),
        ("prior", nv.Normal()),
        ("invariance", nv.Affine),
        ("invariance", "affine"),
        ("invariance", lambda x: x),
        ("copies", 3),
        ("copies", None),
        ("temperature", -1),
        ("temperature", "cold"),
        ("temperature", None),
        ("temperature", torch.nan),
        ("temperature", True),
        ("likelihood_temperature", "cold"),
    ],
)
def test_parts_of_a_target_that_are_none_are_refused(part: str, value: Any) -> None:
    assert part in refused(lambda: target(**{part: value})).expected


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize(("option", "value"), [(k, v) for k, values in NUMBERS.items() for v in values])
def test_numbers_of_the_wrong_kind_or_sign_are_refused(option: str, value: Any) -> None:
    assert option in refused(lambda: nv.learn(target(), some_data(), **{**SHORT, option: value})).expected


@pytest.mark.parametrize(
    ("option", "value"),
    [(k, v) for k in ("steps", "chains", "batch_size") for v in (0, -1, 1.5, "a", True, [1])]
    + [("seed", "a"), ("seed", None), ("workers", 0), ("workers", "a"), ("others", "x"), ("init", 3), ("init", [1])]
    + [("init", {}), ("init", {"1.weight": 3}), ("checkpoint", 3), ("progress", 3), ("epochs", 1)],
)
def test_options_of_infer_are_refused(option: str, value: Any) -> None:
    refused(lambda: nv.infer(nv.MAP(), target(), some_data(), **{"steps": 1, option: value}))


@pytest.mark.parametrize(
    ("option", "value"),
    [("folds", v) for v in (0, 1, 99, "3", 1.5, True, None, [0] * N, torch.arange(N - 1) % 2)]
    + [(k, v) for k in ("members", "only") for v in (0, -1, 1.5, "a")]
    + [("starts", 3), ("starts", [1, 2, 3]), ("under", 3), ("trained", 3), ("method", "map"), ("method", nv.MAP)],
)
def test_options_of_cross_fit_are_refused(option: str, value: Any) -> None:
    refused(lambda: nv.cross_fit(target(), some_data(), **{"steps": 1, option: value}))


METHODS = (nv.MAP, nv.SWAG, nv.SGLD, nv.SGHMC, nv.HMC, nv.NUTS, nv.SMC, nv.IVON, nv.MeanField, nv.Dropout, nv.Laplace)


@pytest.mark.parametrize(
    ("method", "field"),
    [(m, f.name) for m in (*METHODS, nv.Ensemble, nv.Subnetwork) for f in dataclasses.fields(m) if f.init],
)
def test_settings_of_methods_are_refused(method: Any, field: str) -> None:
    needed = {"method": nv.MAP()} if method is nv.Subnetwork else {}
    for value in ([1.0], torch.nan) if field != "redraw" else (3,):
        refused(lambda v=value: method(**{**needed, field: v}))


def test_a_rate_below_zero_is_refused() -> None:
    for method in (nv.MAP, nv.SWAG, nv.SGLD, nv.SGHMC, nv.IVON, nv.MeanField):
        refused(lambda m=method: m(lr=-1.0))


@pytest.mark.parametrize("method", [nv.MAP, "map", None, 3, nn.Linear(D, C), target])
def test_what_is_no_method_is_refused(method: Any) -> None:
    refused(lambda: nv.infer(method, target(), some_data(), steps=1))
    if method is not None:  # the default
        refused(lambda: nv.cross_fit(target(), some_data(), method=method, steps=1))
        refused(lambda: nv.learn(target(), some_data(), method=method, **SHORT))


@pytest.mark.parametrize(
    ("option", "value"),
    [(k, v) for k in ("samples", "copies", "chunk") for v in (0, -1, 1.5, "a", True)]
    + [("seed", "a"), ("kind", "x"), ("kind", 3), ("rule", "x"), ("average", "x"), ("average", None)],
)
def test_options_of_predict_are_refused(fit: Any, option: str, value: Any) -> None:
    refused(lambda: nv.predict(fit, inputs(), **{option: value}))


# ---------------------------------------------------------------------- other misuses, verb by verb


def predictives(fit: Any) -> tuple[Any, Any]:
    lines = nv.infer(nv.MAP(), nv.Target(net(1), likelihood=nv.Normal()), measured(), steps=1)
    return nv.predict(fit, inputs()), nv.predict(lines, inputs())


@pytest.mark.parametrize("i", [0, 1])
@pytest.mark.parametrize(
    "ask",
    [
        lambda p: p.log_prob("a"),
        lambda p: p.log_prob(None),
        lambda p: p.log_prob([0, 1]),
        lambda p: p.expected_loss({}),
        lambda p: p.labels([[[1]]]),
        lambda p: p.interval("a"),
        lambda p: p.interval(90),
        lambda p: p.interval(None),
        lambda p: p.quantile("a"),
        lambda p: p.quantile([]),
        lambda p: p.quantile(2),
        lambda p: p.sample(0, torch.Generator()),
        lambda p: p.sample("a", torch.Generator()),
        lambda p: p.sample(1.5, torch.Generator()),
        lambda p: p.sample(3, 0),
        lambda p: p.decide("gain"),
        lambda p: p.decide(None),
        lambda p: p.decide([[1.0, 2.0, 3.0]]),
        lambda p: p.decide([[1.0, 2.0], [3.0]]),
        lambda p: p.decide("zero_one", abstain="a"),
        lambda p: p.decide("pinball", tau="a"),
        lambda p: p.conformal("a", p, labels()),
    ],
)
def test_questions_to_a_predictive_are_refused(fit: Any, ask: Any, i: int) -> None:
    refused(lambda: ask(predictives(fit)[i]))


@pytest.mark.parametrize(
    "case",
    [
        lambda: nv.Data(inputs(), labels(), classes=3),
        lambda: nv.Data(inputs(), labels(), columns=3),
        lambda: nv.Data(inputs(), labels(), task="guess"),
        lambda: nv.Data(inputs(), labels(), dtype="float32"),
        lambda: nv.Data(inputs(), labels(), dtype=np.float32),
        lambda: nv.Data(inputs(), labels(), dtype=torch.int64),
        lambda: nv.Data(inputs(), labels()[:, None, None]),
        lambda: nv.Data(inputs()[:, 0], labels()),
        lambda: some_data().subset("a"),
        lambda: some_data().subset(None),
        lambda: some_data().subset(3),
        lambda: some_data().subset([0.5]),
        lambda: some_data().split("a"),
        lambda: some_data().split(True),
        lambda: some_data().split(None),
        lambda: some_data().split(1.0),
        lambda: some_data().split(0.5, "a"),
        lambda: list(some_data().batches("a", 0, 0)),
        lambda: list(some_data().batches(1.5, 0, 0)),
        lambda: some_data().to(dtype=torch.int64),
        lambda: some_data().to(dtype="float32"),
        lambda: some_data().to(device="nowhere"),
        lambda: nv.Data.from_dataset(3),
        lambda: nv.Data.from_dataset(TensorDataset(inputs(), labels()), limit="a"),
        lambda: nv.Standardiser.fit(inputs()),
        lambda: nv.Standardiser.fit(some_data()).apply(inputs()),
        lambda: nv.load(3),
        lambda: nv.load(None),
        lambda: nv.load("nope.csv"),
        lambda: nv.Copies("a"),
        lambda: nv.Copies(1.5),
        lambda: nv.Copies(0),
        lambda: nv.Normal(sigma="a"),
        lambda: nv.Compose(3),
        lambda: nv.Compose(nv.Affine),
        lambda: nv.networks.make("mlp", 3, 2),
        lambda: nv.networks.make("mlp", ("a",), 2),
        lambda: nv.networks.make("mlp", (3,), "a"),
        lambda: nv.networks.make("mlp", (3,), 1.5),
        lambda: nv.networks.make(3, (3,), 2),
        lambda: nv.networks.make("mlp", (3,), 2, width="a"),
        lambda: nv.networks.make("mlp", (3,), 2, depth=1.5),
        lambda: nv.learn(net(), (inputs(), labels(), labels())),
        lambda: nv.learn(net(), [inputs(), labels()]),
        lambda: nv.learn(some_data(), net()),
        lambda: nv.learn(torch.optim.SGD(net().parameters(), lr=0.1), some_data()),
        lambda: nv.learn(net(), some_data(), evidence="laplace"),
        lambda: nv.learn(net(), some_data(), evidence=nv.evidence.Laplace),
        lambda: nv.learn(net(), some_data(), progress=3),
        lambda: nv.learn(net(), some_data(), checkpoint=3),
        lambda: nv.infer(target(), nv.MAP(), some_data(), steps=1),
        lambda: nv.infer(nv.MAP(), net(), steps=1),
        lambda: nv.infer(nv.MAP(), net(), some_data()),
        lambda: nv.infer(nv.HMC(), lambda w: 0.0, some_data(), steps=1),
        lambda: nv.predict(net(), inputs()),
        lambda: nv.predict(target(), inputs()),
        lambda: nv.predict(nv.MAP, inputs()),
        lambda: nv.predict("runs/digits", inputs()),
        lambda: nv.predict(net().state_dict(), inputs()),
        lambda: nv.predict(nv.NovaculaClassifier(), inputs()),
        lambda: nv.study.compare([target(), target()], some_data()),
        lambda: nv.study.compare({}, some_data()),
        lambda: nv.study.compare({"a": target()}, some_data(), folds="a"),
        lambda: nv.study.compare({"a": target()}, some_data(), trainings="a"),
        lambda: nv.study.compare({"a": target()}, some_data(), store=3),
        lambda: nv.augment(3),
        lambda: nv.augment(some_data(), seconds="a"),
        lambda: nv.augment(some_data(), steps="a"),
        lambda: nv.evidence.Laplace(repeats="a"),
        lambda: nv.evidence.Laplace(subset=-1),
        lambda: nv.evidence.Laplace()(target(), some_data(), None, seed=0),
        lambda: nv.evidence.Laplace()(target(), some_data(), 3, seed=0),
        lambda: nv.report(3),
        lambda: nv.study.load_run(3),
        lambda: nv.export(3),
    ],
)
def test_other_misuses_are_refused(case: Case) -> None:
    refused(case)


@pytest.mark.parametrize(
    "ask",
    [
        lambda fit: fit.evidence - 3,
        lambda fit: fit.evidence - fit,
        lambda fit: fit.save(3),
        lambda fit: fit.with_posterior("x"),
        lambda fit: fit.with_posterior(3),
        lambda fit: fit.with_posterior(nv.MAP),
        lambda fit: fit.with_posterior(nv.MAP()),
        lambda fit: fit.with_posterior("swag", steps="a"),
        lambda fit: fit.with_posterior("swag", steps=2, chains=0),
        lambda fit: nv.predict(fit, inputs()[:, :2]),
        lambda fit: nv.predict(fit, inputs()[0]),
        lambda fit: nv.predict(fit, inputs().double()),
        lambda fit: nv.predict(fit, inputs().to(torch.complex64)),
        lambda fit: nv.predict(fit, inputs()[None, None]),
        lambda fit: nv.predict(fit.evidence, inputs()),
        lambda fit: nv.predict(type(fit.posterior), inputs()),
    ],
)
def test_misuses_of_a_result_are_refused(fit: Any, ask: Any) -> None:
    refused(lambda: ask(fit))


# ---------------------------------------------------------------------- what is plain works, with the right number


@pytest.mark.parametrize(
    "given",
    [
        lambda x: x.numpy(),
        lambda x: x.double().numpy(),
        lambda x: x.tolist(),
        lambda x: list(x),
        lambda x: pd.DataFrame(x.numpy()),
        lambda x: x.clone().requires_grad_(),
        lambda x: x[:, None],  # the network begins with Flatten
    ],
)
def test_inputs_are_taken_as_people_have_them(fit: Any, given: Any) -> None:
    w = target().params()
    expected = (inputs() @ w["1.weight"].T + w["1.bias"]).softmax(1)
    point = nv.infer(nv.MAP(lr=1e-30), target(), some_data(), steps=1)
    torch.testing.assert_close(nv.predict(point, given(inputs())).mean(), expected)
    expected = nv.predict(fit.posterior, inputs()).mean()
    for known in (fit, fit.posterior, fit.choice):
        torch.testing.assert_close(nv.predict(known, given(inputs())).mean(), expected)


@pytest.mark.parametrize(
    "given",
    [
        lambda x, y: (x, y),
        lambda x, y: (x.numpy(), y.numpy()),
        lambda x, y: (x.tolist(), y.tolist()),
        lambda x, y: (pd.DataFrame(x.numpy()), pd.Series(y.numpy())),
        lambda x, y: TensorDataset(x, y),
        lambda x, y: DataLoader(TensorDataset(x, y), batch_size=5),
    ],
)
@pytest.mark.parametrize("verb", [nv.learn, nv.infer, nv.cross_fit])
def test_data_are_taken_as_people_have_them(verb: Any, given: Any) -> None:
    def weights(of: Any, data: Any) -> Tensor:
        if verb is nv.learn:
            return nv.learn(of, data, **SHORT).params["1.weight"]
        if verb is nv.infer:
            return nv.infer(nv.MAP(), of, data, steps=3).mode["1.weight"]
        return nv.cross_fit(of, data, steps=3).params[0]["1.weight"]

    expected = weights(nv.Target(net(), likelihood=nv.Categorical()), nv.Data(inputs(), labels()))
    assert torch.equal(weights(net(), given(inputs(), labels())), expected)


@pytest.mark.parametrize(
    ("y", "kind", "outputs"),
    [
        (labels(), nv.Categorical, C),
        (inputs()[:, 0].sin(), nv.Normal, 1),
        (inputs()[:, :2].sin(), nv.Normal, 2),
        ((inputs()[:, :2] > 0).long(), nv.Bernoulli, 2),
    ],
)
def test_a_network_alone_has_the_likelihood_of_the_task(y: Tensor, kind: Any, outputs: int) -> None:
    assert isinstance(nv.learn(net(outputs), (inputs(), y), **SHORT).target.likelihood, kind)


def test_results_stand_for_their_weights(fit: Any) -> None:
    score = nv.evidence.Laplace()
    expected = float(score(fit.target, some_data(), fit.params, seed=0))
    assert float(score(fit.target, some_data(), fit, seed=0)) == expected
    modes = [nv.infer(nv.MAP(), fit.target, some_data(), init=init, steps=1).mode for init in (fit, fit.params)]
    assert torch.equal(modes[0]["1.weight"], modes[1]["1.weight"])


@pytest.mark.parametrize("given", [list, np.array, lambda f: torch.tensor(f)])
def test_folds_are_taken_as_people_have_them(given: Any) -> None:
    dealt = [i % 3 for i in range(N)]
    found = nv.cross_fit(target(), some_data(), folds=given(dealt), steps=1)
    assert found.folds.tolist() == dealt
    compared = nv.study.compare({"a": net()}, (inputs(), labels()), epochs=1, folds=2)
    assert len(compared.entries) == 1


def test_numbers_of_numpy_are_numbers(fit: Any) -> None:
    again = nv.learn(target(), some_data(), epochs=np.int64(1), folds=np.int32(0), seed=np.int64(0))
    assert torch.equal(again.params["1.weight"], fit.params["1.weight"])
    first, second = some_data().split(np.float64(0.5))
    assert first.n == second.n == N // 2


# ---------------------------------------------------------------------- what is shown


def test_nothing_prints_its_weights_or_data(fit: Any) -> None:
    folds = nv.learn(target(), some_data(), epochs=1, folds=2)
    methods = (nv.MAP(), nv.SWAG(), nv.SGLD(), nv.MeanField(), nv.Laplace(), nv.Ensemble(members=2))
    posteriors = [nv.infer(m, target(), some_data(), steps=8) for m in (*methods, nv.Subnetwork(nv.SWAG()))]
    compared = nv.study.compare({"a": net()}, some_data(), epochs=1, folds=2)
    classes, lines = predictives(fit)
    scale = nv.Standardiser.fit(some_data())
    asked = [classes.decide("zero_one"), lines.decide("squared"), fit.with_posterior("swag", steps=9)]
    every = [fit, folds, folds.unseen, compared, *compared.entries, *posteriors, classes, lines, scale, *asked]
    for it in (*every, fit.target, fit.target.forward, fit.choice, some_data(), fit.evidence):
        text = repr(it)
        assert text.startswith(type(it).__name__)
        assert len(text) <= 500, text
        assert "tensor(" not in text
        assert "array(" not in text
        assert "\n" not in text
