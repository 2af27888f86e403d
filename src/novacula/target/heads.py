"""Many last layers for one network beneath: the share of them that fit, which is as good as their count and cheaper.

With features φ of all layers but the last, ``f = W φ + b``, a network beneath is evaluated once and K last layers are
drawn on top. Where the prior is symmetric about zero, ``(W, b)`` and ``(−W, −b)`` are equally likely, and both are
looked at. Of 0-1 labels in several columns each column has weights of its own, independent of the others', so that the
share that fits all columns is the product of the shares that fit one. All of this is unbiased given φ:

    P(fit) = E_φ Π_c P(column c fits | φ).

Networks on the same features fit or fail together, so that the features, and not the networks, are what was drawn
independently: the error is that of a mean over features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.layers import calls, first_names, last_linear
from novacula.core.many import chunk_of, in_chunks, over_members, part_of
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.priors.base import Prior
from novacula.priors.restrict import restricted
from novacula.target import Target
from novacula.target.copies import fixed_copies, member_outputs
from novacula.target.margins import margins

_FLOATS = 2**21
"""Outputs that a chunk of networks may have, about."""
_TRIED = 16
_MOST = 2**28  # outputs of one network's last layers, which are made at once


@dataclass(frozen=True, eq=False)
class Heads:
    """The last layer of a target's network, to be drawn many times."""

    target: Target
    data: Data
    layer: str
    names: dict[str, str]  # of its weights: the network's to "weight" and "bias"
    prior: Prior  # of these alone
    like: Params  # one of it, under the names "weight" and "bias"
    copies: Tensor  # inputs ``(N, S, …)``

    @property
    def mirrored(self) -> bool:
        """Whether a last layer and its negative are known to be equally likely."""
        return self.prior.gaussian and self.prior.centre(self.like) is None

    def at_once(self, heads: int) -> int:
        """How many networks beneath to take at once."""
        if (each := heads * self.data.n * len(self.like["weight"])) > _MOST:
            raise InputError(f"heads with at most {_MOST:,} outputs", f"{heads:,}, with {each:,}", "fewer heads")
        return max(1, _FLOATS // each)

    def shares(self, weights: Params, heads: int, rng: torch.Generator) -> Tensor:
        """The share of so many last layers that fit on each of M networks beneath, ``(M,)`` in float64."""
        phi = self.features(weights)
        m, k = len(phi), heads // 2 if self.mirrored else heads
        drawn = self.prior.sample(self.like, m * k, rng)
        f = drawn["weight"].flatten(0, 1).unflatten(0, (m, -1)) @ phi.transpose(1, 2)
        f = f.unflatten(1, (k, -1))  # (M, K, C, N)
        if "bias" in drawn:
            f = f + drawn["bias"].unflatten(0, (m, k)).unsqueeze(-1)
        f = f.transpose(2, 3).flatten(0, 1)
        right = [_right(side, self.data.y).unflatten(0, (m, k)) for side in ((f, -f) if self.mirrored else (f,))]
        return torch.cat(right, 1).double().mean(1).prod(1)

    def outputs(self, weights: Params) -> Tensor:
        """What the last layers make of these, ``(M, N, C)``."""
        own = {a: weights[k] for k, a in self.names.items()}
        f = self.features(weights) @ own["weight"].mT
        return f + own["bias"].unsqueeze(1) if "bias" in own else f

    def features(self, weights: Params) -> Tensor:
        """What M networks give to their last layers, ``(M, N, D)``."""
        forward, xs = self.target.forward, self.copies

        def of_one(w: Params) -> Tensor:
            found, _ = calls(forward, w, xs, self.layer)
            return found[-1].input.unflatten(0, xs.shape[:2]).mean(1)

        def of_chunk(start: int, stop: int) -> Tensor:
            return over_members(of_one, part_of(weights, start, stop), forward.notes)

        members, rows = len(next(iter(weights.values()))), xs.shape[0] * xs.shape[1]
        with torch.no_grad():
            return torch.cat(in_chunks(of_chunk, members, chunk_of(weights, rows), forward.notes, rows))


def heads_of(target: Target, data: Data, *, seed: int) -> Heads:
    """The last layer of a target's network; refused where that is no linear layer, called once, of its own weights."""
    like = target.params()
    xs = fixed_copies(target, data.x, target.copies.evidence, seed)
    with torch.no_grad():
        layer, _ = last_linear(target.forward, like, xs[:2])
        often = 0 if layer is None else len(calls(target.forward, like, xs[:2], layer)[0])
    first = first_names(target.forward.module)
    own = {f"{layer}.{k}" if layer else k: k for k in ("weight", "bias")}
    names = {first[name]: k for name, k in own.items() if name in first}
    tied = any(list(first.values()).count(name) > 1 for name in names)
    if layer is None or often != 1 or tied or any(name not in like for name in names):
        got = f"{type(target.forward.module).__name__}, which does not end in one"
        raise InputError("a network that ends in a linear layer of its own weights", got, "leave heads at 1")
    own_like = {k: like[name] for name, k in names.items()}
    found = Heads(target, data, layer, names, restricted(target.prior, like, names), own_like, xs)
    # Where it stands a network may end in the layer and elsewhere not.
    weights = target.prior.sample(like, _TRIED, generator(seed, "heads"))
    f, expected = found.outputs(weights), member_outputs(target, weights, data.x, copies=xs.shape[1], seed=seed)
    if not torch.allclose(f, expected, 1e-3, 1e-4 * float(expected.nan_to_num().abs().max()), equal_nan=True):
        got = f"{type(target.forward.module).__name__}, whose outputs are others than those of {layer!r}"
        raise InputError("a network that ends in a linear layer whatever its weights", got, "leave heads at 1")
    return found


def _right(f: Tensor, y: Tensor) -> Tensor:
    # Outputs (M, N, C) to whether all examples are right, by column of 0-1 labels, else as one: (M, C) or (M, 1).
    each = margins(f, y) if y.ndim == 1 else torch.where(y > 0, f, -f)
    # Of outputs that are no numbers nothing is said.
    return ((each > 0) & (each < torch.inf)).all(1).view(len(f), -1)
