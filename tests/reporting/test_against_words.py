"""What the verdict says of controls, against the numbers it is said of."""

from __future__ import annotations

from typing import Any

import pytest

from novacula.reporting.words.against import precise, sentences, table
from novacula.reporting.words.numbers import NO_BREAK


def said(gain: float | None, stderr: float | None = 0.01, **more: Any) -> dict[str, Any]:
    return {"nll": 1.5, "stderr": 0.04, "gain": gain, "gain_stderr": stderr, "seconds": 2.0, "notes": [], **more}


def one(name: str, *args: Any, **more: Any) -> str:
    return " ".join(sentences({"against": {name: said(*args, **more)}})).replace(NO_BREAK, " ")


@pytest.mark.parametrize(
    ("name", "gain", "expected"),
    [
        ("trees", 0.05, "Boosted trees predict unseen rows better here, by 0.050 ± 0.010 nats an example."),
        ("gp", 0.05, "A Gaussian process predicts unseen rows better here, by 0.050 ± 0.010 nats an example."),
        (
            "trees",
            -0.05,
            "The network predicts unseen rows better than boosted trees, by 0.050 ± 0.010 nats an example.",
        ),
        (
            "none",
            -0.05,
            "The network predicts unseen rows better than the same network, trained plainly, by 0.050 ± 0.010 nats an "
            "example.",
        ),
        (
            "trees",
            -0.019,
            "Boosted trees and the network cannot be told apart on unseen rows (a gain of −0.019 ± 0.010 nats an "
            "example).",
        ),
        (
            "trivial",
            None,
            "The same network, trained plainly with random augmentation, and the network could not be compared.",
        ),
    ],
)
def test_sentences(name: str, gain: float | None, expected: str) -> None:
    assert one(name, gain) == expected


def test_few_folds_ask_for_more_standard_errors() -> None:
    assert "better here" in one("trees", 0.03, gain_margin=2.0)
    unsure = one("trees", 0.03, gain_margin=4.5)
    assert unsure.endswith("on unseen rows (a gain of 0.030 ± 0.010 nats an example, but few folds that differ).")
    assert "folds" not in one("trees", 0.019, gain_margin=4.5)


def test_notes_follow_their_control() -> None:
    text = one("gp", 0.05, notes=["the Gaussian process saw 1,500 of 9,000 rows, drawn at random"])
    assert text.endswith(" nats an example. The Gaussian process saw 1,500 of 9,000 rows, drawn at random.")


def test_the_table_begins_with_the_network() -> None:
    found = table({"against": {"trees": said(0.25, rmse=12.3456), "gp": said(-0.5, None)}})
    assert found[0] == ("the network", "1.750", "", "", "")
    assert found[1][0] == "trees"
    assert found[1][3:] == ("RMSE 12.35", "2.0 s")
    assert found[1][2].replace(NO_BREAK, " ") == "0.250 ± 0.010"
    assert found[2][2:4] == ("−0.500", "—")
    assert table({}) == sentences({"against": None}) == []


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [(0.01234, 0.0051, "0.0123 ± 0.0051"), (2.0, 1.0, "2.00 ± 1.00"), (1e-6, 2e-7, "0.00000 ± 0.00000")],
)
def test_errors_have_two_digits(value: float, error: float, expected: str) -> None:
    assert precise(value, error).replace(NO_BREAK, " ") == expected
