"""Comparisons of real networks: the order, the folder, the workers, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import novacula as nv
from novacula.core.errors import InputError
from novacula.study.comparing import compare as module

SHORT: dict[str, Any] = {"epochs": 20, "batch_size": 20, "seed": 1}


@pytest.fixture(scope="module")
def data() -> nv.Data:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(120, 4, generator=rng)
    return nv.Data(x, (x[:, 0] > 0).long())


@pytest.fixture(scope="module")
def models() -> dict[str, nv.Target]:
    nets: dict[str, torch.nn.Module] = {
        "good": nv.networks.make("mlp", (4,), 2, width=8, depth=1, seed=0),
        "again": nv.networks.make("mlp", (4,), 2, width=8, depth=1, seed=0),
        "blind": torch.nn.Sequential(Blind(), torch.nn.Linear(4, 2)),
    }
    return {name: nv.Target(net) for name, net in nets.items()}


class Blind(torch.nn.Module):
    """Sees nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return 0 * x


@pytest.fixture(scope="module")
def found(models: dict[str, nv.Target], data: nv.Data) -> nv.study.Comparison:
    return nv.study.compare(models, data, **SHORT)


def told(found: nv.study.Comparison) -> str:
    """All numbers but the time."""
    record = found.to_dict()
    return json.dumps([{k: v for k, v in m.items() if k != "seconds"} for m in record["models"]])


def test_that_the_same_model_is_tied_and_a_blind_one_worse(found: nv.study.Comparison) -> None:
    assert found.best().name in {"good", "again"}
    assert sorted(found.word(e.name) for e in found.entries) == ["best", "tied", "worse"]
    assert len(found.advice) == 1
    assert "no number of trainings or examples" in found.advice[0]
    assert len(found.table().splitlines()) == 5
    assert found.best("evidence").name in {"good", "again", "blind"}


def test_the_loss_against_that_of_learning(
    found: nv.study.Comparison, models: dict[str, nv.Target], data: nv.Data
) -> None:
    fit = nv.learn(models["good"], data, evidence=nv.evidence.Laplace("kron", repeats=2), **SHORT)
    assert fit.unseen is not None
    assert torch.equal(found.entries[0].losses[0], fit.unseen.losses)
    assert found.entries[0].loss.stderr == pytest.approx(fit.unseen.score()["stderr"])


def test_that_workers_change_nothing(found: nv.study.Comparison, models: dict[str, nv.Target], data: nv.Data) -> None:
    assert told(nv.study.compare(models, data, workers=2, **SHORT)) == told(found)


def test_that_an_interrupted_comparison_goes_on(
    found: nv.study.Comparison,
    models: dict[str, nv.Target],
    data: nv.Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    once = module._entry

    def interrupted(task: Any) -> Any:
        if task.name == "again":
            raise KeyboardInterrupt
        return once(task)

    with monkeypatch.context() as m:
        m.setattr(module, "_entry", interrupted)
        with pytest.raises(KeyboardInterrupt):
            nv.study.compare(models, data, store=tmp_path, **SHORT)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["comparison.json", "model-0.pt"]
    kept = (tmp_path / "model-0.pt").read_bytes()
    assert told(nv.study.compare(models, data, store=tmp_path, **SHORT)) == told(found)
    assert (tmp_path / "model-0.pt").read_bytes() == kept
    monkeypatch.setattr(module, "_entry", None)  # nothing is trained again
    assert told(nv.study.compare(models, data, store=tmp_path, **SHORT)) == told(found)


def test_that_a_folder_is_for_one_comparison(models: dict[str, nv.Target], data: nv.Data, tmp_path: Path) -> None:
    one = {"blind": models["blind"]}
    nv.study.compare(one, data, store=tmp_path, **SHORT)
    for others, rows, options, word in (
        (one, data.subset(range(100)), SHORT, "data"),
        (one, data, {**SHORT, "lr": 0.1}, "lr"),
        ({"blind": models["good"]}, data, SHORT, "models"),
    ):
        with pytest.raises(InputError, match=f"other {word} than"):
            nv.study.compare(others, rows, store=tmp_path, **options)


def test_more_trainings_and_further_scores(models: dict[str, nv.Target], data: nv.Data) -> None:
    further = {
        "conditional": nv.evidence.Conditional(epochs=2, batch_size=20),
        "prequential": nv.evidence.Prequential(blocks=2, epochs=2),
    }
    some = {k: models[k] for k in ("good", "blind")}
    found = nv.study.compare(some, data, trainings=2, **further, **SHORT)
    assert found.entries[0].losses.shape == (2, 120)
    assert not torch.equal(*found.entries[0].folds)
    assert found.best("conditional").conditional is not None
    assert found.best("prequential").prequential is not None
    assert "prequential / n" in found.table()


@pytest.mark.parametrize("wrong", [{"folds": 1}, {"trainings": 0}])
def test_what_is_refused(
    wrong: dict[str, Any], models: dict[str, nv.Target], data: nv.Data, found: nv.study.Comparison
) -> None:
    with pytest.raises(InputError):
        nv.study.compare(models, data, **wrong)
    with pytest.raises(InputError, match="at least one model"):
        nv.study.compare({}, data)
    with pytest.raises(InputError, match="conditional"):
        found.best("conditional")
