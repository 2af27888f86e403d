"""``novacula compare``, behind its options: read data, make networks, compare, race or vary, say what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from novacula.cli.console import print_json, print_text, warn
from novacula.cli.options import CompareOptions
from novacula.cli.progress import computing
from novacula.core.errors import InputError
from novacula.runs.settings import target_of

if TYPE_CHECKING:
    from torch import nn

    from novacula.data.data import Data
    from novacula.study.comparing.standings import By

_EXAMPLE = "novacula compare digits --net mlp --net cnn --budget 60"


def compare(options: CompareOptions) -> None:
    """Run ``novacula compare``."""
    if options.vary is not None and (options.budget is not None or len(options.net) > 1):
        hint = "novacula compare digits --net mlp --vary init"
        raise InputError("--vary with one --net and no --budget", "more", hint)
    if options.vary is None and len(set(options.net)) < 2:
        raise InputError("two --net or more that differ", ", ".join(options.net) or "none", _EXAMPLE)
    with computing(options) as progress:
        from novacula.data.meaning.soft import outputs_for

        data = _data(options)
        progress.decided(data.meaning)
        outputs = outputs_for(data.y, len(data.classes))
        progress.begin("training", "comparing")
        found = _found(options, data, outputs, lambda done, total: progress(done, total, {}))
    if options.json:
        print_json(found.to_dict())
        return
    for text in (*getattr(found, "warnings", ()), *getattr(found, "advice", ())):
        warn(text)
    print_text(_aligned(found.table()))


def _data(options: CompareOptions) -> Data:
    from novacula.data.load import load
    from novacula.data.standardise import Standardiser

    target = target_of(options.target)
    columns: Any = {"categorical": options.categorical, "drop": options.drop, "task": options.task}
    data = load(options.data, target, size=options.size, **columns)
    scaled = Standardiser.fit(data).apply(data)
    # Where standard units are a choice, inputs come as they are.
    return scaled if options.vary is None else scaled.with_values(data.x, scaled.y)


def _found(options: CompareOptions, data: Data, outputs: int, progress: Any) -> Any:
    from novacula import study

    shared: Any = {"folds": options.folds, "seed": options.seed, "workers": options.workers, "progress": progress}
    if options.vary is not None:
        from novacula.study.comparing.choices import usual

        names = [name.strip() for name in options.vary.split(",")]
        network = options.net[0] if options.net else "mlp"
        made, levels = usual(network, data, names, outputs, seed=options.seed)
        return study.vary(made, data, levels, repeats=options.repeats, steps=options.steps, **shared)
    models = {text: _network(text, data, outputs, options.seed) for text in options.net}
    if options.budget is None:
        return study.compare(models, data, epochs=options.epochs, store=options.output, **shared)
    by = cast("By", options.by)
    return study.race(models, data, budget=options.budget, by=by, steps=options.steps, store=options.output, **shared)


def _network(text: str, data: Data, outputs: int, seed: int) -> nn.Module:
    # "mlp,width=32,depth=2", or what --net takes elsewhere.
    from novacula.networks.make import make

    name, *pairs = text.split(",")
    values = {key: value for key, _, value in (pair.partition("=") for pair in pairs)}
    if not all(value.isdigit() for value in values.values()):
        raise InputError("--net NAME,OPTION=NUMBER", repr(text), "--net mlp,width=32,depth=2")
    return make(name, data.x_shape, outputs, seed=seed, **{key: int(value) for key, value in values.items()})


def _aligned(markdown: str) -> str:
    # The table with its columns side by side, numbers to the right.
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]
    widths = [max(len(row[i]) for k, row in enumerate(rows) if k != 1) for i in range(len(rows[0]))]
    right = [mark.endswith(":") for mark in rows[1]]
    return "\n".join(
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in [rows[0], *rows[2:]]
    )
