"""``novacula learn``, behind its options: claim the folder, run, save, report; and leave nothing half-written."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from novacula.cli.console import INTERRUPTED, err, out, warn, warnings_to_stderr
from novacula.cli.folder import OutputFolder, default_folder
from novacula.cli.options import Options
from novacula.core.errors import InputError, NonFiniteError
from novacula.core.storage.run import CHECKPOINT, CHECKPOINT_POSTERIOR, COMMAND, Run


@dataclass(frozen=True)
class Shown:
    """How a run is shown, which does not change it.

    Args:
        json: Whether to print one JSON object on stdout.
        quiet: Whether to show no progress.
        report: Whether to write the report.
    """

    json: bool = False
    quiet: bool = False
    report: bool = True


def learn(
    options: Options | None, given: dict[str, Any], output: Path | None, overwrite: bool, resume: bool, shown: Shown
) -> int:
    """Run ``novacula learn``."""
    if overwrite and resume:
        raise InputError("either --overwrite or --resume", "both", "use one of them")
    if resume:
        folder = _to_resume(output)
        if folder.finished and not folder.interrupted:
            record = Run.read(folder.path).record
            _refuse_others(given, Options.of_record(record))
            err().print(Text(f"the run in {folder.path} is finished"))
            _print(record, folder.path, shown)
            return 0
        options = _resumed_options(folder, options, given)
    else:
        if options is None:
            raise InputError("data to learn from", "none", "novacula learn digits --perturb rotate=180")
        folder = OutputFolder(output, overwrite=overwrite) if output is not None else None
    if folder is not None:
        folder.check()

    said: list[str] = []
    # A network's file may print; stdout is for results.
    with contextlib.redirect_stdout(sys.stderr), warnings_to_stderr(said):
        try:
            record, folder = _run(options, folder, shown)
        except KeyboardInterrupt as interrupt:
            err().print(Text(f"interrupted{interrupt}"))
            return INTERRUPTED
    for text in record.get("warnings") or []:
        if text not in said:
            warn(text)
    _print(record, folder.path, shown)
    return 0


def _run(options: Options, folder: OutputFolder | None, shown: Shown) -> tuple[dict[str, Any], OutputFolder]:
    from novacula.cli.progress import Progress

    with Progress(quiet=shown.quiet) as progress:
        progress.say("loading")
        from novacula.cli.assemble import assemble, setup_of, strange_of  # torch, from here on
        from novacula.cli.infer import asked, infer
        from novacula.study import learn as learn_target

        _set_threads(options.threads)
        assembled = assemble(options)
        # Whatever can be known to be wrong is known before the folder is touched.
        assembled.target.prepare(assembled.train)
        posterior = asked(options, assembled)
        strange = None if options.ood is None else strange_of(options.ood, assembled)
        folder = folder or OutputFolder(default_folder(assembled.train.name))
        with _owned(folder, options):
            progress.begin()
            result = learn_target(
                assembled.target,
                assembled.train,
                epochs=options.epochs,
                batch_size=options.batch_size,
                lr=options.lr,
                seed=options.seed,
                checkpoint=folder.path / CHECKPOINT,
                resume=folder.resume,
                progress=progress,
            )
            failed: NonFiniteError | None = None
            if posterior:
                checkpoint = folder.path / CHECKPOINT_POSTERIOR
                try:
                    result = infer(result, options, checkpoint, resume=folder.resume, progress=progress)
                except NonFiniteError as error:
                    # What was learned is not lost with it.
                    failed, text = error, f"there is no posterior by {options.posterior}: {error}"
                    result = dataclasses.replace(result, warnings=(*result.warnings, text))
            progress.say("saving")
            record = result.save(
                folder.path,
                test=assembled.test,
                strange=strange,
                setup=setup_of(options),
                targets=assembled.targets,
                command=options.command(),
                settings=options.settings(),
            )
            folder.settle()
    if shown.report:
        from novacula.reporting import report

        report(folder.path)
    if failed is not None:
        raise NonFiniteError(failed.expected, f"{failed.got}; {folder.path} holds the run without it", failed.hint)
    return record, folder


# Claims the folder, and on failure leaves it resumable or not at all.
@contextlib.contextmanager
def _owned(folder: OutputFolder, options: Options) -> Iterator[None]:
    try:
        folder.claim()
        if not (folder.path / COMMAND).is_file():
            options.save(folder.path / COMMAND)
        yield
    except KeyboardInterrupt:
        folder.abandon(keep_resumable=True)
        where = shlex.quote(str(folder.path))
        kept = folder.interrupted
        how = f"; resume with: novacula learn --resume --output {where}" if kept else " before the first epoch ended"
        raise KeyboardInterrupt(how) from None
    except BaseException as error:
        # After a loss that diverged, resuming would meet the same numbers again.
        folder.abandon(keep_resumable=folder.resume or not isinstance(error, NonFiniteError))
        raise


def _to_resume(output: Path | None) -> OutputFolder:
    if output is None:
        raise InputError("the folder of the run to resume", "no --output", "novacula learn --resume --output runs/NAME")
    folder = OutputFolder(output, resume=True)
    folder.check()
    return folder


def _resumed_options(folder: OutputFolder, options: Options | None, given: dict[str, Any]) -> Options:
    path = folder.path / COMMAND
    if not path.is_file():
        if options is None:
            hint = "give the data and options, to start one"
            raise InputError("an interrupted run to resume", f"none in {folder.path}", hint)
        return options
    saved = Options.load(path)
    _refuse_others(given, saved)
    # How many threads compute does not determine what is computed.
    return dataclasses.replace(saved, threads=given.get("threads", saved.threads))


def _refuse_others(given: dict[str, Any], saved: Options) -> None:
    saved = saved.anchored()
    asked = dataclasses.replace(saved, **given).anchored()
    for name in given:
        value, before = getattr(asked, name), getattr(saved, name)
        if name != "threads" and value != before:
            option = f"--{name.replace('_', '-')}" if name != "data" else "the data"
            raise InputError(
                f"{option} as when the run began ({before})", str(value), "leave it out, or start another run"
            )


def _set_threads(threads: int | None) -> None:
    if threads is None:
        return
    if threads < 1:
        raise InputError("--threads of 1 or more", str(threads), "--threads 1")
    import torch

    torch.set_num_threads(threads)


def _print(record: dict[str, Any], folder: Path, shown: Shown) -> None:
    if shown.json:
        print(json.dumps(record, allow_nan=False, ensure_ascii=False))
        return
    from novacula.cli.summary import summary

    console = out()
    console.print(summary(record))
    page = folder / "report.html"
    console.print(Text(f"\n{page if page.is_file() else folder}", style="cyan"), soft_wrap=True)
