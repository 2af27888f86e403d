"""The verbs of the command line and their options. Each imports what it needs when it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from novacula.cli.console import err, errors_to_exit, never_choke, out, print_json, print_text, warn, warnings_to_stderr
from novacula.cli.flags import takes, verb
from novacula.cli.functions.app import functions
from novacula.cli.options import (
    AugmentOptions,
    CalibrateOptions,
    CompareOptions,
    Destination,
    Display,
    Options,
    PredictOptions,
    PruneOptions,
    RestoreOptions,
)
from novacula.cli.paths.options import PathsOptions
from novacula.runs.catalogue import FIGURES, broken
from novacula.runs.flags import make, options_of

app = typer.Typer(
    name="novacula",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Learn a network's prior and invariances from its training data alone.",
)


app.add_typer(functions, name="functions")


def run() -> None:
    """Run the command line on this process's arguments."""
    never_choke()
    for text in broken():
        warn(text)
    app()


def _version(wanted: bool) -> None:
    if wanted:
        from novacula.core.version import __version__

        print(f"novacula {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def learn_command(kind: type[Options] = Options) -> Callable[..., None]:
    """The verb ``learn`` with these options."""

    @takes(kind, Destination, Display)
    def learn(context: typer.Context, values: dict[str, Any]) -> None:
        """Learn weights, prior, noise and invariances in one run, from the training data alone.

        Leaves a run folder with the learned hyperparameters, history, weights and one self-contained report.
        """
        from novacula.cli.learn import learn as run_learn

        written = {k: values[k] for k in options_of(kind) if _is_written(context, k)}
        with errors_to_exit():
            run_learn(kind, written, make(Destination, values), make(Display, values))

    return learn


app.command(
    epilog="Examples: novacula learn digits --perturb rotate=180; novacula learn concrete.csv --target strength; "
    "novacula learn data.npz --net my_model.py:make_net"
)(learn_command())


@app.command(
    epilog="Examples: novacula augment photos/ --time 480; novacula augment digits --only rotation --only flip; "
    "novacula augment images.npz --export torchvision > augment.py"
)
@takes(AugmentOptions, Destination, Display)
def augment(context: typer.Context, values: dict[str, Any]) -> None:
    """Find out which augmentations of training images help: needed, harmful, no effect, or undecided.

    Trains small networks with and without each transformation, and compares them on images that they have not seen.
    Leaves a folder with the verdicts, pictures and one self-contained report.
    """
    from novacula.cli.augment import augment as run_augment

    written = {k: values[k] for k in options_of(AugmentOptions) if _is_written(context, k)}
    with errors_to_exit():
        run_augment(written, make(Destination, values), make(Display, values))


@verb(
    app,
    "novacula.cli.calibrate:calibrate",
    CalibrateOptions,
    epilog="Examples: novacula calibrate my_model.py:make_net train.npz --weights net.safetensors --out calibrated; "
    "novacula calibrate my_model.py:make_net train.npz --weights net.pt --train my_model.py:train; "
    "novacula calibrate mlp concrete.csv --target strength",
)
def calibrate() -> None:
    """Calibrate your own network: probabilities, intervals and sets, without rows set aside.

    Copies that are blind to a fold each tell how sure the network should be. Leaves a folder with the calibrated
    network, which runs where only torch is installed.
    """


@verb(
    app,
    "novacula.cli.paths.paths:paths",
    PathsOptions,
    epilog="Examples: novacula paths runs/a runs/b runs/c; novacula paths --train 3x3 --data digits --net mlp; "
    "novacula paths a.safetensors b.pt --net my_model.py:make_net --data data.npz",
)
def paths() -> None:
    """Say how much trained networks depend on the path of their training.

    How often two runs differ, for the error that each has; outside the data, inside the network, and on the line
    between two. Of runs that it trains, what makes them differ.
    """


@verb(
    app,
    "novacula.cli.compare:compare",
    CompareOptions,
    epilog="Examples: novacula compare digits --net mlp --net mlp,width=16 --net cnn --budget 60; "
    "novacula compare digits --net mlp --vary init,optimizer,depth,standardise",
)
def compare() -> None:
    """Find the best of several models, in a given time; or which of your choices moves predictions most.

    By examples that networks have not seen: no rows are set aside.
    """


@verb(
    app,
    "novacula.cli.predict:predict",
    PredictOptions,
    epilog="Examples: novacula predict runs/digits new.npz --out predictions.csv; "
    "novacula predict runs/patients new.csv --decide costs.csv --conformal 0.1 --calibration held-out.csv",
)
def predict(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[
        str,
        typer.Argument(
            help="What to predict: a file or folder like the run’s data, with or without labels; or 'digits'."
        ),
    ],
) -> None:
    """Predict new data with a run: classes and probabilities, or means and quantiles; decisions; conformal sets.

    Labels are not needed; where there are any, the predictions are scored. Of the data that the run learned from, the
    examples that it set aside for testing are predicted.
    """


@verb(
    app,
    "novacula.cli.prune:prune",
    PruneOptions,
    epilog="Examples: novacula prune runs/digits --to 0.9; novacula prune runs/digits --by unit --to 0.5 --to 0.7",
)
def prune(
    run: Annotated[Path, typer.Argument(help="A run folder of 'novacula learn'.")],
) -> None:
    """Take away the weights that a run's network needs least, and say what that gives up.

    By posterior damage, with precisions tuned by the evidence, and by magnitude beside it; at each share of weights the
    log evidence, and the loss of examples that networks have not seen.
    """


@app.command(epilog=f"Figures of other packages: {FIGURES.listed(', ')}." if FIGURES else None)
def report(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Write report.html anew from a run's saved results; needs neither the data nor the network."""
    from novacula.reporting import report as write

    with errors_to_exit(), warnings_to_stderr([]):
        print_text(str(write(run)))


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print run.json.")] = False,
) -> None:
    """Show a run's results."""
    from novacula.core.storage.run import Run

    with errors_to_exit():
        found = Run.read(run, parts=())
    if as_json:
        print_json(found.record)
        return
    from novacula.cli.progress import fact
    from novacula.cli.summary import summary

    for text in found.record["data"].get("meaning") or []:
        out().print(fact(text), soft_wrap=True)
    out().print(summary(found.record))
    if found.unchecked is not None:
        warn(found.unchecked)
    for text in found.record.get("warnings") or []:
        err().print(f"warning: {text}", style="yellow", markup=False)


@verb(
    app,
    "novacula.cli.restore:restore",
    RestoreOptions,
    epilog="Examples: novacula restore photo.png; novacula restore photo.png --task inpaint --mask known.png; "
    "novacula restore small.png --task superres --factor 2",
)
def restore(image: Annotated[Path, typer.Argument(help="An image file.")]) -> None:
    """Restore an image by the prior of an untrained network (noise, gaps, resolution); say how sure each pixel is."""


def _is_written(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
