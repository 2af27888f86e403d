"""The options of ``novacula paths``."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path

from novacula.runs import settings as shared
from novacula.runs.flags import flag, make


@dataclass(frozen=True)
class PathsOptions:
    """Which runs are compared, on what, or how they are trained."""

    runs: tuple[str, ...] = flag(MISSING, "Runs of one network: folders of 'novacula learn', or files of weights.")
    train: str | None = flag(
        None,
        "Train runs instead: N with all seeds their own, or first weights × orders, perhaps × noise, as 3x3.",
        metavar="N|IxJ",
    )
    against: tuple[str, ...] = flag((), "A run of another setting; repeat, in the order of the runs.", metavar="RUN")
    data: str | None = flag(
        None,
        "Data, as 'novacula learn' takes them.",
        metavar="DATA",
        shown="those of the runs",
        anchor=shared.anchored_data,
    )
    target: tuple[str, ...] = shared.target_flag()
    task: str | None = shared.task_flag("by the labels")
    net: str = shared.net_flag()
    prior: str = flag("gaussian", "Prior over weights, for --train.", metavar="NAME", panel="Model")
    invariance: str = flag(
        "none",
        "Transformations of training images, at their first extents, for --train.",
        metavar="NAMES",
        panel="Model",
    )
    epochs: int = flag(20, "Passes over the training data, for --train.", metavar="N", panel="Training")
    batch_size: int = flag(50, "Examples a step, for --train.", metavar="N", panel="Training")
    lr: float = flag(0.01, "Peak learning rate, for --train.", metavar="RATE", panel="Training")
    workers: int = flag(-1, "Processes, for --train.", metavar="N", shown="one on each core", panel="Training")
    layer: str | None = flag(
        None, "Layer whose outputs are compared.", metavar="NAME", shown="the inputs of the last linear one"
    )
    similarity: str = flag("cka", "How they are compared: cka, svcca, procrustes, rsa or neighbours.")
    pairs: int = flag(12, "Pairs whose representations and barriers are measured; 0 for none.", metavar="N")
    seed: int = shared.seed_flag()
    threads: int | None = shared.threads_flag()
    out: Path | None = flag(
        None,
        "Folder for paths.json, figures (.svg) and the weights of runs that were trained.",
        metavar="FOLDER",
        panel="Output",
    )
    json: bool = shared.json_flag()
    quiet: bool = shared.quiet_flag()

    @property
    def setup(self) -> shared.Setup:
        """Data and model of runs that are trained."""
        assert self.data is not None
        return make(shared.Setup, {**vars(self), "train": None})  # where it means another thing
