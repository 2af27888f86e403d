"""What ``run.json`` and the manifest hold: one schema, held against a file once, when a run is opened.

Entries that the schema does not name are kept as they are, so that a later version may add some. Numbers that are not
known are null.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Number = float | None


class Coded(msgspec.Struct):
    """How a column of a table became inputs."""

    name: str
    words: list[str] | None = None
    fill: float | str | None = None
    marked: bool = False
    missing: int = 0
    rare: list[str] = []
    other: int = 0
    unit: str | None = None


class Piece(msgspec.Struct):
    """One of several inputs."""

    name: str
    shape: list[int]
    whole: Literal["bool", "uint8", "int8", "int16", "int32", "int64"] | None = None


class Layout(msgspec.Struct):
    """Inputs of several parts."""

    parts: list[Piece]
    named: bool


class Described(msgspec.Struct):
    """The training data, as the run's readers need them."""

    name: str | None = None
    n_train: int | None = None
    n_test: int | None = None
    fingerprint: str | None = None
    input_shape: list[int] | None = None
    classes: list[str] | None = None
    columns: list[str] | None = None
    targets: list[str] | None = None
    tokens: bool | None = None
    parts: Layout | None = None
    task: Literal["classification", "regression", "multilabel"] | None = None
    meaning: list[str] | None = None
    coding: list[Coded] | None = None
    size: int | None = None


class Evidence(msgspec.Struct):
    """The log evidence."""

    value: Number = None
    stderr: Number = None
    per_example: Number = None
    kind: str | None = None
    estimator: str | None = None
    parts: dict[str, Number] | None = None
    assumptions: list[str] | None = None
    warnings: list[str] | None = None


class Prior(msgspec.Struct):
    """The prior's name and precisions."""

    name: str | None = None
    precision: dict[str, Number] | None = None


class Noise(msgspec.Struct):
    """The noise of measurements, in their units and in those of training."""

    sigma: Number | list[Number] = None
    sigma_standardised: Number | list[Number] = None


class Invariance(msgspec.Struct):
    """The learned extents."""

    name: str | None = None
    eta: dict[str, Number] | None = None


class Predictive(msgspec.Struct):
    """The chosen predictive."""

    structure: str | None = None
    temperature: Number = None
    calibration: float = 1.0
    members: int | None = None
    reason: str | None = None
    scores: list[dict[str, Any]] | None = None


class Stored(msgspec.Struct):
    """The posterior that was asked for."""

    method: str | None = None
    name: str | None = None
    settings: dict[str, Any] | None = None
    chains: int | None = None
    draws: int | None = None
    stored: int | None = None
    steps: int | None = None
    warnings: list[str] | None = None
    diagnostics: dict[str, Any] | None = None
    examined: Any = None


class Blind(msgspec.Struct):
    """Scores of the training examples by networks that have not seen them; a loss that is no density has no ``nll``."""

    nll: Number | None = None


class Strange(msgspec.Struct):
    """How well doubt tells foreign inputs."""

    name: str
    auroc: Number
    fpr95: Number | None = None


class Record(msgspec.Struct):
    """The content of ``run.json``; what has no default, every run has."""

    schema: int
    kind: str
    data: Described
    weights: int
    evidence: Evidence
    seconds: dict[str, Number]
    versions: dict[str, str]
    outputs: int | None = None
    seed: int | None = None
    converged: bool | None = None
    prior: Prior | None = None
    noise: Noise | None = None
    hyper: dict[str, dict[str, Any]] | None = None
    verdicts: dict[str, dict[str, Any]] | None = None
    out_of_fold: Blind | None = None
    invariance: Invariance | None = None
    test: dict[str, Any] | None = None
    map_test: dict[str, Any] | None = None
    ood: Strange | None = None
    predictive: Predictive | None = None
    posterior: Stored | None = None
    setup: dict[str, Any] | None = None
    catalogue: dict[str, Any] | None = None
    settings: dict[str, Any] | None = None
    against: dict[str, Any] | None = None
    warnings: list[str] | None = None


class Scores(msgspec.Struct):
    """Scores, as numbers; a sealed run may have others."""

    test: dict[str, Number] | None = None
    map_test: dict[str, Number] | None = None
    out_of_fold: dict[str, Number] | None = None


class Epochs(msgspec.Struct):
    """The content of ``history.json``, which a sealed run may have more of."""

    epochs: list[dict[str, Number]]


class Entry(msgspec.Struct):
    """A file as it was written."""

    sha256: str
    bytes: int


class Manifest(msgspec.Struct):
    """The files of a run, by name."""

    files: dict[str, Entry]


def check(content: Any, kind: type[msgspec.Struct]) -> str | None:
    """What is wrong with plain values, by the place in them; None where they fit a schema."""
    try:
        msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        return str(error)
    return None


def manifest_of(content: Any) -> Manifest:
    """A manifest from plain values; a ValueError where they are none."""
    return msgspec.convert(content, Manifest)
