"""Bayes-optimal decisions: of all actions, the one with the least expected loss under the predictive.

| labels | loss | action |
| --- | --- | --- |
| classes | costs ``L (C, A)``: true class c, action a | ``argmin_a Σ_c p_c L_ca`` |
| several yes/no labels | costs ``(2, A)``, the same for all labels | the same, for each label by itself |
| measurements | ``"squared"``, ``"absolute"``, ``"pinball"`` (τ) | mean, median, τ-quantile |
| any | a function ``loss(action, y)``, and candidates | the candidate with the least average loss |

Costs need be neither square nor symmetric: an action such as "refer" is a column like any other. With ``abstain=c``,
where even the best action is expected to cost more than c, no action is taken (Chow's rule, for any costs). A regret is
a loss less what the best action would have cost at that label, and has the same best action.

Expectations are exact, but for functions of labels that are no classes: these are averaged over quasi-random draws of
the labels that all inputs share, so that a decision does not depend on the batch.

References:
    On optimum recognition error and reject tradeoff. C. K. Chow, 1970.
    Making and evaluating point forecasts. T. Gneiting, 2011. arXiv:0912.0902 (which functional a loss elicits).
    The foundations of cost-sensitive learning. C. Elkan, 2001.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.checks.numbers import check_whole, check_within
from novacula.core.errors import InputError
from novacula.core.rng import derive
from novacula.likelihoods import checks
from novacula.posteriors.linearised import normal_draws
from novacula.prediction import sampled
from novacula.prediction.decisions.costs import Costs
from novacula.prediction.distribution import Distribution
from novacula.prediction.gaussians import expected_excess

DRAWS = 1024
ABSTAIN = "abstain"
_AT_ONCE = 1 << 22

PointLoss: TypeAlias = Literal["squared", "absolute", "pinball"]
Losses: TypeAlias = Costs | Tensor | Sequence[Sequence[float]] | Callable[[Any, Tensor], Tensor] | Literal["zero_one"]


@dataclass(frozen=True, eq=False)
class Decision:
    """Actions for N inputs (for multilabel, read ``(N,)`` as ``(N, C)``).

    Args:
        action: Index of the action in ``actions``, shape ``(N,)``; the first of several that are as good.
        expected: The expected loss of every action, shape ``(N, A)``, float64; abstaining is the last one, if allowed.
        abstained: Whether no action was taken, shape ``(N,)``.
        actions: The actions' names, or the candidates themselves, with ``"abstain"`` last, if allowed.
        costs: Loss of true class c under action a, shape ``(C, A)``, where there are costs.
        exact: Whether the expectations are exact; otherwise averages over draws.
    """

    action: Tensor
    expected: Tensor
    abstained: Tensor
    actions: tuple[Any, ...]
    costs: Tensor | None = None
    exact: bool = True

    __repr__ = brief

    @property
    def loss(self) -> Tensor:
        """The expected loss of what was decided, shape ``(N,)``."""
        return self.expected.gather(-1, self.action.unsqueeze(-1))[..., 0]

    @property
    def chosen(self) -> list[Any]:
        """What was decided, an entry of ``actions`` for each input (a list of them for multilabel)."""
        rows = self.action.tolist()
        return [[self.actions[i] for i in r] if isinstance(r, list) else self.actions[r] for r in rows]

    def incurred(self, y: Tensor) -> Tensor:
        """What the decisions cost once the truth is known.

        Args:
            y: True classes, shape ``(N,)``; for multilabel labels of 0 and 1, ``(N, C)``.

        Returns:
            Losses, shape ``(N,)``.

        Raises:
            InputError: If there are no costs but a function, or the labels do not fit.

        Example:
            >>> from novacula.likelihoods import Categorical
            >>> from novacula.prediction import Predictive
            >>> half = Predictive(Categorical(), torch.tensor([[[0.0, 0.1], [2.0, 0.0]]]), "plug-in")
            >>> half.decide([[0.0, 1.0], [5.0, 0.0]]).incurred(torch.tensor([0, 1]))
            tensor([1., 5.], dtype=torch.float64)
        """
        if self.costs is None:
            raise InputError("decisions under costs", "a loss that is a function", "call it with your actions and y")
        y = torch.as_tensor(y)
        y = checks.classes(y.flatten() if self.action.ndim == 2 else y, len(self.costs), training=False).to(self.action)
        if len(y) != self.action.numel():
            raise InputError(f"{self.action.numel()} labels", f"{len(y)}", "pass the labels of the same rows")
        return self.costs[y.reshape(self.action.shape), self.action]


@dataclass(frozen=True, eq=False)
class PointDecision:
    """Values that stand for N distributions.

    Args:
        value: The best value, shape ``(N, D)``, in the targets' units; NaN where none is given.
        expected: Its expected loss, shape ``(N, D)``, float64, whether it is given or not.
        abstained: Whether none is given, shape ``(N, D)``.
    """

    value: Tensor
    expected: Tensor
    abstained: Tensor

    __repr__ = brief


def decide(
    predictive: Distribution,
    loss: Losses | PointLoss,
    *,
    actions: Sequence[Any] | Tensor | None = None,
    abstain: float | None = None,
    tau: float | None = None,
    draws: int = DRAWS,
) -> Decision | PointDecision:
    """The action with the least expected loss; `Predictive.decide` describes the arguments."""
    if tau is not None:
        check_within("tau", tau)
    check_whole("draws", draws)
    if abstain is not None and not (isinstance(abstain, Real) and 0 <= abstain < math.inf):
        raise InputError("a cost of abstaining that is 0 or more", f"{abstain}", "leave it out to forbid abstaining")
    if (tau is not None) != (isinstance(loss, str) and loss == "pinball") or (tau is not None and not 0 < tau < 1):
        raise InputError('tau between 0 and 1 with "pinball" alone', f"tau={tau}", 'decide("pinball", tau=0.9)')
    if isinstance(loss, str):
        if loss != "zero_one":
            if actions is not None:
                raise InputError(f"no actions with {loss!r}: the best value is found", "actions", "leave them out")
            return _point(predictive, loss, 0.5 if tau is None else tau, abstain)
        if (task := predictive.likelihood.task) not in {"classification", "multilabel"}:
            raise InputError("classes or labels for the zero-one loss", f"the task {task!r}", 'use "absolute"')
        classes = predictive.outputs.shape[2] if task == "classification" else 2
        loss = 1 - torch.eye(classes, dtype=torch.float64)
    if callable(loss):
        return _by_function(predictive, loss, actions, abstain, draws)
    return _by_costs(predictive, loss, actions, abstain)


def _by_costs(predictive: Distribution, loss: Any, actions: Any, abstain: float | None) -> Decision:
    task, width = predictive.likelihood.task, predictive.outputs.shape[2]
    if task not in {"classification", "multilabel"}:
        raise InputError(
            "classes or labels for a matrix of costs",
            f"the task {task!r}",
            'use "squared", "absolute", "pinball", or a function with actions',
        )
    classes = width if task == "classification" else 2
    costs = loss if isinstance(loss, Costs) else Costs(loss, actions=None if actions is None else tuple(actions))
    matrix = costs.matrix.to(predictive.outputs.device)
    if len(matrix) != classes:
        rows = "a row for each class" if task == "classification" else "a row for label 0 and one for label 1"
        turned = ", or transpose it: rows are true classes, columns are actions" if matrix.shape[1] == classes else ""
        raise InputError(
            f"costs of shape (C, A) = ({classes}, A), {rows}", f"shape {tuple(matrix.shape)}", f"add rows{turned}"
        )
    p = predictive.mean().double()
    expected = p @ matrix if task == "classification" else torch.lerp(matrix[0], matrix[1], p.unsqueeze(-1))
    return _best(expected, costs.actions, abstain, matrix)


def _by_function(
    predictive: Distribution, loss: Callable[[Any, Tensor], Tensor], actions: Any, abstain: float | None, draws: int
) -> Decision:
    if actions is None or len(actions) == 0:
        raise InputError("the actions that a loss function chooses from", f"{actions}", "pass actions=[…]")
    options = tuple(actions)
    if predictive.likelihood.task == "classification":
        p = predictive.mean().double()
        y = torch.arange(p.shape[1], device=p.device)
        matrix = torch.stack([_losses(loss, a, y, (len(y),)) for a in options], 1)
        return _best(p @ matrix, options, abstain, matrix)
    labels = _labels(predictive, draws)
    total = torch.zeros(predictive.n, len(options), dtype=torch.float64, device=predictive.outputs.device)
    for at in range(0, draws, step := max(1, _AT_ONCE // predictive.outputs[0].numel())):
        y = labels(at, min(draws, at + step))
        total += torch.stack([_losses(loss, a, y, y.shape[:2]).sum(0) for a in options], 1)
    return _best(total / draws, options, abstain, None, exact=False)


def _losses(loss: Callable[[Any, Tensor], Tensor], action: Any, y: Tensor, shape: tuple[int, ...]) -> Tensor:
    found = loss(action, y)
    if not isinstance(found, Tensor) or tuple(found.shape) != tuple(shape) or not bool(torch.isfinite(found).all()):
        got = f"a {type(found).__name__}"
        if isinstance(found, Tensor):
            got = f"shape {tuple(found.shape)}" if tuple(found.shape) != tuple(shape) else "NaN or infinity"
        raise InputError(
            f"finite losses of shape {tuple(shape)} for labels of shape {tuple(y.shape)}",
            f"{got} for the action {action!r}",
            "sum over the outputs of an example, (…).sum(-1), and keep the leading axes",
        )
    return found.double()


def _best(
    expected: Tensor, actions: tuple[Any, ...], abstain: float | None, costs: Tensor | None, *, exact: bool = True
) -> Decision:
    if abstain is not None:
        expected = torch.cat([expected, torch.full_like(expected[..., :1], abstain)], -1)
        costs = None if costs is None else torch.cat([costs, torch.full_like(costs[:, :1], abstain)], -1)
        actions = (*actions, ABSTAIN)
    action = expected.argmin(-1)  # abstaining is last: it loses a tie
    abstained = action == len(actions) - 1 if abstain is not None else torch.zeros_like(action, dtype=torch.bool)
    return Decision(action, expected, abstained, actions, costs, exact)


def _point(predictive: Distribution, loss: str, tau: float, abstain: float | None) -> PointDecision:
    if loss not in {"squared", "absolute", "pinball"}:
        raise InputError(
            'costs, a function, or "squared", "absolute", "pinball", "zero_one"', repr(loss), "check the name"
        )
    task = predictive.likelihood.task
    if task != "regression":
        raise InputError(f"a regression for {loss!r}", f"the task {task!r}", "pass costs of shape (C, A)")
    if loss == "squared":
        value, expected = predictive.mean(), predictive.variance().double()
    else:
        value = predictive.quantile(tau)
        draws = predictive.draws()
        expected = _expected(predictive, value, tau) if draws is None else sampled.excess(draws, value, tau)
        expected = 2 * expected if loss == "absolute" else expected
    abstained = expected > abstain if abstain is not None else torch.zeros_like(expected, dtype=torch.bool)
    return PointDecision(value.masked_fill(abstained, math.nan), expected, abstained)


def _expected(predictive: Distribution, value: Tensor, tau: float) -> Tensor:
    # τ (y − a)₊ + (1 − τ) (a − y)₊ = (y − a)₊ − (1 − τ) (y − a)
    mu, sd = (t.double() for t in predictive.gaussians())
    return expected_excess(value.double(), mu, sd) - (1 - tau) * (mu.mean(0) - value.double())


def _labels(predictive: Distribution, n: int) -> Callable[[int, int], Tensor]:
    # Quasi-random labels, the same z for every input: the first coordinate chooses the component, the others the noise.
    task, f = predictive.likelihood.task, predictive.outputs
    if task not in {"regression", "multilabel"} or not predictive.likelihood.normalised:
        raise InputError(
            "a likelihood that labels can be drawn from", f"{predictive.likelihood.loss!r}", "use a normalised one"
        )
    if (drawn := predictive.draws()) is not None:
        evenly = drawn[torch.arange(n, device=drawn.device) * len(drawn) // n]  # as many of each component
        return lambda a, b: evenly[a:b]
    width = f.shape[2] if task == "multilabel" else predictive.gaussians()[0].shape[2]
    z = normal_draws(n, 1 + width, derive(0, "decide"), f)
    which = (torch.special.ndtr(z[:, 0]) * len(f)).long().clamp(max=len(f) - 1)
    noise = z[:, None, 1:]
    if task == "multilabel":
        p, u = predictive.samples, torch.special.ndtr(noise)
        return lambda a, b: (u[a:b] < p[which[a:b]]).to(p.dtype)
    mu, sd = predictive.gaussians()
    if predictive.covariance is not None:
        factor = torch.linalg.cholesky(predictive.total_covariance())
        return lambda a, b: mu + torch.einsum("ncd,sd->snc", factor, noise[a:b, 0])
    return lambda a, b: mu[which[a:b]] + sd[which[a:b]] * noise[a:b]
