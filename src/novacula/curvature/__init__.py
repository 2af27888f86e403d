"""Curvature of the log-likelihood in weight space: the generalised Gauss–Newton matrix in several structures.

All are built from a `Problem` and follow `Curvature`: a log-determinant that is differentiable in any tensor, a
covariance to sample, solve and predict with, a diagonal, and the dense matrix for small networks.
"""

from novacula.curvature.check import Check, Errors, self_check
from novacula.curvature.gradients.capture import Coverage, cover
from novacula.curvature.gradients.jacobian import plan, rows
from novacula.curvature.gradients.recompute import leaves_of, recompute
from novacula.curvature.problem import Covariance, Curvature, LogDet, Problem
from novacula.curvature.structures.diagonal import Diagonal, DiagonalCovariance, diagonal
from novacula.curvature.structures.exact import Exact, ExactCovariance, Spectrum, exact
from novacula.curvature.structures.kron import Kron, kron
from novacula.curvature.structures.last_layer import LastLayer, LastLayerCovariance, last_layer
from novacula.curvature.structures.matrix_free import MatrixFree, MatrixFreeCovariance, matrix_free
from novacula.curvature.structures.ntk import NTK, ntk_gram

__all__ = [
    "NTK",
    "Check",
    "Covariance",
    "Coverage",
    "Curvature",
    "Diagonal",
    "DiagonalCovariance",
    "Errors",
    "Exact",
    "ExactCovariance",
    "Kron",
    "LastLayer",
    "LastLayerCovariance",
    "LogDet",
    "MatrixFree",
    "MatrixFreeCovariance",
    "Problem",
    "Spectrum",
    "cover",
    "diagonal",
    "exact",
    "kron",
    "last_layer",
    "leaves_of",
    "matrix_free",
    "ntk_gram",
    "plan",
    "recompute",
    "rows",
    "self_check",
]
