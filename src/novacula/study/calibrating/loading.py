"""A calibrated network, read back from the folder that `Calibrated.save` or ``novacula calibrate`` left.

The network itself is the program ``calibrated.pt2``, so that no code of the person's is needed; what its outputs mean,
and the thresholds of its sets, stand in ``calibration.json``. Load programs of people whom you trust alone, as you
would run any program.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor

from novacula.core.checks.numbers import as_path
from novacula.core.errors import InputError
from novacula.core.modules.parts import Parts
from novacula.core.storage.stage import settle
from novacula.data.data import Data
from novacula.data.new import as_new
from novacula.data.parts import joined
from novacula.data.raw import Like
from novacula.likelihoods import Bernoulli, Categorical, HeteroscedasticNormal
from novacula.prediction import Intervals, Predictive, Sets
from novacula.prediction.conformal.calibrate import Conformal
from novacula.prediction.conformal.scores import INTERVAL_SCORES, SET_SCORES
from novacula.study.calibrating.saving import PROGRAM, RECORD

_AT_ONCE = 500


class _Program(msgspec.Struct):
    written: bool
    rows: str | None = None
    why: str | None = None


class _Of(msgspec.Struct):
    n: int
    x_shape: tuple[int, ...]
    dtype: Literal["float16", "bfloat16", "float32", "float64", "int64", "int32", "uint8", "bool"]
    parts: dict[str, Any] | None = None


class _Record(msgspec.Struct):
    kind: Literal["calibration"]
    task: Literal["classification", "multilabel", "regression"]
    single: bool
    classes: tuple[str, ...]
    thresholds: dict[str, list[float | None]]
    copies: int
    program: _Program
    data: _Of
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class LoadedCalibration:
    """A calibrated network that was loaded from its folder.

    Args:
        program: From a batch of inputs to logits at the calibrated temperature, or to means and standard deviations.
        record: What ``calibration.json`` says.
        path: The folder.
    """

    program: Callable[[Tensor], Any]
    record: _Record
    path: Path

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, where they have some."""
        return self.record.classes

    @property
    def alphas(self) -> tuple[float, ...]:
        """The shares of labels that sets may miss, whose thresholds were saved."""
        return tuple(sorted(map(float, self.record.thresholds)))

    def predict(self, x: Any) -> Predictive:
        """Predict new inputs, as `Calibrated.predict` does.

        Args:
            x: Inputs in their own units, shape ``(N, …)``; or `Data`.

        Returns:
            Probabilities of classes, or Gaussians of measurements in their own units.

        Raises:
            InputError: If the inputs have another shape.
        """
        found = self._outputs(self._inputs(x))
        record = self.record
        if record.task == "regression":
            mean, sd = found
            outputs = torch.cat([mean, sd.log()], 1)
            return Predictive(HeteroscedasticNormal(), outputs.unsqueeze(0), "plug-in", warnings=record.warnings)
        f = found[0].unsqueeze(-1) if found[0].ndim == 1 else found[0]
        f = torch.cat([torch.zeros_like(f), f], -1) if record.single else f
        likelihood = Categorical(f.shape[1]) if record.task == "classification" else Bernoulli()
        return Predictive(likelihood, f.unsqueeze(0), "plug-in", warnings=record.warnings)

    def conformal(self, alpha: float = 0.1) -> Callable[[Any], Sets | Intervals]:
        """Sets or intervals by the network's own threshold, as ``Calibrated.conformal(alpha, by="network")`` has them.

        Args:
            alpha: The share of labels that may be missed, one of `alphas`.

        Returns:
            A function of inputs ``(N, …)``.

        Raises:
            InputError: If no threshold was saved for it.
        """
        q = self.record.thresholds.get(f"{alpha:g}")
        if q is None:
            hint = "or keep the Calibrated object itself, which has all"
            raise InputError(f"alpha of {', '.join(f'{a:g}' for a in self.alphas) or 'no level'}", f"{alpha!r}", hint)
        task, n = self.record.task, self.record.data.n
        score = INTERVAL_SCORES["normalised"] if task == "regression" else SET_SCORES["lac"]
        thresholds = torch.tensor([[math.inf if v is None else v for v in q]], dtype=torch.float64)
        rule = Conformal(score, alpha, thresholds, (n,), None, task, 0)

        def sets(x: Any) -> Sets | Intervals:
            found = rule(self.predict(x))
            # What copies say promises nothing about the network.
            level = 0.0 if self.record.copies else found.level
            return Sets(found.member, level) if isinstance(found, Sets) else Intervals(found.low, found.high, level)

        return sets

    def __repr__(self) -> str:
        return f"LoadedCalibration({self.record.task}, by {self.record.data.n:,} rows, from {self.path})"

    def _inputs(self, x: Any) -> Tensor:
        of = self.record.data
        if isinstance(x, Data):
            x = x.x if x.scaling is None else x.scaling.restore_x(x.x)
        dtype = getattr(torch, of.dtype)
        like = Like(of.x_shape, self.record.task, dtype=dtype if dtype.is_floating_point else None)
        x = as_new(joined(None if of.parts is None else Parts.read(of.parts), x), like)
        if tuple(x.shape[1:]) != of.x_shape or len(x) == 0:
            hint = "pass a batch, with the axis of rows first"
            raise InputError(f"inputs of shape (N, {', '.join(map(str, of.x_shape))})", f"shape {tuple(x.shape)}", hint)
        return x.to(dtype)

    @torch.no_grad()
    def _outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        rows = self.record.program.rows
        size = _AT_ONCE if rows == "any" else int(rows or 1)
        found: list[tuple[Tensor, ...]] = []
        for part in x.split(size):
            # A program of one size of batch gets whole ones.
            full = part if rows == "any" else torch.cat([part, part[-1:].expand(size - len(part), *part.shape[1:])])
            outputs = self.program(full)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            found.append(tuple(o[: len(part)] for o in outputs))
        return tuple(torch.cat(each) for each in zip(*found, strict=True))


def load_calibrated(path: str | Path) -> LoadedCalibration:
    """Load a calibrated network from its folder.

    Args:
        path: The folder that `Calibrated.save` or ``novacula calibrate --out`` wrote.

    Returns:
        What predicts new inputs, and makes sets at the levels that were saved.

    Raises:
        InputError: If the folder holds no calibration, it is damaged, or its network could not be written as a program.

    Example:
        >>> import tempfile
        >>> import novacula as nv
        >>> data = nv.load("digits").subset(range(200))
        >>> cal = nv.calibrate(nv.networks.make("linear", data.x_shape, 10), data, epochs=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = cal.save(f"{folder}/cal")
        ...     again = nv.load_calibrated(f"{folder}/cal")
        ...     bool((again.predict(data.x[:3]).mean() - cal.predict(data.x[:3]).mean()).abs().max() < 1e-5)
        True
    """
    path = as_path(path, "the folder of a calibrated network")
    settle(path, (RECORD,))
    try:
        record = msgspec.json.decode((path / RECORD).read_bytes(), type=_Record)
    except OSError as error:
        hint = "pass what novacula calibrate --out, or Calibrated.save, wrote"
        raise InputError("the folder of a calibrated network", f"{path}, without {RECORD}", hint) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"{RECORD} of a calibration", f"{path / RECORD}: {error}", "calibrate again") from error
    if not record.program.written:
        hint = "keep the Calibrated object (it pickles), or use the weights with your own network"
        raise InputError("a network that was written as a program", record.program.why or "one that was not", hint)
    try:
        program = torch.export.load(path / PROGRAM).module()
    except Exception as error:  # whatever torch.export meets in a damaged file
        said = (str(error).strip() or repr(error)).splitlines()[0]
        raise InputError(f"a readable {PROGRAM}", f"{path / PROGRAM}: {said}", "calibrate again") from error
    return LoadedCalibration(program, record, path)
