"""Whether a network's output for an example depends on the other examples of its batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from novacula.core.errors import InputError

_TOLERANCE = 1e-3  # relative: kernels for other batch sizes differ by rounding alone


def check_alone(module: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor, together: Tensor) -> None:
    """Refuse a network whose examples influence each other.

    The likelihood of an example is then undefined: normalisation by the statistics of the batch, recurrent layers that
    take the examples for time steps (``batch_first`` forgotten), centring over the batch.

    Args:
        module: The network.
        forward: What evaluates it, inputs ``(N, …)`` to outputs ``(N, C)``.
        x: Inputs of a few examples; of one alone nothing can be told.
        together: Their outputs.

    Raises:
        InputError: If the first or the last example alone has another output; it names the first layer that mixes them.
    """
    if len(x) < 2:
        return
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
            alone = torch.cat([forward(x[:1]), forward(x[-1:])])
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        _refuse(module, forward, x, f"it fails on one example alone: {error}")
    if alone.shape != (2, together.shape[1]) or not _close(alone, together[[0, -1]]):
        _refuse(module, forward, x, "the output for an example is another one without the others")


def _close(one: Tensor, other: Tensor) -> bool:
    scale = float(other.detach().abs().max().clamp(min=1e-6))
    return bool(((one - other).abs() <= _TOLERANCE * scale).all())


def _refuse(module: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor, what: str) -> NoReturn:
    name = _culprit(module, forward, x)
    raise InputError(
        "a network that treats every example by itself",
        f"{name}, which mixes the examples of a batch: {what}",
        "use GroupNorm or LayerNorm, BatchNorm with running statistics in eval mode, or batch_first=True",
    )


def _culprit(module: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> str:
    # The first layer with parameters or nothing inside, in the order of their calls, whose output for the last example
    # (recurrent layers that take examples for times show nothing in the first) depends on the others.
    def outputs(inputs: Tensor) -> tuple[dict[str, Tensor], str]:
        found, entered = dict[str, Tensor](), list[str]()

        def enter(name: str) -> Callable[..., None]:
            return lambda *_: entered.append(name)

        def leave(name: str) -> Callable[..., None]:
            def hook(_: nn.Module, __: Any, value: Any) -> None:
                first = value[0] if isinstance(value, (tuple, list)) and value else value
                entered.remove(name)
                if isinstance(first, Tensor) and first.ndim:
                    found.setdefault(name, first.detach().clone())

            return hook

        leaves = [
            (name, layer)
            for name, layer in module.named_modules()
            if not any(True for _ in layer.children()) or any(True for _ in layer.parameters(recurse=False))
        ]
        handles = [layer.register_forward_pre_hook(enter(name)) for name, layer in leaves]
        handles += [layer.register_forward_hook(leave(name)) for name, layer in leaves]
        try:
            with torch.no_grad():
                forward(inputs)
        except (RuntimeError, ValueError, TypeError, IndexError):
            return found, entered[-1] if entered else ""
        finally:
            for handle in handles:
                handle.remove()
        return found, ""

    layers = dict(module.named_modules())
    together, _ = outputs(x)
    alone, failed = outputs(x[-1:])
    for name, value in together.items():
        if name == failed or name not in alone:
            continue
        one = alone[name]
        same = one.shape[1:] == value.shape[1:] and len(one) == 1 and _close(one, value[-1:])
        if not same:
            return f"layer {name!r} ({type(layers[name]).__name__})"
    if failed:
        return f"layer {failed!r} ({type(layers[failed]).__name__})"
    return type(module).__name__
