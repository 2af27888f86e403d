"""A person's module as the library evaluates it: as it was before it was compiled, and with dense gradients.

What is no function of weights that can be exchanged, or none of real numbers, is refused by the name of the layer, and
so is what writes on its weights or lets no gradient through to them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.core.rng import generator

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def admitted(module: nn.Module) -> nn.Module:
    """A copy of a person's module, for any weights; scripted layers, complex and mixed weights are refused."""
    module = _unwrapped(module)
    check_python(module)
    for layer in module.modules():
        if getattr(layer, "sparse", None) is True:  # of nn.Embedding and nn.EmbeddingBag: how gradients are laid out
            layer.sparse = False  # type: ignore[assignment]
    trained = {name: w for name, w in module.named_parameters() if w.requires_grad}
    for name, w in trained.items():
        if w.is_complex():
            raise InputError(
                "real weights, over which a density can stand",
                f"parameter {name!r} of dtype {w.dtype}",
                "keep it as a real tensor with a last axis of two, and take torch.view_as_complex(weight) of it",
            )
    kinds = {w.dtype: name for name, w in trained.items()}
    if len(kinds) > 1:
        got = ", ".join(f"{name!r} of {kind}" for kind, name in kinds.items())
        raise InputError("trainable weights of one dtype", got, "network.float(), or freeze the others")
    return module


def check_python(module: nn.Module) -> None:
    """Refuse a network with a layer that was traced or scripted, by the layer's name."""
    for name, layer in module.named_modules():
        if isinstance(layer, torch.jit.ScriptModule):
            raise InputError(
                "a network of Python's",
                f"{_said(name, layer)}, which was traced or scripted and keeps its weights to itself",
                "pass the nn.Module that it was made from",
            )


def _unwrapped(module: nn.Module) -> nn.Module:
    # What was compiled answers to the hooks of its first call alone, and vmap does not go through it; what spreads a
    # batch over devices has no stateless call.
    frames = sys.modules.get("torch._dynamo.eval_frame")  # it has been imported, which takes a second, if it was used

    def original(layer: nn.Module) -> nn.Module:
        while frames is not None and isinstance(layer, frames.OptimizedModule):
            layer = layer.get_submodule("_orig_mod")
        return original(layer.module) if isinstance(layer, _PARALLEL) else layer

    module = original(module)
    for layer in list(module.modules()):
        layer._compiled_call_impl = None
        for name, child in layer.named_children():
            setattr(layer, name, original(child))
    return module


@contextmanager
def weights_kept(module: nn.Module, params: Params) -> Iterator[None]:
    """Watch weights while a network is evaluated; refuse one that writes on them."""
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


def check_gradient(run: Callable[[nn.Module, Params], Tensor], module: nn.Module, params: Params) -> None:
    """See that a gradient reaches a network's weights, and that it is the one at the weights that are passed in.

    A backward pass that computes something again, with the weights that the module holds by then, would give another.
    Both are compared at weights near ``params``.

    Args:
        run: Evaluates a module at some weights.
        module: A copy of the network, to be changed.
        params: The weights.

    Raises:
        InputError: If autograd fails, no weight has a part in the outputs, or the gradients differ.
    """
    rng = generator(0, "gradient")
    moved = {
        name: w + (0.1 * w.square().mean().sqrt() + 0.01) * torch.randn(w.shape, generator=rng).to(w)
        for name, w in params.items()
    }
    passed = {name: w.detach().clone().requires_grad_() for name, w in moved.items()}
    mine = _gradient(run(module, passed), list(passed.values()))
    held = dict(module.named_parameters())
    with torch.no_grad():
        for name, w in moved.items():
            held[name].copy_(w)
    true = _gradient(run(module, {}), [held[name] for name in moved])
    size, error = float(true.norm()), float((mine - true).norm())
    if error > torch.finfo(true.dtype).eps ** 0.25 * size:  # not where they are no numbers
        raise InputError(
            "a gradient at the weights that the network is given",
            f"{type(module).__name__}, which computes something again with the weights that it holds then",
            "leave torch.utils.checkpoint out: model.gradient_checkpointing_disable(), memory_efficient=False",
        )


def _gradient(f: Tensor, leaves: list[Tensor]) -> Tensor:
    grads: tuple[Tensor | None, ...] = ()
    try:
        if f.requires_grad:
            grads = torch.autograd.grad(f.sum(), leaves, allow_unused=True)
    except (RuntimeError, NotImplementedError) as error:
        first = str(error).strip().splitlines()[0]
        reentrant = "use_reentrant" in first
        hint = "leave torch.utils.checkpoint out" if reentrant else "use operations that autograd can differentiate"
        raise InputError("a network that autograd can differentiate", first, hint) from error
    found = [g.flatten() for g in grads if g is not None]
    if not found:
        raise InputError(
            "outputs that depend on the weights",
            "outputs without a graph to any of them",
            "let forward run without torch.no_grad, detach or numpy",
        )
    return torch.cat(found)


def _said(name: str, layer: nn.Module) -> str:
    kind = getattr(layer, "original_name", type(layer).__name__)
    return f"layer {name!r} ({kind})" if name else kind
