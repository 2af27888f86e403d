"""`symmetries`: what may be done to a network's weights that leaves its function as it is."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from novacula.core.brief import brief
from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.core.modules.copying import ShareHyperparameters
from novacula.core.rng import generator
from novacula.paths.symmetries.activations import Graph
from novacula.paths.symmetries.axes import Axis, find, length, nodes_in, whole
from novacula.paths.symmetries.collapse import Collapse, collapsed
from novacula.paths.symmetries.equations import Equations
from novacula.paths.symmetries.groups import LINEAR, Element, Group, Kind, NotThereError
from novacula.paths.symmetries.solve import groups_of
from novacula.paths.symmetries.trace import Traced, traced

_TOLERANCE, _DRAWS = 1e-9, 2
_TIED = ("an output", "a constant", "rows of a table", "positions of", "chosen by", "not used", "an input")


@dataclass(frozen=True, eq=False)
class Transformation:
    """A transformation of weights: elements of groups, one after another.

    Attributes:
        elements: The elements, the first acting first.
        axes: The axes of the weights.
        aliases: Other names of tied weights.
    """

    elements: tuple[Element, ...]
    axes: Mapping[str, list[Axis]] = field(repr=False)
    aliases: Mapping[str, str] = field(repr=False)

    __repr__ = brief

    def apply(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The transformed weights and statistics.

        Args:
            state_dict: What the module's ``state_dict`` gives, or a checkpoint of it.

        Returns:
            New tensors of the same shapes and types under the same names; tied ones stay tied.

        Raises:
            InputError: If a weight that is moved is missing or has another shape.
        """
        first = {name: state_dict[name] for name in self.axes if name in state_dict}
        check_state(first, self.axes, self.elements)
        # Precision of the arithmetic, not of the weights: maps are applied in double.
        wide = {k: v.detach().double() if v.is_floating_point() else v for k, v in first.items()}
        for element in self.elements:
            wide = element.act(wide, self.axes)
        moved = {k: v.to(first[k].dtype) for k, v in wide.items()}
        return {k: moved.get(self.aliases.get(k, k), v) for k, v in state_dict.items()}


@dataclass(frozen=True, eq=False)
class Symmetries:
    """What may be done to a network's weights.

    Attributes:
        groups: The groups, each verified.
        coverage: The share of weights, among those that have an axis inside the network, that some group moves.
        frozen: By weight and dimension, as ``"name[dim]"``, why indices inside the network may not be permuted.
        module: The network, in double precision.
        inputs: The inputs that it was tried on.
        axes: The axes of its weights.
        aliases: Other names of tied weights.
        graph: Its graph, with the axes of what is inside; None where axes were said by hand.
    """

    groups: tuple[Group, ...]
    coverage: float
    frozen: Mapping[str, str]
    module: nn.Module = field(repr=False)
    inputs: tuple[Any, ...] = field(repr=False)
    axes: Mapping[str, list[Axis]] = field(repr=False)
    aliases: Mapping[str, str] = field(repr=False)
    graph: Graph | None = field(default=None, repr=False)

    __repr__ = brief

    @property
    def log_order(self) -> float:
        """The logarithm of the number of permutations."""
        return sum(group.log_order for group in self.groups if group.kind == "permutation")

    def random(self, seed: int = 0, kinds: Sequence[str] | None = None) -> Transformation:
        """A random element of every group (of these kinds)."""
        check_whole("seed", seed, least=0)
        chosen = [group for group in self.groups if kinds is None or group.kind in kinds]
        elements = [group.random(generator(seed, "group", i)) for i, group in enumerate(chosen)]
        return self.of(elements)

    def only(self, *kinds: Kind) -> Symmetries:
        """The groups of these kinds; invertible maps have orthogonal ones among them, and both have permutations."""
        found = list[Group]()
        for group in self.groups:
            line: tuple[Kind, ...] = LINEAR[LINEAR.index(group.kind) :] if group.kind in LINEAR else (group.kind,)
            kind: Kind | None = next((k for k in line if k in kinds), None)
            if kind is not None:
                found.append(group.within(kind))
        return dataclasses.replace(self, groups=tuple(found))

    def of(self, elements: Sequence[Element]) -> Transformation:
        """The transformation by elements of groups."""
        return Transformation(tuple(elements), self.axes, self.aliases)

    def collapse(self, weights: Mapping[str, Tensor] | None = None) -> tuple[Collapse, ...]:
        """The layers of which units could be left out, at weights, and to what size: see `Collapse`.

        Args:
            weights: A state dictionary; by default that of the module that symmetries were found for. Units are
                compared by what they compute of the inputs that these were found with.

        Returns:
            A layer each; none where every unit counts, or where axes were said by hand.

        Raises:
            InputError: If a weight is missing or has another shape.
        """
        return self._collapsed(weights)[0]

    def merged(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dictionary without what `collapse` names: zeros there, and duplicates are read by the first."""
        moved = self._collapsed(weights)[1]
        return {k: moved[n].to(v) if (n := self.aliases.get(k, k)) in moved else v for k, v in weights.items()}

    def _collapsed(self, weights: Mapping[str, Tensor] | None) -> tuple[tuple[Collapse, ...], Mapping[str, Tensor]]:
        state = {k: v.double() if v.is_floating_point() else v for k, v in self.module.state_dict().items()}
        state |= {k: v.detach().double() if v.is_floating_point() else v for k, v in (weights or {}).items()}
        check_state(state, self.axes, [group.identity() for group in self.groups])

        def outputs(given: Mapping[str, Tensor]) -> Tensor:
            whole = {k: given.get(self.aliases.get(k, k), v) for k, v in state.items()}
            with torch.no_grad():
                found = torch.func.functional_call(self.module, whole, self.inputs, tie_weights=False)
            return torch.cat([f.flatten() for f in _outputs(found)])

        own = {k: state[k] for k in self.axes}
        if self.graph is None:
            return (), own
        return collapsed(self.graph, self.groups, self.axes, own, self.inputs, outputs)

    def verify(self, seed: int = 0) -> float:
        """By how much outputs change, relative to their size, under a random element at random weights, in float64."""
        return changed(self.module, self.inputs, self.random(seed), seed)


def symmetries(
    module: nn.Module, example_inputs: Any, *, axes: Mapping[str, Sequence[str | None]] | None = None, seed: int = 0
) -> Symmetries:
    """Find what may be done to a network's weights that leaves its function as it is.

    Permutations of units, channels, heads and what is within each; scales by positive numbers and signs, where
    functions are homogeneous or odd; orthogonal maps where nothing but sums, products with weights and sums of squares
    happen (the stream between root-mean-square norms), and invertible ones between queries and keys and between values
    and outputs; of queries and keys with rotary embeddings, rotations of the pairs that these turn. They are found from
    the graph that `torch.export` gives, as it evaluates, and each is verified in double precision at random weights and
    statistics before it is offered.

    Args:
        module: The network. It is not changed.
        example_inputs: A batch of inputs: a tensor, or a tuple of positional arguments.
        axes: Instead of the graph, the permutations that there are: of each weight a name for every dimension, or
            None where nothing is to be permuted; equal names move together. Weights that are left out stay.
        seed: Seed of the weights at which groups are tried.

    Returns:
        The groups.

    Raises:
        InputError: If the module cannot be exported, inputs do not suit it, or what is given in ``axes`` is not so.

    References:
        Git Re-Basin. S. K. Ainsworth, J. Hayase, S. Srinivasa, 2022. arXiv:2209.04836.
        Equivariant architectures for learning in deep weight spaces. A. Navon and others, 2023. arXiv:2301.12780.
        Generalized linear mode connectivity for transformers. A. Theus and others, 2025. arXiv:2506.22712.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> found = symmetries(net, torch.zeros(4, 3))
        >>> [(group.kind, group.size) for group in found.groups], found.coverage
        ([('permutation', 8), ('scale', 8)], 1.0)
        >>> found.verify() < 1e-12
        True
    """
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    with ShareHyperparameters():
        wide = copy.deepcopy(module).double().eval()
    double = tuple(_double(v) for v in inputs)
    found = _given(module, axes) if axes is not None else traced(wide, double)
    wide = found.double or wide
    proposed = groups_of(found)
    offered = _verified(wide, double, found, proposed, seed)
    if axes is not None and len(offered) < len(proposed):
        wrong = next(group for group in proposed if group not in offered)
        raise InputError(
            f"axes along which units may be permuted, as {wrong.weights} are said to be",
            "outputs that change",
            "give weights that hold the same units the same name, and None to all others",
        )
    known = _coverage(found, offered), _frozen(found, offered)
    return Symmetries(tuple(offered), *known, wide, double, found.axes, found.aliases, found.graph)


def _verified(
    module: nn.Module, inputs: tuple[Any, ...], found: Traced, groups: Sequence[Group], seed: int
) -> list[Group]:
    # Elements of all groups at once are drawn independently: where outputs stay, each of them leaves them as they are.
    # Where they do not, halves are tried, down to single groups.
    if not groups:
        return []
    # None of them is the identity, which small groups would often draw.
    for k in range(_DRAWS):
        rngs = (generator(seed, "try", k, len(groups), i) for i in range(len(groups)))
        elements = tuple(group.random(rng, moving=True) for group, rng in zip(groups, rngs, strict=True))
        if changed(module, inputs, Transformation(elements, found.axes, found.aliases), seed + k) >= _TOLERANCE:
            break
    else:
        return list(groups)
    half = len(groups) // 2
    parts = (groups[:half], groups[half:]) if half else ()
    return [group for part in parts for group in _verified(module, inputs, found, part, seed)]


def check_state(state: Mapping[str, Tensor], axes: Mapping[str, list[Axis]], elements: Sequence[Element]) -> None:
    """Refuse weights of other shapes than those that elements move."""
    moved = {name for element in elements for name, _ in element.group.weights}
    for name in sorted(moved):
        shape = tuple(length(axis) for axis in axes[name])
        got = tuple(state[name].shape) if name in state else None
        if got != shape:
            raise InputError(
                f"a weight {name!r} of shape {shape}",
                "none" if got is None else f"shape {got}",
                "give what the module's state_dict() gives, of the module that symmetries were found for",
            )


def changed(module: nn.Module, inputs: tuple[Any, ...], how: Transformation, seed: int) -> float:
    """By how much outputs change, relative to their size, at random weights and statistics."""
    state = _random_state(module, how.aliases, seed)
    try:
        moved = how.apply(state)
    except NotThereError:  # it cannot act: no symmetry
        return math.inf
    return apart((module, state), (module, moved), inputs)


def apart(
    one: tuple[nn.Module, Mapping[str, Tensor]], other: tuple[nn.Module, Mapping[str, Tensor]], inputs: tuple[Any, ...]
) -> float:
    """By how much the outputs of two modules at their weights differ, relative to the size of the first's."""
    with torch.no_grad():
        before, after = (
            _outputs(torch.func.functional_call(m, dict(w), inputs, tie_weights=False)) for m, w in (one, other)
        )
    if [b.shape for b in before] != [a.shape for a in after]:
        return math.inf
    size = max((float(b.abs().max()) for b in before if b.numel()), default=0.0)
    gap = max((float((a - b).abs().max()) for a, b in zip(after, before, strict=True) if b.numel()), default=0.0)
    return gap / size if size > 0 else (0.0 if gap == 0 else float("inf"))


def _random_state(module: nn.Module, aliases: Mapping[str, str], seed: int) -> dict[str, Tensor]:
    # None of them zero, so that nothing passes for want of effect; variances are positive.
    rng, found = generator(seed, "weights"), dict[str, Tensor]()
    for name, value in module.state_dict().items():
        first = aliases.get(name, name)
        if first in found:
            found[name] = found[first]
        elif not value.is_floating_point():
            found[name] = value
        elif name.endswith("var"):
            found[name] = 0.5 + torch.rand(value.shape, generator=rng, dtype=value.dtype)
        else:
            fan = max(1, value[0].numel()) if value.ndim > 1 else 4
            found[name] = torch.randn(value.shape, generator=rng, dtype=value.dtype) * (1.5 / fan**0.5)
            found[name] += 0.3 * (value.ndim == 1)
    return found


def _outputs(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value.double()] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        value = list(value.values())
    return [t for v in value for t in _outputs(v)] if isinstance(value, (tuple, list)) else []


def _double(value: Any) -> Any:
    # Inputs of zeros would hide much.
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    value = value.detach().double()
    return value if value.numel() and float(value.std()) > 0 else torch.randn(
        value.shape, generator=generator(0, "inputs"), dtype=torch.float64
    )  # fmt: skip


def _given(module: nn.Module, axes: Mapping[str, Sequence[str | None]]) -> Traced:
    # What a person says of axes.
    state, equations = module.state_dict(), Equations(fine=True)
    named, found = dict[tuple[str, int], Axis](), dict[str, list[Axis]]()
    for name, labels in axes.items():
        if name not in state or len(labels) != state[name].ndim:
            got = "no such weight" if name not in state else f"{len(labels)} for shape {tuple(state[name].shape)}"
            raise InputError(f"a name (or None) for each dimension of {name!r}", got, "see module.state_dict()")
        own = list[Axis]()
        for dim, (label, n) in enumerate(zip(labels, state[name].shape, strict=True)):
            sizes = {size for other, size in named if other == label} - {n}
            if label is not None and sizes:
                raise InputError(f"one size of {label!r}", f"{n} in {name}[{dim}], and {sizes.pop()}", "use two names")
            axis = named.setdefault((label, n), whole(n)) if label is not None else whole(n, frozen="said to stay")
            for node in axis:
                node.atom.rigid = True
            own.append(equations.unknown(axis))
        found[name] = own
    for own in found.values():
        for axis in own:
            equations.vanish(axis)
    return Traced(found, {}, equations, {}, (), None, None)


def _coverage(found: Traced, groups: Sequence[Group]) -> float:
    moved = {name for group in groups for name, _ in group.weights}
    moved |= {name for group in groups for name, _ in group.absorbed}
    inside = {name: _size(own) for name, own in found.axes.items() if name in moved or _inside(own)}
    total = sum(inside.values())
    return sum(n for name, n in inside.items() if name in moved) / total if total else 1.0


def _inside(own: Sequence[Axis]) -> bool:
    return any(not (node.atom.frozen or "").startswith(_TIED) for axis in own for node in nodes_in(axis))


def _size(own: Sequence[Axis]) -> int:
    size = 1
    for axis in own:
        for node in axis:
            size *= node.size
    return size


def _frozen(found: Traced, groups: Sequence[Group]) -> dict[str, str]:
    moved = {find(group.atom) for group in groups if group.kind in LINEAR}
    reasons = dict[str, str]()
    for name, own in found.axes.items():
        for dim, axis in enumerate(own):
            for node in nodes_in(axis):
                atom = find(node.atom)
                if atom not in moved and not (atom.frozen or "").startswith(_TIED):
                    reasons[f"{name}[{dim}]"] = atom.frozen or "what was proposed changes the function"
    return reasons
