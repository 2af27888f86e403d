"""``novacula calibrate``, behind its options: read network and data, calibrate, write what is to be taken away."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from novacula.cli.console import out, present
from novacula.cli.folder import default_folder
from novacula.cli.options import CalibrateOptions
from novacula.cli.progress import Progress, computing
from novacula.core.errors import InputError
from novacula.data.meaning.soft import outputs_for
from novacula.reporting.words.numbers import count, number, significant
from novacula.runs.settings import target_of

if TYPE_CHECKING:
    from novacula.data.data import Data
    from novacula.study.calibrating.result import Calibrated

_EXAMPLE = "novacula calibrate my_model.py:make_net train.npz --weights net.safetensors"


def calibrate(options: CalibrateOptions) -> None:
    """Run ``novacula calibrate``."""
    for what, value in (("a network", options.net), ("its training data", options.data)):
        if value is None:
            raise InputError(what, "none", _EXAMPLE)
    if options.calibration is not None and options.weights is None:
        raise InputError("--weights of a trained network with --calibration", "none", "--weights FILE")
    with computing(options) as progress:
        content, folder = _run(options, progress)
    content["output_dir"], content["next"] = str(folder), _next(content, folder)
    present(content, _show, json=options.json)


def _run(options: CalibrateOptions, progress: Progress) -> tuple[dict[str, Any], Path]:
    from novacula.study.calibrating.saving import check_folder  # torch, from here on

    if options.out is not None:
        check_folder(options.out, overwrite=options.overwrite)
    found, test = _calibrated(options, progress)
    progress.say("saving")
    folder = options.out or default_folder(f"{found.data.name}-calibrate")
    content = found.save(folder, overwrite=options.overwrite)
    if test is not None:
        from novacula.prediction import evaluate
        from novacula.runs.saving import own_units

        content["test"] = {**evaluate(found.predict(test.x), own_units(test.y, test.scaling)), "n": float(test.n)}
    return content, folder


def _calibrated(options: CalibrateOptions, progress: Progress) -> tuple[Calibrated, Data | None]:
    import torch

    from novacula.data.load import load_splits
    from novacula.data.standardise import Standardiser
    from novacula.networks.make import make
    from novacula.networks.user import function_from
    from novacula.networks.weights import load_weights
    from novacula.study.calibrating.calibrate import calibrate as calibrate_network

    target = target_of(options.target)
    task: Any = options.task
    columns: dict[str, Any] = {"categorical": options.categorical, "drop": options.drop}
    splits = load_splits(options.data, target, task=task, size=options.size, **columns)
    data, test = splits.train, splits.test
    rows = None if options.calibration is None else _rows(options, data, splits.targets or options.target)
    if options.standardise or options.weights is None:
        scale = Standardiser.fit(data)
        data, test = scale.apply(data), None if test is None else scale.apply(test)
        rows = None if rows is None else scale.apply(rows)
    outputs = outputs_for(data.y, len(data.classes))

    def start() -> torch.nn.Module:
        # Under the seed of each copy.
        return make(options.net, data.x_shape, outputs, seed=int(torch.randint(2**62, ())))

    network = make(options.net, data.x_shape, outputs, seed=options.seed)
    if options.weights is not None:
        load_weights(network, options.weights)
    train = None if options.train is None else function_from(options.train, "my_model.py:train")
    progress.begin("network", "calibrating")
    found = calibrate_network(
        network,
        data,
        train=train,
        folds=options.folds,
        seed=options.seed,
        members=options.members,
        calibration=rows,
        start=start,
        trained=options.weights is not None,
        epochs=options.epochs,
        seconds=options.time,
        progress=progress,
    )
    return found, test


def _rows(options: CalibrateOptions, data: Data, targets: tuple[str, ...]) -> Data:
    # Rows set aside, read like the training data.
    from novacula.data.new import like_of, load_new

    like = dataclasses.replace(like_of(data), targets=targets)
    assert options.calibration is not None
    found = load_new(options.calibration, like)
    if found.y is None:
        raise InputError("labels of the calibration rows", f"none in {options.calibration}", "add them")
    return data.with_values(found.x, found.y)


def _next(content: dict[str, Any], folder: Path) -> str:
    measurements = content["task"] == "regression"
    gives = "means and standard deviations" if measurements else "calibrated logits"
    program = content["program"]
    if program["written"]:
        path = shlex.quote(str(folder / "calibrated.pt2"))
        call = f"torch.export.load({path!r}).module()(x)"
        return f"Next: {call} gives {gives} wherever torch is; {folder}/README.md says more."
    way = "use the noise in" if measurements else f"divide your network's logits by {content['temperature']:.4g}; see"
    return f"Next: {way} {folder}/calibration.json; {program['why']}."


def _show(content: dict[str, Any]) -> None:
    console = out()
    for text in content["decided"]:
        console.print(Text(text, style="dim"), soft_wrap=True)
    score, facts = content["score"], Table.grid(padding=(0, 3))
    if content["task"] == "regression":
        noise = content["noise"]
        kind = "varies with the input" if noise["varies"] else "the same everywhere"
        facts.add_row("noise", f"{', '.join(significant(v) for v in noise['sd'])}, {kind}")
    else:
        error = content["temperature_stderr"]
        beside = "" if error is None else f" ± {number(error)}"
        facts.add_row("temperature", f"{number(content['temperature'])}{beside}")
    before = score.get("uncalibrated_nll")
    was = "" if before is None else f", {number(before)} before"
    facts.add_row("log loss", f"{number(score['nll'])} ± {number(score['stderr'])}{was}")
    for name, label in (("accuracy", "accuracy"), ("ece", "calibration error"), ("rmse", "RMSE")):
        if score.get(name) is not None:
            facts.add_row(label, significant(score[name]) if name == "rmse" else number(score[name]))
    facts.add_row("of", f"{count(content['data']['n'], 'row')} that the networks had not seen")
    if "test" in content:
        facts.add_row("test log loss", f"{number(content['test']['nll'])}, {count(int(content['test']['n']), 'row')}")
    console.print(facts)
    console.print(Text(content["output_dir"], style="cyan"), soft_wrap=True)
    console.print(Text(content["next"]), soft_wrap=True)
