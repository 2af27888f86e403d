"""Inference of weights: the one loop, the `Method` protocol, and one file for each method.

`infer` runs a method (`MAP`, `Laplace`) and returns its posterior: `Point` or `LaplacePosterior`. `laplace_posterior`
makes the latter from weights that were trained elsewhere.
"""

from novacula.inference.infer import infer
from novacula.inference.laplace import Laplace, LaplacePosterior, laplace_posterior
from novacula.inference.map import MAP
from novacula.inference.method import Batch, Info, Method, Point, Posterior, weights_of

__all__ = [
    "MAP",
    "Batch",
    "Info",
    "Laplace",
    "LaplacePosterior",
    "Method",
    "Point",
    "Posterior",
    "infer",
    "laplace_posterior",
    "weights_of",
]
