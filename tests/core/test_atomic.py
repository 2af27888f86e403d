"""Atomic files and folders: whole or not at all, whatever fails and wherever."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from novacula.core.errors import InputError
from novacula.core.storage.atomic import atomic_folder, write_bytes, write_json, write_text


def refused(text: str) -> Any:
    return pytest.raises(InputError, match=re.escape(text))


class TestFiles:
    def test_round_trips(self, tmp_path: Path) -> None:
        write_bytes(tmp_path / "b", b"\0\xff\r\n")
        write_text(str(tmp_path / "t"), "η = 1\r\n")
        value = {"a": [1, 2.5, None, True], "η": {"b": "c"}}
        write_json(tmp_path / "j", value)
        assert (tmp_path / "b").read_bytes() == b"\0\xff\r\n"
        assert (tmp_path / "t").read_bytes() == "η = 1\r\n".encode()
        assert json.loads((tmp_path / "j").read_text(encoding="utf-8")) == value
        assert sorted(os.listdir(tmp_path)) == ["b", "j", "t"]

    def test_replaces_and_keeps_to_the_umask(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_text("a much longer text that was here before")
        write_text(path, "new")
        assert path.read_text() == "new"
        (tmp_path / "plain").touch()
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_a_failure_leaves_the_old_contents_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        path = tmp_path / "a"
        write_text(path, "old")

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, step, full)
        with pytest.raises(OSError, match="No space left"):
            write_text(path, "new")
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["a"]

    def test_the_new_contents_are_on_disk_before_they_get_the_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps: list[str] = []
        sync, replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("fsync"), sync(fd)))
        monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("replace"), replace(a, b)))
        write_text(tmp_path / "a", "x")
        assert steps == ["fsync", "replace", "fsync"]

    @pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": {1, 2}}, object()])
    def test_json_refuses(self, tmp_path: Path, value: Any) -> None:
        with refused("plain JSON values with finite numbers; got a.json"):
            write_json(tmp_path / "a.json", value)
        assert os.listdir(tmp_path) == []

    def test_errors(self, tmp_path: Path) -> None:
        with refused("No such file or directory. Try: create its folder"):
            write_text(tmp_path / "no" / "a", "x")
        (tmp_path / "folder").mkdir()
        with refused("Is a directory"):
            write_text(tmp_path / "folder", "x")
        (tmp_path / "file").touch()
        with refused("Not a directory"):
            write_text(tmp_path / "file" / "a", "x")
        assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


class TestFolder:
    def test_appears_at_the_end(self, tmp_path: Path) -> None:
        path = tmp_path / "runs" / "a"
        with atomic_folder(path) as folder:
            write_text(folder / "x", "1")
            (folder / "sub").mkdir()
            assert not path.exists()
            assert folder.parent == path.parent
        assert sorted(os.listdir(path)) == ["sub", "x"]
        assert os.listdir(path.parent) == ["a"]

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
    def test_a_failure_leaves_nothing(self, tmp_path: Path, error: type[BaseException]) -> None:
        with pytest.raises(error), atomic_folder(tmp_path / "a") as folder:  # noqa: PT012
            write_text(folder / "x", "1")
            raise error
        assert os.listdir(tmp_path) == []

    def test_overwrite(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.mkdir()
        with atomic_folder(path) as folder:  # an empty folder may be replaced
            write_text(folder / "old", "1")
        with refused("a folder that is new or empty"), atomic_folder(path):
            pytest.fail("the block must not run")
        with pytest.raises(ValueError, match="fails"), atomic_folder(path, overwrite=True) as folder:
            raise ValueError("fails")
        assert os.listdir(path) == ["old"]
        with atomic_folder(path, overwrite=True) as folder:
            write_text(folder / "new", "1")
        assert os.listdir(path) == ["new"]
        assert os.listdir(tmp_path) == ["a"]

    def test_somebody_else_was_faster(self, tmp_path: Path) -> None:
        with refused("a folder that is new or empty"), atomic_folder(tmp_path / "a"):
            (tmp_path / "a").mkdir()
            write_text(tmp_path / "a" / "theirs", "1")
        assert os.listdir(tmp_path / "a") == ["theirs"]
        assert os.listdir(tmp_path) == ["a"]

    def test_the_old_folder_returns_when_the_last_step_fails(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, replace = tmp_path / "a", os.replace
        path.mkdir()
        write_text(path / "old", "1")

        def fail_once(source: Path, goal: Path) -> None:
            if str(source).endswith(".partial"):
                raise OSError(5, "Input/output error")
            replace(source, goal)

        monkeypatch.setattr(os, "replace", fail_once)
        with pytest.raises(OSError, match="Input/output"), atomic_folder(path, overwrite=True):
            pass
        assert os.listdir(path) == ["old"]
        assert os.listdir(tmp_path) == ["a"]

    def test_errors(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with refused("which is a file"), atomic_folder(tmp_path / "file"):
            pytest.fail("the block must not run")
        with refused("a folder that can be created"), atomic_folder(tmp_path / "file" / "a"):
            pytest.fail("the block must not run")
