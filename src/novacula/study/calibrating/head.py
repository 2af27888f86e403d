"""How a person's network is to be read: what its outputs mean for the labels of the data.

| labels | outputs | read as |
| --- | --- | --- |
| classes | ``(N, C)``, C of at least 2 | logits of C classes |
| two classes | ``(N, 1)`` or ``(N,)`` | the logit of the second class, beside 0 for the first |
| several labels | ``(N, C)`` | C logits |
| D measurements | ``(N, D)``, or ``(N,)`` for one | means |
| D measurements | ``(N, 2D)`` | means, then log standard deviations |
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from novacula.core.alone import check_alone
from novacula.core.checks.tensors import check_same, dtype_hint
from novacula.core.errors import InputError, NonFiniteError
from novacula.core.memory import with_halving
from novacula.core.modules.outputs import logits_of
from novacula.core.modules.parts import Parts
from novacula.core.rng import global_draws
from novacula.data.data import Data
from novacula.data.meaning.soft import check_hard
from novacula.likelihoods import Bernoulli, Categorical, HeteroscedasticNormal, Likelihood, Normal
from novacula.likelihoods.declared import check_logits

_FAILURES = (RuntimeError, ValueError, TypeError, IndexError)
_AT_ONCE = 500
_FIT = "change its last layer, or say what the labels are by task="


@dataclass(frozen=True, eq=False)
class Head:
    """What a network's outputs mean."""

    likelihood: Likelihood  # ``p(y | f)``
    single: bool = False  # whether the network gives one logit for two classes
    targets: int = 0  # how many measurements a label has; 0 for classes and several labels
    parts: Parts | None = None  # how a row of numbers is taken apart, where the network takes inputs of several parts

    @property
    def task(self) -> str:
        """What the labels are."""
        return self.likelihood.task

    @property
    def own_noise(self) -> bool:
        """Whether the network gives a standard deviation of its own for each measurement."""
        return self.likelihood.loss == HeteroscedasticNormal.loss

    def call(self, network: nn.Module, x: Tensor) -> Tensor:
        """What a network gives for inputs: a tensor, or the ``logits`` of an object."""
        return called(network, x, self.parts)

    def read(self, f: Tensor) -> Tensor:
        """The likelihood's outputs ``(N, C)`` of what the network gave."""
        return torch.cat([torch.zeros_like(f), f], -1) if self.single else f

    def losses(self, f: Tensor, y: Tensor) -> Tensor:
        """The loss of each example that a network is trained by, ``(N,)``; f as `read` gives it."""
        return -self.likelihood.log_prob(f, y)

    def least(self, data: Data) -> float:
        """The mean loss of outputs that are the labels: what no network can better; 0 where there is no such."""
        if self.task != "regression" or self.own_noise:
            return 0.0
        return float(self.losses(data.y.cpu(), data.y.cpu()).double().mean())

    @torch.no_grad()
    def outputs(self, network: nn.Module, x: Tensor) -> Tensor:
        """The outputs of a network in eval mode, ``(N, C)``, on the CPU; it is put back into the mode it was in."""
        place = next(itertools.chain(network.parameters(), network.buffers()), x).device

        def part(start: int, stop: int) -> Tensor:
            # A copy: a network that begins with an in-place layer writes on what it is given.
            return self.read(self.call(network, x[start:stop].to(place, copy=True))).cpu()

        with in_eval_mode(network):
            f = torch.cat(with_halving(part, len(x), _AT_ONCE, what="inputs"))
        if not bool(torch.isfinite(f).all()):
            row = int((~torch.isfinite(f).all(1)).nonzero()[0, 0])
            raise NonFiniteError("finite network outputs", f"NaN or infinity in row {row}", "check inputs and weights")
        return f


class in_eval_mode:
    """Put a network and all its parts into eval mode, and back into the modes that they were in."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._before: list[tuple[nn.Module, bool]] = []

    def __enter__(self) -> None:
        self._before = [(part, part.training) for part in self._network.modules()]
        self._network.eval()

    def __exit__(self, *error: object) -> None:
        for part, mode in self._before:
            part.training = mode


def head_of(network: nn.Module, data: Data) -> Head:
    """Find out how a network's outputs are to be read, by those for a few rows; what does not fit is refused."""
    if not isinstance(network, nn.Module):
        kind = f"the class {network.__name__}" if isinstance(network, type) else f"a {type(network).__name__}"
        raise InputError("a network, an nn.Module", kind, "pass the network itself, calibrate(network, data)")
    f = _tried(network, data.x[: min(data.n, 8)], data.parts)
    head = replace(_head(f, data), parts=data.parts)
    check_logits(head.likelihood, lambda: f)
    return head


def called(network: nn.Module, x: Tensor, parts: Parts | None) -> Tensor:
    """What a network gives for inputs ``(N, …)``, of several parts side by side where it takes such."""
    given, named = ((x,), {}) if parts is None else parts.arguments(x)
    return logits_of(network(*given, **named))


def _head(f: Tensor, data: Data) -> Head:
    width, task = f.shape[1], data.task
    if task == "regression":
        targets = data.y.shape[1]
        if width == targets:
            sd = data.y.double().std(0, correction=0)
            sd = torch.where(sd > 0, sd, torch.ones_like(sd))
            return Head(Normal(log_sigma=sd.log().to(f.dtype)), targets=targets)
        if width == 2 * targets:
            return Head(HeteroscedasticNormal(), targets=targets)
        wanted = f"{targets} outputs (means), or {2 * targets} (then log standard deviations)"
        raise InputError(wanted, f"a network with {width}", _FIT)
    if task == "multilabel":
        if width != data.y.shape[1]:
            raise InputError(f"{data.y.shape[1]} outputs, a logit for each label", f"a network with {width}", _FIT)
        return Head(Bernoulli())
    check_hard(data.y, "the calibration of a network of your own")
    classes = max(int(data.y.max()) + 1, len(data.classes))
    if width == 1 and classes <= 2:
        return Head(Categorical(2), single=True)
    if width < classes:
        raise InputError(f"{classes} outputs, a logit for each class", f"a network with {width}", _FIT)
    return Head(Categorical(width))


def _tried(network: nn.Module, x: Tensor, parts: Parts | None) -> Tensor:
    place = next(itertools.chain(network.parameters(), network.buffers()), x).device

    def run(some: Tensor) -> Tensor:
        return called(network, some.to(place, copy=True), parts)

    try:
        # With a graph, which tells whether outputs are probabilities.
        with torch.enable_grad(), global_draws(), in_eval_mode(network):
            f, again = run(x), run(x)
    except _FAILURES as error:
        wanted = f"inputs of shape {tuple(x.shape)} and dtype {x.dtype}" if parts is None else f"{parts}"
        whole = x.is_floating_point() and bool((x == x.round()).all())
        hint = "pass token ids by nv.Data(x, y, tokens=True)" if whole else "pass the data as it was trained on them"
        hint = dtype_hint(x, network.parameters()) or hint
        raise InputError(f"a network that takes {wanted}", f"{type(error).__name__}: {error}", hint) from error
    if not isinstance(f, Tensor) or f.ndim != 2 or len(f) != len(x) or not f.is_floating_point():
        got = f"shape {tuple(f.shape)}, {f.dtype}" if isinstance(f, Tensor) else f"a {type(f).__name__}"
        raise InputError(
            f"outputs of shape ({len(x)}, C)", got, "wrap the network in a module whose forward returns the logits"
        )
    with global_draws(), in_eval_mode(network):
        check_same(f, again)
        check_alone(network, run, x, f.detach())
    return f.cpu()
