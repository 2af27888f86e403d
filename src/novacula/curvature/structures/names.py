"""The curvature structures that people take by name: the one list of them, and what makes each."""

from __future__ import annotations

from typing import Literal, get_args

from novacula.core.errors import InputError
from novacula.curvature.problem import Curvature, Problem
from novacula.curvature.structures.diagonal import diagonal
from novacula.curvature.structures.exact import exact
from novacula.curvature.structures.kron import kron
from novacula.curvature.structures.last_layer import last_layer
from novacula.curvature.structures.matrix_free import matrix_free

Structure = Literal["exact", "kron", "diag", "last_layer", "matrix_free"]
STRUCTURES: tuple[Structure, ...] = get_args(Structure)


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
            return kron(problem, two_pass=True)
        case "diag":
            return diagonal(problem)
        case "last_layer":
            return last_layer(problem)
        case "matrix_free":
            return matrix_free(problem, seed=seed, probes=probes)
