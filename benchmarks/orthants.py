"""Gaussian orthants by expectation propagation and minimax tilting, against quadrature: `nv.kernels.orthant`.

    python -m benchmarks.orthants

Equicorrelated Gaussians of which half must be positive and half negative. Values are logarithms to the base 10.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.integrate import quad
from scipy.special import log_ndtr

import novacula as nv
from benchmarks.common import environment, write

RESULT = Path(__file__).parent / "results" / "orthants.json"
LN10 = math.log(10)


def exact(n: int, rho: float) -> float:
    """Log10 of the probability, by an integral over what the variables share."""
    a, half = math.sqrt(rho / (1 - rho)), n // 2

    def log_density(u: float) -> float:
        both = half * log_ndtr(a * u) + half * log_ndtr(-a * u)
        return float(both) - 0.5 * u * u - 0.5 * math.log(2 * math.pi)

    top = log_density(0.0)
    area, _ = quad(lambda u: math.exp(log_density(u) - top), -9, 9, points=[0.0], limit=500, epsabs=0)
    return (top + math.log(area)) / LN10


def main() -> None:
    """Run all cases and write them down."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for n, rho in ((10, 0.5), (100, 0.5), (100, 0.95), (300, 0.8)):
        k = torch.tensor(np.where(np.eye(n) > 0, 1.0, rho))
        signs = torch.tensor([1.0, -1.0]).repeat(n // 2)
        truth = exact(n, rho)
        for method in ("ep", "tilting"):
            before = time.process_time()
            found = nv.kernels.orthant(k, signs, method=method, seed=0)
            row = {
                "n": n,
                "rho": rho,
                "method": method,
                "exact": truth,
                "log10": float(found) / LN10,
                "error": float(found) / LN10 - truth,
                "stderr": found.stderr / LN10 if math.isfinite(found.stderr) else None,
                "effective": found.parts.get("effective"),
                "cpu_seconds": time.process_time() - before,
            }
            rows.append(row)
            print(row)
    write(RESULT, {"environment": environment(), "rows": rows})


if __name__ == "__main__":
    main()
