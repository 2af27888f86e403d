"""Recurrent layers from plain operations, in the place of kernels that have no rule for many networks or examples.

`nn.GRU`, `nn.LSTM` and `nn.RNN` call one kernel for all steps, layers and directions, their cells one for a step.
`torch.func.vmap` has no rule for these, so that a Jacobian took backward passes for every output of every example, and
members of an ensemble one pass each. Inside vmap the layers are computed here, by the formulas of torch's
documentation; outside of it, by the kernel, which is faster. Packed sequences keep to the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import get_unwrapped, is_batchedtensor, is_functorch_wrapped_tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

_State = tuple[Tensor, ...]
_Cell = Callable[[Tensor, _State, Sequence[Tensor]], _State]


class PlainRecurrence(TorchFunctionMode):
    """While it is active, recurrent layers of tensors that vmap maps over are computed from plain operations."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        cell, whole = _CELLS.get(func), func in _WHOLE
        if cell is None or kwargs or (whole and isinstance(args[3], Sequence)):  # packed: weights come fourth
            return func(*args, **(kwargs or {}))
        if not any(_mapped(t) for t in tree_leaves(args) if isinstance(t, Tensor)):
            return func(*args)
        return _layers(cell, *args) if whole else _once(cell, *args)


def _once(cell: _Cell, x: Tensor, state: Tensor | _State, *weights: Tensor | None) -> Tensor | _State:
    # One step of a cell: x (N, I), states (N, H); what the kernel gives back.
    w_x, w_h, *biases = weights
    own = [w_x, w_h, *(x.new_zeros(()) if b is None else b for b in biases)]
    found = cell(x @ own[0].mT + own[2], (state,) if isinstance(state, Tensor) else tuple(state), own)
    return found[0] if isinstance(state, Tensor) else found


def _mapped(t: Tensor) -> bool:
    while is_functorch_wrapped_tensor(t):
        if is_batchedtensor(t):
            return True
        t = get_unwrapped(t)
    return False


def _layers(
    cell: _Cell,
    x: Tensor,
    first: Tensor | _State,
    weights: Sequence[Tensor],
    biases: bool,
    layers: int,
    dropout: float,
    training: bool,
    both: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    # x (T, N, I), or (N, T, I) if batch_first; states (layers × directions, N, H); what the kernel gives back.
    first = (first,) if isinstance(first, Tensor) else tuple(first)
    x = x.transpose(0, 1) if batch_first else x
    ways = 2 if both else 1
    each = len(weights) // (layers * ways)
    last: list[_State] = []
    for layer in range(layers):
        if layer and dropout and training:
            x = torch.dropout(x, dropout, True)
        outputs = []
        for way in range(ways):
            i = layer * ways + way
            own = list(weights[i * each : (i + 1) * each])
            own[2:2] = [] if biases else [own[0].new_zeros(()), own[0].new_zeros(())]
            inputs = (x @ own[0].mT + own[2]).unbind(0)
            state, seen = tuple(s[i] for s in first), []
            for step in reversed(inputs) if way else inputs:
                state = cell(step, state, own)
                seen.append(state[0])
            outputs.append(torch.stack(seen[::-1] if way else seen))
            last.append(state)
        x = torch.cat(outputs, -1)
    states = [torch.stack(parts) for parts in zip(*last, strict=True)]
    return (x.transpose(0, 1) if batch_first else x, *states)


def _of_state(state: _State, weights: Sequence[Tensor]) -> Tensor:
    return state[0] @ weights[1].mT + weights[3]


def _gru(x: Tensor, state: _State, weights: Sequence[Tensor]) -> _State:
    (x_r, x_z, x_n), (h_r, h_z, h_n) = x.chunk(3, -1), _of_state(state, weights).chunk(3, -1)
    n = (x_n + (x_r + h_r).sigmoid() * h_n).tanh()
    return (n + (x_z + h_z).sigmoid() * (state[0] - n),)


def _lstm(x: Tensor, state: _State, weights: Sequence[Tensor]) -> _State:
    i, f, g, o = (x + _of_state(state, weights)).chunk(4, -1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    return (h @ weights[4].mT if len(weights) > 4 else h), c  # projected, where it has a weight for that


def _tanh(x: Tensor, state: _State, weights: Sequence[Tensor]) -> _State:
    return ((x + _of_state(state, weights)).tanh(),)


def _relu(x: Tensor, state: _State, weights: Sequence[Tensor]) -> _State:
    return ((x + _of_state(state, weights)).relu(),)


_WHOLE: dict[Callable[..., Any], _Cell] = {
    torch.gru: _gru,
    torch.lstm: _lstm,
    torch.rnn_tanh: _tanh,
    torch.rnn_relu: _relu,
}
_CELLS: dict[Callable[..., Any], _Cell] = {
    **_WHOLE,
    torch.gru_cell: _gru,
    torch.lstm_cell: _lstm,
    torch.rnn_tanh_cell: _tanh,
    torch.rnn_relu_cell: _relu,
}
