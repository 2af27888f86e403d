"""The local learning coefficient: how many parameters a minimum of the loss has, as volume counts them.

The volume in which the loss is within ε of that of a minimum w* shrinks as ``ε^λ``. A regular minimum has λ = P/2, a
flat or singular one less. At the inverse temperature ``β = 1/log n``, with weights held near w* by a Gaussian,

    λ̂ = nβ [ E L_n(w) − L_n(w*) ],     w ~ exp(−nβ L_n(w) − ½ γ |w − w*|²),

is what λ becomes at n examples. The two differ at finite n: of a regular minimum with curvature H it is
``½ Σ_i nβ h_i / (nβ h_i + γ)``, and of singular ones they differ by ``log log n / log n`` (1.757 for 2, .33 for .5 in
small examples). The order of two networks under the same settings can be trusted; the value alone less.

nβ comes from the size of the data, the loss from all of them and its baseline from w* after it has been polished by
L-BFGS. Chains are Metropolis-adjusted, so that their step size does not bias them in the end. What does, in chains as
short as one has, is a step too long to enter the narrow arms of a singular minimum: at an acceptance of .57 and with
scales that are learned from the draws, w1·w2 came out as .265 ± .011 for .298. Hence a high acceptance and one scale.
The table in ``details`` repeats the estimate at other acceptances (step sizes), in which a sampler that has converged
agrees, and under other localisations, on which the estimand itself depends.

References:
    Algebraic geometry and statistical learning theory. S. Watanabe, 2009.
    The local learning coefficient: a singularity-aware complexity measure. E. Lau, Z. Furman, G. Wang, D. Murfet,
    S. Wei, 2023. arXiv:2308.12108.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from novacula.core.checks.numbers import check_positive, check_whole
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.core.params import Params, detach, flatten, unflatten
from novacula.core.rng import derive, generator
from novacula.data.data import Data
from novacula.data.given import DataLike
from novacula.inference.tempered import Chains, Fits, log_likelihood, tempered_fits
from novacula.posteriors.base import Learned, Posterior, weights_of
from novacula.priors import Gaussian
from novacula.target import Target
from novacula.target.flat import flat_density
from novacula.target.given import TargetLike, prepared

_ROWS = ((0.8, 1.0), (0.65, 1.0), (0.9, 1.0), (0.8, 0.25), (0.8, 4.0))
"""Acceptances, and localisations as multiples of the one asked for; the first row is the estimate."""
_APART = 3.0  # standard errors by which rows of other step sizes may differ


def learning_coefficient(
    target: TargetLike,
    data: DataLike,
    start: Params | Posterior | Learned | None = None,
    *,
    localisation: float = 1.0,
    chains: int = 32,
    steps: int = 1000,
    leapfrogs: int = 8,
    polish: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Estimate the local learning coefficient of a network's weights.

    Args:
        target: The network, or a target; its prior and temperatures play no part, its likelihood gives the loss.
        data: All the training data; n is their number.
        start: Weights; by default the network's own.
        localisation: γ, the precision of the Gaussian that holds weights near the minimum.
        chains: Side by side; their agreement is examined.
        steps: Transitions of each chain; half of them warm up.
        leapfrogs: Steps of a transition; 1 is the Metropolis-adjusted Langevin algorithm. More of them move further.
        polish: Iterations of L-BFGS at most, from the start to the minimum.
        seed: Seed of everything random.

    Returns:
        λ̂ with its Monte-Carlo error; ``details`` has one row (``accept``, ``localisation``, ``value``, ``stderr``,
        ``rhat``, ``ess``, ``step_size``) for each setting, ``parts`` the fit of the draws and of the minimum in units
        of λ̂.

    Raises:
        InputError: If the target averages over transformations, or a number is out of range.

    Example:
        >>> import torch, novacula as nv
        >>> x = torch.linspace(-1, 1, 40)[:, None]
        >>> line = nv.Target(torch.nn.Linear(1, 1), nv.Normal())
        >>> found = learning_coefficient(line, nv.Data(x, 2 * x), chains=8, steps=60, leapfrogs=2)
        >>> 0.5 < float(found) < 1.2  # two weights: 1, less what the localisation takes
        True
    """
    check_positive("localisation", localisation)
    for name, value in {"chains": chains, "steps": steps, "leapfrogs": leapfrogs, "polish": polish}.items():
        check_whole(name, value, least={"chains": 2, "steps": 20, "polish": 0}.get(name, 1))
    plain, rows = _plain(target, data)
    plain, first = plain.at(plain.params() if start is None else detach(dict(weights_of(start))))
    temperature = math.log(rows.n)
    minimum, slope = polished(plain, rows, first, polish)
    base = log_likelihood(plain, rows, minimum) / temperature

    how = partial(Chains, chains, steps, leapfrogs)

    def at(i: int) -> Fits:
        accept, factor = _ROWS[i]
        held = dataclasses.replace(plain, prior=Gaussian(precision=localisation * factor, mean=minimum))
        return tempered_fits(held, rows, minimum, temperature, how(accept), seed=derive(seed, "setting", i))

    found = [at(i) for i in range(len(_ROWS))]
    table = tuple(
        {
            "accept": f.accept,
            "localisation": localisation * factor,
            "value": float(base - f.values.mean() / temperature),
            "stderr": f.stderr / temperature,
            "rhat": f.rhat,
            "ess": f.ess,
            "step_size": f.step_size,
        }
        for f, (_, factor) in zip(found, _ROWS, strict=True)
    )
    return Estimate(
        value=base - found[0].values.mean() / temperature,
        stderr=table[0]["stderr"],
        kind="estimate",
        estimator=f"learning_coefficient(localisation={localisation:g})",
        n=rows.n,
        fingerprint=rows.fingerprint,
        loss=plain.likelihood.loss,
        temperature=temperature,
        assumptions=(
            "weights near the minimum, at this n and localisation: not the coefficient of infinitely many examples",
            "claims of order only: compare networks under the same settings",
        ),
        warnings=(*found[0].warnings, *_reservations(table, float(found[0].values.max()) / temperature - base, slope)),
        parts={"minimum": float(base), "draws": -float(found[0].values.mean()) / temperature},
        details=table,
    )


def _plain(target: TargetLike, data: DataLike) -> tuple[Target, Data]:
    # What a log-likelihood without transformations needs.
    plain, rows = prepared(target, data)
    if plain.invariance is not None:
        raise InputError("a target without transformations", "an invariance", "nv.Target(network, likelihood)")
    if rows.n < 3:
        raise InputError("at least three examples", str(rows.n), "pass all the training data")
    return plain, rows


def polished(target: Target, data: Data, point: Params, iterations: int) -> tuple[Params, float]:
    """The minimum of the loss that L-BFGS finds, and the slope there: the norm of the gradient of the mean loss."""
    density = flat_density(target, data, point, generator(0))

    def loss(q: np.ndarray) -> tuple[float, np.ndarray]:
        at = torch.as_tensor(q).to(flatten(point))[None]
        parts = [density.value_and_gradient(at, *part, with_prior=False) for part in density.parts]
        scale = -target.temperature * target.likelihood_temperature / data.n
        value = torch.stack([v.double() for v, _ in parts]).sum() * scale
        return float(value), (torch.stack([g.double() for _, g in parts]).sum(0)[0] * scale).cpu().numpy()

    q = flatten(point).double().cpu().numpy()
    if iterations:
        options = {"maxiter": iterations, "maxfun": 4 * iterations, "ftol": 1e-14, "gtol": 1e-9}
        q = np.asarray(minimize(loss, q, jac=True, method="L-BFGS-B", options=options).x)
    where = torch.as_tensor(q).to(flatten(point))
    return unflatten(where, point), float(np.linalg.norm(loss(q)[1]))


def _reservations(table: tuple[dict[str, float], ...], lower: float | Tensor, slope: float) -> tuple[str, ...]:
    said, first = [], table[0]
    if float(lower) > 0.05 + first["stderr"]:
        said.append(
            f"a draw fits better than the minimum, by {float(lower):.2g} in units of the estimate: w* is no minimum of "
            "the loss; train longer, raise polish=, or hold weights closer by localisation="
        )
    if slope > 1e-3:
        said.append(f"the slope at the polished minimum is still {slope:.2g} nats an example and unit of weight")
    for row in table[1:3]:
        if abs(row["value"] - first["value"]) > _APART * math.hypot(row["stderr"], first["stderr"]):
            said.append(
                f"at an acceptance of {row['accept']:.2f} the estimate is {row['value']:.3g}: the chains have not "
                "converged; more steps or leapfrogs are needed"
            )
    return tuple(said)
