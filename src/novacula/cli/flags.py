"""The flags of a verb, made from the fields of dataclasses."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any

import typer

from novacula.cli.console import errors_to_exit
from novacula.runs.flags import Option, make, options_of


def verb(
    app: typer.Typer, where: str, kind: type, *, epilog: str, name: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A verb with the name, help and arguments of a function; ``where``, a ``module:function``, does what it does."""

    def made(head: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(head)
        def run(values: dict[str, Any], **own: Any) -> None:
            module, _, function = where.partition(":")
            with errors_to_exit():
                getattr(import_module(module), function)(*own.values(), make(kind, values))

        return app.command(name, epilog=epilog)(takes(kind)(run))

    return made


def takes(*kinds: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb the options of these dataclasses; it meets their values, by name, as its ``values``."""
    options = {name: option for kind in kinds for name, option in options_of(kind).items()}

    def wrap(verb: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(verb, eval_str=True).parameters.values() if p.name != "values"]

        def command(**given: Any) -> None:
            mine = {p.name: given.pop(p.name) for p in own}
            verb(**mine, values={k: tuple(v or ()) if options[k].repeats else v for k, v in given.items()})

        parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in own] + [_parameter(*item) for item in options.items()]
        # Typer reads a function's signature.
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        command.__name__, command.__doc__ = verb.__name__, verb.__doc__
        return command

    return wrap


def _parameter(name: str, option: Option) -> inspect.Parameter:
    kind: Any = list[str] | None if option.repeats else option.type
    default = None if option.repeats else option.default
    about = option.flag
    if option.is_argument:
        # A resumed run has its own.
        kind, default, info = kind | None, None, typer.Argument(help=about.help)
    else:
        info = typer.Option(
            f"--{name.replace('_', '-')}",
            help=about.help,
            metavar=about.metavar,
            show_default=about.shown or True,
            rich_help_panel=about.panel or None,
        )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])
