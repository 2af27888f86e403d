"""What a run is asked for, by names: data and model, and the training. Reading it needs no torch.

A `Setup` is saved with a run, so that the run's network can be built again, and its training data read again.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

from novacula.runs.catalogue.controls import CONTROLS
from novacula.runs.catalogue.methods import METHODS
from novacula.runs.catalogue.models import ESTIMATORS, INVARIANCES, LIKELIHOODS, PRIORS
from novacula.runs.flags import flag


def anchored_data(path: str) -> str:
    """A path as seen from any folder."""
    found = Path(path).expanduser()
    return str(found.resolve()) if path != "digits" and found.exists() else path


def anchored_split(split: str) -> str:
    """A list of files as seen from any folder; a number is one of a published split."""
    return split if split.isdigit() else anchored_data(split)


def anchored_net(net: str) -> str:
    """A network's name as seen from any folder."""
    file, colon, name = net.rpartition(":")
    return f"{Path(file).expanduser().resolve()}:{name}" if colon and file.endswith(".py") else net


def net_flag() -> Any:
    """The option of a network, of every command that makes one."""
    return flag(
        "auto",
        "cnn, mlp, resnet, table, linear, auto, or FILE.py:FUNCTION of (x_shape, outputs).",
        metavar="NET",
        panel="Model",
        anchor=anchored_net,
    )


def target_flag() -> Any:
    """The option of what is predicted, of every command that reads tables."""
    return flag((), "Column to predict, for tables; repeat for several.", metavar="COLUMN", panel="Data")


def task_flag(shown: str) -> Any:
    """The option of what the target is, and by what a command tells it otherwise."""
    return flag(
        None,
        "What the target is: classification, multilabel or regression.",
        metavar="TASK",
        shown=shown,
        panel="Data",
    )


def categorical_flag() -> Any:
    """The option of columns whose numbers are categories."""
    return flag((), "Column whose numbers are categories, for tables; may repeat.", metavar="COLUMN", panel="Data")


def drop_flag() -> Any:
    """The option of columns to leave out."""
    return flag((), "Column to leave out, for tables; may repeat.", metavar="COLUMN", panel="Data")


def device_flag(panel: str = "Training") -> Any:
    """The option of where a command computes, which does not determine what: devices differ by rounding."""
    return flag("cpu", "Where to compute: auto, cpu, cuda, cuda:1.", metavar="DEVICE", panel=panel, fixed=False)


def size_flag() -> Any:
    """The option of the size of images, of every command that reads folders of them."""
    return flag(None, "Pixels to which images are brought: shorter side, then the centre.", metavar="S", panel="Data")


def seed_flag() -> Any:
    """The option of the seed."""
    return flag(0, "Seed of everything random.", metavar="N", panel="Training")


def threads_flag(*, fixed: bool = True) -> Any:
    """The option of threads, and whether a run that goes on must have the same."""
    text, own = "Threads of the computation.", "torch’s own"
    return flag(None, text, metavar="N", shown=own, panel="Training", fixed=fixed)


def json_flag() -> Any:
    """The option of one JSON object for programs."""
    return flag(False, "Print one JSON object on stdout, and nothing else there.", panel="Output")


def quiet_flag() -> Any:
    """The option of no progress."""
    return flag(False, "Show no progress.", panel="Output")


def target_of(names: tuple[str, ...]) -> Any:
    """The target as readers of data take it: a name, the number of a column, several names, or none."""
    if len(names) != 1:
        return list(names) or None
    return int(names[0]) if names[0].lstrip("-").isdigit() else names[0]


@dataclass(frozen=True)
class Setup:
    """What determines data and model of a run."""

    data: str = flag(
        MISSING,
        "'digits' (embedded), or a .npz, .npy, .csv, .tsv, .parquet or IDX file, or a folder of images.",
        anchor=anchored_data,
    )
    target: tuple[str, ...] = target_flag()
    task: str | None = task_flag("by the likelihood or the labels")
    categorical: tuple[str, ...] = categorical_flag()
    drop: tuple[str, ...] = drop_flag()
    split: str | None = flag(
        None,
        "Published split K, for files that have them; or for images a list of files to learn from (.txt, .csv).",
        metavar="K|FILE",
        panel="Data",
        anchor=anchored_split,
    )
    size: int | None = size_flag()
    train: int | None = flag(
        None,
        "Training examples, drawn at random; the others are for testing.",
        metavar="N",
        shown="those not set aside",
        panel="Data",
    )
    test_fraction: float | None = flag(
        None,
        "Share set aside for testing; 0 for none.",
        metavar="SHARE",
        shown="0.2, where the data have no test part",
        panel="Data",
    )
    perturb: tuple[str, ...] = flag(
        (),
        "rotate=DEGREES, translate=FRACTION or scale=SMALLEST: perturb every image; may repeat.",
        metavar="KIND=VALUE",
        panel="Data",
    )
    net: str = net_flag()
    invariance: str | None = flag(
        None,
        f"{INVARIANCES.listed(', ')}; join with +.",
        metavar="NAMES",
        shown="affine for images, else none",
        panel="Model",
    )
    likelihood: str = flag("auto", f"{LIKELIHOODS.listed()}.", metavar="NAME", panel="Model")
    prior: str = flag(
        "gaussian",
        f"{PRIORS.listed()}.",
        metavar="NAME",
        panel="Model",
    )
    copies: str | None = flag(
        None,
        "Transformed copies averaged in training, scoring and predicting.",
        metavar="T,E,P",
        shown="1,8,32",
        panel="Model",
    )
    # Of the split, the perturbations and the first weights too.
    seed: int = flag(0, "Seed of everything random.", metavar="N", panel="Training")


@dataclass(frozen=True)
class Train:
    """How the weights are learned and what predictions average over."""

    epochs: int | None = flag(
        None,
        "Passes over the training data at most.",
        metavar="N",
        shown="until nothing is gained, in a few rounds",
        panel="Training",
    )
    time: float | None = flag(
        None, "Seconds after which training ends; the folds come on top.", metavar="SECONDS", panel="Training"
    )
    folds: int = flag(
        3,
        "Networks that are blind to a fold each, by which new data are foreseen; 0 for none.",
        metavar="K",
        panel="Training",
    )
    batch_size: int | None = flag(
        None, "Examples a step.", metavar="N", shown="by the size of the data", panel="Training"
    )
    lr: float | None = flag(
        None,
        "Peak learning rate of the weights.",
        metavar="RATE",
        shown="0.01 for tables and small networks, else 0.004",
        panel="Training",
    )
    precision: str = flag(
        "full",
        "bfloat16: networks compute in it while they train; scores and predictions in float32.",
        metavar="FORMAT",
        panel="Training",
    )
    evidence: str = flag("auto", f"What scores the run: {ESTIMATORS.listed()}.", metavar="NAME", panel="Training")
    against: str | None = flag(
        None,
        f"Hold the network against others on unseen training examples: "
        f"{', '.join(f'{name} ({row.help})' for name, row in CONTROLS.items())}; join with commas.",
        metavar="NAMES",
        panel="Training",
    )
    posterior: str = flag(
        "auto",
        f"What predictions average over: {METHODS.listed()}; NAME:SETTING=VALUE,… changes a method’s settings.",
        metavar="NAME",
        panel="Posterior",
    )
    posterior_steps: int | None = flag(
        None,
        "Steps of each of its chains.",
        metavar="N",
        shown="by the method and the epochs",
        panel="Posterior",
    )
    chains: int | None = flag(
        None, "Chains side by side.", metavar="M", shown="4 for samplers, else 1", panel="Posterior"
    )
