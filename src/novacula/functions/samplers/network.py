"""A network with random weights as a sampler of functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from novacula.core.brief import brief
from novacula.core.errors import InputError, NonFiniteError
from novacula.core.forward import Forward
from novacula.core.many import chunk_of, in_chunks, over_members
from novacula.core.params import Params, count
from novacula.functions.samplers.layers import Chain, chain_of
from novacula.functions.samplers.weights import Drawn, Format, Normals, check_format, drawing, rounded

_FLOATS = 2**20
"""Numbers that a chunk of networks may have in weights and one layer, about, to stay near the processor."""


class Sampler(Protocol):
    """Whatever gives random functions on inputs: labels ``(n, N)``, booleans or whole numbers from 0 on."""

    def __call__(self, inputs: Tensor, n: int, rng: torch.Generator) -> Tensor:
        """Draw n functions."""
        ...


@dataclass(frozen=True, eq=False)
class Networks:
    """Functions of a network at weights that are drawn anew for each.

    A network with one output says class 1 where it is above zero; one with C outputs, the class of the largest.

    Args:
        network: Any `nn.Module`.
        prior: A prior over weights, or anything with its ``sample``; None for the network's own initialisation.
        format: In which number format weights are held; outputs are computed in float32.

    Raises:
        InputError: If the format is unknown, or ``network`` is no module.
    """

    network: nn.Module
    prior: Drawn | None = None
    format: Format = "float32"
    forward: Forward = field(init=False, repr=False)
    tied: list[int] = field(init=False, repr=False, default_factory=lambda: [0])  # functions with a tie, so far

    __repr__ = brief

    def __post_init__(self) -> None:
        check_format(self.format)
        object.__setattr__(self, "forward", Forward(self.network))

    def __call__(self, inputs: Tensor, n: int, rng: torch.Generator) -> Tensor:
        """Labels ``(n, N)``."""
        outputs, source, size = self.on(inputs), Normals(rng), self.at_once(inputs)
        return torch.cat([self.labels(outputs(min(size, n - i), source)) for i in range(0, n, size)])

    def classes(self, inputs: Tensor) -> int:
        """How many classes it tells apart."""
        with torch.no_grad():
            return max(2, self.forward(self.forward.params(), inputs[:1]).shape[1])

    def at_once(self, inputs: Tensor) -> int:
        """How many networks to take at once."""
        own = self.forward.params()
        return max(8, int(_FLOATS / (count(own) + 2 * len(inputs) * max(w.shape[0] for w in own.values() if w.ndim))))

    def on(self, inputs: Tensor) -> Callable[[int, Normals], Tensor]:
        """A function from a number of networks and a source to their outputs ``(n, C, N)`` at these inputs."""
        own = self.forward.params()
        draw, evaluate = drawing(self.prior, self.network, own), self.evaluation(inputs)

        @torch.no_grad()
        def outputs(n: int, source: Normals) -> Tensor:
            return evaluate(rounded(draw(n, source), self.format))

        return outputs

    def evaluation(self, inputs: Tensor) -> Callable[[Params], Tensor]:
        """A function from weights ``(n, *shape)`` to outputs ``(n, C, N)``: a chain where that is the same."""
        own = self.forward.params()

        def anyhow(params: Params) -> Tensor:
            def of_chunk(start: int, stop: int) -> Tensor:
                part = {k: w[start:stop] for k, w in params.items()}
                return over_members(lambda p: self.forward(p, inputs), part, self.forward.notes)

            members = len(next(iter(params.values())))
            size = chunk_of(params, len(inputs))
            return torch.cat(in_chunks(of_chunk, members, size, self.forward.notes, len(inputs))).transpose(1, 2)

        chain = chain_of(self.forward.module, own)
        if chain is None:
            return anyhow
        columns = inputs.flatten(1).T.contiguous()
        return (lambda params: chain(params, columns)) if self._is(chain, columns, anyhow, own) else anyhow

    def _is(self, chain: Chain, columns: Tensor, anyhow: Callable[[Params], Tensor], own: Params) -> bool:
        rng = torch.Generator().manual_seed(0)
        few = {k: torch.randn(3, *w.shape, generator=rng, dtype=w.dtype).to(w.device) for k, w in own.items()}
        with torch.no_grad():
            found, expected = chain(few, columns), anyhow(few)
        scale = expected.abs().amax()
        return found.shape == expected.shape and bool((found - expected).abs().amax() <= 1e-4 * scale)

    def labels(self, f: Tensor) -> Tensor:
        """Labels ``(n, N)`` of outputs ``(n, C, N)``; ties are counted."""
        if not bool(torch.isfinite(f.sum())) and not bool(torch.isfinite(f).all()):
            raise NonFiniteError("finite outputs", "NaN or infinity", "use a prior with smaller weights")
        if f.shape[1] == 1:
            f = f[:, 0]
            self.tied[0] += int((f == 0).any(1).sum())
            return f > 0
        two = f.topk(2, 1).values
        self.tied[0] += int((two[:, 0] == two[:, 1]).any(1).sum())
        return f.argmax(1).to(torch.uint8)


def check_inputs(inputs: object) -> Tensor:
    """Refuse inputs that are no tensor ``(N, …)`` of floats with N ≥ 1, and rows that repeat."""
    if not isinstance(inputs, Tensor) or inputs.ndim < 1 or not len(inputs) or not inputs.is_floating_point():
        got = f"shape {tuple(inputs.shape)}, {inputs.dtype}" if isinstance(inputs, Tensor) else type(inputs).__name__
        raise InputError("inputs as a tensor (N, …) of floats", got, "nv.functions.cube(7), or data.x[:20]")
    rows = inputs.reshape(len(inputs), -1)
    if not bool(torch.isfinite(rows).all()):
        raise InputError("finite inputs", "NaN or infinity among them", "leave those rows out")
    _, where, counts = torch.unique(rows, dim=0, return_inverse=True, return_counts=True)
    if bool((counts > 1).any()):
        twice = torch.nonzero(where == int(counts.argmax()))[:2, 0].tolist()
        raise InputError("inputs that differ", f"row {twice[1]} repeats row {twice[0]}", "leave repeated rows out")
    return inputs


def as_sampler(found: object, prior: object, form: Format) -> Sampler:
    """A sampler from a network or from one."""
    if isinstance(found, nn.Module):
        if prior is not None and not callable(getattr(prior, "sample", None)):
            raise InputError("a prior, or None", repr(prior), "prior=nv.FanIn()")
        return Networks(found, prior, form)  # type: ignore[arg-type]  # it can sample
    if prior is not None:
        raise InputError("a network with a prior", f"a prior for a {type(found).__name__}", "leave prior out")
    if not callable(found) or isinstance(found, type):
        raise InputError("a network, or a function of (inputs, n, rng)", f"a {type(found).__name__}", "see controls")
    return found  # type: ignore[return-value]
