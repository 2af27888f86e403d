"""The prior over functions: how probable each function of some inputs is before any data, and how simple."""

from novacula.functions import probes
from novacula.functions.boolean import (
    critical_sample_ratio,
    expression_size,
    influences,
    label_entropy,
    noise_sensitivity,
    walsh,
    weight_by_degree,
)
from novacula.functions.correlation import Correlation, correlation
from novacula.functions.cost import Cost, cost
from novacula.functions.lz import lz76, lz_bits, lz_spread
from novacula.functions.result import FunctionSample, Interval, Seen
from novacula.functions.sample import cube, sample
from novacula.functions.samplers.controls import Coins, GaussianProcess, LinearThreshold, NearestNeighbour, RandomTree
from novacula.functions.samplers.network import Networks
from novacula.functions.samplers.sequences import Sequences
from novacula.functions.saturation import PriorPredictive, after_labels, prior_predictive, unsaturated_scale
from novacula.functions.slope import Bound, complexity_bound, slope_interval
from novacula.functions.smoothness import Roughness, roughness
from novacula.functions.summary import summary

__all__ = [
    "Bound",
    "Coins",
    "Correlation",
    "Cost",
    "FunctionSample",
    "GaussianProcess",
    "Interval",
    "LinearThreshold",
    "NearestNeighbour",
    "Networks",
    "PriorPredictive",
    "RandomTree",
    "Roughness",
    "Seen",
    "Sequences",
    "after_labels",
    "complexity_bound",
    "correlation",
    "cost",
    "critical_sample_ratio",
    "cube",
    "expression_size",
    "influences",
    "label_entropy",
    "lz76",
    "lz_bits",
    "lz_spread",
    "noise_sensitivity",
    "prior_predictive",
    "probes",
    "roughness",
    "sample",
    "slope_interval",
    "summary",
    "unsaturated_scale",
    "walsh",
    "weight_by_degree",
]
