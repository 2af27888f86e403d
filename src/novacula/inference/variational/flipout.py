"""Flipout: every example sees weights of its own, at the price of one more product a layer.

With a symmetric perturbation Δ of a weight matrix W, one draw for the batch, and random signs ``r_n (O,)`` and
``s_n (I,)`` for each example n, ``W + Δ ∘ r_n s_nᵀ`` is distributed as ``W + Δ`` is, and

    (W + Δ ∘ r_n s_nᵀ) x_n = W x_n + r_n ∘ Δ (s_n ∘ x_n)

takes one more product of the whole batch. The examples' gradients are then nearly uncorrelated, so that the noise that
the weights add to a batch's gradient falls with its size, where one draw for all examples adds as much however large
the batch is. The signs are an example's own at all positions, in all its transformed copies and in every call of a
layer, so each example does see one draw of the weights (which local reparametrisation, with noise at every output,
gives for one position and one copy only).

Linear and convolution layers take part by forward hooks, any other parameter is drawn once for the batch. Which do is
*measured* on a few examples (`flipout`): the layer's outputs under signs are compared with those of every example alone
at its own explicit weights. Tied weights, weights used outside their layer and inputs whose first axis is not the
examples' thereby work or fall back, whichever is right.

References:
    Flipout: efficient pseudo-independent weight perturbations on mini-batches. Y. Wen, P. Vicol, J. Ba, D. Tran,
    R. Grosse, 2018. arXiv:1803.04386.
    Variational dropout and the local reparameterization trick. D. P. Kingma, T. Salimans, M. Welling, 2015.
    arXiv:1506.02557.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from novacula.core.forward import Forward
from novacula.core.layers import check_rows, first_names, steady
from novacula.core.params import Params
from novacula.core.rng import generator

Layer: TypeAlias = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_FAILURES = (RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Call:
    """A layer that takes part."""

    layer: str  # its name
    weight: str  # its weight's name among the parameters (the first one, where it is tied)
    bias: str | None  # its bias's name; None where there is none, or it is frozen
    inputs: int  # I, its input features or channels
    outputs: int  # O, its output features or channels
    rows: frozenset[int]  # how many rows of each example, in each copy, it sees


@dataclass(frozen=True, eq=False)
class Flipout:
    """A network whose examples see weights of their own."""

    forward: Forward  # the network
    calls: tuple[Call, ...]  # the layers that take part

    @property
    def covered(self) -> frozenset[str]:
        """The parameters that every example sees a draw of its own of."""
        return frozenset(name for c in self.calls for name in (c.weight, c.bias) if name is not None)

    def signs(self, members: int, examples: int, like: Tensor, rng: torch.Generator) -> Params:
        """Random signs, ``(M, B, O)``."""
        found: Params = {}
        for call in self.calls:
            for kind, size in (("r", call.outputs), ("s", call.inputs)):
                key = f"{kind}:{call.weight}"
                if key not in found:
                    shape = (members, examples, size)
                    bits = torch.randint(2, shape, generator=rng, device=rng.device, dtype=torch.int8)
                    found[key] = (2 * bits - 1).to(like)
        return found

    def average(self, params: Params, noise: Params, signs: Params, xs: Tensor) -> Tensor:
        """Outputs averaged over transformed copies, ``f̄(w + δ_n, x_n)``: xs ``(B, S, …)`` to ``(B, C)``."""
        covered = self.covered
        base = {k: w if k in covered else w + noise[k] for k, w in params.items()}
        modules = dict(self.forward.module.named_modules())
        with ExitStack() as stack:
            for call in self.calls:
                module = modules[call.layer]
                hook = _hook(call, noise, signs, *xs.shape[:2])
                stack.callback(module.register_forward_hook(hook, prepend=True, with_kwargs=True).remove)
            return self.forward.average(base, xs)

    def of_example(self, params: Params, noise: Params, signs: Params, n: int) -> Params:
        """The weights that one example sees."""
        flipped = dict(noise)
        for call in self.calls:
            r, s = signs[f"r:{call.weight}"][n], signs[f"s:{call.weight}"][n]
            weight = noise[call.weight]
            # A grouped convolution's weight sees a part of the input channels, which part depends on the output's.
            groups = len(s) // weight.shape[1]
            columns = s.unflatten(0, (groups, -1)).repeat_interleave(len(r) // groups, 0)
            flipped[call.weight] = weight * (r[:, None] * columns).reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))
            if call.bias is not None:
                flipped[call.bias] = noise[call.bias] * r
        return {k: w + flipped[k] for k, w in params.items()}


def flipout(forward: Forward, params: Params, xs: Tensor) -> Flipout:
    """Find out which layers can take part; xs ``(B, S, …)``."""
    rows = steady(forward, params, xs.detach())
    xs = xs[:3].detach()
    rng = generator(0, "flipout")

    def noise(size: float) -> Params:
        return {
            k: (size * (0.01 + w.detach().square().mean().sqrt())).to(w)
            * torch.randn(w.shape, generator=rng, dtype=torch.float64).to(w)
            for k, w in params.items()
        }

    # Weights that are a little off: the noise of a layer before a zero-initialised one would show nothing.
    point = {k: w.detach() + d for (k, w), d in zip(params.items(), noise(0.1).values(), strict=True)}
    shift = noise(0.3)
    with torch.no_grad():
        try:
            state = {**dict(forward.module.named_parameters()), **dict(forward.module.named_buffers()), **point}
            double = {k: v.double() if v.is_floating_point() else v for k, v in state.items()}
            inputs = xs.double() if xs.is_floating_point() else xs
            forward.average(double, inputs)
            point, xs, shift = double, inputs, {k: v.double() for k, v in shift.items()}
        except _FAILURES:
            pass  # the network insists on a dtype
        # What is no parameter stays as it is.
        shift |= {k: torch.zeros_like(v) for k, v in point.items() if k not in shift}
        groups: dict[str, list[Call]] = {}
        for call in _candidates(forward, params, rows):
            groups.setdefault(call.weight, []).append(call)
        agreeing = [calls for calls in groups.values() if _agrees(forward, tuple(calls), point, shift, xs, rng)]
        kept = tuple(call for calls in agreeing for call in calls)
        whole = len(agreeing) < 2 or _agrees(forward, kept, point, shift, xs, rng)
    return Flipout(forward, kept if whole else ())


def _candidates(forward: Forward, params: Params, rows: Mapping[str, frozenset[int]]) -> list[Call]:
    aliases = first_names(forward.module)
    found: list[Call] = []
    for layer, module in forward.module.named_modules():
        if isinstance(module, Layer):
            prefix = f"{layer}." if layer else ""
            weight, bias = aliases.get(f"{prefix}weight"), aliases.get(f"{prefix}bias")
            if weight in params and layer in rows:
                linear = isinstance(module, nn.Linear)
                inputs, outputs = (
                    (module.in_features, module.out_features) if linear else (module.in_channels, module.out_channels)
                )
                found.append(Call(layer, weight, bias if bias in params else None, inputs, outputs, rows[layer]))
    return found


def _agrees(
    forward: Forward, calls: tuple[Call, ...], point: Params, shift: Params, xs: Tensor, rng: torch.Generator
) -> bool:
    made = Flipout(forward, calls)
    noise = {k: v if k in made.covered else torch.zeros_like(v) for k, v in shift.items()}
    like = next(v for v in noise.values() if v.is_floating_point())
    signs = {k: v[0] for k, v in made.signs(1, len(xs), like, rng).items()}
    try:
        mine = made.average(point, noise, signs, xs)
        alone = [forward.average(made.of_example(point, noise, signs, n), xs[n : n + 1])[0] for n in range(len(xs))]
    except _FAILURES:
        return False
    truth = torch.stack(alone)
    effect = (truth - forward.average(point, xs)).norm()
    # A perturbation without effect shows nothing; the layer then falls back.
    return bool(effect > 0) and bool((mine - truth).norm() <= torch.finfo(truth.dtype).eps ** 0.5 * effect)


def _hook(call: Call, noise: Params, signs: Params, examples: int, copies: int) -> Callable[..., Tensor]:
    r, s = signs[f"r:{call.weight}"], signs[f"s:{call.weight}"]
    weight, bias = noise[call.weight], None if call.bias is None else noise[call.bias]

    def add(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        x = args[0] if args else kwargs["input"]
        check_rows(call.layer, x.shape[0], copies * examples, call.rows)
        each = x.shape[0] // examples
        if isinstance(module, nn.Linear):
            return output + F.linear(x * _rows(s, each, x.ndim, -1), weight, bias) * _rows(r, each, output.ndim, -1)
        assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        change = module._conv_forward(x * _rows(s, each, x.ndim, 1), weight, bias)
        return output + change * _rows(r, each, output.ndim, 1)

    return add


def _rows(signs: Tensor, each: int, ndim: int, axis: int) -> Tensor:
    # (B, D) to (B · each, 1, …, D, …, 1): examples first, features on the given axis.
    rows = signs if each == 1 else signs.repeat_interleave(each, 0)
    ones = [1] * (ndim - 2)
    return rows.reshape(rows.shape[0], *ones, -1) if axis == -1 else rows.reshape(rows.shape[0], -1, *ones)
