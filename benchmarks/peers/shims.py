"""Stand-ins for packages that peers import and these tasks never use: image-set loaders and experiment trackers."""

from __future__ import annotations

import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


class _Unused(ModuleType):
    """A module whose every name is a class that cannot be made."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*_: object, **__: object) -> None:
            raise RuntimeError(f"{self.__name__}.{name} is a stand-in: this benchmark does not use it")

        return type(name, (), {"__init__": refuse})


def stand_in(*names: str) -> None:
    """Let ``import name`` succeed for packages that are not installed and not used."""
    for name in names:
        module = _Unused(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.__path__ = []
        sys.modules.setdefault(name, module)


def package_without_init(name: str, folder: Path) -> None:
    """Make submodules of a package importable without running its ``__init__`` (which imports what is not needed)."""
    module = ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules.setdefault(name, module)


def first_on_path(*folders: Path) -> None:
    """Put folders before every installed package: the authors' forks shadow released packages of the same name."""
    sys.path[:0] = [str(folder) for folder in folders]
