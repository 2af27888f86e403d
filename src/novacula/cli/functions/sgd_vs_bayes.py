"""``novacula functions sgd-vs-bayes``, behind its options: trained networks beside draws of the posterior."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from novacula.cli.console import out, present
from novacula.cli.functions.options import OWN, SgdVsBayesOptions
from novacula.cli.progress import Progress, computing
from novacula.core.errors import InputError
from novacula.reporting.words.numbers import number, percent, significant


def sgd_vs_bayes(options: SgdVsBayesOptions) -> None:
    """Run ``novacula functions sgd-vs-bayes``."""
    if not options.data:
        raise InputError("data", "none", "novacula functions sgd-vs-bayes digits")
    if not all(e.isdigit() for e in options.beyond):
        raise InputError("--beyond as numbers of epochs", " ".join(options.beyond), "--beyond 16 --beyond 64")
    with computing(options) as progress:
        content = _run(options, progress)
    present(content, _show, json=options.json)


def _run(options: SgdVsBayesOptions, progress: Progress) -> dict[str, Any]:
    from novacula.cli.functions.reading import data_of, network_of
    from novacula.data.meaning.soft import outputs_for
    from novacula.inference import Descent
    from novacula.runs.catalogue.models import PRIORS
    from novacula.study import sgd_vs_bayes as compare

    rows = data_of(options, options.data)
    if rows.task != "classification":
        raise InputError("labels of classes", rows.task, "data whose target is a class")
    if not 2 <= options.train < rows.n:
        raise InputError(f"--train from 2 to {rows.n - 1}", str(options.train), "more --rows")
    data, held_out = rows.split(options.train, options.seed)
    method = Descent(
        options.optimiser,  # type: ignore[arg-type]  # it refuses what it does not know
        options.lr,
        batch_size=options.batch_size,
        loss=options.loss,  # type: ignore[arg-type]
        beyond=tuple(sorted(map(int, options.beyond))) or (64,),
    )
    doing = [""]

    def told(what: str, done: int, of: int) -> None:
        if what != doing[0]:
            doing[0] = what
            progress.begin("part", what)
        progress(done, of, {})

    found = compare(
        network_of(options, data.x_shape, outputs_for(rows.y, len(rows.classes))),
        data,
        held_out,
        prior=PRIORS.find(options.prior)(),
        method=method,
        init="own" if options.init == OWN else "prior",
        nets=options.nets,
        epochs=options.epochs,
        points=min(options.points, held_out.n),
        by=options.by,  # type: ignore[arg-type]
        draws=options.draws,
        keep=options.keep,
        workers=options.workers,
        seed=options.seed,
        progress=told,
    )
    names = ("net", "prior", "init", "seed", "optimiser", "lr", "batch_size", "loss")
    content = {"command": "functions sgd-vs-bayes", **{k: getattr(options, k) for k in names}, **found.to_dict()}
    if options.figure is not None:
        from novacula.reporting.figures.functions.trained import trained

        picture = trained(*found.counts[1:], [c.beyond for c in found.checkpoints])
        content["figure"] = picture.save(options.figure)
    return content


def _show(content: dict[str, Any]) -> None:
    console, (draws, worth) = out(), content["draws"]
    console.print(
        Text(
            f"{content['nets']:,} of {content['tried']:,} networks reached zero error, half of them within "
            f"{content['stops'][1]:,.0f} epochs. {draws:,} draws of the posterior, worth {worth:,} independent ones."
        ),
        soft_wrap=True,
    )
    table = Table("networks", "error", "distance", "of chance", "p", "true labels", "explained", box=None)
    target = content["checkpoints"][0]["named"]["target"]["bayes"][0]
    table.add_row("posterior", percent(content["bayes_error"][0]), "", "", "", percent(target), "")
    for row in content["checkpoints"]:
        distance, chance, _ = row["functions"]["total_variation"]
        share, low, high = row["share"]
        table.add_row(
            f"stop + {row['beyond']}" if row["beyond"] else "at the stop",
            percent(row["error"][0]),
            number(distance),
            number(chance),
            significant(row["functions"]["p_value"]),
            percent(row["named"]["target"]["trained"][0]),
            "—" if share is None else f"{percent(share)} ({percent(low)} to {percent(high)})",
        )
    console.print(table)
    console.print(
        Text(
            f"distance: total variation between functions on {content['points'][0]} held-out examples, and what chance "
            "gives; explained: how much of what training is better than guessing the posterior is, too"
        ),
        soft_wrap=True,
    )
    for text in content["warnings"]:
        console.print(Text(text, style="yellow"), soft_wrap=True)
    if "figure" in content:
        console.print(Text(content["figure"], style="cyan"), soft_wrap=True)
