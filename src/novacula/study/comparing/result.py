"""What a comparison of models found, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.core.params import Params
from novacula.core.text import markdown
from novacula.diagnostics.crossed_mean import Mean, nested, two_way
from novacula.study.comparing.gaps import Gap, gaps
from novacula.study.comparing.stacking import averaged, convex_weights

SCORES = ("evidence", "conditional", "prequential")


@dataclass(frozen=True, eq=False)
class Entry:
    """One model of a comparison."""

    name: str  # its name
    weights: int  # P
    losses: Tensor  # calibrated out-of-fold losses of S trainings, shape (S, N)
    folds: Tensor  # the fold of each example in each training, shape (S, N)
    evidence: Estimate  # the log evidence of all the data, at the learned hyperparameters
    conditional: Estimate | None  # the conditional log marginal likelihood, where it was asked for
    prequential: Estimate | None  # the prequential score, where it was asked for
    params: Params  # the weights, trained on all data
    learned: dict[str, Tensor]  # the learned hyperparameters, as `Target.with_learnable` takes them
    seconds: float
    density: bool = True  # whether the losses are minus normalised log-densities

    __repr__ = brief

    @cached_property
    def loss(self) -> Mean:
        """The mean out-of-fold loss, in nats an example, with its error."""
        return two_way(self.losses) if len(self.losses) > 1 else nested(self.losses[0], self.folds[0])


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models in the order in which they were given.

    Args:
        entries: One for each model.
    """

    entries: tuple[Entry, ...]

    __repr__ = brief

    def best(self, by: str = "loss") -> Entry:
        """The model with the best score.

        Args:
            by: ``"loss"`` for the lowest out-of-fold loss; ``"evidence"``, ``"conditional"`` or ``"prequential"`` for
                the highest of these.

        Returns:
            The entry.

        Raises:
            InputError: If there is no such score.
        """
        if by == "loss":
            return min(self.entries, key=lambda e: e.loss.value)
        if by not in SCORES:
            raise InputError(f"a score among loss, {', '.join(SCORES)}", repr(by), "by='loss'")
        if any(getattr(e, by) is None for e in self.entries):
            raise InputError(
                f"models with their {by} score", "none", f"compare(..., {by}=nv.evidence.{by.capitalize()}())"
            )
        return max(self.entries, key=lambda e: float(getattr(e, by)))

    @cached_property
    def gaps(self) -> dict[str, Gap]:
        """How far every other model is behind the one with the lowest loss."""
        losses = {e.name: e.losses for e in self.entries}
        return gaps(losses, self.entries[0].folds, self.best().name) if len(losses) > 1 else {}

    def word(self, name: str) -> str:
        """``"best"``, ``"tied"`` with the best, or ``"worse"`` than it."""
        gap = self.gaps.get(name)
        return "best" if gap is None else "worse" if gap.real else "tied"

    @cached_property
    def weights(self) -> dict[str, dict[str, float]]:
        """The models' weights by name: ``"stacking"`` of their out-of-fold densities, ``"prequential"`` by averaging.

        Each where it can be had: of normalised densities; of prequential scores (`novacula.study.comparing.stacking`).
        """
        found, names = {}, [e.name for e in self.entries]
        if all(e.density for e in self.entries):
            table = -torch.stack([e.losses.double().flatten() for e in self.entries], 1)
            found["stacking"] = dict(zip(names, convex_weights(table)[0].tolist(), strict=True))
        scores = {e.name: e.prequential for e in self.entries if e.prequential is not None}
        return found | ({"prequential": averaged(scores)} if len(scores) == len(names) else {})

    @property
    def agreement(self) -> float:
        """Spearman's rank correlation of evidence and minus the loss; NaN for fewer than three models."""
        if len(self.entries) < 3:
            return float("nan")
        scores = [(float(e.evidence), -e.loss.value) for e in self.entries]
        return float(np.asarray(spearmanr(np.asarray(scores)))[0])

    @property
    def advice(self) -> tuple[str, ...]:
        """For each model that is tied with the best, what would tell them apart, if the gap is what it seems."""
        said = []
        for name, gap in self.gaps.items():
            if gap.real:
                continue
            ways = []
            if (trainings := gap.trainings_needed) is not None:
                ways.append(f"{trainings} trainings of each model in all")
            if (examples := gap.examples_needed) is not None:
                ways.append(f"{examples:,} examples in all")
            how = " or ".join(ways) or "no number of trainings or examples"
            only = "" if gap.trainings_needed is not None else "; more trainings alone would not"
            said.append(f"{name!r} is tied with {self.best().name!r}: {how} would tell them apart{only}")
        return tuple(said)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before choosing."""
        present = [s for e in self.entries for s in (getattr(e, by) for by in SCORES) if s is not None]
        found = [w for s in present for w in s.warnings]
        first, other = self.best().name, self.best("evidence").name
        if self.word(other) == "worse":
            found.insert(
                0,
                f"the evidence prefers {other!r}, which predicts unseen examples worse than {first!r}: believe the "
                "out-of-fold loss; the evidence at trained weights misjudges networks that interpolate",
            )
        return tuple(dict.fromkeys(found))

    def table(self) -> str:
        """The comparison as text, from the lowest loss to the highest.

        Returns:
            A table in Markdown, in nats per example.
        """
        shown = [by for by in SCORES if getattr(self.entries[0], by) is not None]
        named = [f"{by} / n" for by in shown] + [f"weight by {by}" for by in self.weights]
        titles, lines = ["model", "P", "loss", "behind the best", "", *named, "s"], []
        for e in sorted(self.entries, key=lambda e: e.loss.value):
            gap = self.gaps.get(e.name)
            behind = "" if gap is None else f"{gap.value:.4f} ± {gap.stderr:.4f}"
            scores = [f"{s.per_example:.4f} ± {s.stderr / s.n:.4f}" for s in (getattr(e, by) for by in shown)]
            scores += [f"{weights[e.name]:.2f}" for weights in self.weights.values()]
            scores = [behind, self.word(e.name), *scores, f"{e.seconds:.1f}"]
            lines.append([e.name, str(e.weights), f"{e.loss:.4f}", *scores])
        return markdown(titles, "lrrrl" + "r" * len(named) + "r", lines)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain JSON values, without weights and single losses.

        Returns:
            One record a model under ``models``, ``advice`` and ``warnings``.
        """
        models = []
        for e in self.entries:
            gap = self.gaps.get(e.name)
            scores = {by: s.to_dict() for by in SCORES if (s := getattr(e, by)) is not None}
            behind = None if gap is None else {"value": gap.value, "stderr": gap.stderr, "freedom": gap.freedom}
            row = {
                "name": e.name,
                "weights": e.weights,
                "loss": e.loss.value,
                "stderr": e.loss.stderr,
                "behind": behind,
            }
            weights = {by: each[e.name] for by, each in self.weights.items()}
            models.append({**row, "word": self.word(e.name), **scores, "weights": weights, "seconds": e.seconds})
        return {"models": models, "advice": list(self.advice), "warnings": list(self.warnings)}


def packed(entry: Entry) -> dict[str, Any]:
    """An entry as tensors and plain values that `torch.save` writes and `torch.load` reads without code."""
    scores = {by: None if (s := getattr(entry, by)) is None else vars(s) | {"value": s.value.detach()} for by in SCORES}
    plain = {"name": entry.name, "weights": entry.weights, "seconds": entry.seconds, "density": entry.density}
    tensors = {"losses": _own(entry.losses), "folds": _own(entry.folds)}
    named = {k: {n: _own(w) for n, w in getattr(entry, k).items()} for k in ("params", "learned")}
    return {**plain, **tensors, **named, **scores}


def unpacked(content: dict[str, Any]) -> Entry:
    """The entry that was packed."""
    scores = {by: None if content[by] is None else Estimate(**content[by]) for by in SCORES}
    return Entry(**{**content, **scores})


def _own(tensor: Tensor) -> Tensor:
    return torch.clone(tensor.detach().cpu())
