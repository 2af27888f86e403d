"""Everything on a device that is not the host's, on a machine that has none: `tests.elsewhere` refuses what mixes them.

Random numbers are drawn on the host and moved, and the pretended device computes as the host does. So results of both
are the same but for the order of sums (a recorded step on the host is not recorded there): to 1e-9 in float64.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.elsewhere import Elsewhere, device, present
from torch import Tensor, nn

import novacula as nv
from novacula.cli.learn import learn
from novacula.cli.options import Destination, Display, Options, PredictOptions
from novacula.cli.predict import predict
from novacula.core.device import find_device, moved
from novacula.core.errors import InputError
from novacula.data import lazy
from novacula.data.placing import placed, placed_rows
from novacula.runs.loading import load_run
from novacula.target import Target

HERE = torch.device("cpu")
TOLERANCE = 1e-9


@pytest.fixture
def there() -> Iterator[torch.device]:
    """The pretended device."""
    with present() as where:
        yield where


def _data(task: str, n: int = 24) -> nv.Data:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=rng, dtype=torch.float64)
    slopes = torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64)
    return nv.Data(x, (x @ slopes > 0)[:, 0].long() if task == "classification" else x @ slopes + x[:, :1] ** 2)


def _network(outputs: int) -> nn.Module:
    rng = torch.Generator().manual_seed(1)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, outputs)).double()
    with torch.no_grad():
        for w in net.parameters():
            w.copy_(torch.randn(w.shape, generator=rng, dtype=w.dtype) / 2)
    return net


def _target(task: str) -> Target:
    if task == "classification":
        return Target(_network(2))
    return Target(_network(1), likelihood=nv.likelihoods.Normal(sigma=0.3))


def _same(found: Tensor, wanted: Tensor) -> None:
    assert isinstance(found, Elsewhere)
    torch.testing.assert_close(found.cpu(), wanted, rtol=TOLERANCE, atol=TOLERANCE)


# ---------------------------------------------------------------------- the pretended device


def test_what_mixes_devices_is_refused(there: torch.device) -> None:
    a, b = torch.ones(3, device=there), torch.ones(3)
    mixing: list[Callable[[], Any]] = [
        lambda: a + b,
        lambda: a + torch.zeros(3),
        lambda: torch.stack([a.sum(), b.sum()]),
        lambda: b[torch.zeros(2, dtype=torch.int64, device=there)],
        lambda: torch.where(a > 0, a, b),
        lambda: torch.randn(3, generator=torch.Generator(), device=there),
        lambda: nn.Linear(3, 2)(a),
    ]
    for mix in mixing:
        with pytest.raises(RuntimeError, match="Expected"):
            mix()
    with pytest.raises(TypeError, match="cpu"):
        a.numpy()
    assert (a + b.to(there) + b.sum()).device == there


@pytest.mark.parametrize("wrong", [lambda f: f.cpu(), lambda f: f + torch.zeros(f.shape, dtype=f.dtype)])
def test_one_wrong_line_is_found(there: torch.device, wrong: Callable[[Tensor], Tensor]) -> None:
    # The checks below can fail: a likelihood with one line that forgets the device.
    class Forgetful(nv.likelihoods.Normal):
        def log_prob(self, f: Tensor, y: Tensor) -> Tensor:
            return super().log_prob(wrong(f), y)

    data = _data("regression")
    with pytest.raises(RuntimeError, match="same device"):
        nv.infer(nv.MAP(), Target(_network(1), likelihood=Forgetful()), data, steps=2, device=there)


# ---------------------------------------------------------------------- names


def test_devices_by_name() -> None:
    assert find_device("cpu") == find_device(HERE) == HERE
    assert find_device("auto").type in {"cpu", "cuda"}  # the pretended one is away


@pytest.mark.parametrize("name", ["gpu", "meta", 3.5, "cuda:99", "mps"])
def test_devices_that_are_not_there(name: Any) -> None:
    with pytest.raises(InputError, match="device") as error:
        nv.infer(nv.MAP(), _network(2), _data("classification"), steps=1, device=name)
    assert "auto" in error.value.hint


def test_a_plain_density_has_no_device() -> None:
    with pytest.raises(InputError, match="no device"):
        nv.infer(nv.HMC(), lambda w: -(w["a"] ** 2).sum(), init={"a": torch.zeros(2)}, steps=4, device="cpu")


# ---------------------------------------------------------------------- moving


def test_moved_copies_share_nothing_but_graphs(there: torch.device) -> None:
    net = _network(2)
    net[2].weight = net[0].weight  # tied
    extent = torch.tensor(2.0, requires_grad=True)
    net.extent = extent
    other = moved(net, there)
    assert other[2].weight is other[0].weight
    assert {w.device for w in other.parameters()} == {there}
    assert {w.device for w in net.parameters()} == {HERE}
    (3 * other.extent).backward()  # type: ignore[operator]
    assert float(extent.grad) == 3  # type: ignore[arg-type]


class _AtOnce:
    def __init__(self, workers: int) -> None:
        assert workers == 1

    def __enter__(self) -> _AtOnce:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(call(*args))
        return done


def test_large_data_move_by_batches(there: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _data("regression")
    whole = placed(data, there)
    monkeypatch.setattr("novacula.data.placing.LARGE", 100)
    parts = placed(data, there)
    assert isinstance(parts.x, lazy.LazyRows)
    assert parts.x.device == parts.y.device == there
    assert data.x.device == HERE
    monkeypatch.setattr(lazy, "ThreadPoolExecutor", _AtOnce)  # the pretended device is there for one thread
    for (x, y, _), (u, v, _) in zip(parts.batches(5, 0, 0), whole.batches(5, 0, 0), strict=True):
        _same(x, u.cpu())
        _same(y, v.cpu())
    _same(parts.x.mean(0), data.x.mean(0))
    assert placed_rows(parts.x, HERE).device == HERE


# ---------------------------------------------------------------------- methods

METHODS: dict[str, tuple[Any, int]] = {
    "map": (nv.MAP(lr=0.01), 8),
    "ensemble": (nv.Ensemble(nv.MAP(lr=0.01), members=2), 8),
    "swag": (nv.SWAG(), 30),
    "mean-field": (nv.MeanField(), 8),
    "ivon": (nv.IVON(), 8),
    "sgld": (nv.SGLD(), 6),
    "sghmc": (nv.SGHMC(), 6),
    "hmc": (nv.HMC(), 4),
    "nuts": (nv.NUTS(), 4),
    "smc": (nv.inference.SMC(particles=4), 1),
    "laplace": (nv.inference.Laplace(), 8),
    "subnetwork": (nv.inference.Subnetwork(nv.MAP(), epochs=4), 4),
    "dropout": (nv.inference.Dropout(), 8),
}


@pytest.mark.filterwarnings("ignore::novacula.core.errors.NovaculaWarning")
@pytest.mark.parametrize("name", METHODS)
def test_methods(there: torch.device, name: str) -> None:
    method, steps = METHODS[name]
    task = "classification" if len(name) % 2 else "regression"
    data, found = _data(task), []
    for where in (there, HERE):
        target = _target(task)
        if name == "dropout":
            target = Target(nn.Sequential(nn.Dropout(0.2), target.network), likelihood=target.likelihood)
        post = nv.infer(method, target, data, steps=steps, seed=1, device=where)
        predicted = nv.predict(post, data.x[:5], samples=4)
        found.append([predicted.mean(), predicted.log_prob(data.y[:5])])
    for here, wanted in zip(*found, strict=True):
        _same(here, wanted)


@pytest.mark.filterwarnings("ignore::novacula.core.errors.NovaculaWarning")
@pytest.mark.parametrize("name", ["map", "ensemble", "swag", "mean-field", "ivon", "sgld", "sghmc"])
def test_where_there_is_no_float64_steps_are_taken_and_all_else_is_on_the_host(name: str) -> None:
    method, steps = METHODS[name]
    data, target = _data("classification").to(dtype=torch.float32), Target(_network(2).float())
    with present(double=False) as where:
        with pytest.raises(TypeError, match="float64"):
            torch.ones(2, device=where).double()
        post = nv.infer(method, target, data, steps=steps, seed=1, device=where)
    wanted = nv.infer(method, target, data, steps=steps, seed=1)
    drawn = [p.sample(2, torch.Generator()) for p in (post, wanted)]
    for k, w in drawn[0].items():
        torch.testing.assert_close(w, drawn[1][k], rtol=1e-3, atol=1e-4)  # float32
        assert w.device == HERE
    if name == "map":
        laplace = nv.inference.laplace_posterior(target.prepare(data)[0], post.mode, data)
        assert nv.predict(laplace, data.x).mean().shape == (24, 2)


def test_what_needs_float64_is_refused_where_there_is_none() -> None:
    data, net = _data("classification").to(dtype=torch.float32), _network(2).float()
    with present(double=False) as where:
        with pytest.raises(InputError, match="float64"):
            nv.infer(nv.HMC(), net, data, steps=4, device=where)
        with pytest.raises(InputError, match="float64"):
            nv.predict(nv.infer(nv.MAP(), net, data, steps=1), data.x, device=where)


class _Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.GELU(), nn.Dropout(0.1), nn.Flatten())
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and self.body.training:
            PLACES.append(x.device)
        return self.head(self.body(x))


PLACES: list[torch.device] = []
"""Where networks of the test below were when they trained."""


@pytest.mark.filterwarnings("ignore::novacula.core.errors.NovaculaWarning")
@pytest.mark.parametrize("how", ["table", "invariance", "cross_fit"])
def test_learning_where_there_is_no_float64_trains_there(how: str) -> None:
    found: list[dict[str, Any]] = []
    data = _data("classification").to(dtype=torch.float32)
    images = nv.Data(torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 2)
    PLACES.clear()
    for asked in (True, False):
        with present(double=False) as where:
            device = where if asked else None
            if how == "cross_fit":
                unseen = nv.cross_fit(Target(_Norm()), images, folds=2, epochs=2, seed=0, device=device)
                found.append({"log_prob": unseen.predictive.log_prob(images.y).tolist(), **unseen.score()})
            elif how == "table":
                fit = nv.learn(Target(_network(2).float()), data, epochs=2, folds=2, seed=0, device=device)
                found.append({"evidence": float(fit.evidence.value), "mean": nv.predict(fit, data.x).mean().tolist()})
            else:
                target = Target(_Norm(), invariance=nv.Affine(only=("rotation",)), copies=nv.Copies(2, 2, 2))
                fit = nv.learn(target, images, epochs=2, folds=0, seed=0, device=device)
                found.append({"evidence": float(fit.evidence.value), "mean": nv.predict(fit, images.x).mean().tolist()})
                assert {w.device for w in fit.params.values()} == {HERE}
            if how != "table":
                assert set(PLACES) == {where if asked else HERE}
            PLACES.clear()
    _alike(*found, tolerance=1e-3)  # float32


# ---------------------------------------------------------------------- curvature, evidence, predictions


@pytest.mark.filterwarnings("ignore::novacula.core.errors.NovaculaWarning")
@pytest.mark.parametrize("structure", ["exact", "kron", "diag", "last_layer", "matrix_free"])
def test_structures(there: torch.device, structure: Any) -> None:
    task = "classification" if structure != "diag" else "regression"
    data, found = _data(task), []
    for where in (there, HERE):
        target, own = moved(_target(task), where).prepare(data)
        score = nv.evidence.Laplace(structure)(target, own, target.params(), seed=0)
        post = nv.inference.laplace_posterior(target, target.params(), own, structure=structure)
        predicted, loo = nv.predict(post, data.x[:5]), post.leave_one_out(own, seed=0, examples=10)
        drawn = post.sample(3, torch.Generator().manual_seed(0))
        assert {w.device for w in drawn.values()} == {where}
        assert predicted.mean().device == where
        found.append(
            {
                "evidence": float(score.value),
                "mean": predicted.mean().tolist(),
                "log_prob": predicted.log_prob(data.y[:5]).tolist(),
                "leave-one-out": None if loo is None else loo.log_prob(1.0).tolist(),
                "drawn": {k: w.tolist() for k, w in drawn.items()},
            }
        )
    _alike(*found)


@pytest.mark.filterwarnings("ignore::novacula.core.errors.NovaculaWarning")
@pytest.mark.parametrize("name", ["ELBO", "NTKSubset", "LinearGaussian", "tune"])
def test_evidence(there: torch.device, name: str) -> None:
    data, found = _data("regression"), []
    for where in (there, HERE):
        target = _target("regression")
        if name == "LinearGaussian":
            target = Target(nn.Linear(3, 1).double().requires_grad_(True), likelihood=target.likelihood)
            with torch.no_grad():
                for w in target.forward.module.parameters():
                    w.fill_(0.5)
        target, own = moved(target, where).prepare(data)
        if name == "tune":
            tuned = nv.evidence.tune(target, own, target.params(), seed=0, steps=3)
            found.append({"evidence": float(tuned.evidence.value), "factors": dict(tuned.factors)})
            continue
        estimate = getattr(nv.evidence, name)()(target, own, target.params(), seed=0)
        found.append({"value": float(estimate.value)})
    _alike(*found)


def _alike(found: Any, wanted: Any, tolerance: float = 1e-8) -> None:
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            _alike(found[key], wanted[key], tolerance)
    elif isinstance(wanted, list):
        for a, b in zip(found, wanted, strict=True):
            _alike(a, b, tolerance)
    elif not isinstance(wanted, float):
        assert found == wanted
    else:
        assert found == pytest.approx(wanted, rel=tolerance, abs=tolerance)


# ---------------------------------------------------------------------- whole runs


@pytest.mark.filterwarnings("ignore::novacula.core.errors.NovaculaWarning")
def test_learn_with_folds_and_save(there: torch.device, tmp_path: Path) -> None:
    task = "classification"
    data, found = _data(task), []
    test = data.subset(range(6))
    for where in (there, HERE):
        fit = nv.learn(_target(task), data, epochs=2, folds=2, seed=0, device=where)
        fit.save(tmp_path / str(where.type), test=test)
        saved = load_run(tmp_path / str(where.type), target=_target(task), data=data)
        assert saved.predict(data.x[:3]).mean().device == HERE  # a run has no device
        assert {w.device for w in fit.params.values()} == {where}
        found.append(
            {
                "evidence": float(fit.evidence.value),
                "mean": nv.predict(fit, data.x[:3]).mean().tolist(),
                "saved": saved.predict(data.x[:3]).mean().tolist(),
                "arrays": {k: a.tolist() for k, a in saved.run.arrays.items() if a.dtype.kind == "f"},
            }
        )
    _alike(*found)


@pytest.mark.filterwarnings("ignore")
def test_commands(there: torch.device, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, file, found = _data("classification", 40), tmp_path / "t.csv", []
    rows = [",".join(f"{v:.6f}" for v in x) + f",{y}" for x, y in zip(data.x.tolist(), data.y.tolist(), strict=True)]
    file.write_text("\n".join(["a,b,c,y", *rows]))
    for where in ("elsewhere", "cpu"):
        given = {"data": str(file), "target": ("y",), "epochs": 2, "folds": 2, "device": where}
        learn(Options, given, Destination(output=tmp_path / where), Display(quiet=True, no_report=True))
        capsys.readouterr()
        predict(tmp_path / where, str(file), PredictOptions(json=True, quiet=True, device=where))
        found.append(json.loads(capsys.readouterr().out)["rows"])
    assert len(found[0]) == len(found[1]) > 5
    _alike(*found, tolerance=1e-4)  # float32


@pytest.mark.filterwarnings("ignore::novacula.core.errors.NovaculaWarning")
def test_invariances(there: torch.device) -> None:
    rng = torch.Generator().manual_seed(0)
    data, found = nv.Data(torch.rand(12, 1, 6, 6, generator=rng), torch.arange(12) % 2), []
    for where in (there, HERE):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.GELU(), nn.Flatten(), nn.Linear(32, 2))
        target = Target(net, invariance=nv.Affine(), copies=nv.Copies(2, 2, 2))
        fit = nv.learn(target, data, epochs=1, folds=0, seed=0, device=where)
        found.append(nv.predict(fit, data.x[:3]).mean().tolist())
    _alike(*found, tolerance=1e-4)


@pytest.mark.filterwarnings("ignore::novacula.core.errors.NovaculaWarning")
def test_cross_fit_and_conformal(there: torch.device) -> None:
    data, found = _data("classification"), []
    for where in (there, HERE):
        unseen = nv.cross_fit(_target("classification"), data, folds=2, epochs=2, seed=0, device=where)
        found.append({**unseen.score(), "temperature": unseen.temperature})
    _alike(*found)


def test_predictions_move_a_posterior(there: torch.device) -> None:
    data = _data("regression")
    post = nv.infer(nv.SGLD(), _target("regression"), data, steps=20)
    wanted = nv.predict(post, data.x)
    found = nv.predict(post, data.x, device=there)
    _same(found.mean(), wanted.mean())
    _same(found.quantile(0.9), wanted.quantile(0.9))


def test_the_name_is_elsewhere() -> None:
    assert device().type == "elsewhere"
