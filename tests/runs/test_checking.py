"""Names of tensors that a run without checksums may hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from novacula.core.errors import DamagedRun, InputError
from novacula.core.storage.run import Run
from novacula.posteriors.packed import Packed
from novacula.runs.checking import check_weights

RUN = {"schema": 1, "kind": "learn", "weights": 2}


@pytest.mark.parametrize(
    ("lost", "found"),
    [
        ("units/x_sd", "units/x\x7fsd"),
        ("units/y_mean", None),
        ("check/inputs", "check/input"),
        ("weights/w", "wights/w"),
    ],
)
def test_names_that_no_run_has_are_refused(
    tmp_path_factory: pytest.TempPathFactory, lost: str, found: str | None
) -> None:
    run = Run(tmp_path_factory.mktemp("run"), RUN, (), {})
    units = {f"units/{k}": np.ones(1) for k in ("x_mean", "x_sd", "y_mean", "y_sd")}
    saved = {"weights/w": np.ones(2), **units, "check/inputs": np.ones((1, 2)), "check/outputs": np.ones((1, 1))}
    check_weights(run, saved)
    kept = {k: a for k, a in saved.items() if k != lost} | ({found: np.ones(2)} if found else {})
    with pytest.raises(DamagedRun, match=r"which no run has|alone|no check/inputs"):
        check_weights(run, kept)


def test_what_stands_beside_weights_is_missed() -> None:
    with pytest.raises(InputError, match="log_density of a stored posterior"):
        Packed("draws", {}, {"log_densitx": torch.zeros(1)}).other("log_density")
