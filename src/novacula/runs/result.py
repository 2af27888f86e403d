"""What `learn` found, and what can be made of it: another posterior, a run folder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from novacula.core.brief import brief
from novacula.core.checks.numbers import as_path
from novacula.core.estimate import Estimate
from novacula.core.params import Params
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.inference.loop import Progress
from novacula.inference.method import Method
from novacula.posteriors.base import Point
from novacula.prediction import Choice
from novacula.runs.catalogue.methods import Trained, Wanted, read_method
from novacula.runs.refit import Inferred, inferred, restricted
from novacula.runs.saving import save
from novacula.target import Target


@dataclass(frozen=True, eq=False)
class LearnResult:
    """What `learn` found.

    Args:
        target: The target with its learned prior, likelihood and invariance.
        evidence: The final log evidence of the training data.
        choice: The predictive that was chosen on the training data, with the scores it was chosen by.
        params: The trained weights.
        history: One record an epoch.
        data: The training data.
        seed: The run's seed.
        settings: The run's options.
        seconds: ``total`` (training, scoring and choosing), ``train``, and ``hyper`` (the hyper-steps).
        warnings: Reservations a reader must know.
        inferred: The posterior that predictions average over, where another than the chosen one was asked for.
        hyper: By name: ``value``, ``interval`` (90 %), ``gradient`` with its ``stderr``, and ``converged``.
        converged: Whether the last round gained less than its error, and no hyperparameter would still move.
        unseen: The `CrossFit` by whose out-of-fold predictions the predictive was chosen; None without folds.
        verdicts: By transformation: ``verdict``, ``extent``, ``interval``, ``gain`` in out-of-fold loss and ``stderr``.
    """

    target: Target
    evidence: Estimate
    choice: Choice
    params: Params = field(repr=False)
    history: list[dict[str, float]] = field(repr=False)
    data: Data
    seed: int
    settings: dict[str, Any] = field(repr=False)
    seconds: dict[str, float] = field(repr=False)
    warnings: tuple[str, ...]
    inferred: Inferred | None = None
    hyper: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    converged: bool = False
    unseen: Any = None
    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    __repr__ = brief

    @property
    def posterior(self) -> Any:
        """The posterior over weights that was asked for, or chosen; `novacula.predict` takes it."""
        return self.choice.posterior if self.inferred is None else self.inferred.posterior

    @property
    def point(self) -> Point:
        """The plain point estimate."""
        return Point(self.params, target=self.target)

    def save(self, folder: str | Path, **options: Any) -> dict[str, Any]:
        """Write the run folder (see `novacula.runs.saving.save`).

        Args:
            folder: Where to.
            options: ``test``, ``strange``, ``setup``, ``targets``, ``command``, ``settings``, ``against``.

        Returns:
            What ``run.json`` holds.
        """
        return save(self, as_path(folder, "a folder"), **options)

    def with_posterior(
        self,
        method: Method | Wanted | str,
        *,
        steps: int | None = None,
        chains: int | None = None,
        batch_size: int | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
        progress: Progress | None = None,
    ) -> LearnResult:
        """Infer the weights anew, under the prior, noise and invariances that were learned.

        The first chain starts at the trained weights.

        Args:
            method: A method; or the name of one, perhaps with settings, see `novacula.runs.catalogue.methods`.
                ``"auto"`` keeps the choice, ``"point"`` and ``"laplace"`` restrict it.
            steps: Steps of each chain; for a method's object required.
            chains: Chains, or runs whose posteriors are mixed; by default as the name has it, and 1 for an object.
            batch_size: Examples a step; by default as the name has it, and that of the run for an object.
            checkpoint: A file to keep the run resumable.
            resume: Whether to continue from it.
            progress: Called after every epoch.

        Returns:
            The same result with this posterior.

        Raises:
            InputError: If the name or a setting is unknown, or the method does not take the network or prior.

        Example:
            >>> import novacula as nv
            >>> data = nv.load("digits").subset(range(100))
            >>> net = nv.networks.make("linear", data.x_shape, 10)
            >>> fit = nv.learn(nv.Target(net), data, epochs=1).with_posterior("ensemble:members=3", steps=20)
            >>> nv.predict(fit.posterior, data.x).samples.shape
            torch.Size([3, 100, 10])
        """
        if isinstance(method, str):
            method = read_method(method)
        if isinstance(method, Wanted) and method.is_choice:
            choice = restricted(
                self.choice, method.name, self.target, self.params, self.data, derive(self.seed, "choose")
            )
            warnings = dict.fromkeys([*self.warnings, *choice.warnings])
            return dataclasses.replace(self, choice=choice, warnings=tuple(warnings), inferred=None)
        options = {"checkpoint": checkpoint, "resume": resume, "progress": progress}
        own = int(self.settings["batch_size"])
        full = -(-self.data.n // own) * int(self.settings["epochs"])
        trained = Trained.of(self.params, float(self.settings["lr"]), full)
        seed = derive(self.seed, "posterior")
        found = inferred(
            self.target, self.params, self.data, trained, method, steps, chains, batch_size, own, seed, options
        )
        return dataclasses.replace(
            self,
            inferred=found,
            seconds={**self.seconds, "total": self.seconds["total"] + found.seconds, "posterior": found.seconds},
            warnings=tuple(dict.fromkeys([*self.warnings, *found.posterior.warnings])),
        )
