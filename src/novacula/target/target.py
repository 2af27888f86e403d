"""The target: network, prior, likelihood, invariance and temperature, as one log-density over weights.

    log p(w | D) = 1/T [ 1/T_l Σ_n log p(y_n | f̄(w, x_n)) + log p(w | prior) ] + const,   f̄(w, x) = 1/S Σ_s f(w, T_s x).

The target owns the scale: a minibatch stands for the full sum over N examples. The temperature T tempers the whole
posterior ("cold posteriors"); the likelihood's temperature T_l tempers what the data say and leaves the prior as it is
(``1/T_l`` is the learning rate of a generalised posterior). Both are 1 for Bayes' rule.

References:
    How good is the Bayes posterior in deep neural networks really? F. Wenzel et al., 2020. arXiv:2002.02405.
    A general framework for updating belief distributions. P. G. Bissiri, C. C. Holmes, S. G. Walker, 2016.
    arXiv:1306.6430.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from novacula.core.brief import brief
from novacula.core.checks.numbers import check_positive, shown
from novacula.core.errors import InputError
from novacula.core.forward import Forward
from novacula.core.many import Notes
from novacula.core.memory import inputs_at_once
from novacula.core.modules.parts import Parts
from novacula.core.params import Params
from novacula.core.units import Units
from novacula.curvature.problem import Problem
from novacula.data.data import Data
from novacula.data.new import like_of
from novacula.data.placing import placed
from novacula.data.raw import Like
from novacula.invariances.base import Invariance
from novacula.invariances.on_part import bind_parts
from novacula.likelihoods import Categorical
from novacula.likelihoods.base import Likelihood
from novacula.likelihoods.declared import check_logits, check_quadratic
from novacula.priors import Gaussian
from novacula.priors.base import Prior
from novacula.priors.declared import check_gaussian
from novacula.target.parts import check_part
from novacula.target.passes import Copies, Passes

_COMPONENTS = ("prior", "likelihood", "invariance")


@dataclass(frozen=True, eq=False)
class Target:
    """A network with its prior, likelihood, invariance and temperature.

    Args:
        network: Any `nn.Module` from ``(N, …)`` to ``(N, C)``. It is copied and never changed. Plain tensors that its
            class names in ``learnable = ("name", …)`` are hyperparameters that the evidence can learn.
        likelihood: ``p(y | f)``.
        prior: ``p(w)``; bound to the network's weights.
        invariance: A random transformation of inputs, averaged over in the outputs; None for none. A policy that
            augments the training data alone (``averages_predictions`` is false) gives a training step one copy only.
        temperature: T > 0, of the whole posterior; 1 is the Bayes posterior.
        copies: How many transformed copies are averaged when training, scoring and predicting.
        likelihood_temperature: T_l > 0, of the likelihood alone; 1 is the Bayes posterior.
        parameters: Names (patterns: ``["*.lora_*"]``) of what is a weight, in the place of all that require a gradient.
        forward: The network as a function; made from ``network`` when absent.
        like: What inputs of predictions must be like; `prepare` takes it from the training data.

    Raises:
        InputError: If a temperature is not positive, or the network cannot be used (see `Forward`).

    Example:
        >>> target = Target(nn.Linear(3, 2))
        >>> sorted(target.learnable())
        ['prior.log_precision']
    """

    network: nn.Module
    likelihood: Likelihood = field(default_factory=Categorical)
    prior: Prior = field(default_factory=Gaussian)
    invariance: Invariance | None = None
    temperature: float = 1.0
    copies: Copies = field(default_factory=Copies)
    likelihood_temperature: float = 1.0
    parameters: Sequence[str] | None = None
    forward: Forward = field(default=None, repr=False)  # type: ignore[assignment]  # filled in below
    like: Like | None = field(default=None, repr=False)

    __repr__ = brief

    def __post_init__(self) -> None:
        for name in ("temperature", "likelihood_temperature"):
            check_positive(name, getattr(self, name))
        if not isinstance(self.copies, Copies):
            raise InputError("copies as nv.Copies", shown(self.copies), "copies=nv.Copies(train=1)")
        for part in _COMPONENTS:
            check_part(part, getattr(self, part))
        if self.forward is None:
            object.__setattr__(self, "forward", Forward(self.network, only=self.parameters))
        object.__setattr__(self, "prior", self.prior.bind(self.forward.params()))

    @property
    def notes(self) -> Notes:
        """What was found out about the network while many of it were evaluated."""
        return self.forward.notes

    @property
    def averaged(self) -> Invariance | None:
        """What scores and predictions average over; None where they take the inputs as they are."""
        return None if self.invariance is None or not self.invariance.averages_predictions else self.invariance

    def params(self) -> Params:
        """Detached copies of the network's trainable weights, as they came."""
        return self.forward.params()

    def at(self, point: Params) -> tuple[Target, Params]:
        """Take what a member of a run holds apart: statistics go into the network, as constants; weights are left.

        Args:
            point: Weights, perhaps with values of buffers beside them.

        Returns:
            The target whose network holds these values, and the weights.
        """
        buffers = {name for name, _ in self.forward.module.named_buffers()}
        held = {k: v for k, v in point.items() if k in buffers}
        target = dataclasses.replace(self, forward=self.forward.holding(held)) if held else self
        return target, {k: w for k, w in point.items() if k not in held}

    def prepare(self, data: Data) -> tuple[Target, Data]:
        """Check that network, likelihood and data fit together, before any long computation.

        Args:
            data: The training data.

        Returns:
            The target with its likelihood bound to the network's number of outputs, and the data where it is, with
            labels in the dtype and shape that the likelihood takes.

        Raises:
            InputError: If network, inputs and labels do not fit, or prior or likelihood are not what they are declared.
        """
        data = placed(data, next(iter(self.params().values())).device)
        taking = self.taking(data.parts)
        outputs = taking.forward.check(data.x[:8])
        bound = dataclasses.replace(taking, likelihood=taking.likelihood.bind(outputs), like=like_of(data))
        check_logits(bound.likelihood, lambda: bound.forward.traced(data.x[:8]))
        y = bound.likelihood.validate(data.y, outputs)
        check_quadratic(bound.likelihood, y)
        check_gaussian(bound.prior, self.forward.params())
        return bound, data.with_values(data.x, y)

    def taking(self, parts: Parts | None) -> Target:
        """The same target for inputs of several parts, or of one.

        Args:
            parts: How a row of numbers is taken apart; None where it is the input itself.

        Returns:
            The target.

        Raises:
            InputError: If the invariance transforms a part that is not there, or does not say which.
        """
        forward, invariance = self.forward.taking(parts), bind_parts(self.invariance, parts)
        if forward is self.forward and invariance is self.invariance:
            return self
        return dataclasses.replace(self, forward=forward, invariance=invariance)

    def in_units(self, units: Units) -> Target:
        """The same network between inputs and outputs in the units of the data.

        Args:
            units: The scales. A quadratic likelihood's noise, in the network's own, follows: a σ for each scale.

        Returns:
            The target. Where it has units already, these take their place, and the noise stays.
        """
        likelihood = self.likelihood
        if likelihood.quadratic and units.y_sd.numel() and not self.forward.units.y_sd.numel():
            likelihood = likelihood.in_units(units.y_sd)
        forward = self.forward.over(self.forward.module, units)
        return dataclasses.replace(self, forward=forward, likelihood=likelihood)

    def calibrated(self, temperature: float) -> Target:
        """The target whose labels are as sure as ``p(y | f)^(1/T)``, normalised over ``y``, says.

        Unlike ``temperature`` and ``likelihood_temperature`` this changes what is predicted at given weights.

        Args:
            temperature: T > 0: logits are divided by it, and the noise's variance is multiplied by it. Above 1 the
                labels are less sure.

        Returns:
            The target.

        Raises:
            InputError: If T is not positive, or not 1 where the likelihood has no such temperature.
        """
        if not 0 < temperature < math.inf:
            raise InputError("a temperature above zero", str(temperature), "use 1 for the labels as they were")
        if temperature == 1:
            return self
        if self.likelihood.tempering == "outputs":
            return self.in_units(self.forward.units.scaled(1 / temperature))
        if self.likelihood.tempering == "noise":
            return dataclasses.replace(self, likelihood=self.likelihood.scaled(math.log(temperature) / 2))
        raise InputError(
            "a likelihood that declares its tempering",
            f"{type(self.likelihood).__name__} and the temperature {temperature:g}",
            "use temperature 1, or Categorical, Bernoulli or Normal",
        )

    def learnable(self) -> dict[str, Tensor]:
        """The tensors that the evidence can learn, by name.

        Returns:
            ``{"prior.log_precision": …, "likelihood.log_sigma": …, "invariance.eta": …, "network.…": …}``, where there.
        """
        found: dict[str, Tensor] = {f"network.{name}": value for name, value in self.forward.learnable().items()}
        for part in _COMPONENTS:
            component = getattr(self, part)
            if component is not None:
                found |= {f"{part}.{name}": getattr(component, name) for name in component.learnable}
        return found

    def with_learnable(self, values: dict[str, Tensor]) -> Target:
        """The same target with other values of its learnable tensors.

        Args:
            values: New tensors under names that `learnable` gives; others are kept.

        Returns:
            A new target that shares the weights; hyperparameters of the network are set in a copy of the module.
        """
        changes: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for key, value in values.items():
            part, name = key.split(".", 1)
            changes[part][name] = value
        network = changes.pop("network", None)
        parts: dict[str, Any] = {p: dataclasses.replace(getattr(self, p), **c) for p, c in changes.items()}
        if network:
            parts["forward"] = self.forward.with_learnable(network)
        if "prior" in parts:
            parts["prior"] = parts["prior"].bind(self.forward.params())
        other = copy.copy(self)  # what stays was checked before: this is done in every step of a run
        vars(other).update(parts)
        return other

    def warp(self, x: Tensor, copies: int, rng: torch.Generator) -> Tensor:
        """Transformed copies of the inputs, as a training step takes them.

        Args:
            x: Inputs, shape ``(N, …)``.
            copies: S; without an invariance that is averaged over, S = 1 is used.
            rng: Randomness of the transformations.

        Returns:
            Shape ``(N, S, …)``; differentiable in the invariance's extents.
        """
        if self.invariance is None:
            return x.unsqueeze(1)
        n, copies = x.shape[0], 1 if self.averaged is None else copies
        repeated = x.repeat_interleave(copies, 0) if copies > 1 else x
        return self.invariance(repeated, self.invariance.noise(n * copies, x, rng)).unflatten(0, (n, copies))

    def scored(self, x: Tensor, copies: int, rng: torch.Generator) -> Tensor:
        """Copies of the inputs as evidence, curvature and samplers of a fixed density take them.

        Args:
            x: Inputs, shape ``(N, …)``.
            copies: S.
            rng: Randomness of the transformations.

        Returns:
            As `warp` does; the inputs as they are, ``(N, 1, …)``, where predictions average over nothing.
        """
        return x.unsqueeze(1) if self.averaged is None else self.warp(x, copies, rng)

    def outputs(self, params: Params, x: Tensor, copies: int, rng: torch.Generator) -> Tensor:
        """Network outputs averaged over the invariance.

        Args:
            params: Weights.
            x: Inputs, shape ``(N, …)``.
            copies: S.
            rng: Randomness of the transformations.

        Returns:
            ``f̄``, shape ``(N, C)``.
        """
        return self.forward.average(params, self.scored(x, copies, rng))

    def log_likelihood(self, params: Params, x: Tensor, y: Tensor, copies: int, rng: torch.Generator) -> Tensor:
        """Log-likelihood of each example.

        Args:
            params: Weights.
            x: Inputs, shape ``(N, …)``.
            y: Labels.
            copies: S.
            rng: Randomness of the transformations.

        Returns:
            Shape ``(N,)``, in nats.
        """
        return self.likelihood.log_prob(self.outputs(params, x, copies, rng), y)

    def densities(self, params: Params, xs: Tensor, y: Tensor, total: int) -> tuple[Tensor, Tensor]:
        """The fit of a batch, and the tempered log-posterior that follows if the batch stands for all examples.

        Args:
            params: Weights.
            xs: Inputs with their copies, shape ``(B, S, …)``, as `warp` gives them.
            y: Labels of the batch.
            total: N.

        Returns:
            The mean log-likelihood of the batch, and the unnormalised log-density; scalars, in nats.
        """
        fit = self.likelihood.log_prob(self.forward.average(params, xs), y).mean()
        return fit, self.tempered(fit, params, total)

    def tempered(self, fit: Tensor, params: Params, total: int) -> Tensor:
        """The tempered log-posterior of weights whose mean log-likelihood of ``total`` examples is ``fit``."""
        return (fit * (total / self.likelihood_temperature) + self.prior.log_prob(params)) / self.temperature

    def log_density(self, params: Params, x: Tensor, y: Tensor, total: int, rng: torch.Generator) -> Tensor:
        """The tempered, unnormalised log-posterior, estimated from a batch that stands for all ``total`` examples.

        Args:
            params: Weights.
            x: Inputs of a batch.
            y: Labels of the batch.
            total: N.
            rng: Randomness of the transformations.

        Returns:
            A scalar, in nats.
        """
        return self.densities(params, self.warp(x, self.copies.train, rng), y, total)[1]

    def identity(self) -> tuple[list[str], dict[str, Tensor]]:
        """What tells this target from others: a run may only be resumed on the same one.

        Returns:
            Words, and tensors by name.
        """
        words = [str(self.copies), str(self.temperature), str(self.likelihood_temperature), repr(self.forward.parts)]
        return [*words, self.likelihood.loss, str(self.forward.module)], {
            **self.params(),
            **self.learnable(),
            **{f"centre/{k}": w for k, w in (self.prior.centre(self.params()) or {}).items()},
            **{f"buffers/{k}": b for k, b in self.forward.module.named_buffers()},
            **{f"units/{k}": v for k, v in self.forward.units.tensors().items()},
        }

    def problem(
        self,
        params: Params,
        data: Data,
        *,
        seed: int,
        chunk: int | None = None,
        copies: int | None = None,
        total: int | None = None,
        differentiable: bool = False,
    ) -> Problem:
        """The curvature problem of this target at ``params``.

        Args:
            params: The point; statistics among it are constants.
            data: The examples.
            seed: Seed of the transformations: the same seed gives the same copies in every pass.
            chunk: Examples per batch; by default about 1,000 transformed inputs, fewer of large ones.
            copies: S; by default ``self.copies.evidence``.
            total: N when ``data`` is a subset that stands for more examples.
            differentiable: Whether the result must carry gradients to the target's tensors.

        Returns:
            A `Problem`.
        """
        target, weights = self.at(params)
        s = 1 if self.averaged is None else copies or self.copies.evidence
        size = chunk or inputs_at_once(data.x_shape, s)
        return Problem(
            forward=target.forward,
            params={k: w.detach() for k, w in weights.items()},
            batches=Passes(self, data, s, seed, size),
            factor=self.likelihood.factor,
            combined=self.likelihood.combined,
            size=data.n,
            scale=(total or data.n) / data.n / self.likelihood_temperature,
            differentiable=differentiable,
        )
