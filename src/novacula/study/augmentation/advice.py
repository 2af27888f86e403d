"""What the comparison has found, as one object: verdicts, scores, the recommended mixture; saved and read as JSON."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.rng import generator
from novacula.core.storage.atomic import write_bytes
from novacula.core.storage.plain import plain
from novacula.core.storage.run import ADVICE, PICTURES, RESULTS
from novacula.core.storage.seal import digest, write_sealed
from novacula.core.storage.stage import staged
from novacula.core.version import __version__
from novacula.data.data import Data
from novacula.study.augmentation.arms import NONE, TRIVIAL, Arm
from novacula.study.augmentation.comparison import Comparison
from novacula.study.augmentation.plan import Plan
from novacula.study.augmentation.verdicts import Gain, Judged, Verdict, slight, worth

_IMAGES = 8
_ORDER: tuple[Verdict, ...] = ("needed", "harmful", "undecided", "no effect")


@dataclass(frozen=True)
class Line:
    """What is said of a transformation: of the extent that decides it, with those that were tried."""

    name: str
    verdict: Verdict
    extent: float  # in the transformation's own units
    interval: tuple[float, float]
    gain: float  # nats an example, above 0 where training with it is better
    stderr: float
    nll: float  # out-of-fold loss with it
    tried: tuple[tuple[float, Judged], ...]  # extents and what was found


@dataclass(frozen=True, eq=False)
class Advice:
    """Verdicts on augmentations, and what to do.

    Attributes:
        lines: A line a transformation.
        recommended: The mixture that the folds favour, or none.
        scores: Out-of-fold scores of ``none``, ``trivial`` and ``recommended``, and of each mixture by its key.
        against: Gains of what is recommended over ``none``, ``trivial`` and the best transformation ``alone``.
        converged: False where the time cut the comparison short.
        plan: What was trained.
        data: The images that were compared.
        given: How many images there were.
        classes: How many classes.
        chance: The loss of the best constant prediction.
        networks: How many networks were trained.
        seconds: The time that it took.
        seed: The seed.
        pictures: Some images as given, under ``none``, and under each arm, by its key: bytes ``(R, H, W, C)``.
    """

    lines: tuple[Line, ...]
    recommended: Arm
    scores: Mapping[str, Mapping[str, float]]
    against: Mapping[str, Gain]
    converged: bool
    plan: Plan
    data: Data
    given: int
    classes: int
    chance: float
    networks: int
    seconds: float
    seed: int
    pictures: Mapping[str, np.ndarray]

    __repr__ = brief

    @property
    def verdicts(self) -> dict[str, Line]:
        """The lines by the transformation's name."""
        return {line.name: line for line in self.lines}

    @property
    def needed(self) -> tuple[str, ...]:
        """The transformations that are needed."""
        return tuple(line.name for line in self.lines if line.verdict == "needed")

    def save(self, folder: str | Path) -> Path:
        """Write ``advice.json`` and ``pictures.npz`` into a folder, the JSON last.

        Args:
            folder: Where to; made if it is missing.

        Returns:
            The folder.
        """
        folder = Path(folder)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **dict[str, Any](self.pictures))
        content = buffer.getvalue()
        with staged(folder, RESULTS, (ADVICE,)) as new:
            write_bytes(new / PICTURES, content)
            write_sealed(new / ADVICE, {**plain(self.record()), "pictures": digest(content)})
        return folder

    def record(self) -> dict[str, Any]:
        """All of it as plain values, the content of ``advice.json``; `novacula.export` writes its mixture."""
        score = self.scores["recommended"]
        none = self.scores["none"]["nll"]
        return {
            "kind": "augment",
            "data": {
                "name": self.data.name,
                "fingerprint": self.data.fingerprint,
                "n": self.data.n,
                "given": self.given,
                "input_shape": list(self.data.x_shape),
                "classes": self.classes,
                "chance": self.chance,
            },
            "verdicts": {line.name: _plain(line) for line in self.lines},
            "out_of_fold": dict(score),
            "comparison": {name: dict(found) for name, found in self.scores.items()},
            "against": {name: asdict(gain) for name, gain in self.against.items()},
            "recommended": dict(self.recommended.parts),
            # As a run has its extents: `novacula.export` takes either.
            "invariance": {"eta": self.recommended.extents()},
            "converged": self.converged,
            "plan": {**asdict(self.plan), "networks": self.networks, "passes": self.plan.passes},
            "thresholds": {"worth": worth(none), "slight": slight(none)},
            "seconds": self.seconds,
            "seed": self.seed,
            "versions": {"novacula": __version__, "torch": torch.__version__},
        }


def advice(
    study: Comparison,
    *,
    given: Data,
    judged: Mapping[str, Judged],
    tried: Sequence[Arm],
    chosen: Arm,
    mixtures: Sequence[Arm],
    converged: bool,
    took: float,
) -> Advice:
    """Gather what a comparison has found."""
    names = dict.fromkeys(arm.name for arm in tried)
    lines = tuple(_line(name, [a for a in tried if a.name == name], judged, study) for name in names)
    there = [arm for arm in (NONE, TRIVIAL, *mixtures) if arm.key in study.tables]
    others = {"none": NONE, "trivial": TRIVIAL}
    alone = [study.arms[k] for k, j in judged.items() if j.verdict == "needed"]
    if len(chosen.parts) > 1 and alone:
        others["alone"] = max(alone, key=lambda a: judged[a.key].gain.value)
    against = {k: study.between(chosen, a) for k, a in others.items() if a != chosen and a.key in study.tables}
    return Advice(
        lines=lines,
        recommended=chosen,
        scores={**{arm.key: study.score(arm) for arm in there}, "recommended": study.score(chosen)},
        against={name: gain for name, gain in against.items() if gain is not None},
        converged=converged,
        plan=study.plan,
        data=study.data,
        given=given.n,
        classes=len(study.data.classes) or int(study.data.y.max()) + 1,
        chance=study.chance,
        networks=study.trained,
        seconds=took,
        seed=study.seed,
        pictures=_pictures(study, [*tried, *([chosen] if len(chosen.parts) > 1 else []), TRIVIAL]),
    )


def _line(name: str, arms: Sequence[Arm], judged: Mapping[str, Judged], study: Comparison) -> Line:
    # The best of what is needed; else the mildest that harms; else the best undecided; else the widest without effect.
    ordered = sorted(arms, key=lambda a: a.extent)
    groups = {v: [a for a in ordered if judged[a.key].verdict == v] for v in _ORDER}
    verdict: Verdict = next(v for v in _ORDER if groups[v])
    group = groups[verdict]
    if verdict in {"needed", "undecided"}:
        arm = max(group, key=lambda a: judged[a.key].gain.value)
    else:
        arm = group[0] if verdict == "harmful" else group[-1]
    found = judged[arm.key]
    return Line(
        name=name,
        verdict=verdict,
        extent=arm.extent,
        interval=found.interval,
        gain=found.gain.value,
        stderr=found.gain.stderr,
        nll=study.score(arm)["nll"],
        tried=tuple((a.extent, judged[a.key]) for a in ordered),
    )


def _plain(line: Line) -> dict[str, Any]:
    strengths = [
        {
            "extent": extent,
            "verdict": found.verdict,
            "gain": found.gain.value,
            "stderr": found.gain.stderr,
            "interval": list(found.interval),
            "networks": found.gain.networks,
            "unsettled": found.unsettled,
        }
        for extent, found in line.tried
    ]
    kept = ("verdict", "extent", "gain", "stderr", "nll")
    return {**{k: getattr(line, k) for k in kept}, "interval": list(line.interval), "strengths": strengths}


def _pictures(study: Comparison, arms: Sequence[Arm]) -> dict[str, np.ndarray]:
    # The same images under every arm, as bytes in the range of the data.
    x = study.data.x
    rows = torch.randperm(len(x), generator=generator(study.seed, "pictures"))[:_IMAGES]
    images = x[rows]
    low, high = float(x.min()), float(x.max())

    def shown(t: Tensor) -> np.ndarray:
        scaled = ((t - low) / max(high - low, 1e-12)).clamp(0, 1) * 255
        channels = scaled if t.shape[1] in (1, 3) else scaled.mean(1, keepdim=True)
        return channels.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    found = {NONE.key: shown(images)}
    for arm in arms:
        if (made := arm.invariance()) is not None:
            rng = generator(study.seed, "pictures", arm.key)
            found[arm.key] = shown(made(images, made.noise(len(images), images, rng)))
    return found
