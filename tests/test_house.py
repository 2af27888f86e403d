"""The house rules that a machine can read in the tree: sizes, circles, names, and who asks whom what it is."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "novacula"
FILES_IN_A_FOLDER, LINES_IN_A_FILE, LINES_IN_A_FUNCTION, LINES = 16, 400, 60, 71_600

OPEN_TO_THEMSELVES = ("posteriors", "likelihoods", "priors", "curvature")
"""Packages whose classes answer for themselves: nobody outside asks an object whether it is one of them."""

TOO_LONG = frozenset({"novacula.cli.app.learn"})  # a command of typer writes out each of its flags
"""Functions that may be longer than the rest, with the reason beside each."""

MUTABLE = frozenset(
    {
        "novacula.core.many._UNSUPPORTED",
        "novacula.curvature.gradients.jacobian._COVERAGE",
        "novacula.target.many._DECAYS",
        "novacula.target.many._RECORDINGS",
    }
)
"""What modules still remember from call to call. Take names away from this list, never add one."""


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package, parsed, by its dotted name."""
    return {name_of(p): ast.parse(p.read_text(encoding="utf-8"), str(p)) for p in sorted(SRC.rglob("*.py"))}


def name_of(path: Path) -> str:
    parts = ("novacula", *path.relative_to(SRC).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def path_of(module: str) -> Path:
    folder = SRC.joinpath(*module.split(".")[1:])
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def where(module: str, node: ast.AST) -> str:
    return f"{path_of(module).relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


def imports(module: str, tree: ast.AST) -> Iterator[tuple[ast.AST, str, str | None, str]]:
    """All imports from the package, in functions and for types too: node, module, name (or None), name here."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for a in node.names:
                if a.name.split(".")[0] == "novacula":
                    yield node, a.name, None, a.asname or a.name
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{where(module, node)}: write the whole name of a module"
            if (node.module or "").split(".")[0] == "novacula":
                for a in node.names:
                    yield node, str(node.module), a.name, a.asname or a.name


# ---------------------------------------------------------------------- sizes


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from ``def`` to the end, without the docstring."""
    total = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        text = function.body[0]
        total -= (text.end_lineno or 0) - text.lineno + 1
    return total


def test_folders_hold_few_files():
    folders = {p.parent for p in SRC.rglob("*.py")}
    counts = {str(f.relative_to(SRC)): len([p for p in f.glob("*.py") if p.name != "__init__.py"]) for f in folders}
    assert {k: n for k, n in counts.items() if n > FILES_IN_A_FOLDER} == {}


def test_files_of_tests_have_names_of_their_own():
    # As modules without packages they are known by their last name alone.
    names = Counter(p.name for p in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, times in names.items() if times > 1] == []


def test_files_are_short():
    counts = {str(p.relative_to(SRC)): len(p.read_text(encoding="utf-8").splitlines()) for p in SRC.rglob("*.py")}
    assert {k: n for k, n in counts.items() if n > LINES_IN_A_FILE} == {}


def test_the_whole_is_short():
    assert sum(len(p.read_text(encoding="utf-8").splitlines()) for p in SRC.rglob("*.py")) <= LINES


def test_functions_are_short():
    found = [
        f"{where(module, node)} {node.name}: {code_lines(node)}"
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and code_lines(node) > LINES_IN_A_FUNCTION
        if f"{module}.{node.name}" not in TOO_LONG
    ]
    assert found == []


# ---------------------------------------------------------------------- imports and names


def graph() -> dict[str, set[str]]:
    """Which module imports which; a name taken from a package counts as the package, a submodule as itself."""
    return {
        module: {
            f"{source}.{name}" if f"{source}.{name}" in modules() else source
            for _, source, name, _ in imports(module, tree)
        }
        for module, tree in modules().items()
    }


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Sets of modules that reach each other, by taking away what imports nothing and what nothing imports."""
    left = {k: {w for w in v if w in edges and w != k} for k, v in edges.items()}
    while True:
        imported = set().union(*left.values()) if left else set()
        ends = {k for k, v in left.items() if not v or k not in imported}
        if not ends:
            return [sorted(left)] if left else []
        left = {k: v - ends for k, v in left.items() if k not in ends}


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_no_circle_of_imports():
    assert circles(graph()) == []


def test_no_private_name_is_imported():
    found = [
        f"{where(module, node)} {name}"
        for module, tree in modules().items()
        for node, _, name, _ in imports(module, tree)
        if name and name.startswith("_") and not name.endswith("__")
    ]
    assert found == []


def remembered(tree: ast.Module) -> Iterator[str]:
    """Names of a module that begin empty and are filled later, and functions that keep their results."""
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            value, target = node.value, node.targets[0] if isinstance(node, ast.Assign) else node.target
            empty = (isinstance(value, ast.Dict) and not value.keys) or (isinstance(value, ast.List) and not value.elts)
            made = isinstance(value, ast.Call) and not value.args and ast.unparse(value.func).split(".")[-1]
            if empty or made in {"dict", "list", "set", "defaultdict", "WeakSet", "WeakKeyDictionary"}:
                yield ast.unparse(target)
        elif isinstance(node, ast.FunctionDef):
            kept = {"cache", "lru_cache"}
            if any(set(ast.unparse(d).replace("(", ".").split(".")) & kept for d in node.decorator_list):
                yield node.name


def test_modules_remember_nothing():
    assert {f"{module}.{name}" for module, tree in modules().items() for name in remembered(tree)} <= MUTABLE


def test_tests_mirror_the_tree():
    # Of the whole: what a package outside the tree adds goes through all layers.
    whole = {Path(), Path("extending")}
    folders = {p.parent.relative_to(ROOT / "tests") for p in (ROOT / "tests").rglob("test_*.py")} - whole
    assert [str(f) for f in folders if not (SRC / f / "__init__.py").is_file()] == []


# ---------------------------------------------------------------------- questions of kind


@cache
def guarded() -> dict[str, str]:
    """The classes that answer for themselves: qualified name to the package that may ask."""
    return {
        f"{module}.{node.name}": package(module)
        for module, tree in modules().items()
        if package(module) in OPEN_TO_THEMSELVES
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }


@cache
def names(module: str) -> dict[str, tuple[str, str]]:
    """The names that a module imports: here, to module and name there."""
    return {here: (source, name) for _, source, name, here in imports(module, modules()[module]) if name is not None}


def resolved(module: str, name: str) -> str:
    """Where a name of a module is defined: imports are followed, also through packages that pass them on."""
    if name not in names(module):
        return f"{module}.{name}"
    source, original = names(module)[name]
    return full if (full := f"{source}.{original}") in modules() else resolved(source, original)


def whole(module: str, node: ast.expr) -> str:
    """The qualified name of ``a.b.C``, or nothing where it is no chain of names."""
    if isinstance(node, ast.Name):
        return resolved(module, node.id)
    if not isinstance(node, ast.Attribute) or not (base := whole(module, node.value)):
        return ""
    full = f"{base}.{node.attr}"
    return full if full in modules() or base not in modules() else resolved(base, node.attr)


def classes_in(module: str, node: ast.AST) -> set[str]:
    """The guarded classes that an expression names: by name, in a tuple or union, or as an attribute of a module."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            found.add(resolved(module, part.id))
        elif isinstance(part, ast.Attribute) and (found_in := whole(module, part)):
            found.add(found_in)
    # A constant of the module, `_KINDS = (A, B)`, stands for what it holds.
    for node_ in modules()[module].body:
        if isinstance(node_, (ast.Assign, ast.AnnAssign)) and node_.value is not None and node_.value is not node:
            targets = node_.targets if isinstance(node_, ast.Assign) else [node_.target]
            if any(isinstance(t, ast.Name) and f"{module}.{t.id}" in found for t in targets):
                found |= {resolved(module, p.id) for p in ast.walk(node_.value) if isinstance(p, ast.Name)}
    return found & set(guarded())


def asked(module: str, node: ast.AST) -> set[str]:
    """The guarded classes that a node asks about; names of classes count when they are compared as text."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 2:
        if node.func.id in {"isinstance", "issubclass"}:
            return classes_in(module, node.args[1])
        if node.func.id == "hasattr":
            return {f"hasattr({ast.unparse(node.args[0])}, {ast.unparse(node.args[1])})"} if subject(node) else set()
    if isinstance(node, ast.MatchClass):
        return classes_in(module, node.cls)
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        if any(isinstance(s, ast.Call) and isinstance(s.func, ast.Name) and s.func.id == "type" for s in sides):
            return set().union(*(classes_in(module, s) for s in sides))
        if any(isinstance(s, ast.Attribute) and s.attr == "__name__" for s in sides):
            known = {c.rsplit(".", 1)[1] for c in guarded()}
            text = {p.value for s in sides for p in ast.walk(s) if isinstance(p, ast.Constant)}
            return set().union(*(classes_in(module, s) for s in sides)) | (known & text)
    return set()


def subject(call: ast.Call) -> bool:
    """Whether ``hasattr`` is asked of something that is called a posterior, likelihood, prior or curvature."""
    text = ast.unparse(call.args[0]).lower()
    return any(word in text for word in ("posterior", "likelihood", "prior", "curvature", "covariance"))


def questions() -> list[str]:
    """Every question of kind from outside, as ``file:line class``."""
    return [
        f"{where(module, node)} {', '.join(sorted(c.removeprefix('novacula.') for c in found))}"
        for module, tree in modules().items()
        for node in sorted(ast.walk(tree), key=lambda n: getattr(n, "lineno", 0))
        if (
            found := {
                c for c in asked(module, node) if guarded().get(c) != module.removeprefix("novacula.").split(".")[0]
            }
        )
    ]


@pytest.mark.parametrize(
    ("text", "many"),
    [
        ("isinstance(x, Gaussian)", 1),
        ("isinstance(x, (int, Gaussian, base.Draws))", 2),
        ("isinstance(x, int | Gaussian)", 1),
        ("isinstance(x, KINDS)", 1),
        ("issubclass(x, posteriors.draws.Draws)", 1),
        ("type(x) is Gaussian", 1),
        ("type(x).__name__ == 'Gaussian'", 1),
        ("x.__name__ in {'Gaussian', 'int'}", 1),
        ("hasattr(target.prior, 'precision')", 1),
        ("match x:\n    case Gaussian():\n        pass", 1),
        ("isinstance(x, int) and x.kind == 'Gaussian' and type(x) is int", 0),
    ],
)
def test_questions_are_found(text: str, many: int, monkeypatch: pytest.MonkeyPatch):
    head = "from novacula import posteriors\nfrom novacula.posteriors import draws as base\n"
    head += "from novacula.priors import Gaussian\nKINDS = (Gaussian, int)\n"
    tree = ast.parse(head + text)
    monkeypatch.setitem(modules(), "novacula.example", tree)
    names.cache_clear()
    assert len(set().union(*(asked("novacula.example", node) for node in ast.walk(tree)))) == many
    names.cache_clear()


def test_no_question_of_kind_from_outside():
    found = questions()
    assert found == [], f"{len(found)} questions:\n" + "\n".join(found)
