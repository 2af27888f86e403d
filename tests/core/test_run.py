"""The run folder: written whole, read without torch, refused with a reason."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from novacula.core.errors import InputError
from novacula.core.storage.run import ARRAYS, CHECKPOINT, FILES, HISTORY, RECORD, SCHEMA, WEIGHTS, Run, plain

RECORD_OF_A_RUN = {
    "kind": "learn",
    "data": {"name": "toy", "n_train": 5, "n_test": 0},
    "weights": 7,
    "evidence": {"value": -1.5},
    "seconds": {"total": 0.1},
    "versions": {"novacula": "0"},
}
WEIGHTS_OF_A_RUN = {
    "weights/0.weight": torch.arange(6.0).reshape(2, 3).T,  # not contiguous
    "learned/prior.log_precision": torch.tensor([0.5, -0.25], dtype=torch.float64),
}


def write(folder: Path) -> Run:
    return Run.write(
        folder,
        RECORD_OF_A_RUN,
        history=[{"epoch": 1.0, "loss": 2.5}, {"epoch": 2.0, "loss": math.nan}],
        weights=WEIGHTS_OF_A_RUN,
        arrays={"test/y": np.array([3, 1]), "test/mean": np.arange(6, dtype=np.float32).reshape(3, 2).T},
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b")
    run = Run.read(tmp_path / "a" / "b")
    assert run.record == {"schema": SCHEMA, **RECORD_OF_A_RUN}
    assert run.history == ({"epoch": 1.0, "loss": 2.5}, {"epoch": 2.0, "loss": None})
    np.testing.assert_array_equal(run.arrays["test/y"], [3, 1])
    np.testing.assert_array_equal(run.arrays["test/mean"], [[0, 2, 4], [1, 3, 5]])
    weights = run.weights()
    assert set(weights) == set(WEIGHTS_OF_A_RUN)
    for name, value in WEIGHTS_OF_A_RUN.items():
        np.testing.assert_array_equal(weights[name], value.numpy())
        assert weights[name].dtype == value.numpy().dtype


def test_the_written_run_is_the_one_that_is_read(tmp_path: Path) -> None:
    written, read = write(tmp_path), Run.read(tmp_path)
    assert written.record == read.record
    assert written.history == read.history
    assert set(written.arrays) == set(read.arrays)


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    for name in (RECORD, HISTORY, WEIGHTS, ARRAYS):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_nothing_but_the_named_files_is_left(tmp_path: Path) -> None:
    write(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {RECORD, HISTORY, WEIGHTS, ARRAYS}
    assert {RECORD, HISTORY, WEIGHTS, ARRAYS} <= set(FILES)


def test_the_record_is_strict_json(tmp_path: Path) -> None:
    Run.write(
        tmp_path, {**RECORD_OF_A_RUN, "evidence": {"value": -math.inf, "stderr": np.float32(0.5), "n": np.int64(3)}}
    )

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    found = json.loads((tmp_path / RECORD).read_text(), parse_constant=refuse)
    assert found["evidence"] == {"value": None, "stderr": 0.5, "n": 3}


def test_plain_knows_what_results_hold() -> None:
    values = {"a": np.arange(2), 1: (True, np.bool_(False)), "p": Path("x"), "n": None, "deep": [{"v": math.nan}]}
    assert plain(values) == {"a": [0, 1], "1": [True, False], "p": "x", "n": None, "deep": [{"v": None}]}


def test_an_unfinished_rewrite_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)

    def fail(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("novacula.core.storage.run.write_json", fail)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path)
    with pytest.raises(InputError, match="no run"):
        Run.read(tmp_path)


def test_reading_imports_no_torch(tmp_path: Path) -> None:
    write(tmp_path)
    code = (
        "import sys; from novacula.core.storage.run import Run; r = Run.read(sys.argv[1]); r.weights(); "
        "assert 'torch' not in sys.modules; print(len(r.arrays))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2"


def test_bfloat16_weights_are_saved_and_widened_when_read(tmp_path: Path) -> None:
    value = torch.tensor([[1.0, -2.5, 3e38], [0.0, 1e-38, -7.0]], dtype=torch.bfloat16)
    Run.write(tmp_path, RECORD_OF_A_RUN, weights={"weights/w": value})
    found = Run.read(tmp_path).weights()["weights/w"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, value.float().numpy())


def test_numbers_of_another_kind_are_named(tmp_path: Path) -> None:
    Run.write(tmp_path, RECORD_OF_A_RUN, weights={"weights/w": torch.ones(2, 3).to(torch.float8_e4m3fn)})
    with pytest.raises(InputError, match=r"weights/w of type F8_E4M3"):
        Run.read(tmp_path).weights()


def _broken(folder: Path, name: str, text: str) -> Path:
    write(folder)
    (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (RECORD, "{", "readable"),
        (RECORD, "[]", "no JSON object"),
        (RECORD, "{}", "something else"),
        (RECORD, '{"schema": 99}', "schema 99"),
        (RECORD, '{"schema": 1, "kind": "learn"}', "'data'"),
        (HISTORY, '{"epochs": 3}', "list of epochs"),
        (ARRAYS, "not safetensors", "readable"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        Run.read(_broken(tmp_path, name, text))
    assert name in str(caught.value)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Run.read(tmp_path / "absent")
    with pytest.raises(InputError, match="no run"):
        Run.read(tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(b"")
    with pytest.raises(InputError, match="--resume"):
        Run.read(tmp_path)


def test_a_record_without_what_every_run_has_is_refused(tmp_path: Path) -> None:
    for key in RECORD_OF_A_RUN:
        with pytest.raises(InputError, match=key):
            Run.write(tmp_path, {k: v for k, v in RECORD_OF_A_RUN.items() if k != key})
    assert not any(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="folder"):
        Run.write(tmp_path / "file" / "run", RECORD_OF_A_RUN)
