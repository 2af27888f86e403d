"""``novacula learn``, behind its options: claim the folder, run, save, report; and leave nothing half-written."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from novacula.cli.console import err, out, print_json, stdout_for_results, warn
from novacula.cli.folder import OutputFolder, default_folder
from novacula.cli.options import Destination, Display, Options, load_options, resumed
from novacula.cli.threads import set_threads, suit_threads
from novacula.core.errors import InputError, NonFiniteError
from novacula.core.storage.run import CHECKPOINT, CHECKPOINT_POSTERIOR, COMMAND, Run

if TYPE_CHECKING:
    from novacula.cli.progress import Progress
    from novacula.runs.catalogue.methods import Wanted
    from novacula.runs.result import LearnResult
    from novacula.target import Target


def learn(kind: type[Options], given: dict[str, Any], destination: Destination, display: Display) -> None:
    """Run ``novacula learn`` with the options that were given."""
    output, overwrite = destination.output, destination.overwrite
    if destination.resume:
        folder = _to_resume(output)
        if folder.finished and not folder.interrupted:
            record = Run.read(folder.path, parts=()).record
            resumed(kind.of_record(record), given, "run")
            err().print(Text(f"the run in {folder.path} is finished"))
            folder.complete(report=not display.no_report)
            _print(record, folder.path, display)
            return
        options = _resumed_options(folder, kind, given)
    else:
        if "data" not in given:
            raise InputError("data to learn from", "none", "novacula learn digits --perturb rotate=180")
        options = kind.of(**given)
        folder = OutputFolder(output, overwrite=overwrite) if output is not None else None
    if folder is not None:
        folder.check()

    said: list[str] = []
    with stdout_for_results(said):
        record, folder = _run(options, folder, display)
    for text in record.get("warnings") or []:
        if text not in said:
            warn(text)
    _print(record, folder.path, display)


def _run(options: Options, folder: OutputFolder | None, display: Display) -> tuple[dict[str, Any], OutputFolder]:
    from novacula.cli.progress import Progress

    with Progress(quiet=display.quiet) as progress:
        progress.say("loading")
        from novacula.cli.infer import asked  # torch, from here on
        from novacula.core.device import divided, find_device
        from novacula.runs.catalogue.controls import read_controls
        from novacula.runs.catalogue.models import ESTIMATORS
        from novacula.runs.setup import assemble, load_ood
        from novacula.study import learn as learn_target
        from novacula.study.controls.compute import check

        set_threads(options.threads)
        find_device(divided(options.device)[1] or "cpu")
        estimator = None if options.train.evidence == "auto" else ESTIMATORS.find(options.train.evidence, "or auto")()
        assembled = assemble(options.setup)
        progress.decided(assembled.meaning)
        # Whatever can be known to be wrong is known before the folder is touched.
        suit_threads(options.threads, *assembled.target.prepare(assembled.train))
        wanted, names = asked(options.train, assembled), read_controls(options.train.against)
        check(names, assembled.train, assembled.target)
        strange = None if options.ood is None else load_ood(options.ood, assembled)
        folder = folder or OutputFolder(default_folder(assembled.train.name))
        # After a loss that diverged, resuming would meet the same numbers again.
        with folder.owned("learn", options, hopeless=lambda error: isinstance(error, NonFiniteError)):
            progress.begin()
            result = learn_target(
                assembled.target,
                assembled.train,
                seconds=options.train.time,
                **{k: getattr(options.train, k) for k in ("epochs", "folds", "batch_size", "lr", "precision")},
                seed=options.setup.seed,
                evidence=estimator,
                checkpoint=folder.path / CHECKPOINT,
                resume=folder.resume,
                progress=progress,
                device=options.device,
            )
            result, failed = _inferred(result, wanted, options, folder, progress)
            result, held = _against(result, names, assembled.target, progress)
            progress.say("saving")
            record = result.save(
                folder.path,
                test=assembled.test,
                strange=strange,
                setup=options.setup,
                targets=assembled.targets,
                command=options.command(),
                settings=options.settings(),
                against=held,
            )
            folder.settle()
            if not display.no_report:
                folder.report()
    if failed is not None:
        raise NonFiniteError(failed.expected, f"{failed.got}; {folder.path} holds the run without it", failed.hint)
    return record, folder


def _inferred(
    result: LearnResult, wanted: Wanted, options: Options, folder: OutputFolder, progress: Progress
) -> tuple[LearnResult, NonFiniteError | None]:
    from novacula.cli.infer import infer

    if wanted.name == "auto":
        return result, None
    checkpoint = folder.path / CHECKPOINT_POSTERIOR
    try:
        return infer(result, wanted, options.train, checkpoint, resume=folder.resume, progress=progress), None
    except NonFiniteError as error:
        # What was learned is not lost with it.
        text = f"there is no posterior by {wanted.text}: {error}"
        return dataclasses.replace(result, warnings=(*result.warnings, text)), error


def _against(
    result: LearnResult, names: tuple[str, ...], target: Target, progress: Progress
) -> tuple[LearnResult, dict[str, Any] | None]:
    from novacula.study import against

    if not names:
        return result, None
    progress.say(f"controls: {', '.join(names)}")
    try:
        return result, against(result, names, target)
    except InputError as error:
        # What was learned is not lost with it.
        text = f"the network is held against nothing: {error}"
        return dataclasses.replace(result, warnings=(*result.warnings, text)), None


def _to_resume(output: Path | None) -> OutputFolder:
    if output is None:
        raise InputError("the folder of the run to resume", "no --output", "novacula learn --resume --output runs/NAME")
    folder = OutputFolder(output, resume=True)
    folder.check()
    return folder


def _resumed_options(folder: OutputFolder, kind: type[Options], given: dict[str, Any]) -> Options:
    path = folder.path / COMMAND
    if not path.is_file():
        if "data" not in given:
            hint = "give the data and options, to start one"
            raise InputError("an interrupted run to resume", f"none in {folder.path}", hint)
        return kind.of(**given)
    return resumed(load_options(kind, path), given, "run")


def _print(record: dict[str, Any], folder: Path, display: Display) -> None:
    if display.json:
        print_json(record)
        return
    from novacula.cli.summary import summary

    console = out()
    console.print(summary(record))
    page = folder / "report.html"
    console.print(Text(f"\n{page if page.is_file() else folder}", style="cyan"), soft_wrap=True)
