"""The verbs of the command line and their options. Each imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from novacula.cli.console import err, errors_to_exit, never_choke, out
from novacula.cli.options import Options

app = typer.Typer(
    name="novacula",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Learn a network's prior and invariances from its training data alone.",
)
_DATA, _MODEL, _TRAINING, _POSTERIOR, _OUTPUT = "Data", "Model", "Training", "Posterior", "Output"


def run() -> None:
    """Run the command line on this process's arguments."""
    never_choke()
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


@app.command(
    epilog="Examples: novacula learn digits --perturb rotate=180; novacula learn concrete.csv --target strength; "
    "novacula learn data.npz --net my_model.py:make_net"
)
def learn(
    context: typer.Context,
    data: Annotated[
        str | None,
        typer.Argument(
            help="'digits' (embedded), or a .npz, .npy, .csv, .tsv, .parquet or IDX file, or a folder of images."
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="Column to predict, for tables; repeat for several.", rich_help_panel=_DATA
        ),
    ] = None,
    split: Annotated[
        int | None,
        typer.Option(metavar="K", help="Published split K, for files that have them.", rich_help_panel=_DATA),
    ] = None,
    train: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Training examples, drawn at random; the others are for testing.",
            show_default="those not set aside",
            rich_help_panel=_DATA,
        ),
    ] = None,
    test_fraction: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share set aside for testing; 0 for none.",
            show_default="0.2, where the data have no test part",
            rich_help_panel=_DATA,
        ),
    ] = None,
    perturb: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=VALUE",
            help="rotate=DEGREES, translate=FRACTION or scale=SMALLEST: perturb every image; may repeat.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    net: Annotated[
        str,
        typer.Option(
            metavar="NET",
            help="cnn, mlp, resnet, linear, auto, or FILE.py:FUNCTION of (x_shape, outputs).",
            rich_help_panel=_MODEL,
        ),
    ] = "auto",
    invariance: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="none, affine, rotation, translation, scale, stretch, shear, flip, deformation, colour, timewarp; "
            "join with +.",
            show_default="affine for images, else none",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    likelihood: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="auto, categorical, bernoulli, normal or heteroscedastic.", rich_help_panel=_MODEL
        ),
    ] = "auto",
    prior: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="gaussian (one precision a tensor), isotropic, fan-in, laplace or student-t.",
            rich_help_panel=_MODEL,
        ),
    ] = "gaussian",
    copies: Annotated[
        str | None,
        typer.Option(
            help="Transformed copies averaged in training, scoring and predicting.",
            metavar="T,E,P",
            show_default="8,8,32",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    epochs: Annotated[
        int, typer.Option(metavar="N", help="Passes over the training data.", rich_help_panel=_TRAINING)
    ] = 24,
    batch_size: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Examples a step.", show_default="by the size of the data", rich_help_panel=_TRAINING
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            metavar="RATE", help="Peak learning rate of the weights.", show_default="0.004", rich_help_panel=_TRAINING
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of everything random.", rich_help_panel=_TRAINING)] = 0,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Threads of the computation.", show_default="torch’s own", rich_help_panel=_TRAINING
        ),
    ] = None,
    posterior: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What predictions average over: auto, point, laplace, ensemble, swag, multi-swag, dropout, "
            "mean-field, ivon, sgld, csgld, sghmc, hmc, nuts or smc; NAME:SETTING=VALUE,… changes a method’s settings.",
            rich_help_panel=_POSTERIOR,
        ),
    ] = "auto",
    posterior_steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Steps of each of its chains.",
            show_default="by the method and the epochs",
            rich_help_panel=_POSTERIOR,
        ),
    ] = None,
    chains: Annotated[
        int | None,
        typer.Option(
            metavar="M", help="Chains side by side.", show_default="4 for samplers, else 1", rich_help_panel=_POSTERIOR
        ),
    ] = None,
    ood: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Inputs of another kind: how well doubt tells them from the test data.",
            rich_help_panel=_POSTERIOR,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Run folder.", metavar="FOLDER", show_default="runs/NAME-TIME", rich_help_panel=_OUTPUT),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an older run in the folder.", rich_help_panel=_OUTPUT)
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the interrupted run in --output, with its own options.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one JSON object on stdout, and nothing else there.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.", rich_help_panel=_OUTPUT)] = False,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Write no report.html.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Learn weights, prior, noise and invariances in one run, from the training data alone.

    Leaves a run folder with the learned hyperparameters, history, weights and one self-contained report.
    """  # noqa: DOC501  (this text is the command's help)
    values: dict[str, Any] = {
        "data": data,
        "net": net,
        "invariance": invariance,
        "perturb": tuple(perturb or ()),
        "target": tuple(target or ()),
        "split": split,
        "likelihood": likelihood,
        "prior": prior,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "train": train,
        "test_fraction": test_fraction,
        "copies": copies,
        "seed": seed,
        "threads": threads,
        "posterior": posterior,
        "posterior_steps": posterior_steps,
        "chains": chains,
        "ood": ood,
    }
    written = {k: v for k, v in values.items() if _is_written(context, k)}
    from novacula.cli.learn import Shown
    from novacula.cli.learn import learn as run_learn

    shown = Shown(json=as_json, quiet=quiet, report=not no_report)
    with errors_to_exit():
        code = run_learn(None if data is None else Options(**values), written, output, overwrite, resume, shown)
    if code:
        raise typer.Exit(code)


@app.command(
    epilog="Examples: novacula predict runs/digits new.npz --out predictions.csv; "
    "novacula predict runs/patients new.csv --decide costs.csv --conformal 0.1 --calibration held-out.csv"
)
def predict(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[
        str,
        typer.Argument(
            help="What to predict: a file or folder like the run’s data, with or without labels; or 'digits'."
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Write all rows: .csv, .tsv, .parquet or .json; - for CSV on stdout."
        ),
    ] = None,
    decide: Annotated[
        str | None,
        typer.Option(
            metavar="COSTS",
            help="Choose actions by a table of costs (rows are classes, columns actions); for measurements squared, "
            "absolute or pinball=TAU.",
        ),
    ] = None,
    abstain: Annotated[
        float | None,
        typer.Option(metavar="COST", help="Let decisions be left open at this cost.", show_default="not allowed"),
    ] = None,
    conformal: Annotated[
        float | None,
        typer.Option(metavar="ALPHA", help="Sets or intervals that miss at most this share of the truth."),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Labelled data to calibrate them on.", show_default="the run’s own test examples"
        ),
    ] = None,
    groups: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Calibrate the groups that this column names apart.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Predict new data with a run: classes and probabilities, or means and quantiles; decisions; conformal sets.

    Labels are not needed; where there are any, the predictions are scored. Of the data that the run learned from, the
    examples that it set aside for testing are predicted.
    """
    from novacula.cli.predict import Asked
    from novacula.cli.predict import predict as run_predict

    with errors_to_exit():
        run_predict(run, data, Asked(to, decide, abstain, conformal, calibration, groups, as_json))


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Write report.html anew from a run's saved results; needs neither the data nor the network."""
    from novacula.reporting import report as write

    with errors_to_exit():
        print(write(run))


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print run.json.")] = False,
) -> None:
    """Show a run's results."""
    import json

    from novacula.core.storage.run import Run

    with errors_to_exit():
        found = Run.read(run)
    if as_json:
        print(json.dumps(found.record, allow_nan=False, ensure_ascii=False))
        return
    from novacula.cli.summary import summary

    out().print(summary(found.record))
    for text in found.record.get("warnings") or []:
        err().print(f"warning: {text}", style="yellow", markup=False)


def _is_written(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
