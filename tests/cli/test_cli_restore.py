"""``novacula restore``, from a file to files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from novacula.cli.app import app

Image = pytest.importorskip("PIL.Image")


def test_an_image_is_restored(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clean = np.linspace(40, 200, 24)[:, None, None] * np.ones((1, 24, 3))
    Image.fromarray((clean + 12 * rng.normal(size=clean.shape)).clip(0, 255).astype("uint8")).save(tmp_path / "a.png")
    asked = ["restore", str(tmp_path / "a.png"), "--steps", "60", "--draws", "2", "--quiet"]
    found = CliRunner().invoke(app, [*asked, "--json"])
    assert found.exit_code == 0, found.stderr
    content = json.loads(found.stdout)
    made = np.asarray(Image.open(content["image"]), dtype=float)
    assert made.shape == clean.shape
    assert np.sqrt(np.mean((made - clean) ** 2)) < 9
    assert Path(content["sd"]).is_file()
    assert "standard deviations" in CliRunner().invoke(app, asked).stdout
    refused = CliRunner().invoke(app, ["restore", str(tmp_path / "none.png")])
    assert refused.exit_code == 2
