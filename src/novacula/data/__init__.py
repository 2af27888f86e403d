"""Data: immutable sets of examples, what files and frames hold, and the way to standard units and back."""

from novacula.data.data import Data
from novacula.data.folds import folds_of
from novacula.data.load import load
from novacula.data.standardise import Standardiser

__all__ = ["Data", "Standardiser", "folds_of", "load"]
