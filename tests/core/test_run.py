"""The run folder: written whole, read without torch, refused with a reason."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from files import unsealed
from novacula.core.errors import DamagedRun, InputError
from novacula.core.storage.run import (
    ARRAYS,
    CHECKPOINT,
    FILES,
    HISTORY,
    MANIFEST,
    RECORD,
    REPORT,
    SCHEMA,
    WEIGHTS,
    Run,
    plain,
)

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
    for name in (RECORD, MANIFEST, HISTORY, WEIGHTS, ARRAYS):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_nothing_but_the_named_files_is_left(tmp_path: Path) -> None:
    write(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {RECORD, MANIFEST, HISTORY, WEIGHTS, ARRAYS}
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


def test_an_unfinished_rewrite_leaves_the_older_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fail(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("novacula.core.storage.run.write_json", fail)
    with pytest.raises(KeyboardInterrupt):
        Run.write(tmp_path, {**RECORD_OF_A_RUN, "weights": 8})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("moved", range(7))
def test_a_run_that_was_written_whole_is_moved_to_its_place_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    write(tmp_path)
    (tmp_path / REPORT).write_text("of the older run")
    replace, count = os.replace, iter(range(100))

    def stop(source: Path, target: Path) -> None:
        if Path(source).parent.name == ".whole" and next(count) == moved:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with contextlib.suppress(KeyboardInterrupt):
            Run.write(tmp_path, {**RECORD_OF_A_RUN, "weights": 8}, weights={"weights/w": torch.ones(8)})
    run = Run.read(tmp_path)
    assert run.record["weights"] == 8
    assert run.weights()["weights/w"].sum() == 8
    assert {p.name for p in tmp_path.iterdir()} == {RECORD, MANIFEST, HISTORY, WEIGHTS, ARRAYS}  # no stale report


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


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (RECORD, "{", "Expecting property name"),
        (RECORD, "[]", "no JSON object"),
        (RECORD, '{"schema": NaN}', "NaN"),
        (RECORD, "{}", "something else"),
        (RECORD, '{"schema": 99}', "schema 99"),
        (RECORD, '{"schema": true}', "schema True"),
        (RECORD, '{"schema": 1, "kind": "learn"}', "`data`"),
        (HISTORY, '{"epochs": 3}', "list of epochs"),
        (ARRAYS, "not safetensors", "readable"),
    ],
)
def test_broken_files_of_runs_without_checksums_are_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    write(tmp_path)
    unsealed(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        Run.read(tmp_path)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", [RECORD, MANIFEST, HISTORY, WEIGHTS, ARRAYS])
@pytest.mark.parametrize("how", ["flip", "cut", "lose", "grow", "folder"])
def test_no_damage_goes_unseen(tmp_path: Path, name: str, how: str) -> None:
    write(tmp_path)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    middle = content.index(b"7") if name == RECORD else len(content) // 2
    content[middle] ^= 1
    changed = {"flip": bytes(content), "cut": bytes(content[:-3]), "grow": bytes(content) + b" 1"}
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how != "lose":
        path.write_bytes(changed[how])
    with pytest.raises(DamagedRun, match=name):
        Run.read(tmp_path).weights()


def test_a_manifest_that_lost_its_own_sum_is_refused(tmp_path: Path) -> None:
    """Else a file that it no longer names would be one that was never written."""
    write(tmp_path)
    content = json.loads((tmp_path / MANIFEST).read_text())
    del content["checksum"], content["files"][HISTORY]
    (tmp_path / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(DamagedRun, match="no checksum"):
        Run.read(tmp_path)


def test_an_error_says_what_can_still_be_used(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"")
    run = Run.read(tmp_path)  # for the report, which needs none
    with pytest.raises(DamagedRun, match=r"0 bytes of \d+.*novacula show .* and novacula report .* can still be used"):
        run.weights()
    (tmp_path / HISTORY).unlink()
    with pytest.raises(DamagedRun, match=r"history.json, damaged: missing") as caught:
        Run.read(tmp_path)
    assert "novacula show" in caught.value.hint
    assert "novacula report" not in caught.value.hint
    assert Run.read(tmp_path, parts=()).record == run.record


def test_a_run_of_an_earlier_version_says_what_is_unchecked(tmp_path: Path) -> None:
    whole = write(tmp_path)
    assert whole.unchecked is None
    unsealed(tmp_path)
    run = Run.read(tmp_path)
    assert run.unchecked is not None
    assert run.record == {**whole.record, "schema": 1}
    assert set(run.weights()) == set(WEIGHTS_OF_A_RUN)


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
