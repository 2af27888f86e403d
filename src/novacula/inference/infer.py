"""`infer`: run a method on a target and data, and return its posterior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from novacula.core import execute
from novacula.core.checks.numbers import as_path, check_callable, check_numbers, check_whole, shown
from novacula.core.device import divided
from novacula.core.errors import InputError
from novacula.core.execute import Backend
from novacula.core.params import Params, count, detach
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.data.given import DataLike
from novacula.inference.loop import Progress, run
from novacula.inference.method import Method, Others, check_method
from novacula.inference.recorder import check_room
from novacula.inference.starts import starts
from novacula.posteriors.base import Learned, Posterior, weights_of
from novacula.posteriors.mixture import gathered
from novacula.target import Density, LogDensity, Target
from novacula.target.given import prepared


def infer(
    method: Method,
    target: Density | nn.Module | Callable[[Params], Tensor],
    data: DataLike | None = None,
    *,
    init: Params | Posterior | Learned | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int = 128,
    chains: int = 1,
    others: Others = "auto",
    workers: int = 1,
    backend: Backend = "loky",
    seed: int = 0,
    order: int | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    device: str | torch.device | None = None,
) -> Posterior:
    """Infer the weights of a network, or the parameters of any log-density.

    Args:
        method: How, for instance `MAP`, `SWAG`, `NUTS`.
        target: The target density; or a network, which is taken with the likelihood of the data's task; or a function
            from a dictionary of tensors to a log-density in nats, for samplers.
        data: The training data of a network; or a pair ``(x, y)``, a dataset or a loader.
        init: The point where a plain log-density is started, required for a function; for a network, weights (or a
            posterior, or a result that has one) to start from in the place of its own.
        steps: Steps in all, warm-up included; give this or ``epochs``.
        epochs: Passes over the data; for methods that take minibatches.
        batch_size: Examples a step, for methods that take minibatches.
        chains: Runs of the method side by side. The first starts at the target's own point (or ``init``), the others
            where ``others`` says, as do members of an `Ensemble` that does not say it itself.
        others: Where chains but the first start: ``"near"`` it, at ``"fresh"`` draws of the network's initialisation,
            or, by default, near it where its weights have been trained and fresh otherwise (see `starts`).
        workers: Processes that share the chains among them; -1 for one on each core. Chains of one process run side by
            side, and share what is adapted or drawn for all of them, so that the draws depend on the number of workers.
        backend: Where the workers are: ``"loky"`` or ``"threads"`` here, ``"dask"`` or ``"ray"`` on a cluster.
        seed: Seed of everything random.
        order: Seed of the order in which minibatches come, which is ``seed`` by default: so that runs can differ in
            their order alone, or in all but their order.
        checkpoint: A file to replace after every epoch; one for each worker, numbered, where there are several.
        resume: Whether to continue from ``checkpoint`` where it exists.
        progress: Called after every epoch with (epochs done, epochs in all, the epoch's record); with several workers,
            when one is done, with (workers done, workers, nothing).
        device: Where to compute a network: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``; by default where it is. On
            one without float64, such as ``"mps"``, methods that take minibatches train; all that follows, from
            log-determinants to predictions, is computed on the host.

    Returns:
        The posterior. It knows its target, so `novacula.predict` needs nothing else.

    Raises:
        InputError: If network, likelihood and data do not fit together, if not exactly one of ``steps`` and ``epochs``
            is given, a plain log-density comes without ``init``, with data or a device, the device is not there, or
            chains do not fit in memory.
        NonFiniteError: If the density has no mass where it is started, or the loss becomes NaN or infinite.

    Example:
        >>> import torch
        >>> from novacula.inference import MAP
        >>> from novacula.likelihoods import Normal
        >>> data = Data([[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 2.0, 3.0])
        >>> target = Target(torch.nn.Linear(1, 1), likelihood=Normal(sigma=0.1))
        >>> post = infer(MAP(lr=0.1), target, data, steps=500)
        >>> abs(float(post.mode["weight"]) - 1) < 0.1
        True
    """
    check_method(method)
    check_numbers(steps=steps, epochs=epochs, batch_size=batch_size, seed=seed)
    if order is not None:
        check_whole("order", order, least=None)
    check_whole("chains", chains)
    if workers != -1:
        check_whole("workers", workers)
    check_callable("progress", progress)
    checkpoint = None if checkpoint is None else as_path(checkpoint, "checkpoint as a path")
    if others not in get_args(Others):
        raise InputError("others='auto', 'fresh' or 'near'", shown(others), "leave it out")
    there, device = divided(device, steps=method.batching == "mini" and isinstance(target, Target | nn.Module))
    density, data = _prepare(target, data, init, device)
    own = None
    if init is not None and isinstance(density, Target):
        density, init = density.at(weights_of(init))  # statistics that come with the weights
        own = _checked(density, init)
    like = density.params()
    check_room(1, chains, count(like), next(iter(like.values())), hint="ask for fewer chains")
    first = starts(density, chains, derive(seed, "starts"), own=own, others=others)
    task = _Task(
        method, density, data, first, epochs, steps, batch_size, seed, order, checkpoint, resume, others, there
    )
    groups = min(chains, execute.cores() if workers == -1 else workers)
    if groups <= 1:
        return task.run(progress)
    report = None if progress is None else lambda done, total: progress(done, total, {})
    parts = execute.map(_run, task.split(groups), workers=groups, backend=backend, progress=report)
    return gathered(parts)


@dataclass(frozen=True, eq=False)
class _Task:
    """Some of the chains: all that decides what they will be."""

    method: Method
    target: Density
    data: Data | None
    start: Params
    epochs: int | None
    steps: int | None
    batch_size: int
    seed: int
    order: int | None
    checkpoint: Path | None
    resume: bool
    others: Others
    there: torch.device | None = None  # where steps are taken, if not where all else is computed

    def run(self, progress: Progress | None = None) -> Posterior:
        outcome = run(
            self.method,
            self.target,
            self.data,
            start=self.start,
            epochs=self.epochs,
            steps=self.steps,
            batch_size=self.batch_size,
            seed=self.seed,
            order=self.order,
            checkpoint=self.checkpoint,
            resume=self.resume,
            others=self.others,
            progress=progress,
            there=self.there,
        )
        return self.method.posterior(self.target, outcome.state)

    def split(self, groups: int) -> list[_Task]:
        pieces = [w.tensor_split(groups) for w in self.start.values()]
        file = self.checkpoint
        return [
            replace(
                self,
                start=dict(zip(self.start, parts, strict=True)),
                seed=derive(self.seed, "worker", i),
                checkpoint=None if file is None else file.with_name(f"{file.stem}-{i}{file.suffix}"),
            )
            for i, parts in enumerate(zip(*pieces, strict=True))
        ]


def _run(task: _Task) -> Posterior:
    if isinstance(task.target, Target):
        # Evaluating a network puts other weights into its module for a moment: threads must not share it.
        own = task.target.forward
        task = replace(task, target=replace(task.target, forward=own.over(own.module)))
    return task.run()


def _prepare(
    target: Density | nn.Module | Callable[[Params], Tensor],
    data: DataLike | None,
    init: Any,
    device: str | torch.device | None,
) -> tuple[Density, Data | None]:
    if isinstance(target, Target | nn.Module):
        if data is None:
            raise InputError("the training data of a network", "none", "pass nv.Data(x, y), or nv.load(…)")
        return prepared(target, data, device=device)
    if device is not None:
        hint = "put init= there, and let the function follow"
        raise InputError("no device with a plain log-density", str(device), hint)
    if data is not None:
        got = f"a {type(data).__name__} and a {type(target).__name__}"
        raise InputError("no data with a plain log-density", got, "let the function itself hold what it needs")
    if isinstance(target, LogDensity):
        return (target if init is None else LogDensity(target.function, init, target.prior)), None
    if init is None:
        raise InputError("init= for a plain log-density", "none", 'pass, for instance, init={"mu": torch.zeros(3)}')
    return LogDensity(target, init), None


def _checked(target: Target, init: Params | Posterior | Learned) -> Params:
    own, init = target.params(), weights_of(init)
    for name, w in own.items():
        if name not in init or init[name].shape != w.shape:
            got = f"shape {tuple(init[name].shape)}" if name in init else f"only {', '.join(init)}"
            raise InputError(f"init[{name!r}] of shape {tuple(w.shape)}", got, "pass weights of the same network")
    return detach({k: init[k].to(w) for k, w in own.items()})
