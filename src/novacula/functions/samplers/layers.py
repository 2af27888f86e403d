"""Plain chains of linear layers and pointwise functions, for many networks at once on the same few inputs.

Units stand along rows and inputs along columns, so that the first layers of all networks are one matrix product. What a
module is, is told from its layers; whether the chain is the module's function is found out by comparison before it is
used (see `novacula.functions.samplers.network`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from novacula.core.params import Params

_IN_PLACE: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.ReLU: torch.relu_,
    nn.Tanh: torch.tanh_,
    nn.Sigmoid: torch.sigmoid_,
}
_POINTWISE = (nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Hardtanh, nn.Mish, nn.Softsign)
_NOTHING = (nn.Flatten, nn.Identity, nn.Dropout)


@dataclass(frozen=True)
class Linear:
    """A linear layer by the names of its weights."""

    weight: str
    bias: str | None


Step = Linear | Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Chain:
    """Steps in order."""

    steps: tuple[Step, ...]
    room: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)  # for hidden layers, by their weight

    def __call__(self, params: Params, columns: Tensor) -> Tensor:
        """Outputs ``(n, C, N)`` of n networks at the inputs ``(D, N)``; without gradients."""
        h, shared = columns, True
        last = [step for step in self.steps if isinstance(step, Linear)][-1]
        for step in self.steps:
            if not isinstance(step, Linear):
                h = step(h.clone() if h is columns else h)
                continue
            w = params[step.weight]
            bias = None if step.bias is None else params[step.bias]
            out = None if step is last else self._room(step.weight, (*w.shape[:2], columns.shape[1]), w)
            if shared:
                rows, flat = w.reshape(-1, w.shape[-1]), None if out is None else out.flatten(0, 1)
                flat = (
                    torch.mm(rows, h, out=flat) if bias is None else torch.addmm(bias.reshape(-1, 1), rows, h, out=flat)
                )
                h, shared = flat.view(*w.shape[:2], -1), False
            else:
                h = torch.bmm(w, h, out=out) if bias is None else torch.baddbmm(bias.unsqueeze(-1), w, h, out=out)
        return h

    def _room(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        # Memory that is new at each call costs about as much as what is computed in it.
        if name not in self.room or self.room[name].shape != shape:
            self.room[name] = like.new_empty(shape)
        return self.room[name]


def chain_of(module: nn.Module, names: Params) -> Chain | None:
    """The chain that a module seems to be, of weights with these names; None where it is another."""
    steps: list[Step] = []
    for path, layer in _flat(module, ""):
        if type(layer) is nn.Linear:
            weight, bias = f"{path}.weight" if path else "weight", f"{path}.bias" if path else "bias"
            bias = None if layer.bias is None else bias
            if weight not in names or (bias is not None and bias not in names):
                return None
            steps.append(Linear(weight, bias))
        elif type(layer) in _IN_PLACE:
            steps.append(_IN_PLACE[type(layer)])
        elif type(layer) in _POINTWISE:
            steps.append(layer)
        elif type(layer) not in _NOTHING:
            return None
    return Chain(tuple(steps)) if any(isinstance(s, Linear) for s in steps) else None


def _flat(module: nn.Module, path: str) -> list[tuple[str, nn.Module]]:
    if type(module) is not nn.Sequential:
        return [(path, module)]
    parts = module.named_children()
    return [leaf for name, child in parts for leaf in _flat(child, f"{path}.{name}" if path else name)]
