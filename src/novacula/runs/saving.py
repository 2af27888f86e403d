"""From a `LearnResult` to a run folder: metrics on held-out data, and what the report will show."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from novacula.core.params import count
from novacula.core.rng import generator
from novacula.core.storage.plain import plain
from novacula.core.storage.run import Run
from novacula.data.data import Data
from novacula.data.lazy import LazyRows
from novacula.data.new import NewData
from novacula.data.overlap import shared_rows
from novacula.data.standardise import Standardiser
from novacula.posteriors.base import Posterior
from novacula.prediction import Predictive, evaluate, ood, predict
from novacula.runs.catalogue.methods import settings_of, spoken
from novacula.runs.catalogue.models import origins, spoken_extents
from novacula.runs.flags import anchored, flat
from novacula.runs.learned import Learned
from novacula.runs.packing import bounded, check_tensors, size_of, tensors_of
from novacula.runs.refit import Inferred
from novacula.runs.settings import Setup

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles that are saved and written."""

_COPIES = 0.05  # the share of test rows that may be training rows by chance

# The montage: so many inputs, each under so many transformations.
_MONTAGE = (6, 7)


def save(
    result: Learned,
    folder: Path,
    *,
    test: Data | None = None,
    strange: NewData | None = None,
    setup: Setup | None = None,
    targets: Sequence[str] = (),
    command: str = "",
    settings: dict[str, Any] | None = None,
    against: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Write a run folder: ``run.json``, ``history.json``, weights, the posterior's draws and the report's arrays."""
    kept = bounded(result.posterior)
    record, arrays = describe(result, test, strange=strange, kept=kept)
    record["data"]["targets"] = list(targets) or None
    record |= {
        "output_dir": str(folder),
        "setup": None if setup is None else flat(anchored(setup)),
        "catalogue": {} if setup is None else origins(setup.likelihood, setup.prior, setup.invariance),
        "command": command,
        "settings": {**result.settings, **(settings or {})},
        "against": None if against is None else dict(against),
    }
    own = result.target.params()
    weights = {f"{'weights' if k in own else 'statistics'}/{k}": w for k, w in result.params.items()}
    weights |= {f"centre/{k}": w for k, w in (result.target.prior.centre(own) or {}).items()}
    weights |= {f"learned/{k}": v for k, v in result.target.learnable().items()}
    weights |= check_tensors(result.target, result.params, result.data.x)
    if (scaling := result.data.scaling) is not None:
        weights |= {f"scaling/{k}": getattr(scaling, k) for k in ("x_mean", "x_sd", "y_mean", "y_sd")}
    weights |= {f"units/{k}": v for k, v in result.target.forward.units.tensors().items() if v.numel()}
    own = result.inferred is not None or len(kept.parts) > 1  # what the trained weights alone do not say
    posterior = tensors_of(kept) if own else None
    return Run.write(folder, record, history=result.history, weights=weights, posterior=posterior, arrays=arrays).record


def describe(
    result: Learned, test: Data | None = None, *, strange: NewData | None = None, kept: Posterior | None = None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The record and the report's arrays of a result.

    Args:
        result: What `learn` found.
        test: Held-out data, or None.
        strange: Inputs of another kind, in their own units, to be told from the test data.
        kept: What a run keeps of the posterior, by which it predicts; by default found anew.

    Returns:
        The contents of ``run.json`` (less what only the caller knows), and arrays by name.
    """
    target, data = result.target, result.data
    kept = bounded(result.posterior) if kept is None else kept
    arrays: dict[str, np.ndarray] = {}
    scores: dict[str, dict[str, Any] | None] = {"test": None, "map_test": None, "ood": None}
    warnings = list(result.warnings)
    if test is not None:
        by_choice, by_point = (predict(p, test.x).in_units(test.scaling) for p in (kept, result.point))
        y = own_units(test.y, test.scaling)
        chosen = _evaluate(by_choice, y, arrays, "test")
        point = _evaluate(by_point, y, arrays, "map_test")
        arrays |= _spread(by_choice, test)
        scores = {"test": chosen, "map_test": point, "ood": _strange(kept, by_choice, strange, data, arrays)}
        warnings += [*_copies(data, test), *_worse(by_choice, by_point, y)]
    posterior, sampled = _posterior(result.inferred, kept)
    arrays |= sampled
    record: dict[str, Any] = {
        "kind": "learn",
        "data": {
            "name": data.name,
            "n_train": data.n,
            "n_test": test.n if test is not None else 0,
            "fingerprint": data.fingerprint,
            **_layout(data),
            "classes": list(data.classes) or None,
            "columns": list(data.columns) or None,
            "task": data.task,
            "meaning": list(data.meaning),
            "size": data.about.size,
            "coding": None if data.coding is None else data.coding.to_dict(),
        },
        "weights": count(target.params()),
        "outputs": _outputs(result),
        "evidence": result.evidence.to_dict(),
        "prior": {"name": type(target.prior).__name__, "precision": target.prior.describe(target.at(result.params)[1])},
        "noise": _noise(result),
        "converged": bool(result.converged),
        "hyper": plain(result.hyper),
        "verdicts": plain(result.verdicts),
        "out_of_fold": None if result.unseen is None else plain(result.unseen.score()),
        "invariance": _invariance(result),
        **scores,
        "predictive": _predictive(result),
        "posterior": posterior,
        "seconds": result.seconds,
        "versions": _versions(),
        "seed": result.seed,
        "warnings": list(dict.fromkeys(warnings)),
    }
    arrays |= _montage(result)
    return record, arrays


def _layout(data: Data) -> dict[str, Any]:
    # What inputs are like, for those to come.
    parts = None if data.parts is None else data.parts.record()
    return {"input_shape": list(data.x.shape[1:]), "tokens": not data.x.is_floating_point(), "parts": parts}


def own_units(y: Tensor, scaling: Standardiser | None) -> Tensor:
    """Labels ``(…, K)`` in their own units: of measurements in float64, as a predictive in these units has them."""
    return y if scaling is None or not scaling.y_sd.numel() else scaling.restore_y(y.double())


def _copies(data: Data, test: Data) -> list[str]:
    # Test rows that were trained on tell nothing of new ones.
    shared = 0 if isinstance(data.x, LazyRows) else int(shared_rows(data, test).sum())
    if shared <= _COPIES * test.n:
        return []
    return [
        f"{shared:,} of {test.n:,} test rows, input and label, are training rows too: if they are copies, what is said "
        "of test data and of unseen examples is too good; leave copies out"
    ]


def _worse(chosen: Predictive, point: Predictive, y: Tensor) -> list[str]:
    # Nothing is chosen by the test data; but a reader must hear when the choice turned out worse on them.
    own, other = (p.log_prob(y).double() for p in (chosen, point))
    gap = other - own
    if len(gap) < 2 or float(gap.mean()) <= 2 * float(gap.std()) / math.sqrt(len(gap)):
        return []
    return [
        f"on the test data the chosen predictive has an NLL of {-float(own.mean()):.4f}, the plain point estimate "
        f"{-float(other.mean()):.4f}"
    ]


def _evaluate(predictive: Predictive, y: Tensor, arrays: dict[str, np.ndarray], key: str) -> dict[str, float]:
    # Metrics in the labels' own units; predictions and labels go into `arrays`.
    arrays[f"{key}/mean"] = predictive.mean().detach().cpu().numpy()
    if predictive.likelihood.task == "regression":
        # Half the width of the central 68.27 %: the standard deviation, where the predictive is Gaussian.
        low, high = predictive.interval(math.erf(1 / math.sqrt(2)))
        arrays[f"{key}/sd"] = ((high - low) / 2).detach().cpu().numpy()
    arrays["test/y"] = y.cpu().numpy()
    return evaluate(predictive, y)


def _spread(predictive: Predictive, test: Data) -> dict[str, np.ndarray]:
    # Where the doubt of each prediction lies: quantiles of measurements, and for classes how far the weights differ.
    found: dict[str, Tensor] = {}
    if test.task == "regression":
        found["quantiles"] = predictive.quantile(LEVELS)
        found["quantile_levels"] = torch.tensor(LEVELS, dtype=torch.float64)
        if test.x_shape == (1,):
            found["x"] = test.x if test.scaling is None else test.scaling.restore_x(test.x)
    elif test.task == "classification" and predictive.likelihood.normalised:
        total, _, epistemic = predictive.entropy()
        if epistemic is not None:
            found |= {"entropy_total": total, "entropy_epistemic": epistemic}
    return {f"test/{k}": v.detach().cpu().numpy() for k, v in found.items()}


def _strange(
    kept: Posterior, usual: Predictive, strange: NewData | None, data: Data, arrays: dict[str, np.ndarray]
) -> dict[str, Any] | None:
    # How well the entropy tells inputs of another kind from the test data.
    if strange is None or not usual.likelihood.normalised:
        return None
    x = strange.x if data.scaling is None else data.scaling.inputs(strange.x)
    found = ood(usual, predict(kept, x))
    arrays["test/strangeness"], arrays["ood/strangeness"] = found.usual.numpy(), found.strange.numpy()
    scores = {k: v for k, v in found.to_dict().items() if not k.startswith("n_")}
    return {"name": strange.name, "n": strange.n, "score": "entropy", **scores}


def _predictive(result: Learned) -> dict[str, Any]:
    found = result.choice.to_dict()
    if result.inferred is None:
        return found
    name = type(result.inferred.method).__name__
    reason = f"{name} was asked for; otherwise the choice would have been {result.choice.reason}"
    return {**found, "structure": None, "temperature": None, "reason": reason}


def _posterior(inferred: Inferred | None, kept: Posterior) -> tuple[dict[str, Any] | None, dict[str, np.ndarray]]:
    # What is said of a posterior that was asked for, and the arrays of a sampler's diagnostics.
    if inferred is None:
        return None, {}
    posterior, stored = inferred.posterior, size_of(kept)
    warnings = list(posterior.warnings)
    if tensors_of(kept) is None:
        warnings.append("this posterior is not kept: the run cannot predict later")
    record: dict[str, Any] = {
        "method": type(inferred.method).__name__,
        "settings": settings_of(inferred.method),
        "repr": repr(inferred.method),
        "draws": posterior.size or stored or None,
        "stored": stored,
        **{k: getattr(inferred, k) for k in ("name", "chains", "steps", "batch_size", "seconds")},
        **spoken(inferred.name, inferred.method),
        "diagnostics": None,
        "examined": None,
        "warnings": warnings,
    }
    found = posterior.diagnostics
    if found is None:
        return record, {}
    arrays = {k: getattr(found, k).numpy() for k in ("rhat", "ess_bulk", "ess_tail")}
    if found.log_density is not None:
        arrays["log_density"] = found.log_density.T.cpu().numpy()
    record |= {"diagnostics": found.to_dict(), "examined": found.examined}
    return record, {f"sampler/{k}": v for k, v in arrays.items()}


def _outputs(result: Learned) -> int:
    with torch.no_grad():
        return result.target.forward(result.params, result.data.x[:1]).shape[1]


def _noise(result: Learned) -> dict[str, Any] | None:
    log_sigma = result.target.learnable().get("likelihood.log_sigma")
    if log_sigma is None:
        return None
    sigma = log_sigma.detach().double().exp()
    if (scaling := result.data.scaling) is not None and result.data.task == "regression":
        original = scaling.restore_y_scale(sigma.expand(result.data.y.shape[1])).tolist()
        return {"sigma": original[0] if len(original) == 1 else original, "sigma_standardised": sigma.tolist()}
    return {"sigma": sigma.tolist()}


def _invariance(result: Learned) -> dict[str, Any] | None:
    invariance = result.target.invariance
    if invariance is None:
        return None
    learned = invariance.names if result.target.averaged else ()
    eta = dict(zip(learned, invariance.magnitude(invariance.eta.detach()).tolist(), strict=bool(learned)))
    found = {"eta": eta, "words": spoken_extents(learned)}
    return {"name": type(invariance).__name__, **invariance.describe(), **found}


def _montage(result: Learned) -> dict[str, np.ndarray]:
    # A few inputs and their copies under the learned transformations; images and signals only.
    x, invariance = result.data.x[: _MONTAGE[0]], result.target.averaged
    if invariance is None or x.ndim not in (3, 4) or result.data.parts is not None:
        return {}
    with torch.no_grad():
        copies = result.target.warp(x, _MONTAGE[1], generator(result.seed, "montage"))
    return {"montage/original": x.cpu().numpy(), "montage/transformed": copies.cpu().numpy()}


def _versions() -> dict[str, str]:
    known = {"novacula": version("novacula"), "torch": torch.__version__, "numpy": np.__version__}
    return {**known, "python": platform.python_version()}
