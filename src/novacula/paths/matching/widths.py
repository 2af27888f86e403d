"""Networks of unequal widths: the narrower one's weights in the shapes of the wider.

Units that a network does not have are put beside its own as dead ones, which hold zeros: they compute a constant, and
nothing reads it. So a perceptron, a convolution behind a norm of each channel by itself, or an attention of fewer heads
of the same size stays the function that it is. Norms over units, and heads of another size, see how many units there
are: there the function changes, and is refused. On the other side, `Symmetries.merged` takes out of the wider network
what it would not miss.

References:
    Functionally equivalent feedforward neural networks. V. Kůrková, P. C. Kainen, 1994.
    Geometry of the loss landscape in overparameterized neural networks. B. Şimşek and others, 2021.
    arXiv:2105.12221.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.modules.copying import ShareHyperparameters
from novacula.core.params import Params
from novacula.paths.symmetries.axes import Axis, expanded, length
from novacula.paths.symmetries.result import Symmetries, apart
from novacula.paths.symmetries.trace import traced
from novacula.posteriors.base import Learned, Posterior, weights_of

_EQUAL = 1e-9


def widen(module: nn.Module, weights: Params | Posterior | Learned, symmetries: Symmetries) -> dict[str, Tensor]:
    """A narrower network's weights in the shapes of a wider one, which then computes the same.

    Args:
        module: The narrower network: the same layers under the same names, with fewer units, channels or heads.
        weights: Its weights: a state dictionary, a posterior (its mode) or a result of `novacula.learn`.
        symmetries: What `symmetries` has found for the wider network. On their inputs functions are compared.

    Returns:
        A state dictionary of the wider network. Units of the narrower one come first, and all others hold zeros.

    Raises:
        InputError: If the networks differ in more than widths, or the function would change: where a norm is taken
            over units, or what is computed is divided by their number.

    Example:
        >>> from novacula.paths import match, symmetries
        >>> wide, narrow = (nn.Sequential(nn.Linear(3, n), nn.ReLU(), nn.Linear(n, 2)) for n in (8, 5))
        >>> found = symmetries(wide, torch.randn(4, 3))
        >>> inside = widen(narrow, narrow.state_dict(), found)
        >>> [tuple(v.shape) for v in inside.values()]
        [(8, 3), (8,), (2, 8), (2,)]
        >>> moved = match(wide, inside, wide.state_dict(), found).apply(wide.state_dict())
    """
    with ShareHyperparameters():
        narrow = copy.deepcopy(module).double().eval()
    given, own = {**narrow.state_dict(), **weights_of(weights)}, symmetries.module.state_dict()
    if given.keys() != own.keys():
        names = str(sorted(given.keys() ^ own.keys())[:4])
        raise InputError("weights of the same names in both networks", names, "build both by one class")
    known, found = traced(narrow, symmetries.inputs), dict[str, Tensor]()
    for name, value in given.items():
        first = symmetries.aliases.get(name, name)
        places = [
            _places(*pair) for pair in zip(known.axes.get(first, ()), symmetries.axes.get(first, ()), strict=True)
        ]
        where = [p for p in places if p is not None]
        if len(where) < len(places):
            what = f"{name!r} of shape {tuple(value.shape)}, in {tuple(own[name].shape)}"
            raise InputError("weights that are nowhere wider than the other network's", what, "exchange the networks")
        found[name] = torch.zeros(own[name].shape, dtype=value.dtype) if places else value
        if places:
            found[name][torch.meshgrid(*where, indexing="ij")] = value.detach()
    wide = [{k: v.double() if v.is_floating_point() else v for k, v in w.items()} for w in (given, found)]
    gap = apart((known.double or narrow, wide[0]), (symmetries.module, wide[1]), symmetries.inputs)
    if not gap <= _EQUAL:
        raise InputError(
            "a network whose function stays when dead units are added",
            f"outputs that change by {gap:.1g} of their size",
            "norms over units and heads of another size count them: compare what networks compute (similarity, churn)",
        )
    return found


def _places(narrow: Axis, wide: Axis) -> Tensor | None:
    # Of each index of the narrower axis, the index in the wider one, whose atoms are larger; None if they are not.
    found, one, other = torch.zeros(1, dtype=torch.long), expanded(narrow), expanded(wide)
    if one and len(one) != len(other):
        return None
    for x, y in zip(one, other, strict=False):
        own = _of_sum(x.parts, y.parts) if x.parts and y.parts else torch.arange(x.size)
        if own is None or x.size > y.size or (x.parts is None) != (y.parts is None):
            return None
        found = (found[:, None] * y.size + own).flatten()
    return found


def _of_sum(narrow: list[Axis], wide: list[Axis]) -> Tensor | None:
    starts = [sum(map(length, wide[:i])) for i in range(len(wide))]
    found = [_places(*pair) for pair in zip(narrow, wide, strict=False)]
    known = [start + own for start, own in zip(starts, found, strict=False) if own is not None]
    return torch.cat(known) if len(narrow) == len(wide) == len(known) else None
