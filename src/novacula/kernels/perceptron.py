"""The recursion's kernel of a multilayer perceptron that a person brings, where it is one.

Covered are an `nn.Linear`, and an `nn.Sequential` of these, `nn.ReLU` and, at first, `nn.Flatten`, whose weights and
biases have one precision each: a Gaussian prior centred at zero, given by the precision of each tensor.
"""

from __future__ import annotations

from torch import Tensor, nn

from novacula.core.params import Params
from novacula.kernels.recursions import Moment, identity_moment, recursion, relu_moment


def perceptron_kernel(module: nn.Module, precision: Params, x: Tensor) -> Tensor | None:
    """The kernel ``(N, N)`` of each output, or None where the recursion does not cover the network; x ``(N, …)``."""
    layers = list(module.named_children()) if type(module) is nn.Sequential else [("", module)]
    if layers and type(layers[0][1]) is nn.Flatten:
        layers = layers[1:]
    scales: list[tuple[float, float]] = []
    moments: list[Moment] = []
    after_linear = False
    for name, layer in layers:
        prefix = f"{name}." if name else ""
        if type(layer) is nn.Linear:
            weight = precision.get(f"{prefix}weight")
            bias = precision.get(f"{prefix}bias")
            if (
                weight is None
                or weight.numel() != 1
                or (layer.bias is not None and (bias is None or bias.numel() != 1))
            ):
                return None  # held constant, tied, or not of one scale
            if after_linear:
                moments.append(identity_moment)
            scales.append((layer.in_features / float(weight), 0.0 if bias is None else 1 / float(bias)))
            after_linear = True
        elif type(layer) is nn.ReLU and after_linear:
            moments.append(relu_moment)
            after_linear = False
        else:
            return None
    if len(scales) != len(moments) + 1:
        return None
    return recursion(x, scales, moments)
