"""The words, the page and the pictures of `novacula augment`, from a record alone."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import novacula as nv
from novacula.core.storage.run import ADVICE, PICTURES
from novacula.reporting.advice import words
from novacula.reporting.advice.page import read, render


def strength(extent: float, verdict: str, gain: float, **more: Any) -> dict[str, Any]:
    found = {"extent": extent, "verdict": verdict, "gain": gain, "stderr": 0.02, "networks": 3, "unsettled": False}
    return {**found, "interval": [gain - 0.05, gain + 0.05], **more}


def line(*strengths: dict[str, Any]) -> dict[str, Any]:
    first = strengths[0]
    return {**{k: first[k] for k in ("extent", "verdict", "gain", "stderr", "interval")}, "strengths": list(strengths)}


def score(nll: float) -> dict[str, float]:
    return {"nll": nll, "stderr": 0.03, "accuracy": 0.9, "accuracy_stderr": 0.01}


def gain(value: float) -> dict[str, float]:
    return {"value": value, "stderr": 0.02}


RECORD: dict[str, Any] = {
    "kind": "augment",
    "data": {
        "name": "a <b>",
        "fingerprint": "f",
        "n": 800,
        "given": 900,
        "input_shape": [1, 4, 6],
        "classes": 10,
        "chance": 2.3,
    },
    "verdicts": {
        "flip": line(strength(0.5, "harmful", -0.1)),
        "rotation": line(strength(1 / 12, "needed", 0.09), strength(1 / 3, "undecided", 0.01)),
        "deformation": line(strength(0.02, "no effect", 0.001)),
        "scale": line(strength(0.1, "undecided", 0.02)),
        "hue": line(strength(0.5, "undecided", -0.2, unsettled=True)),
    },
    "out_of_fold": score(0.22),
    "comparison": {"none": score(0.31), "trivial": score(0.25), "recommended": score(0.22)},
    "against": {"none": gain(0.09), "trivial": gain(0.03)},
    "recommended": {"rotation": 1 / 12},
    "invariance": {"eta": {"rotation": 1 / 12}},
    "converged": False,
    "plan": {"steps": 400, "batch_size": 25, "networks": 99, "passes": 20.0},
    "thresholds": {"worth": 0.0062, "slight": 0.031},
    "seconds": 400.0,
    "seed": 0,
    "versions": {"novacula": "0"},
}


def test_lines_say_what_training_does() -> None:
    rows = {row.name: row for row in words.rows(RECORD)}
    assert list(rows) == ["rotation", "flip", "hue", "scale", "deformation"]
    assert rows["rotation"].sentence == (
        "Rotation ±15°: needed; training with it lowers the loss on unseen images from 0.310 to 0.220 (± 0.020)"
    )
    assert rows["rotation"].others == "±60°: undecided (0.010 ± 0.020)"
    assert "raises the loss on unseen images from 0.310 to 0.410" in rows["flip"].sentence
    assert rows["deformation"].sentence.endswith("no effect; training with it changes the loss by less than 0.031")
    assert rows["scale"].sentence.endswith("undecided; training with it gains between −0.030 and 0.070")
    assert "longer training has not confirmed" in rows["hue"].sentence


def test_the_first_sentence_says_what_to_do() -> None:
    said = "Train with rotation ±15°: it lowers the loss on unseen images from 0.310 to 0.220 (± 0.020)."
    assert words.headline(RECORD) == said
    other = copy.deepcopy(RECORD)
    other["against"]["trivial"] = gain(-0.05)
    assert words.headline(other) == f"{said} The policy TrivialAugment does better still, by 0.050: try it."
    other |= {"recommended": {}, "against": {}}
    assert "more time or more images would tell" in words.headline(other)
    other["verdicts"] = {"flip": RECORD["verdicts"]["flip"]}
    assert words.headline(other).startswith("Train on the images as they are: no transformation")


def test_reservations_are_said() -> None:
    said = " ".join(words.caveats(RECORD))
    assert "Of 900 images 800 were used" in said
    assert "time cut the comparison short" in said
    poor = copy.deepcopy(RECORD)
    poor["plan"]["passes"], poor["comparison"]["none"]["nll"] = 4.0, 2.2
    assert "4.0 times" in " ".join(words.caveats(poor))
    assert "hardly better than chance" in " ".join(words.caveats(poor))
    fine = copy.deepcopy(RECORD) | {"converged": True}
    fine["data"]["given"] = 800
    assert words.caveats(fine) == []


def test_the_page_is_whole_and_the_same_again(tmp_path: Path) -> None:
    images = np.arange(8 * 4 * 6, dtype=np.uint8).reshape(8, 4, 6, 1)
    pictures = dict.fromkeys(("none", "trivial", "flip=0.5", "rotation=0.0833333"), images)
    (tmp_path / ADVICE).write_text(json.dumps(RECORD))
    np.savez(tmp_path / PICTURES, **pictures)
    page = nv.report(tmp_path).read_text()
    assert page == render(RECORD, pictures)
    assert page.count("data:image/png;base64,") == 4
    assert "Augmentations for a &lt;b&gt;" in page
    assert "v2.RandomAffine(degrees=15" in page
    assert not re.search(r"(src|href)=\"https?:", page)
    assert page.index("Train with rotation") < page.index("<table>")
    assert nv.report(tmp_path).read_text() == page


def test_a_folder_without_a_comparison_is_refused(tmp_path: Path) -> None:
    with pytest.raises(nv.InputError, match="results of novacula augment"):
        read(tmp_path)
