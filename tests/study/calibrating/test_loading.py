"""A calibrated network that is read back says what the one that was saved said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.files import refused
from tests.study.calibrating.test_calibrate import blobs, fit, line, mlp
from torch import nn

import novacula as nv
from novacula.core.storage.stage import WHOLE
from novacula.study.calibrating.calibrate import calibrate
from novacula.study.calibrating.saving import PROGRAM, RECORD

pytestmark = pytest.mark.filterwarnings("ignore:the copies fit", "ignore:.*noise of one size")


def saved(task: str, folder: Path, members: int = 1) -> tuple[Any, nv.Data, nv.LoadedCalibration]:
    torch.manual_seed(0)
    if task == "regression":
        raw = line(120)
        data = nv.Standardiser.fit(raw).apply(raw)
        cal = calibrate(fit(nn.Linear(2, 1), data), data, epochs=8, trained=True, members=members)
    elif task == "multilabel":
        x = torch.randn(90, 2, generator=torch.Generator().manual_seed(1))
        data = nv.Data(x, (x + 0.3 > 0).float(), task="multilabel")
        cal = calibrate(nn.Linear(2, 2), data, epochs=8, members=members)
    else:
        data = blobs(120)
        net = mlp() if task == "classification" else nn.Sequential(mlp(), nn.Linear(3, 1))
        data = data if task == "classification" else nv.Data(data.x, (data.y > 0).long(), task="classification")
        cal = calibrate(net, data, epochs=8, members=members)
    cal.save(folder)
    return cal, data, nv.load_calibrated(folder)


@pytest.mark.parametrize(
    ("task", "members"),
    [("classification", 1), ("classification", 2), ("single", 1), ("multilabel", 1), ("regression", 1)],
)
def test_predictions_and_sets_are_those_that_were_saved(task: str, members: int, tmp_path: Path) -> None:
    cal, data, again = saved(task, tmp_path / "out", members)
    few = data.subset(range(11))
    mine, theirs = cal.predict(few), again.predict(few)
    torch.testing.assert_close(theirs.mean().double(), mine.mean().double(), rtol=1e-4, atol=1e-5)
    if task == "regression":
        torch.testing.assert_close(theirs.variance().double(), mine.variance().double(), rtol=1e-3, atol=1e-6)
    assert again.alphas == (0.05, 0.1, 0.2)
    for alpha in again.alphas:
        want, found = cal.conformal(alpha, by="network")(few), again.conformal(alpha)(few)
        assert found.level == want.level == 0.0
        if isinstance(want, nv.prediction.Sets):
            assert torch.equal(found.member, want.member)
        else:
            torch.testing.assert_close(found.low.double(), want.low.double(), rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(found.high.double(), want.high.double(), rtol=1e-3, atol=1e-3)
    with refused("alpha of 0.05, 0.1, 0.2; got 0.3"):
        again.conformal(0.3)
    with refused("the axis of rows first"):
        again.predict(torch.zeros(2))
    assert task.replace("single", "classification") in repr(again)


def test_a_program_of_one_size_of_batch_gets_whole_ones(tmp_path: Path) -> None:
    cal, data, again = saved("classification", tmp_path / "out")
    sizes = list[int]()

    def two(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return again.program(x)

    record = json.loads((tmp_path / "out" / RECORD).read_text())
    record["program"]["rows"] = "2"
    (tmp_path / "out" / RECORD).write_text(json.dumps(record))
    fixed = nv.load_calibrated(tmp_path / "out")
    object.__setattr__(fixed, "program", two)
    torch.testing.assert_close(fixed.predict(data.x[:5]).mean(), cal.predict(data.x[:5]).mean())
    assert sizes == [2, 2, 2]


def test_what_is_no_calibration_is_refused(tmp_path: Path) -> None:
    with refused("without calibration.json"):
        nv.load_calibrated(tmp_path)
    _, _, _ = saved("classification", tmp_path / "out")
    record = (tmp_path / "out" / RECORD).read_text()
    (tmp_path / "out" / PROGRAM).write_bytes(b"PK damaged")
    with refused(f"a readable {PROGRAM}"):
        nv.load_calibrated(tmp_path / "out")
    for change, expected in (
        ({"program": {"written": False, "why": "it loops"}}, "got it loops"),
        ({"task": 3}, RECORD),
    ):
        (tmp_path / "out" / RECORD).write_text(json.dumps(json.loads(record) | change))
        with refused(expected):
            nv.load_calibrated(tmp_path / "out")
    (tmp_path / "out" / RECORD).write_bytes(b"\xff{")
    with refused(RECORD):
        nv.load_calibrated(tmp_path / "out")


def test_a_calibration_whose_files_were_being_moved_is_the_new_one(tmp_path: Path) -> None:
    """Stopped after any number of moves, and read by whoever comes next."""
    data, nets = blobs(60), [mlp(), nn.Sequential(mlp(), nn.Linear(3, 3))]
    cals = [calibrate(net, None, calibration=data) for net in nets]
    for i, cal in enumerate(cals):
        cal.save(tmp_path / str(i))
    wanted = cals[1].predict(data.x[:4]).mean()
    names = sorted(p.name for p in (tmp_path / "1").iterdir())
    names.sort(key=lambda name: name == RECORD)  # the last one to be moved
    for moved in range(len(names) + 1):
        folder = tmp_path / f"after {moved}"
        shutil.copytree(tmp_path / "0", folder)
        shutil.copytree(tmp_path / "1", folder / WHOLE)
        for name in names[:moved]:
            (folder / WHOLE / name).replace(folder / name)
        torch.testing.assert_close(nv.load_calibrated(folder).predict(data.x[:4]).mean(), wanted, rtol=1e-4, atol=1e-5)
        assert sorted(p.name for p in folder.iterdir()) == sorted(names)
        with refused("a new or empty folder"):
            cals[0].save(folder)
