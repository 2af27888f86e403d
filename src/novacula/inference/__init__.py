"""Inference of weights: the one loop, the `Method` protocol, and one file for each method.

`infer` runs a method (`MAP`, `Laplace`) and returns its posterior: `Point` or `LaplacePosterior`. `laplace_posterior`
makes the latter from weights that were trained elsewhere.
"""

from novacula.inference.draws import Diagnostics, Draws
from novacula.inference.ensemble import Ensemble
from novacula.inference.infer import infer
from novacula.inference.laplace import Laplace, LaplacePosterior, laplace_posterior
from novacula.inference.map import MAP
from novacula.inference.method import Batch, Info, Method, Point, Posterior, Start, weights_of
from novacula.inference.mixture import Mixture, mixture
from novacula.inference.sgmcmc import SGHMC, SGLD
from novacula.inference.smc import SMC

__all__ = [
    "MAP",
    "SGHMC",
    "SGLD",
    "SMC",
    "Batch",
    "Diagnostics",
    "Draws",
    "Ensemble",
    "Info",
    "Laplace",
    "LaplacePosterior",
    "Method",
    "Mixture",
    "Point",
    "Posterior",
    "Start",
    "infer",
    "laplace_posterior",
    "mixture",
    "weights_of",
]
