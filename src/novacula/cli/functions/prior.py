"""``novacula functions prior``, behind its options: draw functions, keep the counts, say which come often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from novacula.cli.console import out, present
from novacula.cli.functions.options import OWN, PriorOptions
from novacula.cli.progress import Progress, computing
from novacula.core.errors import InputError
from novacula.reporting.words.numbers import count, percent, significant

if TYPE_CHECKING:
    from torch import Tensor, nn

    from novacula.functions.result import FunctionSample

_PART = 2**18  # functions between two writings of the counts
_SHOWN = 48  # labels of a function on a terminal


def prior(options: PriorOptions) -> None:
    """Run ``novacula functions prior``."""
    if not options.inputs:
        raise InputError("inputs", "none", "novacula functions prior cube:7")
    with computing(options) as progress:
        content = _run(options, progress)
    present(content, _show, json=options.json)


def _run(options: PriorOptions, progress: Progress) -> dict[str, Any]:
    from novacula.cli.functions.reading import network_of
    from novacula.functions import cost, summary
    from novacula.runs.catalogue.models import PRIORS

    inputs, outputs = _inputs(options)
    network = network_of(options, tuple(inputs.shape[1:]), outputs)
    weights = None if options.prior == OWN else PRIORS.find(options.prior)()
    how: dict[str, Any] = {"prior": weights, "format": options.format, "seed": options.seed}
    start = _kept(options, inputs)
    price = cost(network, inputs, options.draws - (start.n if start else 0), **how)
    if price.seconds > options.time:
        got = f"{options.draws:,} draws, about {price.seconds:,.0f} s and {price.bytes / 1e9:.2g} GB at most"
        raise InputError(f"draws that take at most --time {options.time:,.0f} seconds", got, "fewer --draws")
    progress.begin("block", "counting")
    found = _draw(network, inputs, options, how, start, progress)
    content = {
        "command": "functions prior",
        **{k: getattr(options, k) for k in ("net", "prior", "format", "seed")},
        "estimated": price._asdict(),
        **summary(found, options.top),
    }
    if options.figure is not None:
        from novacula.reporting.figures.functions.ranks import ranks

        content["figure"] = ranks(found.counts, found.n, found.inputs, found.classes).save(options.figure)
    return content


def _draw(
    network: nn.Module,
    inputs: Tensor,
    options: PriorOptions,
    how: dict[str, Any],
    found: FunctionSample | None,
    progress: Any,
) -> FunctionSample:
    from novacula.functions import sample
    from novacula.functions.sample import BLOCK

    part = options.draws if options.keep is None else _PART
    while found is None or found.n < options.draws:
        until = min(options.draws, (found.n if found else 0) + part)

        def told(done: int, _: int) -> None:
            progress(-(-done // BLOCK), -(-options.draws // BLOCK), {})

        found = sample(network, inputs, until, start=found, progress=told, **how)
        if options.keep is not None:
            found.save(options.keep, _settings(options, inputs))
    return found


def _kept(options: PriorOptions, inputs: Tensor) -> FunctionSample | None:
    from novacula.functions import FunctionSample

    if options.keep is None or not options.keep.exists():
        return None
    found, settings = FunctionSample.load(options.keep)
    if settings != _settings(options, inputs):
        raise InputError("counts of the same command", f"{options.keep}, of {settings}", "--keep another file")
    if found.n > options.draws:
        raise InputError(f"--draws of {found.n:,} or more", f"{options.draws:,}", f"{options.keep} holds more")
    return found


def _settings(options: PriorOptions, inputs: Tensor) -> dict[str, Any]:
    names = ("inputs", "net", "prior", "format", "seed")
    return {k: getattr(options, k) for k in names} | {"shape": list(inputs.shape)}


def _inputs(options: PriorOptions) -> tuple[Tensor, int]:
    kind, _, bits = options.inputs.partition(":")
    if kind == "cube":
        from novacula.functions import cube

        if not bits.isdigit():
            raise InputError("cube:N with the number of bits", options.inputs, "cube:7")
        return cube(int(bits)), 1
    from novacula.cli.functions.reading import data_of
    from novacula.data.meaning.soft import outputs_for

    data = data_of(options, options.inputs)
    if data.task == "regression":
        raise InputError("labels of classes, which say how many outputs there are", "measurements", "cube:7")
    return data.x, outputs_for(data.y, len(data.classes))


def _show(content: dict[str, Any]) -> None:
    console, facts = out(), Table.grid(padding=(0, 3))
    facts.add_row("functions", f"{content['n']:,} drawn, {content['distinct']:,} distinct")
    value, low, high = content["constants"]
    facts.add_row("one label everywhere", f"{percent(value)} ({percent(low)} to {percent(high)})")
    if content["unseen_mass"] is not None:
        value, low, high = content["unseen_mass"]
        facts.add_row("never drawn", f"{percent(value)} ({percent(low)} to {percent(high)}) of the probability")
    if content["entropy_bits"] is not None:
        facts.add_row("entropy", f"{significant(content['entropy_bits'])} bits")
    if content["bound"] is not None:
        facts.add_row("simplicity", f"log2 P falls by {significant(-content['bound']['slope'])} a bit of complexity")
    console.print(facts)
    table = Table("labels", "probability", "complexity, bits", box=None)
    for row in content["top"]:
        text = row["labels"] if len(row["labels"]) <= _SHOWN else row["labels"][: _SHOWN - 1] + "…"
        table.add_row(text, significant(row["probability"][0]), significant(row["lz_bits"]))
    console.print(table)
    console.print(Text(f"{count(content['inputs'], 'input')}, in the order given; Lempel and Ziv’s complexity"))
    if "figure" in content:
        console.print(Text(content["figure"], style="cyan"), soft_wrap=True)
