"""`predict`: a posterior's distribution over the labels of new inputs.

Outputs are averaged over the invariance as the model says, ``f̄(w, x) = 1/S Σ_s f(w, T_s x)``, over one fixed set of
transformations that all inputs share; then:

- ``"plug-in"``: the weights of the mode, ``p(y | f̄(w*, x))``.
- ``"linearised"``: ``f̄ ~ N(f̄(w*, x), J Σ Jᵀ)``, the network linearised at a Laplace posterior's mode.
- ``"mixture"``: weights sampled from the posterior, probabilities averaged over them.

The components of a `Mixture` of posteriors (an ensemble) are predicted each in its own way, and averaged.

Everything random is drawn from a seed and not from the inputs, so a prediction does not depend on the batch it is made
in, but for rounding.

References:
    Improving predictions of Bayesian neural nets via local linearization. A. Immer, M. Korzepa, M. Bauer, 2021.
    arXiv:2008.08711.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from novacula.core.errors import InputError, NonFiniteError
from novacula.core.memory import with_halving
from novacula.core.params import Params
from novacula.core.rng import derive, generator
from novacula.posteriors.base import Point, Posterior, network_target
from novacula.posteriors.draws import Draws
from novacula.posteriors.laplace import LaplacePosterior
from novacula.posteriors.linearised import Rule, check_rule, default_rule, effective_outputs, normal_draws
from novacula.posteriors.mixture import Mixture
from novacula.posteriors.subnetwork import SubnetworkPosterior
from novacula.prediction.predictive import Predictive
from novacula.target import Target
from novacula.target.copies import default_chunk, fixed_copies, fixed_outputs, member_outputs

Kind = Literal["auto", "plug-in", "linearised", "mixture"]
_SAMPLES = 128
_MOST = 512
KINDS: tuple[Kind, ...] = ("auto", "plug-in", "linearised", "mixture")


def predict(
    posterior: Posterior,
    x: Tensor,
    *,
    kind: Kind = "auto",
    rule: Rule | None = None,
    samples: int | None = None,
    copies: int | None = None,
    average: Literal["outputs", "probabilities"] = "outputs",
    seed: int = 0,
    chunk: int | None = None,
) -> Predictive:
    """Predict the labels of new inputs.

    Args:
        posterior: What is known about the weights; it knows its target.
        x: Inputs, shape ``(N, …)``.
        kind: How, see the module's text. ``"auto"`` is plug-in for a `Point`, linearised for a `LaplacePosterior` and a
            mixture for everything else.
        rule: How a linearised predictive is made: ``"analytic"``, ``"monte_carlo"``, ``"probit"`` or
            ``"probit_diagonal"`` (see `novacula.posteriors.linearised`); by default the most accurate one.
        samples: Draws of a mixture or of the Monte-Carlo rule; by default 128, and as many as there are, up to 512,
            where the posterior is a finite set of draws.
        copies: Transformed copies S; by default the target's for predictions.
        average: Whether the outputs are averaged over the copies, as in training, or (plug-in and mixture only) the
            probabilities.
        seed: Seed of the transformations and draws.
        chunk: Inputs at once; halved, with a warning, when memory runs out.

    Returns:
        The predictive; means in the units of the training targets.

    Raises:
        InputError: If the inputs are no batch that the network takes, or an option does not fit the posterior.
        NonFiniteError: If the network's outputs are not finite.

    Example:
        >>> from novacula.target import Target
        >>> target = Target(torch.nn.Linear(3, 2))
        >>> predict(Point(target.params(), target), torch.zeros(4, 3)).mean().shape
        torch.Size([4, 2])
    """
    if isinstance(posterior, SubnetworkPosterior):
        # The part's target is the same function, and its own posterior knows how it wants to be predicted.
        posterior = posterior.inner
    target = network_target(posterior.target, "predictions")
    chosen = _check(posterior, target, x, kind, rule, samples, average)
    s = target.copies.predict if copies is None else copies
    if s < 1:
        raise InputError("at least one transformed copy", str(copies), "use 1 or more, or leave it out")
    how = _How(target, x, rule, samples, s, average == "outputs", seed, chunk)
    with torch.no_grad():
        if chosen == "linearised" and isinstance(posterior, LaplacePosterior):
            return _linearised(how, posterior, samples or _SAMPLES)
        f = _components(how, posterior, chosen, samples)
    _finite(f)
    return Predictive(target.likelihood, f, chosen, warnings=posterior.warnings)


@dataclass(frozen=True, eq=False)
class _How:
    """What all components of a posterior share."""

    target: Target
    x: Tensor
    rule: Rule | None
    samples: int | None
    copies: int
    joint: bool
    seed: int
    chunk: int | None

    def outputs(self, params: Params) -> Tensor:
        # (S, N, C) of stacked weights; of every copy, (S · copies, N, C), if these are averaged later.
        f = member_outputs(
            self.target,
            params,
            self.x,
            copies=self.copies,
            seed=self.seed,
            chunk=self.chunk,
            average=self.joint,
        )
        return f if self.joint else f.movedim(2, 1).flatten(0, 1)


def _components(how: _How, posterior: Posterior, kind: str, samples: int | None) -> Tensor:
    # The outputs of equally weighted components, (S, N, C).
    if kind == "plug-in":
        return how.outputs({k: w.unsqueeze(0) for k, w in posterior.mode.items()})
    if isinstance(posterior, Mixture):
        # As many from each; all points of an ensemble.
        each = None if samples is None and isinstance(posterior.components[0], Draws) else samples or _SAMPLES
        share = None if each is None else math.ceil(each / len(posterior.components))
        return torch.cat([_components(how, c, _kind_of(c), share) for c in posterior.components])
    if isinstance(posterior, LaplacePosterior) and kind != "mixture":
        likelihood = how.target.likelihood
        rule = how.rule or default_rule(likelihood)
        # A mixture of Gaussians with covariances of their own is represented by draws.
        rule = "monte_carlo" if rule == "analytic" else rule
        return _linearised(replace(how, rule=rule), posterior, samples or _SAMPLES).outputs
    if isinstance(posterior, Draws) and samples is None:
        samples = min(posterior.size, _MOST)
    return how.outputs(posterior.sample(samples or _SAMPLES, generator(derive(how.seed, "weights"))))


def _kind_of(posterior: Posterior) -> str:
    # What "auto" means for a posterior.
    if isinstance(posterior, LaplacePosterior):
        return "linearised"
    return "plug-in" if isinstance(posterior, Point) else "mixture"


def _linearised(how: _How, posterior: LaplacePosterior, samples: int) -> Predictive:
    target, x, copies, seed, chunk = how.target, how.x, how.copies, how.seed, how.chunk
    rule = how.rule or default_rule(target.likelihood)
    # The average over copies has less noise than the spread of the weights; the variance needs fewer copies.
    fewer = min(copies, target.copies.evidence)

    def variance(start: int, stop: int) -> Tensor:
        return posterior.functional_variance(fixed_copies(target, x[start:stop], fewer, seed))

    mean = fixed_outputs(target, posterior.mode, x, copies=copies, seed=seed, chunk=chunk)
    _finite(mean)
    size = default_chunk(target, fewer) if chunk is None else chunk
    draws = normal_draws(samples, mean.shape[1], derive(seed, "outputs"), mean) if rule == "monte_carlo" else None
    likelihood, warnings = target.likelihood, posterior.warnings
    if rule == "analytic":
        v = torch.cat(with_halving(variance, len(x), size, what="inputs"))
        return Predictive(likelihood, mean.unsqueeze(0), rule, covariance=v, warnings=warnings)

    def outputs(start: int, stop: int) -> Tensor:
        return effective_outputs(rule, mean[start:stop], variance(start, stop), draws, likelihood)

    f = torch.cat(with_halving(outputs, len(x), size, what="inputs"), 1)
    return Predictive(likelihood, f, rule, warnings=warnings)


def _check(
    posterior: Posterior, target: Target, x: Tensor, kind: str, rule: Rule | None, samples: int | None, average: str
) -> str:
    parts = posterior.components if isinstance(posterior, Mixture) else (posterior,)
    linear = all(isinstance(p, LaplacePosterior) for p in parts)
    if kind not in KINDS:
        raise InputError(f"a kind among {', '.join(KINDS)}", repr(kind), "leave it out for the default")
    if kind == "auto":
        kind = "linearised" if linear else _kind_of(posterior)
    if kind == "linearised" and not linear:
        raise InputError(
            "a Laplace posterior for a linearised predictive",
            f"a {type(posterior).__name__}",
            "use laplace_posterior(…)",
        )
    if rule is not None:
        if kind != "linearised":
            raise InputError(
                "a rule with a linearised predictive only", f"rule={rule!r}, kind={kind!r}", "leave the rule out"
            )
        check_rule(rule, target.likelihood)
    if samples is not None and samples < 1:
        raise InputError("at least one sample", str(samples), "use 1 or more")
    if average not in {"outputs", "probabilities"} or (average == "probabilities" and kind == "linearised"):
        raise InputError("average='outputs', or 'probabilities' for plug-in and mixture", repr(average), "leave it out")
    if not isinstance(x, Tensor) or x.ndim < 1 or len(x) == 0:
        got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise InputError(
            "a batch of one or more inputs, shape (N, …)", got, "pass torch.as_tensor(x), with a batch axis"
        )
    if x.is_floating_point() and not torch.isfinite(x).all():
        row = int((~torch.isfinite(x.reshape(len(x), -1)).all(1)).nonzero()[0, 0])
        raise InputError("finite inputs", f"NaN or infinity in row {row}", "drop or impute the row")
    try:
        with torch.no_grad():
            target.forward(posterior.mode, x[:1])
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise InputError(
            "inputs like those the network was trained on",
            f"shape {tuple(x.shape)}, {x.dtype}: {error}",
            "check the shape, the batch axis and the dtype",
        ) from error
    return kind


def _finite(f: Tensor) -> None:
    # Outputs (..., N, C).
    bad = ~torch.isfinite(f).all(-1).reshape(-1, f.shape[-2]).all(0)
    if bad.any():
        raise NonFiniteError(
            "finite network outputs",
            f"NaN or infinity for the input in row {int(bad.nonzero()[0, 0])}",
            "check the weights and the inputs' scale",
        )
