"""``import novacula as nv``: light to import, complete, and the same to a type checker as to Python."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import novacula as nv


def test_importing_imports_nothing_heavy() -> None:
    code = (
        "import sys, novacula as nv; nv.__version__; nv.InputError; nv.Run; nv.report; dir(nv); "
        "heavy = {'torch', 'matplotlib', 'sklearn', 'scipy', 'typer', 'rich', 'pandas'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize("name", nv.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(nv, name) is not None
    assert name in dir(nv)


def test_type_checkers_see_what_python_sees() -> None:
    tree = ast.parse(Path(nv.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    seen: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 1
            for alias in node.names:
                assert alias.asname == alias.name  # re-exported, by the convention of type checkers
                seen[alias.name] = "novacula" if node.module is None else f"novacula.{node.module}"
    assert set(seen) == set(nv.__all__)
    for name, module in seen.items():
        if module != "novacula":
            assert getattr(importlib.import_module(module), name) is getattr(nv, name)
        else:
            assert importlib.import_module(f"novacula.{name}") is getattr(nv, name)


def test_names_that_are_not_there_are_refused() -> None:
    with pytest.raises(AttributeError, match="No novacula attribute nonsense"):
        nv.nonsense  # noqa: B018  # type: ignore[attr-defined]


def test_functions_and_packages_do_not_collide() -> None:
    assert callable(nv.report)
    assert callable(nv.learn)
    assert nv.reporting.__name__ == "novacula.reporting"
    assert nv.study.learn is nv.learn
    assert nv.Laplace is not nv.evidence.Laplace
