"""`Calibrated`: a network with calibrated predictions, and what is known about how good they are."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.storage.plain import plain, record
from novacula.core.version import __version__
from novacula.data.data import Data
from novacula.data.new import as_new, like_of
from novacula.data.parts import joined
from novacula.diagnostics.crossed_mean import nested
from novacula.likelihoods import HeteroscedasticNormal
from novacula.prediction import Intervals, Predictive, Sets, evaluate
from novacula.prediction.conformal.calibrate import Conformal, scores_of
from novacula.prediction.conformal.calibrate import calibrate as split_conformal
from novacula.prediction.conformal.rank import rank
from novacula.prediction.scores.by_example import by_example
from novacula.runs.saving import own_units
from novacula.study.calibrating.head import Head
from novacula.study.calibrating.module import CalibratedLogits, CalibratedMeasurements
from novacula.study.calibrating.noise import FittedNoise, Noise, fit_noise, log_noise
from novacula.study.calibrating.saving import save
from novacula.study.cross_fit.conformal import held
from novacula.study.cross_fit.temperature import SPREAD, Temperature, fit_temperature
from novacula.study.growth import Grown, Measured, grown, quantile, seen

By = Literal["copies", "network"]
ALPHAS = (0.05, 0.1, 0.2)
"""The levels whose thresholds are saved."""


@dataclass(frozen=True, eq=False, repr=False)
class Calibrated:
    """A network, calibrated by rows that its copies, or it itself, have not seen.

    Args:
        head: How outputs are read.
        networks: The full network; with M members, M of them, which predict together.
        copies: For each fold the M copies that are blind to it; empty where rows were set aside for calibration.
        data: The rows that calibrate: all training rows, or those set aside.
        outputs: Their outputs by networks that have not seen them, shape ``(M, n, C)``.
        folds: The fold of each row.
        half: Outputs of copies that have seen half as many rows, like ``outputs``; None where there are none.
        seed: Seed of everything random.
        decided: What was decided on the way, in words.
        warnings: Reservations a reader must know.
    """

    head: Head
    networks: tuple[nn.Module, ...]
    copies: tuple[tuple[nn.Module, ...], ...]
    data: Data
    outputs: Tensor
    folds: Tensor
    half: Tensor | None = None
    seed: int = 0
    decided: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def temperature(self) -> float:
        """What logits are divided by, between 0.05 and 20; 1 for measurements.

        By maximum likelihood on unseen rows, with ``log T`` likely to be within ±0.5: that hardly moves it, but where
        few rows are all predicted rightly. It is that of the copies: how it changes with more rows is hardly known
        better than by the guess that it does not (their own change from half of the rows made nothing better).
        """
        return self._fitted.value

    @property
    def temperature_stderr(self) -> float:
        """The standard error of the temperature; NaN at a bound and for measurements."""
        return self._fitted.stderr

    @property
    def noise(self) -> FittedNoise | None:
        """The noise of measurements about the copies, in the units that these predict in; None for classes."""
        return self._noise if self.head.task == "regression" else None

    @property
    def labels(self) -> Tensor:
        """The labels of the rows that calibrate, in their own units."""
        return own_units(self.data.y, self.data.scaling)

    @cached_property
    def unseen(self) -> Predictive:
        """What is said of the rows that calibrate by networks that have not seen them, as these are calibrated."""
        log_sd = None if self.noise is None else self.noise.unseen
        return self._predictive(self.outputs, self.temperature, log_sd)

    def predict(self, x: Any) -> Predictive:
        """Predict new inputs, calibrated: one pass of the network.

        Args:
            x: Inputs as `calibrate` was given them, shape ``(N, …)``; or `Data`.

        Returns:
            Probabilities of classes, or Gaussians of measurements in their own units.

        Raises:
            InputError: If the network cannot take them.
        """
        x = self._inputs(x)
        f = _outputs(self.head, self.networks, x)
        log_sd = None if self.noise is None else self.final_noise.log_sd(x.cpu(), *self._parts(f))
        return self._predictive(f, self.temperature, log_sd)

    def score(self) -> dict[str, float]:
        """Score the predictions of unseen rows, calibrated.

        The rows' own labels fitted the temperature, one number: the loss is too low by about 1/(2n) nats. Copies have
        seen ``(K − 1)/K`` of the rows, and are a little worse than the full network.

        Returns:
            What `novacula.prediction.evaluate` gives and ``n``; the loss's standard error as ``stderr``, those of
            others as ``…_stderr``; ``uncalibrated_nll`` of classes.
        """
        y = self.labels
        found = evaluate(self.unseen, y)
        for name, values in by_example(self.unseen, y).items():
            found["stderr" if name == "nll" else f"{name}_stderr"] = nested(values, self.folds).stderr
        if self.head.task != "regression":
            way = "plug-in" if len(self.outputs) == 1 else "mixture"
            plain = Predictive(self.head.likelihood, self.outputs, way)
            found["uncalibrated_nll"] = -float(plain.log_prob(y).double().mean())
        return {**found, "n": float(self.data.n)}

    def conformal(self, alpha: float = 0.1, *, by: By | None = None) -> Callable[[Any], Sets | Intervals]:
        """Sets of classes or intervals of measurements that hold the truth of new inputs.

        Args:
            alpha: The share of labels that may be missed.
            by: ``"copies"``, the default where there are any: K passes, and a promise of ``1 − 2α``, less a little,
                whatever the network is worth (CV+); in practice about ``1 − α``. ``"network"``: the full network with
                the threshold of the unseen rows, one pass; with rows set aside the promise is ``1 − α``, while with
                copies nothing is promised (``level`` is 0), but the network has seen more than its copies did, so that
                sets are usually a little too large.

        Returns:
            A function of inputs ``(N, …)``. Intervals are in the targets' own units, and as wide as the noise is there.

        Raises:
            InputError: If alpha is not between 0 and 1, there are fewer than ``1/α − 1`` rows, or there are no copies.
        """
        rank(self.data.n, alpha)
        by = by or ("copies" if self.copies else "network")
        if by not in {"copies", "network"} or (by == "copies" and not self.copies):
            got = f"by={by!r}" if self.copies else f"by={by!r}, and rows that were set aside instead of copies"
            raise InputError("by='copies' or by='network'", got, "leave it out")
        if by == "network":
            return _Pooled(self, alpha)
        return _Crossed(self, alpha)

    def threshold(self, alpha: float = 0.1) -> list[float]:
        """The threshold of the full network's own sets: one number, or one for each target or label.

        Args:
            alpha: The share of labels that may be missed.

        Returns:
            Of classes q, where a set holds all with probability at least ``1 − q``; of measurements q in standard
            deviations, where an interval is the mean ± q of them.
        """
        return self.pooled(alpha).thresholds[0].tolist()

    def typical_sd(self) -> list[float]:
        """The root mean square of the network's noise over the rows that calibrate, of each target in its own units."""
        return self.predict(self.data).variance().double().mean(0).sqrt().tolist()

    def to_module(self) -> nn.Module:
        """A plain module with a copy of the network inside, in eval mode.

        Returns:
            Logits at the calibrated temperature, in the shape of the network's own; of measurements a pair of means and
            standard deviations ``(N, D)``. It takes inputs, and gives measurements, in their own units, also where
            ``data`` was standardised (`novacula.Standardiser`).
        """
        networks, scaling = copy.deepcopy(self.networks), self.data.scaling
        if self.noise is None:
            return CalibratedLogits(networks, self.head, self.temperature, scaling).eval()
        return CalibratedMeasurements(networks, self.head, self.final_noise, scaling).eval()

    def save(self, path: str | Path, *, overwrite: bool = False) -> dict[str, Any]:
        """Write what can be used where this library is not installed; see `novacula.study.calibrating.saving`.

        Args:
            path: A folder, new or empty.
            overwrite: Whether an older one may be replaced.

        Returns:
            The contents of ``calibration.json``.

        Raises:
            InputError: If the folder holds something else.
        """
        x, scaling = self.data.x[:2], self.data.scaling  # torch.export takes an axis of one for a constant
        example = x if scaling is None else scaling.restore_x(x)
        return save(self.to_module(), example, self.to_dict(), Path(path), overwrite=overwrite)

    def to_dict(self) -> dict[str, Any]:
        """What is known about the calibration, as plain JSON values."""
        data, noise = self.data, self.noise
        levels = [alpha for alpha in ALPHAS if (data.n + 1) * alpha >= 1]
        shown = None
        if noise is not None:
            shown = {"varies": noise.varies, "gain": noise.gain, "stderr": noise.stderr, "sd": self.typical_sd()}
        known = {
            "parts": None if data.parts is None else data.parts.record(),
            "dtype": str(data.x.dtype).removeprefix("torch."),
            "standardised": data.scaling is not None,
        }
        found = {
            "novacula": __version__,
            "kind": "calibration",
            "task": self.head.task,
            "single": self.head.single,
            "network": type(self.networks[0]).__name__,
            "members": len(self.networks),
            "classes": data.classes,
            "temperature": self.temperature if noise is None else None,
            "temperature_stderr": self.temperature_stderr,
            "noise": shown,
            "thresholds": {f"{alpha:g}": list(self.threshold(alpha)) for alpha in levels},
            "score": self.score(),
            "data": record(data, "name", "n", "fingerprint", "x_shape", **known),
            "copies": len(self.copies),
        }
        return plain(found) | record(self, "seed", "decided", "warnings")

    def __repr__(self) -> str:
        how = f"{len(self.copies)} copies" if self.copies else "rows set aside"
        what = f"temperature {self.temperature:.3f}"
        if self.noise is not None:
            what = "noise that varies" if self.noise.varies else "noise of one size"
        return f"Calibrated({type(self.networks[0]).__name__}, {what}, by {self.data.n:,} rows and {how})"

    # ------------------------------------------------------------------ inside

    @cached_property
    def _fitted(self) -> Temperature:
        return self._temperature_of(self.outputs)

    @cached_property
    def _fitted_half(self) -> Temperature:
        return self._temperature_of(self.outputs if self.half is None else self.half)

    def _temperature_of(self, outputs: Tensor) -> Temperature:
        if self.head.task == "regression":
            return Temperature(1.0, math.nan)
        return fit_temperature(self.head.likelihood, outputs, self.data.y.cpu(), self.folds, spread=SPREAD)

    @cached_property
    def _noise(self) -> FittedNoise:
        return fit_noise(self.data.x, *self._parts(self.outputs), self.data.y, self.folds)

    @cached_property
    def final_noise(self) -> Noise:
        """The noise of the network that has seen all rows: that of the copies, brought from their share to all."""
        noise = self._noise.noise
        if self.half is None:
            return noise
        both = zip(*(log_noise(*self._parts(f), self.data.y) for f in (self.outputs, self.half)), strict=True)
        shift = [self._grown(here, before).value - here.value for here, before in both]
        return replace(noise, level=noise.level + torch.tensor(shift, dtype=torch.float64))

    def pooled(self, alpha: float) -> Conformal:
        """The rule of the full network, from the scores of unseen rows taken together."""
        found = self._rule(self.unseen, alpha)
        # The threshold of measurements is in units of a noise that has shrunk already.
        if self.half is None or self.noise is not None:
            return found
        half = self._predictive(self.half, self._fitted_half.value)
        before = self._rule(half, alpha)
        each = [self._scores(p, rule) for p, rule in ((self.unseen, found), (half, before))]
        q = [self._grown(here, earlier).value for here, earlier in zip(*each, strict=True)]
        return replace(found, thresholds=torch.tensor([q], dtype=found.thresholds.dtype).exp().clamp(max=1))

    def _rule(self, predictive: Predictive, alpha: float) -> Conformal:
        score = "normalised" if self.head.task == "regression" else None
        return split_conformal(predictive, self.labels, alpha=alpha, score=score, seed=self.seed)

    def _scores(self, predictive: Predictive, rule: Conformal) -> list[Measured]:
        # The logarithms of a rule's thresholds, with the pulls of the rows that they are quantiles of.
        scores = scores_of(predictive, self.labels, rule.score, alpha=rule.alpha, seed=self.seed)
        level, least = rank(len(scores), rule.alpha) / len(scores), torch.finfo(torch.float64).tiny
        return [
            quantile(column.clamp(min=least), max(q, least), level).log()
            for column, q in zip(scores.unbind(1), rule.thresholds[0].tolist(), strict=True)
        ]

    def _grown(self, here: Measured, before: Measured) -> Grown:
        share = seen(self.folds)
        return grown(here, before - here, (share / 2, share), self.folds)

    def by_copies(self, x: Any) -> list[Predictive]:
        """What the copies of each fold say of new inputs, as they are calibrated."""
        x, found = self._inputs(x), []
        for copies in self.copies:
            f = _outputs(self.head, copies, x)
            log_sd = self._noise.noise.log_sd(x.cpu(), *self._parts(f)) if self.noise is not None else None
            found.append(self._predictive(f, self.temperature, log_sd))
        return found

    def _parts(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        # Means and the network's own log standard deviations, (N, D), averaged over members.
        f, d = outputs.double().mean(0), self.head.targets
        return f[:, :d], f[:, d:] if self.head.own_noise else torch.zeros_like(f[:, :d])

    def _predictive(self, outputs: Tensor, temperature: float, log_sd: Tensor | None = None) -> Predictive:
        if log_sd is None:
            way = "plug-in" if len(outputs) == 1 else "mixture"
            return Predictive(self.head.likelihood, outputs / temperature, way, warnings=self.warnings)
        f = torch.cat([self._parts(outputs)[0], log_sd], 1).unsqueeze(0)
        return Predictive(HeteroscedasticNormal(), f, "plug-in", warnings=self.warnings).in_units(self.data.scaling)

    def _inputs(self, x: Any) -> Tensor:
        x = as_new(joined(self.head.parts, x), like_of(self.data))
        if tuple(x.shape[1:]) != self.data.x_shape or len(x) == 0:
            hint = "pass a batch, with the axis of rows first"
            raise InputError(f"inputs of shape (N, *{self.data.x_shape})", f"shape {tuple(x.shape)}", hint)
        return x.to(self.data.x.dtype) if x.is_floating_point() or self.data.x.is_floating_point() else x


@dataclass(frozen=True, eq=False)
class _Crossed:
    # CV+ by the copies.
    calibrated: Calibrated
    alpha: float

    def __call__(self, x: Any) -> Sets | Intervals:
        of, scaled = self.calibrated, self.calibrated.head.task == "regression"
        return held(of.unseen, of.by_copies(x), of.labels, of.folds, self.alpha, scaled=scaled)


@dataclass(frozen=True, eq=False)
class _Pooled:
    # The full network with the threshold of unseen rows; what copies say promises nothing about the network.
    calibrated: Calibrated
    alpha: float

    def __call__(self, x: Any) -> Sets | Intervals:
        found = self.calibrated.pooled(self.alpha)(self.calibrated.predict(x))
        level = 0.0 if self.calibrated.copies else found.level
        if isinstance(found, Sets):
            return Sets(found.member, level)
        return Intervals(found.low, found.high, level)


def _outputs(head: Head, networks: tuple[nn.Module, ...], x: Tensor) -> Tensor:
    return torch.stack([head.outputs(net, x) for net in networks])
