"""Estimators of the log evidence: callables ``(target, data, start, *, seed) -> Estimate`` of one signature."""

from novacula.evidence.conditional import Conditional, Prequential
from novacula.evidence.elbo import ELBO
from novacula.evidence.laplace import Laplace
from novacula.evidence.linear_gaussian import LinearGaussian
from novacula.evidence.ntk_subset import NTKSubset

__all__ = ["ELBO", "Conditional", "Laplace", "LinearGaussian", "NTKSubset", "Prequential"]
