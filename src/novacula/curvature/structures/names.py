"""The curvature structures that people take by name: the one list of them, and what makes each."""

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

from novacula.core.errors import InputError
from novacula.core.rng import derive
from novacula.curvature.problem import Curvature, Problem
from novacula.curvature.structures.diagonal import diagonal
from novacula.curvature.structures.exact import exact
from novacula.curvature.structures.kron import kron
from novacula.curvature.structures.last_layer import last_layer
from novacula.curvature.structures.matrix_free import matrix_free

Structure = Literal["exact", "kron", "diag", "last_layer", "matrix_free"]
STRUCTURES: tuple[Structure, ...] = get_args(Structure)
_MANY = 128  # outputs up to which sums over examples take every column of each Fisher factor
_LEAST, _EACH = 16, 64  # combinations for an example, and over all examples for each output, beyond


def check_structure(structure: str, allowed: tuple[str, ...] = STRUCTURES) -> None:
    """Refuse an unknown structure."""
    if structure not in allowed:
        raise InputError(f"a structure among {', '.join(allowed)}", repr(structure), "leave it out for the default")


def build(structure: Structure, problem: Problem, *, seed: int = 0, probes: int = 16) -> Curvature:
    """Compute a curvature; seed and probes are those of log-determinants that are estimated."""
    match structure:
        case "exact":
            return exact(problem)
        case "kron":
            return kron(_few_columns(problem, seed), two_pass=True)
        case "diag":
            return diagonal(_few_columns(problem, seed))
        case "last_layer":
            return last_layer(problem)
        case "matrix_free":
            return matrix_free(problem, seed=seed, probes=probes)


def columns_of(outputs: int, examples: int) -> int:
    """How many combinations of C outputs an example stands with in sums over all: C, or fewer of many.

    Sums over examples are known by many combinations in all, not for each example: with 64 for every output the
    eigenvalues of a Kronecker factor of C sides have an error of √(1/64), as those of so many examples would.

    Returns:
        The number.
    """
    return outputs if outputs <= _MANY else min(outputs, max(_LEAST, -(-_EACH * outputs // examples)))


def _few_columns(problem: Problem, seed: int) -> Problem:
    return problem.sketched(partial(columns_of, examples=problem.size), derive(seed, "columns"))
