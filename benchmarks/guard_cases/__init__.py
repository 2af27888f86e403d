"""The cases of `benchmarks.guard`, by area. Each is a function without arguments that returns numbers and tensors."""

from __future__ import annotations

from benchmarks.guard_cases import command, curvature, densities, evidence, learning, methods, predictions, study
from benchmarks.guard_cases.base import Case, Skip

AREAS = {
    "learn": learning,
    "methods": methods,
    "evidence": evidence,
    "curvature": curvature,
    "predictions": predictions,
    "densities": densities,
    "study": study,
    "command": command,
}
CASES: dict[str, Case] = {
    f"{area}/{name}": case for area, module in AREAS.items() for name, case in module.CASES.items()
}

__all__ = ["CASES", "Skip"]
