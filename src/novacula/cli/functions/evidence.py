"""``novacula functions evidence``, behind its options: how probable a fit is, and what that says of new examples."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from novacula.cli.console import out, present
from novacula.cli.functions.options import EvidenceOptions
from novacula.cli.progress import Progress, computing
from novacula.core.errors import InputError
from novacula.reporting.words.numbers import number

_WAYS = ("counting", "ep", "tilting", "splitting", "annealing")


def evidence(options: EvidenceOptions) -> None:
    """Run ``novacula functions evidence``."""
    if not options.data:
        raise InputError("data", "none", "novacula functions evidence digits")
    unknown = [name for name in options.by if name not in _WAYS]
    if unknown:
        raise InputError(f"--by among {', '.join(_WAYS)}", unknown[0], "--by splitting")
    with computing(options) as progress:
        content = _run(options, progress)
    present(content, _show, json=options.json)


def _run(options: EvidenceOptions, progress: Progress) -> dict[str, Any]:
    from novacula.cli.functions.reading import data_of, network_of
    from novacula.data.meaning.soft import outputs_for
    from novacula.evidence import NNGP, Annealing, Counting, Splitting, ladder, pac_bayes
    from novacula.inference import SMC
    from novacula.likelihoods.choose import likelihood_of
    from novacula.runs.catalogue.models import PRIORS
    from novacula.target import Target

    data = data_of(options, options.data)
    network = network_of(options, data.x_shape, outputs_for(data.y, len(data.classes)))
    target = Target(network, prior=PRIORS.find(options.prior)(), likelihood=likelihood_of(data.task))
    made = {
        "counting": Counting(options.draws, options.heads),
        "ep": NNGP("ep"),
        "tilting": NNGP("tilting"),
        "splitting": Splitting(particles=options.particles),
        "annealing": Annealing(method=SMC(options.particles, "elliptical", moves=8)),
    }
    rungs = [rung for name, rung in made.items() if not options.by or name in options.by]
    found = ladder(
        target, data, seed=options.seed, estimators=rungs, progress=lambda done, of, name: progress.say(name)
    )
    return {
        "command": "functions evidence",
        **{k: getattr(options, k) for k in ("net", "prior", "seed")},
        "n": data.n,
        **found.to_dict(),
        "bounds": {
            name: asdict(pac_bayes(estimate))
            for name, estimate in found.estimates.items()
            if estimate.kind != "upper bound"  # no fit, no bound
        },
    }


def _show(content: dict[str, Any]) -> None:
    console = out()
    table = Table("estimator", "ln P(fit)", "±", "kind", "error on new examples at most", box=None)
    for name, row in content["estimates"].items():
        stderr, most = row["stderr"], content["bounds"].get(name, {}).get("realizable")
        table.add_row(name, number(row["value"]), "?" if stderr is None else number(stderr), row["kind"], number(most))
    console.print(table)
    for name, why in content["refused"].items():
        console.print(Text(f"{name}: {why}", style="dim"), soft_wrap=True)
    for pair, ok in content["agree"].items():
        if not ok:
            console.print(Text(f"apart: {pair}", style="yellow"), soft_wrap=True)
    for name, row in content["estimates"].items():
        for text in row["warnings"]:
            console.print(Text(f"{name}: {text}", style="yellow"), soft_wrap=True)
