"""Inference of weights: the one loop, the `Method` protocol, and one file for each method.

`infer` runs a method and returns its posterior: a `Point`, a `LaplacePosterior` or another Gaussian, `Draws` of a
sampler, or a `Mixture` of what several members have found. `laplace_posterior` makes one from weights that were trained
elsewhere.
"""

from novacula.inference.draws import Diagnostics, Draws
from novacula.inference.dropout import Dropout, DropoutPosterior, dropout_posterior
from novacula.inference.ensemble import Ensemble
from novacula.inference.gaussians import DiagonalGaussian, LowRankGaussian
from novacula.inference.hmc import HMC
from novacula.inference.infer import infer
from novacula.inference.ivon import IVON
from novacula.inference.laplace import Laplace, LaplacePosterior, laplace_posterior
from novacula.inference.map import MAP
from novacula.inference.mean_field import MeanField
from novacula.inference.method import Batch, Info, Method, Point, Posterior, Start, weights_of
from novacula.inference.mixture import Mixture, mixture
from novacula.inference.nuts import NUTS
from novacula.inference.sgmcmc import SGHMC, SGLD
from novacula.inference.smc import SMC
from novacula.inference.subnetwork import Subnetwork, SubnetworkPosterior
from novacula.inference.swag import SWAG

__all__ = [
    "HMC",
    "IVON",
    "MAP",
    "NUTS",
    "SGHMC",
    "SGLD",
    "SMC",
    "SWAG",
    "Batch",
    "Diagnostics",
    "DiagonalGaussian",
    "Draws",
    "Dropout",
    "DropoutPosterior",
    "Ensemble",
    "Info",
    "Laplace",
    "LaplacePosterior",
    "LowRankGaussian",
    "MeanField",
    "Method",
    "Mixture",
    "Point",
    "Posterior",
    "Start",
    "Subnetwork",
    "SubnetworkPosterior",
    "dropout_posterior",
    "infer",
    "laplace_posterior",
    "mixture",
    "weights_of",
]
