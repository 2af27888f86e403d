"""Inference of weights: the one loop, the `Method` protocol, and one file for each method.

`infer` runs a method and returns its posterior: a `Point`, a `LaplacePosterior` or another Gaussian, `Draws` of a
sampler, or a `Mixture` of what several members have found. `laplace_posterior` makes one from weights that were trained
elsewhere.
"""

from novacula.inference.dropout import Dropout
from novacula.inference.hamiltonian.hmc import HMC
from novacula.inference.hamiltonian.nuts import NUTS
from novacula.inference.infer import infer
from novacula.inference.langevin.sgmcmc import SGHMC, SGLD
from novacula.inference.laplace import Laplace
from novacula.inference.method import Info, Method, Start
from novacula.inference.optimising.descent import Descent
from novacula.inference.optimising.ensemble import Ensemble
from novacula.inference.optimising.map import MAP
from novacula.inference.optimising.swag import SWAG
from novacula.inference.particles.smc import SMC
from novacula.inference.particles.splitting.method import Splitting
from novacula.inference.subnetwork import Subnetwork
from novacula.inference.variational.ivon import IVON
from novacula.inference.variational.mean_field import MeanField
from novacula.posteriors.base import Point, Posterior, weights_of
from novacula.posteriors.draws import Diagnostics, Draws
from novacula.posteriors.dropout import DropoutPosterior, dropout_posterior
from novacula.posteriors.gaussians import DiagonalGaussian, LowRankGaussian
from novacula.posteriors.laplace import LaplacePosterior, laplace_posterior
from novacula.posteriors.mixture import Mixture, mixture
from novacula.posteriors.subnetwork import SubnetworkPosterior
from novacula.target.batch import Batch

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
    "Descent",
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
    "Splitting",
    "Start",
    "Subnetwork",
    "SubnetworkPosterior",
    "dropout_posterior",
    "infer",
    "laplace_posterior",
    "mixture",
    "weights_of",
]
