"""A network as it trains: which of its layers are in train mode, what they keep of the batches, what noise they add.

Evidence, curvature and prediction need a function of weights and one example, so there every layer is in eval mode.
While weights train, layers are in train mode as in any PyTorch loop: BatchNorm takes the statistics of the batch and
updates running ones, dropout drops. What that changes is *found out* by a pass in train mode and not told by the kind
of a layer: buffers that the pass moves (the *statistics* that each member of a run holds beside its weights), random
numbers that it draws, outputs that differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

_MARK = "_trains"  # beside a layer's flag in copies of a network: whether it is in train mode while weights train


@dataclass(frozen=True)
class Training:
    """What train mode changes about a network."""

    moving: tuple[str, ...] = ()  # the buffers that a pass changes: running statistics and their counts
    noisy: bool = False  # whether a pass draws random numbers
    differs: bool = False  # whether outputs are others than in eval mode, or either of the above holds

    @property
    def held(self) -> tuple[str, ...]:
        """What is said of weights that were inferred while statistics stayed as they were."""
        if not self.moving:
            return ()
        return (
            f"{self._names} stayed as the network had them when the run began: train it first, which updates them"
            " (MAP, Ensemble, nv.learn)",
        )

    @property
    def _names(self) -> str:
        more = f" and {len(self.moving) - 2} more" if len(self.moving) > 2 else ""
        return f"statistics that training updates ({', '.join(self.moving[:2])}{more})"

    @property
    def said(self) -> tuple[str, ...]:
        """What numbers at fixed weights assume of such a network."""
        found: list[str] = []
        if self.moving:
            found.append(f"{self._names} are constants, at their running values")
        if self.noisy:
            found.append("noise that is on while weights train (dropout) is off")
        if self.differs and not found:
            found.append("layers are in eval mode, where outputs are others than while weights train")
        return tuple(found)


def put_to_eval(module: nn.Module) -> None:
    """Put all layers of a copy of a network in eval mode, and mark those that shall train.

    A network with some layer in train mode trains as it is: layers that were put in eval mode stay so. One that is in
    eval mode altogether, as `from_pretrained` gives it, trains as after ``network.train()``. Marks that are there stay.
    """
    new = [layer for layer in module.modules() if _MARK not in layer.__dict__]
    if new and not any(layer.training for layer in new):
        module.train()
    for layer in new:
        layer.__dict__[_MARK] = layer.training
    for layer in module.modules():
        layer.training = _steady(layer)  # as a flag: eval() of a network's own may merge or fuse weights


def _steady(layer: nn.Module) -> bool:
    # cuDNN's recurrent layers have a derivative in train mode alone; without dropout that is the same function.
    return isinstance(layer, nn.RNNBase) and layer.dropout == 0


def keep_in_eval(module: nn.Module) -> None:
    """Let no layer of a network's copy be in train mode while its weights train."""
    for layer in module.modules():
        layer.__dict__[_MARK], layer.training = False, _steady(layer)


@contextmanager
def train_mode(module: nn.Module) -> Iterator[None]:
    """Put the marked layers in train mode for as long as this lasts."""
    marked = [layer for layer in module.modules() if layer.__dict__.get(_MARK, False)]
    for layer in marked:
        layer.training = True
    try:
        yield
    finally:
        for layer in marked:
            layer.training = _steady(layer)


@contextmanager
def averaging(module: nn.Module) -> Iterator[None]:
    """Let running statistics be plain averages over all batches (momentum None) for as long as this lasts."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._NormBase)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = None
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def drawn_from(device: torch.device) -> bytes:
    """Where the global generators stand: it changes when numbers are drawn."""
    states = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])
    return b"".join(state.numpy().tobytes() for state in states)
