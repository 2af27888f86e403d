"""A person's module as the library evaluates it: as it was before it was compiled, and with dense gradients.

What is no function of weights that can be exchanged, or none of real numbers, is refused by the name of the layer, and
so is what writes on its weights or lets no gradient through to them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.params import Params


def admitted(module: nn.Module) -> nn.Module:
    """A person's module as it can be evaluated at any weights.

    Args:
        module: A copy of theirs, which is changed.

    Returns:
        The same function.

    Raises:
        InputError: If a layer was scripted or traced, or a trainable parameter is complex.
    """
    module = _not_compiled(module)
    for name, layer in module.named_modules():
        if isinstance(layer, torch.jit.ScriptModule):
            raise InputError(
                "a network of Python's",
                f"{_said(name, layer)}, which was traced or scripted and keeps its weights to itself",
                "pass the nn.Module that it was made from",
            )
        if getattr(layer, "sparse", None) is True:  # of nn.Embedding and nn.EmbeddingBag: how gradients are laid out
            layer.sparse = False  # type: ignore[assignment]
    for name, w in module.named_parameters():
        if w.requires_grad and w.is_complex():
            raise InputError(
                "real weights, over which a density can stand",
                f"parameter {name!r} of dtype {w.dtype}",
                "keep it as a real tensor with a last axis of two, and take torch.view_as_complex(weight) of it",
            )
    return module


def _not_compiled(module: nn.Module) -> nn.Module:
    # What was compiled answers to the hooks of its first call alone, and vmap does not go through it.
    frames = sys.modules.get("torch._dynamo.eval_frame")  # it has been imported, which takes a second, if it was used

    def original(layer: nn.Module) -> nn.Module:
        while frames is not None and isinstance(layer, frames.OptimizedModule):
            layer = layer.get_submodule("_orig_mod")
        return layer

    module = original(module)
    for layer in list(module.modules()):
        layer._compiled_call_impl = None
        for name, child in layer.named_children():
            setattr(layer, name, original(child))
    return module


@contextmanager
def weights_kept(module: nn.Module, params: Params) -> Iterator[None]:
    """Watch weights while a network is evaluated.

    Raises:
        InputError: If the network has written on them.
    """
    before = {name: w._version for name, w in params.items()}
    yield
    changed = [name for name, w in params.items() if w._version != before[name]]
    if changed:
        name = changed[0]
        path = name.rpartition(".")[0]
        layer = module.get_submodule(path)
        limited = getattr(layer, "max_norm", None) is not None
        raise InputError(
            "a network that leaves its weights as they are",
            f"{_said(path, layer)}, which writes on {name!r} while it is evaluated",
            "leave max_norm out: a prior keeps weights small" if limited else "compute with a copy of the weight",
        )


def check_gradient(f: Tensor, leaves: Params) -> None:
    """See that a gradient reaches a network's weights.

    Args:
        f: Outputs, with their graph.
        leaves: The weights that it starts from.

    Raises:
        InputError: If autograd fails, or no weight has a part in the outputs.
    """
    grads: tuple[Tensor | None, ...] = ()
    try:
        if f.requires_grad:
            grads = torch.autograd.grad(f.sum(), list(leaves.values()), allow_unused=True)
    except (RuntimeError, NotImplementedError) as error:
        hint = "use operations that autograd can differentiate"
        if "use_reentrant" in str(error):
            hint = "checkpoint(…, use_reentrant=False)"
        first = str(error).strip().splitlines()[0]
        raise InputError("a network that autograd can differentiate", first, hint) from error
    if all(g is None for g in grads):
        raise InputError(
            "outputs that depend on the weights",
            "outputs without a graph to any of them",
            "let forward run without torch.no_grad, detach or numpy",
        )


def _said(name: str, layer: nn.Module) -> str:
    kind = getattr(layer, "original_name", type(layer).__name__)
    return f"layer {name!r} ({kind})" if name else kind
