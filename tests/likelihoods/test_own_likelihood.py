"""A Poisson likelihood, written as a stranger would, against scipy and sums over counts."""

from __future__ import annotations

import numpy as np
import scipy.stats
import torch
from torch import nn

from novacula.data.data import Data
from novacula.evidence import Laplace
from novacula.target import Target
from strangers import Poisson


def test_density_and_fisher_information_are_the_known_ones() -> None:
    f, counts = torch.tensor([[0.3], [1.2]], dtype=torch.float64), torch.arange(80, dtype=torch.float64)
    assert (Poisson.loss, Poisson.task) == ("poisson", "regression")
    for row in f:
        wide = row.expand(80, 1)
        log = Poisson().log_prob(wide, counts[:, None])
        np.testing.assert_allclose(log, scipy.stats.poisson.logpmf(counts, row.exp().numpy()), rtol=1e-9)
        score = counts - row.exp()
        root = Poisson().factor(wide[:1], counts[:1, None])[0]
        torch.testing.assert_close((log.exp() * score.square()).sum(), (root @ root.T)[0, 0])


def test_laplace_evidence_is_near_the_integral() -> None:
    """One weight: the integral by a sum over a grid."""
    x = torch.linspace(0.5, 1.5, 40, dtype=torch.float64).unsqueeze(1)
    y = torch.poisson(x.exp(), generator=torch.Generator().manual_seed(0))
    target, data = Target(nn.Linear(1, 1, bias=False).double(), Poisson()), Data(x, y)
    grid = torch.linspace(-4, 4, 8_001, dtype=torch.float64)
    logs = Poisson().log_prob((x * grid).T.reshape(-1, 1), y.repeat(8_001, 1)).reshape(8_001, 40).sum(1)
    logs = logs - grid.square() / 2 - np.log(2 * np.pi) / 2
    want = float(logs.logsumexp(0) + np.log(1e-3))
    found = Laplace("exact")(target, data, {"weight": grid[logs.argmax()].reshape(1, 1)}, seed=0)
    assert abs(float(found.value) - want) < 0.02
