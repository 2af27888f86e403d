"""The Laplace evidence: the log-posterior's peak, and how wide it is.

    log p(D) ≈ log p(D | w) + log p(w) + P/2 log 2π − ½ log |H + Λ|

at a mode ``w``, with H the generalised Gauss–Newton matrix in one of five structures and Λ the prior's precision. The
first two terms reward fit, the others charge for every weight the data had to pin down: Occam's razor. The value
carries gradients to every tensor it depends on (prior precisions, noise, extents, a tensor of the user's own), at fixed
weights.

Where outputs are affine in the weights that count as uncertain (all, or with ``"last_layer"`` those of the last layer)
and the likelihood is Gaussian with fixed noise, the log-joint is a parabola; ``structure="exact"`` and ``"last_layer"``
then go to its peak by one Newton step, and value and gradients are exact from any start.

At a temperature T other than 1 the value is that of ``∫ [p(D|w) p(w)]^(1/T) dw / ∫ p(w)^(1/T) dw`` (see `tempering`);
for a Gaussian prior, ``[log p(D|w) − ½ wᵀΛw]/T − ½ log |I + Λ⁻¹H|``.

References:
    Bayesian interpolation. D. J. C. MacKay, 1992.
    Scalable marginal likelihood estimation for model selection in deep learning. A. Immer, M. Bauer, V. Fortuin,
    G. Rätsch, M. E. Khan, 2021. arXiv:2104.04975.
    Invariance learning in deep neural networks with differentiable Laplace approximations. A. Immer, T. van der
    Ouderaa, G. Rätsch, V. Fortuin, M. van der Wilk, 2022. arXiv:2202.10638.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_fields
from novacula.core.estimate import Estimate
from novacula.core.params import Params, count
from novacula.core.rng import derive, generator
from novacula.curvature import Curvature, Problem
from novacula.curvature.structures.names import Structure, build, check_structure, columns_of
from novacula.data.data import Data
from novacula.evidence import common
from novacula.evidence.linearity import is_linear_gaussian
from novacula.evidence.start import bound, weights_for
from novacula.evidence.tempering import log_prior_partition
from novacula.posteriors.base import Posterior
from novacula.posteriors.leave_one_out.reference import covariance_of
from novacula.posteriors.mode import away, energy_and_gradient, is_large, newton
from novacula.target import Target


@dataclass(frozen=True)
class Laplace:
    """Laplace's approximation of the log evidence.

    Args:
        structure: How the curvature is represented: ``"exact"`` (the whole matrix), ``"kron"``, ``"diag"``,
            ``"last_layer"`` (the evidence of the last layer given its features) or ``"matrix_free"`` (stochastic
            Lanczos).
        copies: Transformed copies S of each input; by default the target's.
        repeats: Independent draws of whatever is random (transformations, subset, probes); the standard error is the
            spread between them. One draw does not know the error that its transformations or its subset make (NaN).
            Where nothing is random, one is made.
        subset: Estimate H from this many random examples, scaled to N; the fit is always that of all examples. None for
            all.
        chunk: Examples at once; by default about 1,000 transformed inputs. The transformations drawn depend on it.
        probes: Random vectors of ``"matrix_free"``.

    Raises:
        InputError: If the structure is unknown, or a number is below 1.

    Example:
        >>> from novacula.likelihoods import Normal
        >>> data = Data(torch.randn(20, 3), torch.randn(20, 1))
        >>> target = Target(torch.nn.Linear(3, 1), Normal())
        >>> Laplace(structure="exact")(target, data, target.params(), seed=0).kind
        'exact'
    """

    structure: Structure = "kron"
    copies: int | None = None
    repeats: int = 2
    subset: int | None = None
    chunk: int | None = None
    probes: int = 16

    def __post_init__(self) -> None:
        check_fields(self)
        check_structure(self.structure)
        hint = "use nv.evidence.Laplace(structure='kron')"
        common.check_counts(hint, repeats=self.repeats, subset=self.subset, copies=self.copies, chunk=self.chunk)

    @property
    def name(self) -> str:
        """The estimator's name, under which values compare."""
        settings = [self.structure]
        settings += [f"{k}={v}" for k, v in (("subset", self.subset), ("copies", self.copies)) if v is not None]
        return f"Laplace({', '.join(settings)})"

    def __call__(self, target: Target, data: Data, start: Params | Posterior, *, seed: int) -> Estimate:
        """Estimate the log evidence."""
        target, data = bound(target, data)
        target, params = weights_for(target, start)
        copies = self.copies or target.copies.evidence
        subset = None if self.subset is None or self.subset >= data.n else self.subset
        columns = self._columns(target, params, data, subset or data.n)
        blind = target.averaged is not None or subset is not None or columns is not None
        repeats = self.repeats if blind or self.structure == "matrix_free" else 1
        drawn, doubts = [], []
        for r in range(repeats):
            with common.collect_warnings() as found:
                drawn.append(self._once(target, data, params, stream_of(seed, r), copies, subset, r == 0))
            doubts += [*filter(None, (drawn[-1].doubt,)), *drawn[-1].curvature.warnings, *found]
        exactly = drawn[0].exactly
        assumptions = _assumptions(drawn[0].curvature, exactly)
        if subset is not None:
            assumptions.append(f"the curvature of {subset} random examples stands for that of all {data.n}")
        if columns is not None:
            assumptions.append(f"{columns} random combinations of the outputs of an example stand for all")
        if blind and repeats == 1:
            doubts.append("one draw of what is random: no standard error (use repeats=2 or more)")
        return common.make_estimate(
            target,
            data,
            [d.value for d in drawn],
            kind="exact" if exactly and not blind else "estimate",
            estimator=self.name,
            within=math.nan if blind else math.sqrt(sum(d.stderr**2 for d in drawn)) / repeats,
            assumptions=(
                *assumptions,
                *common.invariance_assumptions(target, copies),
                *common.tempering_assumptions(target),
            ),
            warnings=tuple(doubts),
            parts=[d.terms for d in drawn],
        )

    def _once(
        self, target: Target, data: Data, params: Params, stream: int, copies: int, subset: int | None, first: bool
    ) -> _Draw:
        graph = common.wants_gradient(target, params, data)
        problem = target.problem(params, data, seed=stream, copies=copies, chunk=self.chunk, differentiable=graph)
        part = problem
        if subset is not None:
            order = torch.randperm(data.n, generator=generator(stream, "subset"))[:subset]
            part = target.problem(
                params,
                data.subset(order),
                seed=derive(stream, "subset"),
                copies=copies,
                chunk=self.chunk,
                total=data.n,
                differentiable=graph,
            )
        curvature = build(self.structure, part, seed=derive(stream, "probes"), probes=self.probes)
        whole = curvature.leverage in {"whole", "part"} and subset is None
        exactly = whole and is_linear_gaussian(target, params, data, names=curvature.names, seed=stream)
        if exactly:
            problem = dataclasses.replace(problem, params=_peak(target, problem, curvature))
        value, stderr, terms = laplace_value(target, problem, common.log_likelihood(target, problem), curvature)
        # As an objective for gradients the value says nothing of a mode, and is asked for at every step. No matrix
        # is inverted for this alone where that takes ten times as long as the value does.
        unasked = exactly or graph or not first or is_large(curvature, params)
        doubt = "" if unasked else _doubt(target, problem, curvature)
        return _Draw(value, stderr, terms, curvature, exactly, doubt)

    def _columns(self, target: Target, params: Params, data: Data, examples: int) -> int | None:
        # How many combinations of outputs the structure takes, where not all.
        if self.structure not in {"kron", "diag"}:
            return None
        with torch.no_grad():
            outputs = target.forward(params, data.x[:1]).shape[1]
        columns = columns_of(outputs, examples)
        return columns if columns < outputs else None


@dataclass(frozen=True, eq=False)
class _Draw:
    """One draw's value, its standard error from probes, its terms, the curvature, whether it is exact, and a doubt."""

    value: Tensor
    stderr: float
    terms: dict[str, float]
    curvature: Curvature
    exactly: bool
    doubt: str


def stream_of(seed: int, repeat: int) -> int:
    """The seed of a repeat, so that others can draw the same transformations."""
    return derive(seed, "laplace", repeat)


def laplace_value(
    target: Target, problem: Problem, fit: Tensor, curvature: Curvature
) -> tuple[Tensor, float, dict[str, float]]:
    """Laplace's formula."""
    covered = {k: problem.params[k] for k in curvature.names}
    precision, t = target.prior.precision(covered), target.temperature
    log_prior = target.prior.log_prob(covered).double()
    determinant = curvature.log_det(precision)
    volume = (
        count(covered) / 2 * math.log(2 * math.pi * t)
        - (determinant.value + common.log_precision_sum(precision, covered)) / 2
        - log_prior_partition(target.prior, covered, t)
    )
    terms = {"log_likelihood": fit / t, "log_prior": log_prior / t, "log_volume": volume}
    value = fit / t + log_prior / t + volume
    return value, determinant.stderr / 2, {k: float(v.detach()) for k, v in terms.items()}


def _assumptions(curvature: Curvature, exactly: bool) -> list[str]:
    # What must hold for the value to mean what it says.
    found = (
        [] if exactly else ["the posterior is close to a Gaussian at these weights (one mode, curvature by the GGN)"]
    )
    if curvature.leverage == "part":
        found.append("it scores the last layer given its features: the other weights count as fixed")
    if curvature.fallback:
        blocks = ", ".join(f"{k} ({v})" for k, v in curvature.fallback.items())
        found.append(f"not covered by the {curvature.structure} structure: {blocks}")
    return found


def _doubt(target: Target, problem: Problem, curvature: Curvature) -> str:
    # That the weights are not at a mode; a parabola of this curvature peaks d²/2 higher.
    with torch.no_grad():
        gap = away(target, problem, curvature, covariance_of(target, problem.params, curvature)).at(target.temperature)
    return (found := gap.words()) and f"{found}. The value is too low, by about {gap.distance**2 / 2:.3g} nats"


def newton_step(target: Target, data: Data, params: Params, *, seed: int) -> Params:
    """The weights after one Newton step with the exact curvature: for a linear-Gaussian model, those of the peak.

    Args:
        target: The model.
        data: The training data.
        params: Weights.
        seed: Seed of the transformations.

    Returns:
        New weights.
    """
    target, params = target.at(params)
    problem = target.problem(params, data, seed=stream_of(seed, 0))
    return _peak(target, problem, build("exact", problem, seed=0))


def _peak(target: Target, problem: Problem, curvature: Curvature) -> Params:
    # The mode of a log-joint that is a parabola: one Newton step from any w. There the derivative in w vanishes, so the
    # partial derivative of the value at fixed weights, which is what autograd sees, is the whole one.
    params = problem.params
    gradient = energy_and_gradient(target, problem, params)[1]
    step, _ = newton(covariance_of(target, params, curvature), curvature.names, gradient, params)
    return {**params, **{k: params[k].detach() - step[k] for k in step}}
