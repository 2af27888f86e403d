"""`cross_fit`: train K networks, each blind to one fold of the data, and predict every example by the blind one."""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from novacula.core import execute
from novacula.core.checks.numbers import check_callable, check_numbers, shown
from novacula.core.device import divided
from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.execute import Backend
from novacula.core.many import members_of
from novacula.core.params import Params, detach, stack, unstack
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.data.folds import given_folds
from novacula.data.given import DataLike
from novacula.inference.loop import Progress, default_batch_size, run
from novacula.inference.method import Method, check_method
from novacula.inference.optimising.map import MAP
from novacula.inference.starts import blind_starts
from novacula.posteriors.answers import finite
from novacula.posteriors.base import weights_of
from novacula.study.cross_fit.curve import alone
from novacula.study.cross_fit.result import CrossFit
from novacula.target import Target
from novacula.target.copies import fixed_outputs
from novacula.target.given import TargetLike, prepared

_STEPS, _EPOCHS = 1_500, 20


def cross_fit(
    target: TargetLike,
    data: DataLike,
    *,
    folds: int | Tensor | Sequence[int] = 3,
    seed: int = 0,
    method: Method | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    members: int = 1,
    starts: Sequence[Params] | None = None,
    part: tuple[int, int] | None = None,
    under: Target | None = None,
    trained: Sequence[Params] = (),
    workers: int = 1,
    backend: Backend = "loky",
    only: int | None = None,
    curve: bool = False,
    progress: Progress | None = None,
    device: str | torch.device | None = None,
) -> CrossFit:
    """Train K networks, each blind to one fold, and predict every example by the network that has not seen it.

    All networks are trained under the target's hyperparameters as they are; nothing of them is learned here. From the
    predictions come the loss and its error where there is no test part, the temperature of the labels, conformal sets
    and intervals, the choice of the predictive, and paired comparisons of models. K networks that pass as often as
    another over their ``(K − 1)/K`` of the data cost as much as ``K − 1`` of it.

    Args:
        target: The target; or a network, which is taken with the likelihood of the data's task.
        data: The training data; or a pair ``(x, y)``, a dataset or a loader.
        folds: K; or the fold of each example, 0 to K − 1, where examples belong together (patients, say).
        seed: Seed of everything random.
        method: How a network is trained; by default ``MAP(lr=4e-3)``. Of a posterior, its mode is kept.
        epochs: Passes of each network over its data; give at most one of this and ``steps``.
        steps: Steps of each network; by default 1,500, or 20 epochs if these are more.
        batch_size: Examples a step; by default `default_batch_size`.
        members: M networks for each fold, trained side by side on the same minibatches; the mixture of theirs is the
            out-of-fold prediction.
        starts: K weights that were trained before to go on from, of several members stacked; by default fresh draws of
            the network's initialisation, or weights near those that the prior is centred at.
        part: Of a training in parts: the steps behind the ``starts``, and those of all parts, so that the prior counts
            as if it were one.
        under: The target that the weights are trained under, where it is not the one that predicts: another
            temperature or prior of the same network.
        trained: Weights of the first folds' networks, like ``starts``, where they were trained before.
        workers: Processes that share the folds among them; -1 for one on each core.
        backend: Where the workers are, as in `novacula.infer`.
        only: Train so few of the K networks; the result is then that of the examples that these have not seen.
        curve: Whether to train one more network, on the first fold alone, as often over its data as the others, so that
            the loss to expect of a network of all data is known (``expected``, in ``score()``).
        progress: Called after every epoch with (epochs done, epochs in all, the epoch's record); with several workers,
            when one is done, with (networks done, networks, nothing).
        device: Where to compute: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``; by default where the network is. On
            one without float64, such as ``"mps"``, networks train; all that follows is computed on the host.

    Returns:
        The networks and their out-of-fold predictions.

    Raises:
        InputError: If network, likelihood and data do not fit together, the folds, starts or length are wrong, or the
            device is not there.
        NonFiniteError: If a loss or an output becomes NaN or infinite.

    Example:
        >>> import novacula as nv
        >>> data = nv.load("digits").subset(range(120))
        >>> fit = nv.cross_fit(nv.Target(nv.networks.make("linear", data.x_shape, 10)), data, steps=60)
        >>> fit.predictive.n, sorted(fit.score())[:3]
        (120, ['accuracy', 'accuracy_stderr', 'aurc'])
    """
    check_numbers(members=members, steps=steps, epochs=epochs, batch_size=batch_size, seed=seed, only=only)
    check_callable("progress", progress)
    if not isinstance(trained, Sequence):
        raise InputError("trained as a list of weights", f"a {type(trained).__name__}", "leave it out")
    method = MAP(lr=4e-3) if method is None else method
    check_method(method)
    there, device = divided(device, steps=method.batching == "mini")
    target, data = prepared(target, data, device=device)
    if under is not None and not isinstance(under, Target):
        raise InputError("under as a target", shown(under), "leave it out")
    target = target.with_learnable({k: v.detach() for k, v in target.learnable().items()})
    with python_warnings.catch_warnings(record=True) as caught:
        python_warnings.simplefilter("always", NovaculaWarning)
        which = given_folds(data, folds, derive(seed, "folds"))
        first = _starts(target, starts, int(which.max()) + 1, members, seed)
    for w in caught:
        python_warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
    size = batch_size or default_batch_size(data.n, table=data.x.ndim == 2)
    how = (part or starts is not None, method, epochs, steps, size)
    tasks = [
        _Task(target, under or target, data, which, k, w, *how, derive(seed, "fold", k), derive(seed, "copies"), there)
        for k, w in enumerate(first[:only])
    ]
    for k, w in enumerate(trained[: len(tasks)]):
        tasks[k] = replace(tasks[k], start=_checked(target, w, members), steps=0, epochs=None)
    if workers == 1:
        found = [task.run(_counted(progress, k, len(tasks))) for k, task in enumerate(tasks)]
    else:
        report = None if progress is None else lambda done, total: progress(done, total, {})
        found = execute.map(_run, tasks, workers=workers, backend=backend, progress=report)
    data, which, outputs = _gathered([f for _, f in found], data, which)
    said = tuple(dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, NovaculaWarning)))
    made = CrossFit(target, data, which, tuple(w for w, _ in found), finite(outputs), seed, said)
    return replace(made, fewer=_of_one_fold(tasks[0], made)) if curve and only is None else made


def _gathered(found: Sequence[Tensor], data: Data, which: Tensor) -> tuple[Data, Tensor, Tensor]:
    # The outputs (M, N, C) of the folds' networks, and the examples that these have not seen.
    outputs = found[0].new_empty(found[0].shape[0], data.n, found[0].shape[2])
    for k, f in enumerate(found):
        outputs[:, which == k] = f
    if len(found) > int(which.max()):
        return data, which, outputs
    predicted = which < len(found)
    return data.subset(predicted.to(data.x.device)), which[predicted], outputs[:, predicted.to(outputs.device)]


def of_one_fold(train: Callable[[int], CrossFit], steps: int, share: float) -> CrossFit:
    """A single fold's network, trained for its share of the others' steps; for all, where these taught it nothing."""
    found = train(max(1, round(steps * share)))
    return found if found.learned else train(steps)


def _of_one_fold(task: _Task, made: CrossFit) -> CrossFit:
    # The network that sees the first fold alone, of one member, from fresh weights: given ones may have seen more.
    few = int((made.folds == 0).sum())
    steps = length(task.steps, task.epochs, made.data.n - few, task.batch_size)
    options = {
        "folds": alone(made.folds),
        "seed": made.seed,
        "method": task.method,
        "batch_size": task.batch_size,
        "under": task.under,
        "only": 1,
    }
    train = lambda s: cross_fit(made.target, made.data, steps=s, **options)  # noqa: E731
    return of_one_fold(train, steps, few / (made.data.n - few))


@dataclass(frozen=True, eq=False)
class _Task:
    """One network: all that decides what it will be."""

    target: Target
    under: Target  # what the weights are trained under
    data: Data
    folds: Tensor
    fold: int
    start: Params
    trained: bool | tuple[int, int]  # whether the start was trained before, or how far in a training of parts
    method: Method
    epochs: int | None
    steps: int | None  # 0 for weights that are trained already
    batch_size: int
    seed: int
    copies_seed: int
    there: torch.device | None = None  # where steps are taken, if not where all else is computed

    def run(self, progress: Progress | None = None) -> tuple[Params, Tensor]:
        unseen = self.folds == self.fold
        params = self.start if self.steps == 0 else self._trained(self.data.subset(~unseen), progress)
        x, copies = self.data.x[unseen.to(self.data.x.device)], self.target.copies.predict
        each = [fixed_outputs(self.target, w, x, copies=copies, seed=self.copies_seed) for w in unstack(params)]
        return params, torch.stack(each)

    def _trained(self, seen: Data, progress: Progress | None) -> Params:
        steps = self.steps if self.epochs is not None else length(self.steps, None, seen.n, self.batch_size)
        outcome = run(
            self.method,
            self.under,
            seen,
            start=self.start,
            trained=self.trained,
            epochs=self.epochs,
            steps=steps,
            batch_size=self.batch_size,
            seed=self.seed,
            progress=progress,
            there=self.there,
        )
        modes = [part.mode for part in self.method.posterior(self.under, outcome.state).parts]
        if len(modes) != (members := members_of(self.start)):
            got = f"{type(self.method).__name__}, which leaves {len(modes)} for {members}"
            raise InputError("a method that leaves a posterior for each member", got, "use members=1")
        return detach(stack(modes))


def length(steps: int | None, epochs: int | None, n: int, batch_size: int) -> int:
    """The steps of a training of n examples: of so many epochs, or so many steps, or by default."""
    per_epoch = -(-n // min(batch_size, n))
    if epochs is not None:
        return epochs * per_epoch
    return max(_STEPS, _EPOCHS * per_epoch) if steps is None else steps


def _run(task: _Task) -> tuple[Params, Tensor]:
    # Evaluating a network puts other weights into its module for a moment: threads must not share it.
    own = task.target.forward
    forward = own.over(own.module)
    return replace(task, target=replace(task.target, forward=forward), under=replace(task.under, forward=forward)).run()


def _starts(target: Target, starts: Sequence[Params] | None, k: int, members: int, seed: int) -> list[Params]:
    if starts is None:
        drawn = blind_starts(target, k * members, derive(seed, "starts"))
        return [stack(drawn[i::k]) for i in range(k)]
    if not isinstance(starts, Sequence):
        raise _other_weights(f"{k} networks", f"a {type(starts).__name__}")
    if len(starts) != k:
        raise _other_weights(f"{k} networks", f"{len(starts)} of them")
    return [_checked(target, w, members) for w in starts]


def _checked(target: Target, weights: Params, members: int) -> Params:
    # Weights, and perhaps statistics, as tensors (M, *shape); those of one network may come without the first axis.
    weights = weights_of(weights)
    own, buffers = target.params(), dict(target.forward.module.named_buffers())
    own |= {name: buffers[name] for name in weights if name in buffers}
    single = {name: w.shape for name, w in own.items()}
    if members == 1 and {name: w.shape for name, w in weights.items()} == single:
        weights = stack([weights])
    if {name: w.shape for name, w in weights.items()} != {name: (members, *shape) for name, shape in single.items()}:
        raise _other_weights(f"{members} member(s)", "others")
    return detach({name: weights[name].to(w) for name, w in own.items()})


def _other_weights(of: str, got: str) -> InputError:
    return InputError(f"first weights of {of} like the target's", got, "leave starts out for fresh draws")


def _counted(progress: Progress | None, k: int, networks: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total, record: progress(k * total + done, networks * total, record)
