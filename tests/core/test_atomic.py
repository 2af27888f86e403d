"""Atomic files: whole or not at all, whatever fails and wherever."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from novacula.core.errors import FullDisk, InputError
from novacula.core.storage.atomic import write_bytes, write_json, write_text


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
        with pytest.raises(FullDisk, match="No space left"):
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
