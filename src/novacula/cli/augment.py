"""``novacula augment``, behind its options: claim the folder, compare, save, report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from novacula.cli.console import err, out, print_json, print_text, stdout_for_results
from novacula.cli.folder import OutputFolder, default_folder
from novacula.cli.options import AugmentOptions, Destination, Display, load_options, resumed
from novacula.cli.progress import Progress
from novacula.core.errors import FullDisk, InputError
from novacula.core.storage.run import ADVICE, COMMAND, NETWORKS, PLAN
from novacula.reporting.advice import words
from novacula.reporting.recipes import export
from novacula.reporting.recipes.export import FORMATS
from novacula.runs.flags import make

_STYLES = {"needed": "bold green", "harmful": "bold red", "undecided": "yellow", "no effect": "dim"}


def augment(given: dict[str, Any], destination: Destination, display: Display) -> None:
    """Run ``novacula augment`` with the options that were given."""
    if (to := given.get("export")) is not None and to not in FORMATS:
        raise InputError(f"--export as one of {', '.join(FORMATS)}", repr(to), f"--export {FORMATS[0]}")
    folder = _folder(destination)
    if destination.resume:
        options = _resumed(folder, given)
    elif "data" not in given:
        raise InputError("images to compare augmentations on", "none", "novacula augment digits")
    else:
        options = make(AugmentOptions, given)
    if folder is None or not folder.finished or destination.overwrite:
        with stdout_for_results():
            folder = _run(options, folder, display)
    else:
        folder.complete(report=not display.no_report)
    _print(folder.path, options.export, display)


def _run(options: AugmentOptions, folder: OutputFolder | None, display: Display) -> OutputFolder:
    with Progress(quiet=display.quiet) as progress:
        progress.say("loading")
        from novacula.data.load import load  # torch, from here on
        from novacula.study.augmentation.advise import augment as compare

        data = load(options.data, size=options.size)
        progress.decided(data.meaning)
        folder = folder or _at(default_folder(f"{data.name}-augment"))
        # What was refused would be refused again.
        refused = lambda error: isinstance(error, InputError) and not isinstance(error, FullDisk)  # noqa: E731
        with folder.owned("augment", options, hopeless=refused):
            store = folder.path / NETWORKS
            store.mkdir(exist_ok=True)
            progress.say("measuring")
            progress.begin("network", "writing")
            advice = compare(
                data,
                only=options.only,
                network=options.net,
                seconds=options.time,
                steps=options.steps,
                seed=options.seed,
                workers=-1 if options.workers is None else options.workers,
                store=store,
                progress=progress,
            )
            progress.say("saving")
            advice.save(folder.path)
            folder.settle()
            if not display.no_report:
                folder.report()
    return folder


def _at(path: Path, *, overwrite: bool = False, resume: bool = False) -> OutputFolder:
    return OutputFolder(path, overwrite, resume, record=ADVICE, checkpoints=(f"{NETWORKS}/{PLAN}",))


def _folder(destination: Destination) -> OutputFolder | None:
    if destination.output is None:
        if destination.resume:
            hint = "novacula augment --resume --output runs/NAME"
            raise InputError("the folder of the comparison to resume", "no --output", hint)
        return None
    folder = _at(destination.output, overwrite=destination.overwrite, resume=destination.resume)
    folder.check()
    return folder


def _resumed(folder: OutputFolder | None, given: dict[str, Any]) -> AugmentOptions:
    path = None if folder is None else folder.path / COMMAND
    if folder is not None and folder.finished:
        return make(AugmentOptions, {"data": "", **given})
    if path is None or not path.is_file():
        raise InputError("an interrupted comparison to resume", f"none in {path}", "novacula augment DATA")
    return resumed(load_options(AugmentOptions, path), given, "comparison")


def _print(folder: Path, to: str | None, display: Display) -> None:
    from novacula.reporting.advice.page import read, size_of  # matplotlib, which the help can do without

    record = read(folder)
    written = None if to is None else export(record, to, size=size_of(record))  # type: ignore[arg-type]  # checked
    if display.json:
        print_json({**record, "output_dir": str(folder), **({} if written is None else {"export": written})})
        return
    # Code for another library is all that stands on stdout where it was asked for.
    console = out() if written is None else err()
    console.print(summary(record))
    page = folder / "report.html"
    console.print(Text(f"\n{page if page.is_file() else folder}", style="cyan"), soft_wrap=True)
    if written is not None:
        print_text(written)


def summary(record: dict[str, Any]) -> RenderableType:
    """The verdicts as tables for the terminal."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for title in ("transformation", "verdict", "gain", "interval"):
        table.add_column(title)
    for row in words.rows(record):
        label = row.sentence.partition(":")[0]
        table.add_row(label, Text(row.verdict, style=_STYLES[row.verdict]), row.gain, row.interval)
    ways = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for title in ("training with", "loss", "accuracy", "recommended gains"):
        ways.add_column(title)
    for line in words.comparison(record):
        ways.add_row(*line)
    said = [Padding(Text(text, style="dim"), (1, 0, 0, 0)) for text in words.caveats(record)]
    head = Padding(Text(words.headline(record), style="bold"), (1, 0))
    return Group(head, table, Padding(ways, (1, 0, 0, 0)), *said)
