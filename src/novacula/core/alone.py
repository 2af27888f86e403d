"""Whether a network gives an example alone what it gives it in a batch, and the layer by which it does not.

A likelihood is a product over examples, and so are curvature, leave-one-out and every prediction of one new example. A
network that mixes the examples of a batch (normalisation by the batch's own statistics, a recurrent layer that takes
the batch for time, centring over the batch) has no such likelihood. No list of layers would find them all: the
comparison does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from novacula.core.errors import InputError


@dataclass(eq=False)
class _Calls:
    """What the modules of a network gave in one pass, in the order in which they finished."""

    outputs: list[tuple[str, Any]] = field(default_factory=list)
    running: list[str] = field(default_factory=list)  # what is not finished; the innermost last


def check_alone(module: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor, f: Tensor) -> None:
    """Refuse a network (``run``) whose outputs ``f`` of inputs ``x`` are others for one alone; the layer is named."""
    if len(x) < 2:
        return
    # Kernels differ between sizes of a batch: by rounding, and on a GPU by its shortened products.
    kinds = [t.dtype for t in (f, *module.parameters()) if t.is_floating_point()]
    tolerance = 1e-2 if f.device.type == "cuda" else max(torch.finfo(kind).eps for kind in kinds) ** 0.5
    for i in (0, len(x) - 1):
        try:
            with torch.no_grad():
                alike = _agree(f, run(x[i : i + 1]), i, tolerance)
        except Exception:
            alike = False
        if not alike:
            _blame(module, run, x, i, tolerance)


def _blame(module: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor, i: int, tolerance: float) -> NoReturn:
    with torch.no_grad(), _watched(module) as together:
        run(x)
    with torch.no_grad(), _watched(module) as single:
        try:
            run(x[i : i + 1])
        except Exception as error:
            said = f"fails on one example alone ({type(error).__name__}: {error})"
            _refuse(module, single.running[-1] if single.running else "", said, error)
    pairs = zip(together.outputs, single.outputs, strict=False)
    name = next((n for (n, a), (_, b) in pairs if _differ(a, b, i, tolerance)), "")
    _refuse(module, name, "gives an example another output alone than in a batch")


def _refuse(module: nn.Module, name: str, said: str, cause: Exception | None = None) -> NoReturn:
    layer = dict(module.named_modules())[name]
    what = f"layer {name!r} ({type(layer).__name__})" if name else type(layer).__name__
    hint = "let the output of an example depend on that example alone"
    if isinstance(layer, nn.modules.batchnorm._NormBase):
        hint = "use track_running_stats=True, or GroupNorm or LayerNorm"
    elif getattr(layer, "batch_first", True) is False:
        hint = "pass batch_first=True to the layer: inputs are (N, time, features)"
    raise InputError("a network that takes each example for itself", f"{what}, which {said}", hint) from cause


def _agree(f: Tensor, mine: Tensor, i: int, tolerance: float) -> bool:
    if mine.shape != f[i : i + 1].shape:
        return False
    return bool((f[i] - mine[0]).abs().max() <= tolerance * f.abs().max())


def _differ(together: Any, single: Any, i: int, tolerance: float) -> bool:
    # Whether a layer's outputs differ where the axis of the batch is plain: the one of another length.
    a, b = (v[0] if isinstance(v, tuple) and v else v for v in (together, single))
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or a.ndim != b.ndim or not a.is_floating_point():
        return False
    axes = [k for k in range(a.ndim) if a.shape[k] != b.shape[k]]
    if len(axes) != 1 or b.shape[axes[0]] != 1:
        return False
    return not _agree(a.movedim(axes[0], 0), b.movedim(axes[0], 0), i, tolerance)


@contextmanager
def _watched(module: nn.Module) -> Iterator[_Calls]:
    calls = _Calls()

    def before(name: str) -> Callable[..., None]:
        return lambda layer, args: calls.running.append(name)

    def after(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: Any, output: Any) -> None:
            calls.running.pop()
            # A copy: a later layer may write on it.
            kept = output[0] if isinstance(output, tuple) and output else output
            calls.outputs.append((name, kept.clone() if isinstance(kept, Tensor) else None))

        return hook

    with ExitStack() as stack:
        for name, layer in module.named_modules():
            stack.callback(layer.register_forward_pre_hook(before(name)).remove)
            stack.callback(layer.register_forward_hook(after(name)).remove)
        yield calls
