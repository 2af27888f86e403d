"""Networks of unequal widths: the narrower one's weights in the shapes of the wider.

Units that a network does not have are dead ones, which hold zeros: they compute a constant that nothing reads. Norms
over units, and heads of another size, see how many there are: there the function would change, and is refused.

References:
    Geometry of the loss landscape in overparameterized neural networks. B. Şimşek and others, 2021.
    arXiv:2105.12221.
"""

from __future__ import annotations

import copy
from itertools import accumulate

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
        weights: Its weights.
        symmetries: What `symmetries` has found for the wider network. On their inputs functions are compared.

    Returns:
        A state dictionary of the wider network. Units of the narrower one come first; all others hold zeros.

    Raises:
        InputError: If the networks differ in more than widths, or the function would change.
    """
    with ShareHyperparameters():
        narrow = copy.deepcopy(module).double().eval()
    given, own = {**narrow.state_dict(), **weights_of(weights)}, symmetries.module.state_dict()
    if given.keys() != own.keys():
        names = str(sorted(given.keys() ^ own.keys())[:4])
        raise InputError("weights of the same names in both networks", names, "build both by one class")
    known, found = traced(narrow, symmetries.inputs), {**given}
    for name, value in given.items():
        first = symmetries.aliases.get(name, name)
        if first in symmetries.axes:
            pairs = zip(known.axes[first], symmetries.axes[first], strict=True)
            found[name] = torch.zeros(own[name].shape, dtype=value.dtype)
            found[name][torch.meshgrid(*(_places(name, *pair) for pair in pairs), indexing="ij")] = value.detach()
    wide = [{k: v.double() if v.is_floating_point() else v for k, v in w.items()} for w in (given, found)]
    gap = apart((known.double or narrow, wide[0]), (symmetries.module, wide[1]), symmetries.inputs)
    if not gap <= _EQUAL:
        hint = (
            "norms over units and heads of another size count them: compare what networks compute (similarity, churn)"
        )
        raise InputError("a function that stays when dead units are added", f"outputs that change by {gap:.1g}", hint)
    return found


def _places(name: str, narrow: Axis, wide: Axis) -> Tensor:
    # Of each index of the narrower axis, the index in the wider one, whose atoms are larger.
    found, one, other = torch.zeros(1, dtype=torch.long), expanded(narrow), expanded(wide)
    same = len(one) == len(other) or not one
    for x, y in zip(one, other, strict=False):
        parts, starts = [*zip(x.parts or (), y.parts or (), strict=False)], accumulate(map(length, y.parts or ()))
        same &= x.size <= y.size and len(parts) == len(x.parts or ()) == len(y.parts or ())
        inner = [start - length(q) + _places(name, p, q) for (p, q), start in zip(parts, starts, strict=False)]
        found = (found[:, None] * y.size + (torch.cat(inner) if inner else torch.arange(x.size))).flatten()
    if not same:
        sizes = f"{length(narrow)} in {length(wide)}"
        raise InputError(f"a weight {name!r} that is nowhere wider, and of the same layout", sizes, "exchange networks")
    return found
