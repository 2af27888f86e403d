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

from typing import Any, Literal

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_numbers
from novacula.core.checks.tensors import check_outputs, check_plain
from novacula.core.device import device_of, on_device
from novacula.core.errors import InputError
from novacula.core.modules.parts import Values
from novacula.data.lazy import LazyRows
from novacula.data.new import as_new
from novacula.data.parts import joined, several
from novacula.data.placing import placed_rows
from novacula.posteriors.answers import How, finite
from novacula.posteriors.answers import Kind as Way
from novacula.posteriors.base import Learned, Posterior, network_target, posterior_of
from novacula.posteriors.linearised import Rule, check_rule
from novacula.prediction.predictive import Predictive
from novacula.target import Target

Kind = Literal["auto", "plug-in", "linearised", "mixture"]
KINDS: tuple[Kind, ...] = ("auto", "plug-in", "linearised", "mixture")


def predict(
    posterior: Posterior | Learned,
    x: Tensor | Values | Any,
    *,
    kind: Kind = "auto",
    rule: Rule | None = None,
    samples: int | None = None,
    copies: int | None = None,
    average: Literal["outputs", "probabilities"] = "outputs",
    seed: int = 0,
    chunk: int | None = None,
    device: str | torch.device | None = None,
) -> Predictive:
    """Predict the labels of new inputs.

    Args:
        posterior: What is known about the weights, which knows its target; or a result that has one.
        x: Inputs, shape ``(N, …)``: a tensor, which is taken as it is unless it holds bytes or other whole numbers for
            floats; `Data`, an array, lists or a frame, which are read as the training data were (a frame's columns by
            their names); of several parts, a dictionary or tuple of them, as the training data had.
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
        device: Where to compute: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``; by default where the weights are.
            Inputs are moved there, large ones by chunks.

    Returns:
        The predictive; means in the units of the training targets.

    Raises:
        InputError: If the inputs are no batch that the network takes, an option does not fit the posterior, or the
            device is not there.
        NonFiniteError: If the network's outputs are not finite.

    Example:
        >>> from novacula.posteriors import Point
        >>> from novacula.target import Target
        >>> target = Target(torch.nn.Linear(3, 2))
        >>> predict(Point(target.params(), target), torch.zeros(4, 3)).mean().shape
        torch.Size([4, 2])
    """
    check_numbers(samples=samples, copies=copies, chunk=chunk, seed=seed)
    if callable(getattr(posterior, "predict", None)):
        got = f"a {type(posterior).__name__}, which predicts by itself"
        raise InputError("a posterior", got, "call its predict(x)")
    posterior = posterior_of(posterior)
    target = network_target(posterior.target, "predictions")
    with torch.inference_mode(False):  # Jacobians need a graph
        posterior = on_device(posterior, device, now=device_of(target.params()))
        target = network_target(posterior.target, "predictions")
        chosen = _check(posterior, target, kind, rule, average)
        inputs = _inputs(_one_tensor(target, x), posterior, target)
        inputs = inputs.clone() if not isinstance(inputs, LazyRows) and inputs.is_inference() else inputs
        s = target.copies.predict if copies is None else copies
        with torch.no_grad():
            found = posterior.outputs(inputs, How(chosen, s, samples, rule, average, seed, chunk))
        f = finite(found.values)
    return Predictive(target.likelihood, f, found.way, covariance=found.covariance, warnings=posterior.warnings)


def _one_tensor(target: Target, x: Any) -> Any:
    if not several(x):
        return x
    found, like = joined(target.forward.parts, x), next(iter(target.params().values()))
    return found.to(like.device, like.dtype) if found.is_floating_point() else found.to(like.device)


def _check(posterior: Posterior, target: Target, kind: Kind, rule: Rule | None, average: str) -> Way:
    if kind not in KINDS:
        raise InputError(f"a kind among {', '.join(KINDS)}", repr(kind), "leave it out for the default")
    if kind == "auto":
        kind = posterior.kind
    if kind == "linearised" and posterior.kind != kind:
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
    if average not in {"outputs", "probabilities"} or (average == "probabilities" and kind == "linearised"):
        raise InputError("average='outputs', or 'probabilities' for plug-in and mixture", repr(average), "leave it out")
    return kind


def _inputs(x: Any, posterior: Posterior, target: Target) -> Tensor:
    # Inputs as a tensor that the network takes.
    like = next(iter(posterior.mode.values()))
    if isinstance(x, Tensor) and not isinstance(x, LazyRows):
        check_plain(x, "inputs")
    x = placed_rows(as_new(x, target.like, like.dtype), like.device)
    if x.ndim < 1 or len(x) == 0:
        raise InputError("a batch of one or more inputs, shape (N, …)", f"shape {tuple(x.shape)}", "pass x[None]")
    # Rows that are read as needed are checked as they are read.
    if x.is_floating_point() and not isinstance(x, LazyRows) and not torch.isfinite(x).all():
        row = int((~torch.isfinite(x.reshape(len(x), -1)).all(1)).nonzero()[0, 0])
        raise InputError("finite inputs", f"NaN or infinity in row {row}", "drop or impute the row")
    try:
        with torch.no_grad():
            f = target.forward(posterior.mode, x[:1])
    except Exception as error:
        raise InputError(
            "inputs like those the network was trained on",
            f"shape {tuple(x.shape)}, {x.dtype}: {type(error).__name__}: {error}",
            "check the shape, the batch axis and the dtype",
        ) from error
    check_outputs(f, 1, f"the first of inputs of shape {tuple(x.shape)}")
    return x
