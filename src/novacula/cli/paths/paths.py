"""``novacula paths``, behind its options: read or train runs, compare them, say what was found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.text import Text

from novacula.cli.console import out, print_json
from novacula.cli.paths.options import PathsOptions
from novacula.cli.progress import Progress, computing
from novacula.core.errors import InputError
from novacula.runs.settings import target_of

if TYPE_CHECKING:
    from novacula.core.params import Params
    from novacula.study.path_dependence.result import PathDependence

_CAUSES = ("weights", "order", "noise")
_EXAMPLE = "novacula paths runs/a runs/b; novacula paths --train 3x3 --data digits --net mlp"


def paths(options: PathsOptions) -> None:
    """Run ``novacula paths``."""
    if bool(options.runs) == (options.train is not None):
        raise InputError("either runs or --train", "both" if options.runs else "neither", _EXAMPLE)
    if options.train is not None and options.data is None:
        raise InputError("--data to train on", "none", _EXAMPLE)
    levels = {} if options.train is None else _levels(options.train)
    with computing(options) as progress:
        found, made = _trained(options, levels, progress) if levels else (_read(options, progress), ())
        record = {"command": "paths", **found.to_dict(), "words": list(found.words)}
        if options.out is not None:
            record["files"] = _write(options.out, record, made)
    if options.json:
        print_json(record)
        return
    for text in found.words:
        out().print(Text(text), soft_wrap=True)
    for text in found.warnings:
        out().print(Text(text, style="yellow"), soft_wrap=True)


def _levels(text: str) -> dict[str, int]:
    parts = text.replace("×", "x").split("x")
    if not all(p.isdigit() for p in parts) or len(parts) > len(_CAUSES) or min(map(int, parts)) < 2:
        raise InputError("--train as N or IxJ, each 2 or more", repr(text), "--train 9; --train 3x3")
    return dict(zip(_CAUSES, map(int, parts), strict=False))


def _trained(
    options: PathsOptions, levels: dict[str, int], progress: Progress
) -> tuple[PathDependence, tuple[Params, ...]]:
    from novacula.runs.setup import assemble
    from novacula.study.path_dependence.crossed import Recipe, crossed_runs
    from novacula.study.path_dependence.study import path_dependence

    how, start = _how(options, progress), assemble(options.setup)
    recipe = Recipe(
        options.net, start.target, start.train, options.epochs, options.batch_size, options.lr, options.seed
    )
    progress.begin("run", "comparing")
    made = crossed_runs(recipe, levels, workers=options.workers, progress=_shown(progress))
    progress.begin("pair", "")
    found = path_dependence(
        made.runs,
        start.target,
        start.test or start.train,
        train=start.train,
        causes=made.causes if len(levels) > 1 else None,
        **how,
    )
    return found, made.runs


def _read(options: PathsOptions, progress: Progress) -> PathDependence:
    from novacula.data.load import load_splits
    from novacula.data.meaning.soft import outputs_for
    from novacula.networks.make import make
    from novacula.study.path_dependence.study import path_dependence

    module, data, train = None, None, None
    if options.data is not None:
        task: Any = options.task
        splits = load_splits(options.data, target_of(options.target), task=task)
        data, train = splits.test or splits.train, splits.train if splits.test is not None else None
        if any(Path(run).expanduser().is_file() for run in (*options.runs, *options.against)):
            outputs = outputs_for(data.y, len(data.classes))
            module = make(options.net, data.x_shape, outputs, seed=options.seed)
    progress.begin("pair", "")
    against = list(options.against) or None
    return path_dependence(list(options.runs), module, data, train=train, against=against, **_how(options, progress))


def _how(options: PathsOptions, progress: Progress) -> dict[str, Any]:
    from novacula.paths.similarity import Measure

    if options.similarity not in get_args(Measure):  # before anything is trained
        known = ", ".join(get_args(Measure))
        raise InputError(f"--similarity among {known}", repr(options.similarity), "--similarity cka")
    return {
        "similarity": options.similarity,
        "layer": options.layer,
        "pairs": options.pairs,
        "seed": options.seed,
        "progress": _shown(progress),
    }


def _shown(progress: Progress) -> Any:
    return lambda done, total: progress(done, total, {})


def _write(folder: Path, record: dict[str, Any], made: tuple[Params, ...]) -> list[str]:
    from safetensors.torch import save_file

    from novacula.core.storage.atomic import write_json
    from novacula.reporting.figures.paths.runs import between_runs, pairs_apart

    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "paths.json"]
    write_json(files[0], record)
    for picture in (pairs_apart(record), between_runs(record)):
        if picture is not None:
            files.append(folder / f"{picture.name}.svg")
            picture.save(files[-1])
    for i, run in enumerate(made):
        files.append(folder / f"run-{i}.safetensors")
        save_file({k: w.detach().cpu().contiguous() for k, w in run.items()}, files[-1])
    return [str(f) for f in files]
