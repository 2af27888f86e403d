"""What a network computes inside, by the axes that symmetries move: its graph, run at any weights.

The graph was taken from examples of one number, which it may hold: others go through it so many at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.export.graph_signature import InputKind
from torch.utils._pytree import tree_leaves

from novacula.paths.symmetries.axes import Axis

See = Callable[[str, Tensor], None]


@dataclass(frozen=True, eq=False)
class Graph:
    """The graph of a module in double precision, with the axes of what each node makes of the inputs."""

    program: torch.export.ExportedProgram
    aliases: Mapping[str, str]
    axes: Mapping[str, list[Axis]]

    def run(self, weights: Mapping[str, Tensor], inputs: tuple[Any, ...], see: See) -> None:
        """Evaluate it, and show the value of every node that has axes."""
        leaves = iter(tree_leaves(inputs))
        given, program = list[Any](), self.program
        for spec in program.graph_signature.input_specs:
            name = spec.target or ""
            first = self.aliases.get(name, name)
            if spec.kind == InputKind.USER_INPUT:
                given.append(next(leaves))
            elif first in weights:
                given.append(weights[first])
            else:
                given.append(program.state_dict.get(name, program.constants.get(name)))
        with torch.no_grad():
            _Seen(program.graph_module, self.axes, see).run(*given)


class _Seen(torch.fx.Interpreter):
    def __init__(self, module: torch.fx.GraphModule, axes: Mapping[str, list[Axis]], see: See) -> None:
        super().__init__(module)
        self.axes, self.see = axes, see

    def run_node(self, n: torch.fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self.axes:
            self.see(n.name, value)
        return value
