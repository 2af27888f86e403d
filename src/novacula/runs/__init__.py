"""The life of a run: from names to data and a target, to a result, to a folder, and back."""

from novacula.runs.loading import Fitted, load_posterior, load_run
from novacula.runs.result import LearnResult
from novacula.runs.saving import describe

__all__ = ["Fitted", "LearnResult", "describe", "load_posterior", "load_run"]
