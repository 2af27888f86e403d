"""Posteriors as objects: what is known about weights, and what can be asked of it.

A `Point`, a `LaplacePosterior` or another Gaussian, `Draws` of a sampler, masks of dropout, some of a network's
weights, or a `Mixture` of what several members have found. `laplace_posterior` and `dropout_posterior` make one
from weights that were trained elsewhere.
"""

from novacula.posteriors.base import BasePosterior, Point, Posterior, weights_of
from novacula.posteriors.draws import Draws
from novacula.posteriors.dropout import DropoutPosterior, dropout_posterior
from novacula.posteriors.gaussians import DiagonalGaussian, LowRankGaussian
from novacula.posteriors.laplace import LaplacePosterior, laplace_posterior
from novacula.posteriors.mixture import Mixture, mixture
from novacula.posteriors.quality import Diagnostics
from novacula.posteriors.subnetwork import SubnetworkPosterior

__all__ = [
    "BasePosterior",
    "Diagnostics",
    "DiagonalGaussian",
    "Draws",
    "DropoutPosterior",
    "LaplacePosterior",
    "LowRankGaussian",
    "Mixture",
    "Point",
    "Posterior",
    "SubnetworkPosterior",
    "dropout_posterior",
    "laplace_posterior",
    "mixture",
    "weights_of",
]
