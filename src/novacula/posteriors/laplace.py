"""The Laplace approximation: a Gaussian posterior around trained weights.

    w | D ~ N(w*, T (H + Λ)⁻¹),

with H the generalised Gauss–Newton matrix at the mode w* in one of five structures, Λ the prior's precision, and T the
temperature. Predictions of the Gaussian are made with the network linearised at w* (see `novacula.prediction`): weights
sampled from it belong to that linear model, and put into the network itself they often predict nonsense.

References:
    A practical Bayesian framework for backpropagation networks. D. J. C. MacKay, 1992. Neural Computation 4(3).
    Improving predictions of Bayesian neural nets via local linearization. A. Immer, M. Korzepa, M. Bauer, 2021.
    arXiv:2008.08711.
    Laplace redux: effortless Bayesian deep learning. E. Daxberger, A. Kristiadi, A. Immer, R. Eschenhagen, M. Bauer,
    P. Hennig, 2021. arXiv:2106.14806.
"""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.memory import with_halving
from novacula.core.params import Params, detach
from novacula.core.rng import derive
from novacula.curvature.problem import Covariance, Curvature
from novacula.curvature.structures.names import Structure, build, check_structure
from novacula.data.data import Data
from novacula.posteriors.answers import Answer, How, Kind, finite
from novacula.posteriors.base import BasePosterior
from novacula.posteriors.leave_one_out.newton import LeaveOneOut
from novacula.posteriors.leave_one_out.reference import covariance_of, reference
from novacula.posteriors.linearised import default_rule, effective_outputs, normal_draws
from novacula.posteriors.mode import Away, away, settled
from novacula.target import Target
from novacula.target.copies import default_chunk, fixed_copies, fixed_outputs

_CHECKED = 500
_SOLVED = 64  # where every example's variance takes solves of its own


@dataclass(frozen=True, eq=False)
class LaplacePosterior(BasePosterior):
    """``N(w*, T Σ)``; parameters that the structure does not cover stay at the mode.

    Args:
        mode: w*, and the statistics that its network holds.
        target: The target whose posterior it is.
        curvature: H.
        covariance: Σ, at temperature 1, of the parameters that the curvature covers.
        temperature: T.
        held_out: What the training examples say about predictions without themselves; None where it was not asked.
        gap: How far the weights are from the mode, at temperature 1: in deviations of the posterior, ``gap.distance``,
            and of the outputs on the training examples, ``gap.ratio`` (see `novacula.posteriors.mode`); None where it
            was not asked.
    """

    mode: Params
    target: Target
    curvature: Curvature
    covariance: Covariance
    temperature: float = 1.0
    held_out: LeaveOneOut | None = None
    gap: Away | None = None

    __repr__ = brief

    @property
    def structure(self) -> str:
        """The structure's name."""
        return self.curvature.structure

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reservations: the curvature's, what it covers otherwise, and a predictive worse than its point estimate."""
        found = list(self.curvature.warnings)
        if self.curvature.fallback:
            blocks = ", ".join(f"{name} ({what})" for name, what in self.curvature.fallback.items())
            found.append(f"not covered by the {self.structure} structure itself: {blocks}")
        return (*found, *filter(None, (self.worse(), self.away())))

    def worse(self) -> str:
        """That the predictive is worse than its own point estimate; nothing where it is not, or was not asked."""
        doubt = None if self.held_out is None else self.held_out.reservation(self.temperature)
        return "" if doubt is None else f"{self.structure}: {doubt}"

    @property
    def distance(self) -> float | None:
        """``√(gᵀ Σ g)`` with the gradient g of the energy, at temperature 1; None where it was not asked."""
        return None if self.gap is None else self.gap.distance

    def away(self) -> str:
        """That the mode is further from the weights than draws of the posterior are; nothing where it is not."""
        found = "" if self.gap is None else self.gap.at(self.temperature).words()
        if not found:
            return ""
        return (
            f"{self.structure}: {found}, so that the Gaussian stands in the wrong place. Train longer and under this"
            " prior, or go to the mode first by settle=True"
        )

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Draw weights, ``(n, *shape)``."""
        deviations = self.covariance.sample(n, rng)
        root = self.temperature**0.5
        return {
            k: w + root * deviations[k] if k in deviations else w.expand(n, *w.shape).clone()
            for k, w in self.mode.items()
        }

    @property
    def kind(self) -> Kind:
        """The network linearised at the mode."""
        return "linearised"

    def outputs(self, x: Tensor, how: How) -> Answer:
        """Outputs ``N(f̄(w*, x), J T Σ Jᵀ)``, as the rule has them; in other ways, those of weights."""
        if how.kind != "linearised":
            return super().outputs(x, how)
        target, rule = self.target, how.rule or default_rule(self.target.likelihood)
        mean = finite(fixed_outputs(target, self.mode, x, copies=how.copies, seed=how.seed, chunk=how.chunk))
        # The average over copies has less noise than the spread of the weights; the variance needs fewer copies.
        fewer = min(how.copies, target.copies.evidence)
        size = default_chunk(target, x, fewer) if how.chunk is None else how.chunk

        def variance(start: int, stop: int) -> Tensor:
            return self.functional_variance(fixed_copies(target, x[start:stop], fewer, how.seed))

        if rule == "analytic":
            v = torch.cat(with_halving(variance, len(x), size, what="inputs"))
            return Answer(mean.unsqueeze(0), rule, v)
        draws, n = None, how.draws(self.size)
        if rule == "monte_carlo":
            draws = normal_draws(n, mean.shape[1], derive(how.seed, "outputs"), mean)

        def outputs(start: int, stop: int) -> Tensor:
            return effective_outputs(rule, mean[start:stop], variance(start, stop), draws, target.likelihood)

        return Answer(torch.cat(with_halving(outputs, len(x), size, what="inputs"), 1), rule)

    def leave_one_out(self, data: Data, *, seed: int, examples: int) -> LeaveOneOut:
        """By one Newton step from the mode."""
        known = self.curvature if self.curvature.leverage == "whole" else None
        found = reference(self.target, self.mode, data, seed=seed, examples=examples, curvature=known)
        return found.of(self.curvature)

    def bounded(self, room: int) -> LaplacePosterior:
        """Itself: structure and temperature, from which it is computed again."""
        return self

    def functional_variance(self, xs: Tensor) -> Tensor:
        """``T J Σ Jᵀ``, the variance of the linearised outputs averaged over transformed copies.

        Args:
            xs: Inputs with their copies, shape ``(N, S, …)``; ``x.unsqueeze(1)`` without an invariance.

        Returns:
            Shape ``(N, C, C)``.
        """
        return self.temperature * self.covariance.variance(xs).detach()

    def with_temperature(self, temperature: float) -> LaplacePosterior:
        """The posterior at another temperature; nothing is factorised again.

        Args:
            temperature: T > 0.

        Returns:
            A posterior with the covariance ``T Σ``.
        """
        return dataclasses.replace(self, temperature=checked_temperature(temperature))


def laplace_posterior(
    target: Target,
    params: Params,
    data: Data,
    *,
    structure: Structure = "kron",
    seed: int = 0,
    temperature: float | None = None,
    check: bool = True,
    settle: bool = False,
) -> LaplacePosterior:
    """The Laplace posterior around weights that were trained elsewhere.

    Args:
        target: The target.
        params: Weights at or near a mode of the posterior.
        data: The training data.
        structure: How the curvature is represented.
        seed: Seed of the transformations and probes.
        temperature: T; by default the target's.
        check: Whether to hold the predictive against the point estimate on training examples predicted without
            themselves (see `leave_one_out`), and to warn where it is worse; and to warn where the weights are far from
            the mode.
        settle: Whether to go to the mode first, by Newton's method with this curvature.

    Returns:
        The posterior.
    """
    check_structure(structure)
    held = dict(target.forward.module.named_buffers())
    target, weights = target.taking(data.parts).at(params)
    temperature = checked_temperature(target.temperature if temperature is None else temperature)
    mode = settled(target, weights, data, structure, seed) if settle else detach(weights)
    problem = target.problem(mode, data, seed=derive(seed, "laplace"))
    with torch.no_grad():
        curvature = build(structure, problem)
        covariance = covariance_of(target, mode, curvature)
    gap, held_out = (away(target, problem, curvature, covariance) if check else None), None
    if check and target.likelihood.normalised:
        known = curvature if curvature.leverage == "whole" else None
        examples = _SOLVED if curvature.leverage == "solved" else _CHECKED
        held_out = reference(target, mode, data, seed=seed, examples=examples, curvature=known).of(curvature)
    statistics = detach({k: params[k] for k in held if k in params})
    made = LaplacePosterior({**mode, **statistics}, target, curvature, covariance, temperature, held_out, gap)
    for reservation in filter(None, (made.worse(), made.away())):
        warnings.warn(reservation, NovaculaWarning, stacklevel=2)
    return made


def checked_temperature(temperature: float) -> float:
    """Insist on a temperature above zero."""
    if not 0 < temperature < float("inf"):
        raise InputError(
            "a temperature above zero", str(temperature), "use 1 for the posterior, less for a sharper one"
        )
    return temperature
