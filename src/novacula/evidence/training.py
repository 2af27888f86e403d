"""Training of the weights for estimators that retrain."""

from __future__ import annotations

import math

from novacula.core.params import Params
from novacula.data.data import Data
from novacula.inference.loop import run
from novacula.inference.optimising.map import MAP
from novacula.target import Target

STEPS = 200
"""Steps below which no training ends, however small the data."""


def train(target: Target, data: Data, optimiser: MAP, epochs: int, batch_size: int, seed: int) -> Params:
    """Weights trained from the network's own start."""
    steps = max(STEPS, epochs * math.ceil(data.n / min(batch_size, data.n)))
    state = run(optimiser, target, data, steps=steps, batch_size=batch_size, seed=seed).state
    return optimiser.posterior(target, state).mode
