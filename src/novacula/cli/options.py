"""The options of the verbs as values. Those of ``novacula learn`` are saved beside an interrupted run and read back.

An option is one field here or in `novacula.runs.settings`: flags, help, record and resumption are made from it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Self

from novacula.core.errors import InputError
from novacula.core.storage.seal import read_sealed, write_sealed
from novacula.runs import settings as shared
from novacula.runs.flags import anchored, flag, flat, make, options_of


@dataclass(frozen=True)
class Options:
    """What determines a run; how it is shown and where it is written is kept apart."""

    train: shared.Train
    setup: shared.Setup
    ood: str | None = flag(
        None,
        "Inputs of another kind: how well doubt tells them from the test data.",
        metavar="FILE",
        panel="Posterior",
        anchor=shared.anchored_data,
    )
    # How many threads compute does not determine what is computed.
    threads: int | None = shared.threads_flag(fixed=False)
    device: str = shared.device_flag()

    def command(self) -> str:
        """The command that repeats the run: options that differ from their defaults, and the seed.

        Returns:
            One line for a shell.

        Example:
            >>> Options.of(data="digits", perturb=("rotate=180",)).command()
            'novacula learn digits --perturb rotate=180 --seed 0'
        """
        words, options = ["novacula", "learn", self.setup.data], options_of(type(self))
        for name, value in flat(self).items():
            if options[name].is_argument or (value == options[name].default and name != "seed"):
                continue
            for item in value if isinstance(value, tuple) else (value,):
                words += [f"--{name.replace('_', '-')}", str(item)]
        return shlex.join(words)

    def settings(self) -> dict[str, Any]:
        """The options as plain values, for the record of the run."""
        recorded = {"seed", "copies"}
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in flat(self).items() if k not in recorded}
        return {k: v for k, v in values.items() if v is not None and v != []}

    @classmethod
    def of(cls, **values: Any) -> Self:
        """The options with these values; the others have their defaults."""
        if unknown := values.keys() - options_of(cls).keys():
            raise TypeError(f"no options of this version: {', '.join(sorted(unknown))}")
        return make(cls, values)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        """The options of a finished run."""
        settings = record.get("settings", {})
        copies = settings.get("copies") or {}
        asked = ",".join(str(copies[k]) for k in ("train", "evidence", "predict")) if copies else None
        return make(cls, {"data": "", **settings, "seed": record.get("seed", 0), "copies": asked})


def save_options(options: Any, path: Path) -> None:
    """Write options, with paths that mean the same from any folder, so that what is interrupted can be resumed."""
    write_sealed(path, {"options": flat(anchored(options))})


def load_options(kind: type, path: Path) -> Any:
    """Read options that were saved."""
    try:
        values = read_sealed(path)["options"]
        if unknown := values.keys() - options_of(kind).keys():
            raise TypeError(f"no options of this version: {', '.join(sorted(unknown))}")
        return make(kind, values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "start again with --overwrite"
        raise InputError("the options of an interrupted run", f"{path}: {error}", hint) from error


def resumed(saved: Any, given: dict[str, Any], noun: str) -> Any:
    """The options that something began with, and those given now that do not determine it; others are refused."""
    kind, before = type(saved), flat(anchored(saved))
    options, found = options_of(kind), anchored(make(kind, before | given))
    asked = flat(found)
    for name in given:
        if options[name].flag.fixed and asked[name] != before[name]:
            option = "the data" if options[name].is_argument else f"--{name.replace('_', '-')}"
            expected = f"{option} as when the {noun} began ({before[name]})"
            raise InputError(expected, str(asked[name]), f"leave it out, or start another {noun}")
    return found


@dataclass(frozen=True)
class Destination:
    """Where a run is written."""

    output: Path | None = flag(None, "Run folder.", metavar="FOLDER", shown="runs/NAME-TIME", panel="Output")
    overwrite: bool = flag(False, "Replace an older run in the folder.", panel="Output")
    resume: bool = flag(False, "Continue the interrupted run in --output, with its own options.", panel="Output")

    def __post_init__(self) -> None:
        if self.overwrite and self.resume:
            raise InputError("either --overwrite or --resume", "both", "use one of them")


@dataclass(frozen=True)
class Display:
    """How a run is shown, which does not change it."""

    json: bool = shared.json_flag()
    quiet: bool = shared.quiet_flag()
    no_report: bool = flag(False, "Write no report.html.", panel="Output")


@dataclass(frozen=True)
class AugmentOptions:
    """What is compared, and for how long."""

    data: str = flag(
        MISSING,
        "Labelled images: a folder of them, a .npz or IDX file, or 'digits'.",
        anchor=shared.anchored_data,
    )
    only: tuple[str, ...] = flag((), "Transformation to try; may repeat.", metavar="NAME", shown="all", panel="Data")
    size: int | None = shared.size_flag()
    net: str = shared.net_flag()
    time: float = flag(480.0, "Seconds that it may take.", metavar="SECONDS", panel="Training")
    steps: int | None = flag(
        None, "Steps of each network; then the time is no limit.", metavar="N", shown="by the time", panel="Training"
    )
    seed: int = shared.seed_flag()
    workers: int | None = flag(None, "Processes.", metavar="N", shown="one on each core", panel="Training", fixed=False)
    export: str | None = flag(
        None,
        "Print the recommended mixture for torchvision, albumentations, kornia or ultralytics.",
        metavar="LIBRARY",
        panel="Output",
        fixed=False,
    )


@dataclass(frozen=True)
class CalibrateOptions:
    """Which network is calibrated, by which data, and how its copies are trained."""

    net: str = flag(MISSING, "FILE.py:FUNCTION of (x_shape, outputs), or cnn, mlp, resnet, linear, auto.")
    data: str = flag(MISSING, "Its training data: what 'novacula learn' takes.")
    weights: Path | None = flag(
        None,
        "Its trained weights: a state dict as .safetensors, or by torch.save.",
        metavar="FILE",
        shown="it is trained first",
        panel="Model",
    )
    standardise: bool = flag(
        False, "The network takes tables in standard units; without --weights it always does.", panel="Model"
    )
    members: int = flag(1, "Full networks that predict together.", metavar="M", panel="Model")
    target: tuple[str, ...] = shared.target_flag()
    task: str | None = shared.task_flag("by the labels")
    categorical: tuple[str, ...] = shared.categorical_flag()
    drop: tuple[str, ...] = shared.drop_flag()
    size: int | None = shared.size_flag()
    calibration: str | None = flag(
        None,
        "Labelled rows that the network was not trained on; then nothing is trained.",
        metavar="FILE",
        panel="Data",
    )
    folds: int = flag(3, "Copies, each blind to a fold.", metavar="K", panel="Training")
    train: str | None = flag(
        None, "FILE.py:FUNCTION of (network, data): your own training.", metavar="FUNCTION", panel="Training"
    )
    epochs: int | None = flag(
        None,
        "Passes over the data of each network that is trained.",
        metavar="N",
        shown="as many as lead a fresh network to its loss",
        panel="Training",
    )
    time: float | None = flag(None, "Seconds after which training ends.", metavar="SECONDS", panel="Training")
    seed: int = shared.seed_flag()
    threads: int | None = shared.threads_flag(fixed=False)
    out: Path | None = flag(None, "Folder to write to.", metavar="FOLDER", shown="runs/NAME-TIME", panel="Output")
    overwrite: bool = flag(False, "Replace an older calibration in the folder.", panel="Output")
    json: bool = shared.json_flag()
    quiet: bool = shared.quiet_flag()


@dataclass(frozen=True)
class CompareOptions:
    """Which models are compared, on which data, and how long that may take."""

    data: str = flag(MISSING, "What 'novacula learn' takes.", anchor=shared.anchored_data)
    net: tuple[str, ...] = flag(
        (),
        "A network, repeated for each: mlp, cnn, resnet, linear, with numbers as in mlp,width=32,depth=2; or "
        "FILE.py:FUNCTION.",
        metavar="NET",
        panel="Model",
    )
    target: tuple[str, ...] = shared.target_flag()
    task: str | None = shared.task_flag("by the labels")
    categorical: tuple[str, ...] = shared.categorical_flag()
    drop: tuple[str, ...] = shared.drop_flag()
    size: int | None = shared.size_flag()
    budget: float | None = flag(
        None,
        "Seconds: train all for a while, drop the worse ones, go on with the others.",
        metavar="SECONDS",
        shown="learn every model to the end",
        panel="Training",
    )
    by: str = flag("unseen", "What drops models: unseen (out-of-fold loss) or speed (training loss).", panel="Training")
    vary: str | None = flag(
        None,
        "Cross choices of one network: init, optimizer, depth, width, standardise.",
        metavar="NAMES",
        shown="compare networks",
        panel="Training",
    )
    repeats: int = flag(2, "With --vary: trainings of each combination.", metavar="R", panel="Training")
    folds: int = flag(3, "Networks of each training, blind to a fold; 1 with --budget.", metavar="K", panel="Training")
    epochs: int = flag(24, "Without --budget and --vary: passes over the data.", metavar="N", panel="Training")
    steps: int | None = flag(
        None,
        "With --budget or --vary: steps of a full training.",
        metavar="N",
        shown="1,500, or 20 passes",
        panel="Training",
    )
    seed: int = shared.seed_flag()
    workers: int = flag(1, "Processes.", metavar="N", panel="Training")
    threads: int | None = shared.threads_flag()
    output: Path | None = flag(
        None, "Folder from which an interrupted comparison goes on.", metavar="FOLDER", shown="none", panel="Output"
    )
    json: bool = shared.json_flag()
    quiet: bool = shared.quiet_flag()


@dataclass(frozen=True)
class PredictOptions:
    """What is asked of a prediction."""

    out: Path | None = flag(None, "Write all rows: .csv, .tsv, .parquet or .json; - for CSV on stdout.", metavar="FILE")
    decide: str | None = flag(
        None,
        "Choose actions by a table of costs (rows are classes, columns actions); for measurements squared, "
        "absolute or pinball=TAU.",
        metavar="COSTS",
    )
    abstain: float | None = flag(None, "Let decisions be left open at this cost.", metavar="COST", shown="not allowed")
    conformal: float | None = flag(
        None, "Sets or intervals that miss at most this share of the truth.", metavar="ALPHA"
    )
    calibration: str | None = flag(
        None, "Labelled data to calibrate them on.", metavar="FILE", shown="the run’s own test examples"
    )
    groups: str | None = flag(None, "Calibrate the groups that this column names apart.", metavar="COLUMN")
    threads: int | None = flag(None, "Threads of the computation.", metavar="N", shown="torch’s own")
    device: str = shared.device_flag(panel="")
    json: bool = flag(False, "Print one JSON object on stdout.")
    quiet: bool = flag(False, "Show no progress.")


@dataclass(frozen=True)
class PruneOptions:
    """What is taken away from a run's network."""

    to: tuple[str, ...] = flag((), "A share of weights to take away; may be repeated.", metavar="SHARE")
    by: str = flag("weight", "What goes together: weight, row, unit (a row with its bias) or head.")
    folds: int = flag(3, "Networks that are blind to a fold each, to say what is lost; 0 for none.", metavar="K")
    epochs: int = flag(5, "Passes over the data after each cut.", metavar="N")
    seed: int = flag(0, "Seed of everything random.", metavar="N")
    threads: int | None = flag(None, "Threads of the computation.", metavar="N", shown="torch’s own")
    out: Path | None = flag(
        None, "Folder for the pruned weights, one .safetensors for each share.", metavar="FOLDER", shown="none written"
    )
    json: bool = flag(False, "Print one JSON object on stdout.")
    quiet: bool = flag(False, "Show no progress.")


@dataclass(frozen=True)
class RestoreOptions:
    """How an image is restored."""

    task: str = flag("denoise", "denoise, inpaint or superres.")
    mask: Path | None = flag(None, "For inpaint: an image that is white where pixels are known.", metavar="FILE")
    factor: int = flag(2, "For superres: pixels a side.", metavar="N")
    noise: float | None = flag(
        None, "The noise’s standard deviation, of values from 0 to 1.", metavar="SD", shown="by the image"
    )
    steps: int = flag(2_000, "The most steps of fitting.", metavar="N")
    draws: int = flag(20, "Draws of the posterior that are averaged.", metavar="N")
    seed: int = flag(0, "Seed of everything random.", metavar="N")
    threads: int | None = flag(None, "Threads of the computation.", metavar="N", shown="torch’s own")
    out: Path | None = flag(None, "The image to write.", metavar="FILE", shown="NAME-restored.png beside it")
    json: bool = flag(False, "Print one JSON object on stdout.")
    quiet: bool = flag(False, "Show no progress.")
