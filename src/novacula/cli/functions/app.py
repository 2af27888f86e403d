"""``novacula functions`` and its own verbs."""

from __future__ import annotations

import typer

from novacula.cli.flags import verb
from novacula.cli.functions.options import EvidenceOptions, PriorOptions, ProbesOptions, SgdVsBayesOptions

functions = typer.Typer(
    no_args_is_help=True,
    help="What a network prefers before it sees data, how often a random one fits, and whether training samples those.",
)


@verb(
    functions,
    "novacula.cli.functions.prior:prior",
    PriorOptions,
    epilog="Examples: novacula functions prior cube:7 --net mlp --figure ranks.svg; "
    "novacula functions prior digits --rows 10 --net my_model.py:make_net --draws 1000000 --keep drawn.npz",
)
def prior() -> None:
    """Draw random networks and count the functions that they compute: which come often, and how simple they are."""


@verb(
    functions,
    "novacula.cli.functions.evidence:evidence",
    EvidenceOptions,
    epilog="Examples: novacula functions evidence digits --rows 20; "
    "novacula functions evidence data.npz --net my_model.py:make_net --by splitting --particles 200",
)
def evidence() -> None:
    """Estimate how probable it is that a random network fits all labels, in every way that applies.

    What follows for new examples is told as a bound of their error.
    """


@verb(
    functions,
    "novacula.cli.functions.sgd_vs_bayes:sgd_vs_bayes",
    SgdVsBayesOptions,
    name="sgd-vs-bayes",
    epilog="Examples: novacula functions sgd-vs-bayes digits --net mlp --rows 60 --train 12; "
    "novacula functions sgd-vs-bayes data.npz --optimiser adam --lr 0.01 --beyond 16 --beyond 64 --keep kept",
)
def sgd_vs_bayes() -> None:
    """Train many networks to zero error, and ask whether they are draws of the posterior.

    The posterior is the network's prior, restricted to networks that make no error on the same rows.
    """


@verb(
    functions,
    "novacula.cli.functions.probes:probes",
    ProbesOptions,
    epilog="Examples: novacula functions probes --task parity --task addition --net mlp --net recurrent; "
    "novacula functions probes --keep probes.json",
)
def probes() -> None:
    """Ask which tasks a kind of network finds natural: parity, copying, addition, a map that is repeated.

    Of each task and kind of network: how probable a random one is to do it, whether training finds it, and whether
    networks that do it on some words do it on the others.
    """
