"""An evidence estimator: quadrature over all weights of a very small network, around the best of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.evidence.common import make_estimate
from novacula.posteriors.base import weights_of
from novacula.runs.catalogue import EvidenceRow


@dataclass(frozen=True)
class GaussHermite:
    """``log ∫ p(D | w) p(w) dw`` by a grid of Gauss–Hermite nodes, ``nodes`` for each weight."""

    nodes: int = 9
    name: str = "GaussHermite"

    def __call__(self, target: nv.Target, data: Any, start: Any, *, seed: int) -> Estimate:
        target, data = target.prepare(data)
        start = {k: w.detach().double() for k, w in weights_of(start).items()}
        size = sum(w.numel() for w in start.values())
        if self.nodes**size > 100_000 or target.invariance is not None or target.temperature != 1:
            got = f"{size} weights, invariance {target.invariance}, temperature {target.temperature:g}"
            expected = "at most five weights, no invariance, temperature 1"
            raise InputError(expected, got, "use nv.evidence.Laplace")

        def joint(flat: Tensor) -> Tensor:
            pieces = flat.split([w.numel() for w in start.values()])
            params = {k: v.view_as(w) for (k, w), v in zip(start.items(), pieces, strict=True)}
            f = torch.func.functional_call(target.forward.module, params, (data.x.double(),))
            return target.likelihood.log_prob(f, data.y).sum() + target.prior.log_prob(params)

        # One step of Newton's from the weights, and a Gaussian of the curvature there.
        at = torch.cat([w.flatten() for w in start.values()])
        values, vectors = torch.linalg.eigh(-torch.autograd.functional.hessian(joint, at))
        root = vectors * values.clamp_min(1e-3).rsqrt()
        centre = at + root @ (root.T @ torch.func.grad(joint)(at))
        found = [self._sum(joint, centre, root, n) for n in (self.nodes, self.nodes - 1)]
        error = abs(float(found[0] - found[1]))
        return make_estimate(target, data, found[:1], kind="estimate", estimator=self.name, within=error)

    def _sum(self, joint: Any, centre: Tensor, root: Tensor, n: int) -> Tensor:
        points, weights = np.polynomial.hermite_e.hermegauss(n)
        grid = [list(itertools.product(v, repeat=len(centre))) for v in (points, np.log(weights))]
        z, logs = (torch.tensor(v, dtype=torch.float64) for v in grid)
        terms = torch.stack([joint(centre + root @ v) for v in z]).detach()
        return (terms + logs.sum(1) + z.square().sum(1) / 2).logsumexp(0) + torch.linalg.slogdet(root)[1]


ROW = EvidenceRow("gauss-hermite", GaussHermite, help="up to five weights")
