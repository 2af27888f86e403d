"""The example of docs/calibration.md, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

PAGE = Path(__file__).parents[3] / "docs" / "calibration.md"


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    code = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)[0]
    exec(code, names)
    cal, data = names["cal"], names["data"]
    torch.testing.assert_close(names["calibrated"](data.x) * cal.temperature, names["net"](data.x))
    assert cal.score()["nll"] < cal.score()["uncalibrated_nll"]
    assert Path("calibrated", "calibrated.pt2").is_file()
    assert names["sets"].coverage(data.y) > 0.85
