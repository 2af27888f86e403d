"""`orthant`: the probability that a Gaussian vector has given signs; `orthant_draws`: such vectors."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from novacula.core.checks.numbers import check_whole, shown
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.core.rng import derive
from novacula.kernels.orthants.ep import check_definite, expectation_propagation
from novacula.kernels.orthants.tilting import minimax_tilting, truncated

OrthantMethod: TypeAlias = Literal["tilting", "ep"]

_LEAST_EFFECTIVE = 0.01  # share of the draws below which a tilted estimate is not to be trusted
_LARGEST = 2**31  # numbers that are drawn
_SAME = 1e-12  # by how much a correlation may differ from ±1 and still count as that


def orthant(
    covariance: Tensor | np.ndarray,
    signs: Tensor | np.ndarray | Sequence[float],
    *,
    method: OrthantMethod = "tilting",
    seed: int = 0,
    draws: int = 10_000,
) -> Estimate:
    """``log P(s_i z_i > 0 for all i)`` for ``z ~ N(0, K)``.

    Coordinates that are multiples of each other are taken as one; with contrary signs the probability is 0.

    Args:
        covariance: K, shape ``(n, n)``, symmetric and positive definite but for such multiples. Computed in float64.
        signs: s, n numbers ±1.
        method: ``"tilting"``, unbiased importance sampling by minimax tilting, whose standard error can be trusted as
            its weights are bounded; ``"ep"``, expectation propagation, fast and without an error of its own.
        seed: Of the draws of ``"tilting"``.
        draws: How many ``"tilting"`` takes.

    Returns:
        An `Estimate` in nats. ``parts`` has, of tilting, the ``effective`` share of the draws and the logarithm of an
        upper ``bound`` of the probability.

    Raises:
        InputError: If K is not square, symmetric, finite and positive definite, the signs do not fit it, or the draws
            do not fit in memory.

    Example:
        >>> round(float(orthant([[1.0, 0.5], [0.5, 1.0]], [1, 1], method="ep")), 2)  # exact: log(1/3)
        -1.1
    """
    k, s = _checked(covariance, signs)
    check_whole("draws", draws, least=2)
    if draws * len(s) > _LARGEST:
        raise InputError(f"at most {_LARGEST:,} numbers drawn", f"{draws:,} draws of {len(s)}", "fewer draws")
    if method not in ("tilting", "ep"):
        raise InputError("method='tilting' or 'ep'", shown(method), "leave it out for 'tilting'")
    fingerprint = hashlib.blake2b(k.tobytes() + s.tobytes(), digest_size=16).hexdigest()
    scale = 1 / np.sqrt(k.diagonal())
    correlations = s[:, None] * (k * scale[:, None] * scale) * s
    if np.abs(correlations).max() > 1 + 1e-9:
        got = f"a correlation of {np.abs(correlations).max():.3g}"
        raise InputError("a positive definite covariance", got, "check how it was computed")
    kept = _distinct(correlations)
    value, stderr, warnings, parts = -math.inf, 0.0, (), {}
    if kept is not None:
        k = correlations[np.ix_(kept, kept)]
        if not check_definite(k):
            raise InputError("a positive definite covariance", "one that is not", "add a little to its diagonal")
        value, stderr, warnings, parts = _solve(k, method, seed, draws)
    return Estimate(
        value=torch.tensor(value, dtype=torch.float64),
        stderr=stderr,
        kind="exact" if kept is None or len(kept) == 1 else "estimate",
        estimator=f"orthant({method}, {draws} draws)" if method == "tilting" else "orthant(ep)",
        n=len(s),
        fingerprint=fingerprint,
        loss="orthant",
        assumptions=() if method == "tilting" else ("the error of expectation propagation is not known",),
        warnings=warnings,
        parts=parts,
    )


def orthant_draws(
    covariance: Tensor | np.ndarray,
    signs: Tensor | np.ndarray | Sequence[float],
    n: int,
    *,
    seed: int = 0,
    most: int = 1_000_000,
) -> tuple[Tensor, Estimate]:
    """Independent draws of ``z ~ N(0, K)`` given that all ``s_i z_i > 0``, by rejection from minimax tilting.

    Args:
        covariance: K, shape ``(N, N)``, symmetric and positive definite.
        signs: s, N numbers ±1.
        n: How many draws.
        seed: Of the draws.
        most: Proposals that may be made for them.

    Returns:
        Draws ``(n, N)``, float64, and the orthant's log-probability.

    Raises:
        InputError: If K and signs are refused by `orthant`, K is not positive definite, or proposals do not suffice.

    Example:
        >>> z, _ = orthant_draws([[1.0, 0.5], [0.5, 1.0]], [1, -1], 5)
        >>> bool((z[:, 0] > 0).all() and (z[:, 1] < 0).all())
        True
    """
    k, s = _checked(covariance, signs)
    check_whole("n", n)
    check_whole("most", most)
    if not check_definite(k):
        raise InputError("a positive definite covariance", "one that is not", "add a little to its diagonal")
    estimate = orthant(k, s, seed=seed)
    z, tried = truncated(s[:, None] * k * s, n, np.random.default_rng(derive(seed, "orthant draws")), most)
    if len(z) < n:
        raise InputError(f"{n} draws within {most:,} proposals", f"{len(z)} of {tried:,}", "raise most, or fewer signs")
    return torch.from_numpy(s * z), estimate


def _solve(
    k: np.ndarray, method: OrthantMethod, seed: int, draws: int
) -> tuple[float, float, tuple[str, ...], dict[str, float]]:
    if len(k) == 1:
        return math.log(0.5), 0.0, (), {}
    if method == "ep":
        sites = expectation_propagation(k)
        said = () if sites.converged else (f"expectation propagation has not converged in {sites.sweeps} sweeps",)
        return sites.value, math.nan, said, {"sweeps": float(sites.sweeps)}
    found = minimax_tilting(k, draws, np.random.default_rng(derive(seed, "orthant")))
    said = []
    if found.effective < _LEAST_EFFECTIVE:
        said.append(f"only {found.effective:.2g} of the draws are effective: take more draws")
    return found.value, found.stderr, tuple(said), {"effective": found.effective, "bound": found.bound}


def _distinct(correlations: np.ndarray) -> list[int] | None:
    # Coordinates but for those that are others again; None where two are each other's negative.
    kept: list[int] = []
    for i, row in enumerate(correlations):
        others = row[kept]
        if (others < _SAME - 1).any():
            return None
        if not (others > 1 - _SAME).any():
            kept.append(i)
    return kept


def _checked(covariance: object, signs: object) -> tuple[np.ndarray, np.ndarray]:
    k, s = (np.asarray(v.detach().cpu() if isinstance(v, Tensor) else v, dtype=np.float64) for v in (covariance, signs))
    hint = "pass the covariance of the outputs, for example of nv.kernels.arc_cosine"
    if k.ndim != 2 or k.shape[0] != k.shape[1] or len(k) == 0:
        raise InputError("a square covariance (n, n)", f"shape {k.shape}", hint)
    if not np.isfinite(k).all():
        raise InputError("a finite covariance", "NaN or infinite entries", hint)
    if not np.allclose(k, k.T, rtol=1e-6, atol=1e-9 * float(np.abs(k).max())):
        raise InputError("a symmetric covariance", f"entries that differ by {np.abs(k - k.T).max():.3g}", hint)
    if not (k.diagonal() > 0).all():
        got = f"{k.diagonal().min():.3g} at {int(k.diagonal().argmin())}"
        raise InputError("variances above zero", got, "leave coordinates out that do not vary")
    if s.shape != (len(k),) or not np.isin(s, (-1, 1)).all():
        got = f"shape {s.shape}" if s.shape != (len(k),) else "other numbers"
        raise InputError(f"{len(k)} signs ±1", got, "pass 2 * y - 1 for labels 0 and 1")
    return (k + k.T) / 2, s
