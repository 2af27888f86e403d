"""Reading a run back so that it can predict: its network, what was learned, and the weights to average over.

The network is built again by the names it had (for a person's own file, that file is needed). That it is still the same
function of its weights is checked at a few fixed inputs. What of the weights a run keeps, `novacula.runs.packing` says.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import DamagedRun, InputError, NovaculaWarning
from novacula.core.modules.parts import Parts, Values
from novacula.core.params import Params
from novacula.core.rng import derive
from novacula.core.storage.run import WEIGHTS, Run
from novacula.core.units import Units
from novacula.data.data import Data
from novacula.data.meaning.coding import Coding
from novacula.data.new import as_new
from novacula.data.parts import several
from novacula.data.raw import Like
from novacula.data.standardise import Standardiser
from novacula.posteriors.base import Point, Posterior
from novacula.posteriors.laplace import LaplacePosterior, laplace_posterior
from novacula.posteriors.packed import Origin, ordered
from novacula.posteriors.unpack import unpack
from novacula.prediction.predict import predict
from novacula.prediction.predictive import Predictive
from novacula.runs.catalogue.methods import maker_of
from novacula.runs.catalogue.models import check_origins
from novacula.runs.checking import SCALING, check_posterior, check_weights
from novacula.runs.flags import make
from novacula.runs.settings import Setup
from novacula.runs.setup import Assembled, assemble, rebuild
from novacula.target import Target

_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class SavedRun:
    """A saved run that can predict.

    Args:
        run: The run.
        target: Its target, with what was learned.
        posterior: What predictions average over.
        scaling: How tables were brought to standard units; None where they were not.
        setup: How data and network were named; None for a run that was saved from Python.
    """

    run: Run
    target: Target
    posterior: Posterior
    scaling: Standardiser | None
    setup: Setup | None

    __repr__ = brief

    @property
    def like(self) -> Like:
        """What new data must be like."""
        data = self.run.record["data"]
        names = {k: tuple(data.get(k) or ()) for k in ("classes", "columns", "targets")}
        dtype = next(iter(self.posterior.mode.values())).dtype
        tokens = bool(data.get("tokens"))
        coding = None if data.get("coding") is None else Coding.of_dict(data["coding"])
        wanted = None if tokens else dtype
        known = {"tokens": tokens, "dtype": wanted, "coding": coding, "size": data.get("size")}
        return Like(tuple(data["input_shape"]), data["task"], **names, **known)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, or of the labels of a multilabel task; their numbers where they have none."""
        names = tuple(self.run.record["data"].get("classes") or ())
        return names or tuple(map(str, range(int(self.run.record["outputs"]))))

    def targets(self, width: int) -> tuple[str, ...]:
        """The names of the targets; their numbers where they have none.

        Args:
            width: How many targets there are.

        Returns:
            So many names.
        """
        names = tuple(self.run.record["data"].get("targets") or ())
        return names if len(names) == width else tuple(map(str, range(width)))

    def predict(self, x: Tensor | Values | Any, **options: Any) -> Predictive:
        """Predict inputs in their own units.

        Args:
            x: Inputs, shape ``(N, …)``, columns in the order of the training data, or a frame; or their parts.
            options: As `novacula.predict` takes them.

        Returns:
            The predictive; of measurements, in their own units.
        """
        x = x if several(x) else as_new(x, self.like)
        if isinstance(x, Tensor) and self.scaling is not None:
            x = self.scaling.inputs(x)
        return self.predict_standard(x, **options)

    def predict_standard(self, x: Tensor | Values, **options: Any) -> Predictive:
        """Predict inputs that are in the units of training already; the labels are in their own."""
        return predict(self.posterior, x, **options).in_units(self.scaling)


def load_posterior(folder: str | Path, *, target: Target | None = None, data: Data | None = None) -> Posterior:
    """Read a run's posterior.

    Args:
        folder: The run folder.
        target: For a run that was saved from Python: the target that it began with (any weights will do).
        data: For a Laplace posterior of such a run: its training data, in the units it was trained in.

    Returns:
        The posterior, as `novacula.predict` takes it. It sees inputs in the units of training; `load_run` knows these.

    Example:
        >>> import tempfile, novacula as nv
        >>> data = nv.load("digits").subset(range(60))
        >>> target = nv.Target(nv.networks.make("linear", data.x_shape, 10))
        >>> folder = tempfile.mkdtemp()
        >>> record = nv.learn(target, data, epochs=1).save(folder)
        >>> nv.predict(load_posterior(folder, target=target, data=data), data.x[:2]).mean().shape
        torch.Size([2, 10])
    """
    return load_run(folder, target=target, data=data).posterior


def load_run(folder: str | Path, *, target: Target | None = None, data: Data | None = None) -> SavedRun:
    """Read a run so that it can predict.

    Args:
        folder: The run folder.
        target: See `load_posterior`.
        data: See `load_posterior`.

    Returns:
        The run with its target and posterior.

    Raises:
        InputError: If the folder holds no such run, its network cannot be built again or is another function now, or
            the training data of a Laplace posterior have changed.
        DamagedRun: If its files are not those that were written.
    """
    run = Run.read(folder, parts=())
    if run.unchecked is not None:
        warnings.warn(run.unchecked, NovaculaWarning, stacklevel=2)
    raw, packed = run.weights(), run.posterior()
    check_weights(run, raw)
    check_posterior(run, packed, raw)
    record, saved = run.record, _tensors(raw)
    setup = make(Setup, record["setup"]) if record.get("setup") else None
    weights = _named(saved, "weights/") | _named(saved, "statistics/")
    if not weights or "outputs" not in record:
        raise InputError("a run with its weights", f"{run.folder}, of an earlier version", "learn it again")
    if target is None:
        target = _rebuilt(run, setup)
    if record.get("invariance") is None and record.get("verdicts"):
        target = dataclasses.replace(target, invariance=None)  # the folds were against it
    outputs = int(record["outputs"])
    if layout := record["data"].get("parts"):
        target = target.taking(Parts.read(layout))
    if units := _named(saved, "units/"):
        if strange := sorted(units.keys() - Units().tensors().keys()):
            raise DamagedRun("units of inputs and targets", f"{', '.join(strange)} in {run.folder}", "learn it again")
        target = target.in_units(Units(**units))
    target = dataclasses.replace(target, likelihood=target.likelihood.bind(outputs))
    learned = _named(saved, "learned/")
    own = {k: learned[k] for k in target.learnable() if k.startswith("network.") and k in learned}
    _check_network(target.with_learnable(own), weights, saved, run)
    if strange := sorted(set(learned) ^ set(target.learnable())):
        raise InputError(
            f"a target with {', '.join(learned) or 'nothing'} to learn, as in {run.folder}",
            f"one that differs in {', '.join(strange)}",
            "use the same likelihood, prior and invariance",
        )
    target = target.with_learnable(learned).at(weights)[0]
    if centre := _named(saved, "centre/"):
        target = dataclasses.replace(target, prior=dataclasses.replace(target.prior, mean=centre))  # type: ignore[type-var]
    scaling = None
    if all(f"scaling/{k}" in saved for k in SCALING):
        x_mean, x_sd, y_mean, y_sd = (saved[f"scaling/{k}"] for k in SCALING)
        scaling = Standardiser(x_mean, x_sd, y_mean, y_sd)
    stored = _tensors(packed)
    calibration = float((record.get("predictive") or {}).get("calibration", 1.0))
    if stored:
        asked = record.get("posterior")
        at = target if asked else target.calibrated(calibration)
        known = tuple(map(str, (asked or {}).get("warnings") or ()))
        posterior = unpack(stored, Origin(at, saved["check/inputs"], known), maker_of(asked))
    elif record.get("posterior"):
        got = f"{run.folder}, which has none of {record['posterior'].get('method')}"
        raise InputError("a run with a stored posterior", got, "learn again with --posterior")
    elif (structure := (record.get("predictive") or {}).get("structure") or "point") == "point":
        posterior = Point(weights, target.calibrated(calibration))
    else:
        posterior = _laplace(run, target, weights, structure, setup, data)
    return SavedRun(run, target, posterior, scaling, setup)


def training_data(saved: SavedRun) -> Assembled:
    """Read the data that a run learned from, and make sure that they are the same."""
    if saved.setup is None:
        raise InputError(
            "a run of the command line", f"{saved.run.folder}, saved from Python", "name the data themselves"
        )
    return _training_data(saved.run, saved.target, saved.setup)


def _training_data(run: Run, target: Target, setup: Setup) -> Assembled:
    found = assemble(setup)
    _same_data(run, target, found.train, setup.data)
    return found


def _same_data(run: Run, target: Target, train: Data, where: str) -> None:
    wanted, got = run.record["data"].get("fingerprint"), target.prepare(train)[1].fingerprint
    if got != wanted:
        raise InputError(
            f"the data that the run learned from, fingerprint {wanted}",
            f"{where} with fingerprint {got}",
            "put them back, or learn again",
        )


def _rebuilt(run: Run, setup: Setup | None) -> Target:
    record = run.record
    if setup is None:
        raise InputError(
            "a run of the command line",
            f"{run.folder}, saved from Python, whose network only its owner can build",
            "in Python: nv.study.load_posterior(folder, target=nv.Target(network, …))",
        )
    check_origins(record.get("catalogue") or {}, str(run.folder))
    try:
        return rebuild(setup, record["data"]["input_shape"], record["data"]["task"], int(record["outputs"]))
    except InputError as error:
        where = f"{error.got} (the network of {run.folder})"
        raise InputError(error.expected, where, error.hint) from error


def _check_network(target: Target, weights: Params, saved: Mapping[str, Tensor], run: Run) -> None:
    own = target.params()
    for name, w in own.items():
        if name not in weights or weights[name].shape != w.shape:
            got = f"shape {tuple(weights[name].shape)}" if name in weights else f"none (there are {', '.join(weights)})"
            raise InputError(
                f"weights {name} of shape {tuple(w.shape)}", f"{got} in {run.folder / WEIGHTS}", "use the same network"
            )
    if "check/outputs" not in saved:
        return
    with torch.no_grad():
        like = next(iter(own.values()))
        found = target.forward({k: w.to(like) for k, w in weights.items()}, saved["check/inputs"])
    wanted = saved["check/outputs"]
    if found.shape != wanted.shape or not torch.allclose(found, wanted.to(found), _TOLERANCE, _TOLERANCE):
        raise InputError(
            f"the network that {run.folder} was learned with",
            "another function of the same weights",
            "restore its file as it was, or learn again",
        )


def _laplace(
    run: Run, target: Target, weights: Params, structure: str, setup: Setup | None, data: Data | None
) -> LaplacePosterior:
    record = run.record
    if data is None:
        if setup is None:
            hint = "pass data= to load_posterior"
            raise InputError("the training data, from which Laplace's curvature is computed", "none", hint)
        data = _training_data(run, target, setup).train
    else:
        _same_data(run, target, data, data.name)
    return laplace_posterior(
        target,
        ordered(weights, target),
        target.prepare(data)[1],
        structure=structure,  # type: ignore[arg-type]
        temperature=float(record["predictive"]["temperature"]),
        seed=derive(int(record["seed"]), "choose"),
        check=False,
    )


def _named(found: Mapping[str, Tensor], prefix: str) -> Params:
    return {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {k: torch.from_numpy(np.array(a)) for k, a in arrays.items()}
