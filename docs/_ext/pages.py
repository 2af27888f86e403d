"""One API page for each package, written before every build from what the package exports.

A page holds the package's own text and then, module by module, the module's text and its public names: those in the
package's ``__all__``, under the name by which users import them. `_MODULES` adds modules whose names are public
without being exported by their package.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx

_PACKAGES = {
    "integrations": "Integrations",
    "study": "Learning and comparing",
    "runs": "Runs",
    "evidence": "Evidence",
    "prediction": "Prediction",
    "inference": "Inference",
    "posteriors": "Posteriors",
    "target": "Target",
    "priors": "Priors",
    "likelihoods": "Likelihoods",
    "invariances": "Invariances",
    "networks": "Networks",
    "curvature": "Curvature",
    "diagnostics": "Diagnostics",
    "reporting": "Reporting",
    "data": "Data",
    "core": "Core",
}
_MODULES = {
    "core": ["estimate", "storage.run", "errors", "rng", "params", "forward", "execute", "memory"],
    "data": ["load", "new"],
    "invariances": ["perturb"],
}
_TOP = "novacula"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the writer.

    Args:
        app: The build.

    Returns:
        What Sphinx asks of an extension.
    """
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True}


def _write(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "api" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {f"{name}.rst": _page(name, title) for name, title in _PACKAGES.items()}
    for old in folder.glob("*.rst"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _page(name: str, title: str) -> str:
    package = importlib.import_module(f"{_TOP}.{name}")
    lines = [title, "=" * len(title), "", f".. automodule:: {package.__name__}", "   :no-members:", "   :no-index:", ""]
    for module, names in _groups(package, _MODULES.get(name, [])).items():
        if module != package.__name__:
            lines += [module, "-" * len(module), "", f".. automodule:: {module}", "   :no-members:"]
            lines += ["   :no-index:", ""]
        for full, entry in names.items():
            lines += [f".. {entry}:: {full}", ""]
    return "\n".join(lines)


def _groups(package: ModuleType, modules: list[str]) -> dict[str, dict[str, str]]:
    """Public names with their directives, by the module that defines them."""
    found: dict[str, dict[str, str]] = {}
    exported = frozenset(getattr(package, "__all__", ()))
    # In the order of the package's imports, so that what one module defines stays together.
    for name in sorted(exported):
        getattr(package, name)  # some packages load their names when they are asked for
    # What a package hands on from another one stands on that one's page.
    for name, value in vars(package).items():
        own = name in exported and (getattr(value, "__module__", None) or "").startswith(package.__name__)
        if own and (directive := _directive(value)) is not None:
            found.setdefault(value.__module__, {})[f"{package.__name__}.{name}"] = directive
    for name in modules:
        module = importlib.import_module(f"{package.__name__}.{name}")
        own = {k: v for k, v in vars(module).items() if not k.startswith("_") and inspect.getmodule(v) is module}
        for key, value in own.items():
            if (directive := _directive(value)) is not None and key == value.__name__:
                found.setdefault(module.__name__, {})[f"{module.__name__}.{key}"] = directive
    return found


def _directive(value: object) -> str | None:
    if inspect.isclass(value):
        return "autoexception" if issubclass(value, BaseException) else "autoclass"
    return "autofunction" if inspect.isfunction(value) else None
