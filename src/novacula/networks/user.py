"""A network from a person's own Python file. Whatever goes wrong there becomes an error that names file and line."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NoReturn

import torch
from torch import nn

from novacula.core.errors import InputError
from novacula.core.execute import send_by_value

COUNTS = ("outputs", "num_classes")
"""Names of a parameter that takes the number of outputs; the second is that of torchvision and timm."""

_EXAMPLE = "def make_net(x_shape, outputs): return torch.nn.Sequential(...)"


def from_file(name: str, x_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Make the network that ``file.py:name`` names.

    The file is run with its folder at the front of the import path, and again only when its contents have changed (or
    when ``name`` is a module, to draw its weights anew). Afterwards the import path and torch's default dtype are as
    they were. A function is given ``x_shape`` and ``outputs`` (or ``num_classes``) by name where it has parameters
    of these names, by position where it has exactly two parameters without default, and nothing where it needs nothing.

    Returns:
        The network.

    Raises:
        InputError: If the file or the name does not exist, the file or function raises, the function takes other
            arguments, or what it gives is no `nn.Module`.
    """
    path, attribute = _place(name, "my_model.py:make_net")
    with _contained(path):
        state = torch.get_rng_state()
        found = _find(_run(path, anew=False), attribute, path)
        # Whether the file has just run or had run before must not show in the weights.
        torch.set_rng_state(state)
        if isinstance(found, nn.Module):  # its weights were drawn when the file ran: draw them under this seed
            made = _find(_run(path, anew=True), attribute, path)
        else:
            made = _call(found, attribute, path, x_shape, outputs)
    if not isinstance(made, nn.Module):
        kind = f"the class {made.__name__}" if isinstance(made, type) else f"a {type(made).__name__}"
        raise InputError(f"an nn.Module from {attribute} in {path}", kind, f"return the network: {_EXAMPLE}")
    return made


def function_from(name: str, example: str) -> Callable[..., Any]:
    """A function that ``file.py:name`` names, see `from_file`; an InputError where there is none."""
    path, attribute = _place(name, example)
    with _contained(path):
        return _find(_run(path, anew=False), attribute, path)


def _place(name: str, example: str) -> tuple[Path, str]:
    file, colon, attribute = name.rpartition(":")
    if not colon or not file.endswith(".py"):
        raise InputError(
            "file.py:function",
            repr(name),
            f"{(name if not colon else file) or example.partition(':')[0]}:{example.partition(':')[2]}",
        )
    path = Path(file).expanduser()
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, siblings, n=3)
        raise InputError("a Python file that exists", file, ", ".join(close) or "check the path")
    return path, attribute


def _run(path: Path, *, anew: bool) -> ModuleType:
    source = path.read_bytes()
    digest = hashlib.blake2b(str(path.resolve()).encode() + b"\0" + source, digest_size=6).hexdigest()
    name = f"novacula_network_{path.stem}_{digest}"
    if name in sys.modules and not anew:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    before = sys.modules.get(name)
    # Kept under its name: classes defined in the file are found by it when networks are copied or pickled.
    sys.modules[name] = module
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        _refuse(error, path, f"a file that runs, for the network {path.name}")
    send_by_value(module)
    return module


def _find(module: ModuleType, attribute: str, path: Path) -> Any:
    names = {k: v for k, v in vars(module).items() if not k.startswith("_")}
    own = [k for k, v in names.items() if isinstance(v, nn.Module) or getattr(v, "__module__", None) == module.__name__]
    if attribute not in names:
        close = difflib.get_close_matches(attribute, list(names), n=1) or own[:1]
        listed = ", ".join(own) or "no function of its own"
        hint = f"{path}:{close[0]}" if close else _EXAMPLE
        raise InputError(f"a function {attribute!r} in {path}", f"a file with {listed}", hint)
    found = names[attribute]
    if not callable(found):
        raise InputError(f"{attribute!r} in {path} as a function or nn.Module", f"a {type(found).__name__}", _EXAMPLE)
    return found


def _call(function: Any, attribute: str, path: Path, x_shape: tuple[int, ...], outputs: int) -> Any:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError) as error:
        raise InputError(f"{attribute!r} in {path} as a Python function", str(error), _EXAMPLE) from error
    given = {"x_shape": x_shape, **dict.fromkeys(COUNTS, outputs)}
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = {p.name: given[p.name] for p in parameters if p.name in given and p.kind in plain}
    needed = [p for p in parameters if p.default is p.empty and p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}]
    positional = not named and len(needed) == 2 and not any(p.kind is p.KEYWORD_ONLY for p in needed)
    if not positional and any(p.name not in named for p in needed):
        line = function.__code__.co_firstlineno if isinstance(function, FunctionType) else 0
        got = f"{attribute}{inspect.signature(function)}" + (f" in {path}, line {line}" if line else f" in {path}")
        raise InputError("a function of (x_shape, outputs) or of nothing", got, _EXAMPLE)
    try:
        return function(x_shape, outputs) if positional else function(**named)
    except (Exception, SystemExit) as error:
        _refuse(error, path, f"{attribute}(x_shape={x_shape}, outputs={outputs}) to return a network")


def _refuse(error: BaseException, path: Path, expected: str) -> NoReturn:
    """Raise an `InputError` that points at the deepest line of the person's own file."""
    own = path.resolve()
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == own]
    line = lines[-1] if lines else None
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).resolve() == own:
        line = error.lineno
    if isinstance(error, ModuleNotFoundError):
        hint = f"install {error.name}, or put {error.name}.py beside {path.name}"
    elif isinstance(error, InputError):
        hint = error.hint
    else:
        hint = f"run: python {path}" if not lines or isinstance(error, SyntaxError) else "correct that line"
    where = f"{path}, line {line}" if line else str(path)
    raise InputError(expected, f"{type(error).__name__} in {where}: {error}", hint) from error


@contextmanager
def _contained(path: Path) -> Iterator[None]:
    folder, before, dtype = str(path.resolve().parent), list(sys.path), torch.get_default_dtype()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path[:] = before
        torch.set_default_dtype(dtype)
