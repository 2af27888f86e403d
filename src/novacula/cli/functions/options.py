"""The options of ``novacula functions prior``, ``evidence``, ``sgd-vs-bayes`` and ``probes``."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

from novacula.runs import settings as shared
from novacula.runs.catalogue.models import PRIORS
from novacula.runs.flags import flag

OWN = "own"


def _prior_flag(default: str, own: str = "") -> Any:
    return flag(default, f"Prior over weights: {own}{PRIORS.listed(', ')}.", metavar="NAME", panel="Model")


@dataclass(frozen=True)
class PriorOptions:
    """Which functions are drawn, on which inputs."""

    inputs: str = flag(MISSING, "cube:N for all inputs of N bits; or data, as 'novacula learn' takes them: their rows.")
    net: str = shared.net_flag()
    prior: str = _prior_flag(OWN, "own (the network’s own initialisation), ")
    format: str = flag("float32", "Number format of the weights: float32, bfloat16 or int8.", panel="Model")
    rows: int = flag(16, "Rows of data on which functions are told apart, drawn at random.", metavar="N", panel="Data")
    target: tuple[str, ...] = shared.target_flag()
    categorical: tuple[str, ...] = shared.categorical_flag()
    drop: tuple[str, ...] = shared.drop_flag()
    draws: int = flag(100_000, "Networks to draw.", metavar="N", panel="Training")
    time: float = flag(
        3600.0, "Seconds that drawing may take, by an estimate made first.", metavar="SECONDS", panel="Training"
    )
    seed: int = shared.seed_flag()
    threads: int | None = shared.threads_flag()
    top: int = flag(10, "Functions to show.", metavar="K", panel="Output")
    keep: Path | None = flag(
        None, "Keep the counts in this .npz, and go on from those that it holds.", metavar="FILE", panel="Output"
    )
    figure: Path | None = flag(None, "Draw probability by rank, as .svg.", metavar="FILE", panel="Output")
    json: bool = shared.json_flag()
    quiet: bool = shared.quiet_flag()


@dataclass(frozen=True)
class EvidenceOptions:
    """Which labels are to be fitted, by which networks, and how that is estimated."""

    data: str = flag(MISSING, "The data: what 'novacula learn' takes.")
    net: str = shared.net_flag()
    prior: str = _prior_flag("fan-in")
    rows: int = flag(20, "Rows to fit, drawn at random.", metavar="N", panel="Data")
    target: tuple[str, ...] = shared.target_flag()
    task: str | None = shared.task_flag("by the labels")
    categorical: tuple[str, ...] = shared.categorical_flag()
    drop: tuple[str, ...] = shared.drop_flag()
    by: tuple[str, ...] = flag(
        (), "counting, ep, tilting, splitting or annealing; may repeat.", metavar="NAME", shown="all", panel="Training"
    )
    draws: int = flag(100_000, "Networks that are counted.", metavar="N", panel="Training")
    heads: int = flag(1, "How many of them share all layers but the last.", metavar="K", panel="Training")
    particles: int = flag(500, "Networks of each population of splitting and annealing.", metavar="N", panel="Training")
    seed: int = shared.seed_flag()
    threads: int | None = shared.threads_flag()
    json: bool = shared.json_flag()
    quiet: bool = shared.quiet_flag()


@dataclass(frozen=True)
class SgdVsBayesOptions:
    """What is trained, how, and how the posterior is drawn."""

    data: str = flag(MISSING, "The data: what 'novacula learn' takes.")
    net: str = shared.net_flag()
    prior: str = _prior_flag("fan-in")
    init: str = flag("prior", "Where networks start: prior, or own (their own initialisation).", panel="Model")
    rows: int = flag(100, "Rows taken, drawn at random.", metavar="N", panel="Data")
    train: int = flag(20, "Of these, rows to train on; the others are held out.", metavar="N", panel="Data")
    points: int = flag(16, "Held-out rows on which functions are told apart.", metavar="N", panel="Data")
    target: tuple[str, ...] = shared.target_flag()
    categorical: tuple[str, ...] = shared.categorical_flag()
    drop: tuple[str, ...] = shared.drop_flag()
    optimiser: str = flag("sgd", "sgd or adam.", panel="Training")
    lr: float = flag(0.1, "Its learning rate.", panel="Training")
    batch_size: int = flag(8, "Examples of a batch.", metavar="N", panel="Training")
    loss: str = flag("likelihood", "likelihood (cross-entropy) or squared.", panel="Training")
    beyond: tuple[str, ...] = flag(
        (), "Epochs after the stop; may repeat.", metavar="EPOCHS", shown="64", panel="Training"
    )
    nets: int = flag(1000, "Networks to train.", metavar="N", panel="Training")
    epochs: int = flag(1000, "Epochs within which one must reach zero error.", metavar="N", panel="Training")
    workers: int = flag(1, "Processes that train; -1 for one on each core.", metavar="N", panel="Training")
    by: str = flag("splitting", "How the posterior is drawn: splitting, rejection or nngp.", panel="Posterior")
    draws: int = flag(2000, "Draws of the posterior.", metavar="N", panel="Posterior")
    seed: int = shared.seed_flag()
    threads: int | None = shared.threads_flag()
    keep: Path | None = flag(
        None, "Keep what is computed in this folder, and go on from what it holds.", metavar="FOLDER", panel="Output"
    )
    figure: Path | None = flag(None, "Draw the probabilities of functions, as .svg.", metavar="FILE", panel="Output")
    json: bool = shared.json_flag()
    quiet: bool = shared.quiet_flag()


@dataclass(frozen=True)
class ProbesOptions:
    """Which tasks are given to which networks, and what may be spent on each."""

    task: tuple[str, ...] = flag(
        (), "identity, copy, parity, palindrome, addition, map1, map2 or map4; may repeat.", metavar="NAME", shown="all"
    )
    net: tuple[str, ...] = flag(
        (),
        "mlp, cnn, recurrent, tied, attention or arithmetic; may repeat.",
        metavar="NAME",
        shown="all",
        panel="Model",
    )
    split: tuple[str, ...] = flag(
        (), "all, random, odd or inside: words to train on; may repeat.", metavar="NAME", shown="all four", panel="Data"
    )
    bits: int = flag(4, "Bits of a word.", metavar="N", panel="Data")
    width: int = flag(32, "Units of each hidden layer.", metavar="N", panel="Model")
    draws: int = flag(1_000_000, "Networks that are counted.", metavar="N", panel="Training")
    particles: int = flag(100, "Networks of each population of splitting.", metavar="N", panel="Training")
    members: int = flag(20, "Networks that are trained.", metavar="N", panel="Training")
    steps: int = flag(1_000, "Steps that each is trained for.", metavar="N", panel="Training")
    seed: int = shared.seed_flag()
    threads: int | None = shared.threads_flag()
    keep: Path | None = flag(
        None, "Keep what is found in this .json, and go on from what it holds.", metavar="FILE", panel="Output"
    )
    json: bool = shared.json_flag()
    quiet: bool = shared.quiet_flag()
