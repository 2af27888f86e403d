"""From a `LearnResult` to a run folder: metrics on held-out data, and what the report will show."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from novacula.core.data import Data
from novacula.core.params import count
from novacula.core.rng import generator
from novacula.core.run import Run
from novacula.prediction import Predictive, crps, evaluate, predict

if TYPE_CHECKING:
    from novacula.study.learn import LearnResult

# The montage: so many inputs, each under so many transformations.
_MONTAGE = (6, 7)


def save(
    result: LearnResult,
    folder: Path,
    *,
    test: Data | None = None,
    command: str = "",
    settings: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a run folder: ``run.json``, ``history.json``, weights and the report's arrays.

    Args:
        result: What `learn` found.
        folder: Where to; made if it does not exist.
        test: Held-out data to evaluate on, standardised like the training data; nothing is chosen by it.
        command: The command line, for the record.
        settings: Further settings, for the record.

    Returns:
        What ``run.json`` holds.
    """
    record, arrays = describe(result, test)
    record |= {
        "output_dir": str(folder),
        "command": command,
        "settings": {**result.settings, **(settings or {})},
    }
    weights = {f"weights/{k}": w for k, w in result.params.items()}
    weights |= {f"learned/{k}": v for k, v in result.target.learnable().items()}
    return Run.write(folder, record, history=result.history, weights=weights, arrays=arrays).record


def describe(result: LearnResult, test: Data | None = None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The record and the report's arrays of a result.

    Args:
        result: What `learn` found.
        test: Held-out data, or None.

    Returns:
        The contents of ``run.json`` (less what only the caller knows), and arrays by name.
    """
    target, data, choice = result.target, result.data, result.choice
    arrays: dict[str, np.ndarray] = {}
    scores: dict[str, dict[str, float] | None] = {"test": None, "map_test": None}
    warnings = list(result.warnings)
    if test is not None:
        by_choice, by_point = predict(result.posterior, test.x), predict(result.point, test.x)
        chosen = _evaluate(by_choice, test, arrays, "test")
        plain = _evaluate(by_point, test, arrays, "map_test")
        scores = {"test": chosen, "map_test": plain}
        # Nothing is chosen by the test data; but a reader must hear when the choice turned out worse on them.
        gap = (by_point.log_prob(test.y) - by_choice.log_prob(test.y)).double()
        if test.n > 1 and float(gap.mean()) > 2 * float(gap.std()) / math.sqrt(test.n):
            warnings.append(
                f"on the test data the chosen predictive has an NLL of {chosen['nll']:.4f}, the plain point estimate "
                f"{plain['nll']:.4f}"
            )
    record: dict[str, Any] = {
        "kind": "learn",
        "data": {
            "name": data.name,
            "n_train": data.n,
            "n_test": test.n if test is not None else 0,
            "fingerprint": data.fingerprint,
            "input_shape": list(data.x.shape[1:]),
            "classes": list(data.classes) or None,
            "task": data.task,
        },
        "weights": count(result.params),
        "evidence": result.evidence.to_dict(),
        "prior": {"name": type(target.prior).__name__, "precision": target.prior.describe(result.params)},
        "noise": _noise(result),
        "invariance": _invariance(result),
        **scores,
        "predictive": choice.to_dict(),
        "seconds": result.seconds,
        "versions": _versions(),
        "seed": result.seed,
        "warnings": list(dict.fromkeys(warnings)),
    }
    arrays |= _montage(result)
    return record, arrays


def _evaluate(predictive: Predictive, test: Data, arrays: dict[str, np.ndarray], key: str) -> dict[str, float]:
    # Metrics in the labels' own units; predictions and labels go into `arrays`.
    found, mean, y = evaluate(predictive, test.y), predictive.mean(), test.y
    if test.scaling is not None and test.task == "regression":
        mean, y = test.scaling.restore_y(mean), test.scaling.restore_y(y)
        found["nll"] += test.scaling.log_y_scale
        found["rmse"] = float((mean.double() - y.double()).square().mean().sqrt())
        if "crps" in found:
            found["crps"] = float(test.scaling.restore_y_scale(crps(predictive, test.y)).double().mean())
    arrays[f"{key}/mean"] = mean.detach().cpu().numpy()
    if test.task == "regression":
        arrays[f"{key}/sd"] = _sd(predictive, test).cpu().numpy()
    arrays["test/y"] = y.cpu().numpy()
    return found


def _sd(predictive: Predictive, test: Data) -> Tensor:
    # Half the width of the central 68.27 % interval: the standard deviation of a Gaussian.
    low, high = predictive.interval(math.erf(1 / math.sqrt(2)))
    sd = ((high - low) / 2).detach()
    return test.scaling.restore_y_scale(sd) if test.scaling is not None else sd


def _noise(result: LearnResult) -> dict[str, Any] | None:
    log_sigma = result.target.learnable().get("likelihood.log_sigma")
    if log_sigma is None:
        return None
    sigma = log_sigma.detach().double().exp()
    if (scaling := result.data.scaling) is not None and result.data.task == "regression":
        original = scaling.restore_y_scale(sigma.expand(result.data.y.shape[1])).tolist()
        return {"sigma": original[0] if len(original) == 1 else original, "sigma_standardised": sigma.tolist()}
    return {"sigma": sigma.tolist()}


def _invariance(result: LearnResult) -> dict[str, Any] | None:
    invariance = result.target.invariance
    if invariance is None:
        return None
    eta = dict(zip(invariance.names, invariance.magnitude(invariance.eta.detach()).tolist(), strict=True))
    stability = _stability(result.history, invariance.names)
    return {"name": type(invariance).__name__, **invariance.describe(), "eta": eta, "stability": stability}


def _stability(history: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, float | None]:
    # Standard deviations over the last third of the epochs in which extents moved; a schedule holds them afterwards.
    path = np.array([[record.get(f"extent/{name}", math.nan) for name in names] for record in history])
    if not len(path) or np.isnan(path).any():
        return dict.fromkeys(names)
    moving = np.abs(np.diff(path, axis=0)).max(1) > 0
    end = int(np.flatnonzero(moving)[-1]) + 2 if moving.any() else 0
    part = path[end - max(2, end // 3) : end]
    return {name: float(part[:, i].std()) if end else None for i, name in enumerate(names)}


def _montage(result: LearnResult) -> dict[str, np.ndarray]:
    # A few inputs and their copies under the learned transformations; images and signals only.
    x, invariance = result.data.x[: _MONTAGE[0]], result.target.invariance
    if invariance is None or x.ndim not in (3, 4):
        return {}
    with torch.no_grad():
        copies = result.target.warp(x, _MONTAGE[1], generator(result.seed, "montage"))
    return {"montage/original": x.cpu().numpy(), "montage/transformed": copies.cpu().numpy()}


def _versions() -> dict[str, str]:
    return {
        "novacula": version("novacula"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
