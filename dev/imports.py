"""Draw who imports whom, from the top down: the packages, or the files of one package; and name the circles.

    python dev/imports.py
    python dev/imports.py curvature

The number behind a name says how many imports there are. Imports inside functions and for types alone count too.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

SRC = Path(__file__).resolve().parents[1] / "src"
NAME = "novacula"
Graph = Mapping[str, Counter[str]]


def main(arguments: Sequence[str]) -> int:
    """Print the drawing; the exit code is 1 if there are circles."""
    package = arguments[0].removeprefix(f"{NAME}.") if arguments else ""
    if not (SRC / NAME / package.replace(".", "/")).is_dir():
        print(f"expected a package of {NAME}, got {package!r}", file=sys.stderr)
        return 2
    graph = graph_of(package)
    below = {name: reached(graph, name) for name in graph}
    level = {name: depth(graph, below, name) for name in graph}
    width = max(map(len, graph))
    for name in sorted(graph, key=lambda n: (-level[n], n)):
        used = sorted(graph[name], key=lambda n: (-level[n], n))
        print(f"{level[name]:3}  {name:{width}}  → {', '.join(f'{n} {graph[name][n]}' for n in used)}".rstrip(" →"))
    circles = {tuple(sorted(n for n in below[name] if name in below[n])) for name in graph} - {()}
    print("\n".join(["", *(f"circle: {', '.join(c)}" for c in sorted(circles))]) if circles else "\nno circles")
    return 1 if circles else 0


def graph_of(package: str) -> Graph:
    """Imports by name: between packages where ``package`` is empty, else between its files."""
    root, prefix = SRC / NAME / package.replace(".", "/"), f"{NAME}.{package}." if package else f"{NAME}."
    graph: dict[str, Counter[str]] = {}
    for file in sorted(root.rglob("*.py")):
        own = node_of(dotted(file), prefix, not package)
        if file.name != "__init__.py":
            graph.setdefault(own, Counter())
        for module in imported(ast.parse(file.read_text(encoding="utf-8"))):
            other = node_of(module, prefix, not package) if f"{module}.".startswith(prefix) else own
            if other != own:
                graph.setdefault(own, Counter())[other] += 1
                graph.setdefault(other, Counter())
    return graph


def node_of(module: str, prefix: str, short: bool) -> str:
    """The name of a module in the drawing: its first part if short, and the package's own for ``__init__``."""
    rest = f"{module}."[len(prefix) :].rstrip(".")
    return (rest.partition(".")[0] if short else rest) or "__init__"


def imported(tree: ast.Module) -> Iterator[str]:
    """The modules of the package that a file imports, each as often as it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == NAME)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == NAME:
            names = (f"{node.module}.{a.name}" for a in node.names)
            yield from {name if is_module(name) else str(node.module) for name in names}


def is_module(name: str) -> bool:
    path = SRC / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def dotted(file: Path) -> str:
    return ".".join(file.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


def reached(graph: Graph, start: str) -> set[str]:
    """Whatever a node leads to; itself only in a circle."""
    found, todo = set[str](), list(graph[start])
    while todo:
        if (name := todo.pop()) not in found:
            found.add(name)
            todo += graph[name]
    return found


def depth(graph: Graph, below: Mapping[str, set[str]], name: str) -> int:
    """The longest way down from a node, circles taken as one."""
    return max((1 + depth(graph, below, n) for n in graph[name] if name not in below[n]), default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
