"""What people write, and the methods and models that it names: one row a thing, in one table a kind.

A row holds a thing's name, its class, its defaults, a phrase for the help and one for the report. The command line,
its help and the report are made from the rows. `register` adds one from outside.
"""

from novacula.core.errors import InputError
from novacula.runs.catalogue.methods import METHODS, MethodRow, Trained, Words
from novacula.runs.catalogue.models import (
    ESTIMATORS,
    FIGURES,
    INVARIANCES,
    LIKELIHOODS,
    PRIORS,
    EvidenceRow,
    Extent,
    FigureRow,
    InvarianceRow,
    LikelihoodRow,
    PriorRow,
)
from novacula.runs.catalogue.row import Table

TABLES: tuple[Table, ...] = (METHODS, LIKELIHOODS, PRIORS, INVARIANCES, ESTIMATORS, FIGURES)

__all__ = [
    "FIGURES",
    "TABLES",
    "EvidenceRow",
    "Extent",
    "FigureRow",
    "InvarianceRow",
    "LikelihoodRow",
    "MethodRow",
    "PriorRow",
    "Trained",
    "Words",
    "broken",
    "register",
]


def register(row: MethodRow | LikelihoodRow | PriorRow | InvarianceRow | EvidenceRow | FigureRow) -> None:
    """Add a row to the table of its kind, so that its name is understood in this process.

    Packages that are installed need not call it: their rows are found by entry points.

    Raises:
        InputError: If it is no row, or another module has the name already.
    """
    for table in TABLES:
        if isinstance(row, table.row):
            return table.add(row)
    names = ", ".join(table.row.__name__ for table in TABLES)
    raise InputError("a row of the catalogue", repr(row), f"use one of {names}")


def broken() -> list[str]:
    """What is wrong with the rows of installed packages: none of them keeps the others from being used."""
    for table in TABLES:
        list(table.rows())
    return [str(error) for table in TABLES for error in table.failed.values()]
