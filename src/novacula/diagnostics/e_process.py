"""Evidence that may be looked at as often as one likes: e-processes over a stream of forecasts.

A test with a p-value holds its level at one moment that was fixed beforehand. Whoever looks after every example and
stops when the number pleases is wrong far more often. An *e-process* is a product of bets that can only lose on average
if the hypothesis is true: ``E_t ≥ 0`` with ``E[E_τ] ≤ 1`` at every stopping time τ, so that (Ville's inequality)

    P(E_t ≥ 1/α at any time) ≤ α.

Three hypotheses have one here.

| function | the hypothesis that it tests | the bet |
| --- | --- | --- |
| `bayes_factor` | A is the truth: labels are drawn from its forecasts | ``p_B(y)/p_A(y)``, the Bayes factor itself |
| `better` | given the past, B forecasts no better than A on average | ``1 + λ (log p_B' − log p_A)`` |
| `changed` | the order of the stream tells nothing (it is exchangeable) | on conformal p-values |

The hypothesis of `bayes_factor` is wrong whenever the model A is; `better` says which of two wrong models to take, and
is what one mostly wants.

References:
    Étude critique de la notion de collectif. J. Ville, 1939.
    Safe testing. P. Grünwald, R. de Heide, W. Koolen, 2019. arXiv:1906.07801.
    Comparing sequential forecasters. Y. J. Choe, A. Ramdas, 2021. arXiv:2110.00115.
    Estimating means of bounded random variables by betting. I. Waudby-Smith, A. Ramdas, 2020. arXiv:2010.09686.
    Retrain or not retrain: conformal test martingales for change-point detection. V. Vovk and others, 2021.
    arXiv:2102.10439.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from novacula.core.brief import brief
from novacula.core.errors import InputError

_BETS = 40  # stakes λ among which better() spreads its money
_JUMP = 0.01  # the share of its money that changed() deals anew at every example
_SLOPES = (-1.0, -0.5, 0.0, 0.5, 1.0)  # its bets on small p-values, or on large ones


@dataclass(frozen=True, eq=False)
class EProcess:
    """Evidence against a hypothesis, after each example.

    Attributes:
        log_e: ``log E_t``, natural logarithms, shape ``(T,)``.
        hypothesis: What it speaks against.
    """

    log_e: np.ndarray
    hypothesis: str

    __repr__ = brief

    @property
    def value(self) -> float:
        """``log E`` after the last example, in nats."""
        return float(self.log_e[-1]) if len(self.log_e) else 0.0

    @property
    def p_value(self) -> float:
        """The smallest level at which the hypothesis was ever rejected, ``min(1, 1/max E)``; valid at any time."""
        return math.exp(-max(0.0, float(self.log_e.max(initial=0.0))))

    def rejected(self, alpha: float = 0.05) -> int | None:
        """After how many examples the hypothesis was first rejected.

        Args:
            alpha: The share of false alarms, at whatever time.

        Returns:
            The number of examples, from 1; None where it never was.

        Raises:
            InputError: If alpha is not between 0 and 1.
        """
        _between("alpha", alpha)
        hits = np.flatnonzero(self.log_e >= -math.log(alpha))
        return int(hits[0]) + 1 if len(hits) else None


def bayes_factor(log_a: object, log_b: object) -> EProcess:
    """The Bayes factor of B over A along the stream: an e-process against "labels are drawn from A's forecasts".

    ``log E_t = Σ_{i ≤ t} log p_B(y_i | past) − log p_A(y_i | past)``. Each forecast may hang on all labels before it.

    Args:
        log_a: A's log-densities of the labels that came, in nats, shape ``(T,)``.
        log_b: B's.

    Returns:
        The evidence.

    Raises:
        InputError: If these are no two finite vectors of one length.

    Example:
        >>> round(bayes_factor([-0.7, -0.7], [-0.1, -0.2]).value, 3)
        1.1
    """
    a, b = _pair(log_a, log_b)
    return EProcess(np.cumsum(b - a), "labels are drawn from A's forecasts")


def better(log_a: object, log_b: object, *, share: float = 0.1) -> EProcess:
    """Evidence that B forecasts better than A, whether or not any of them is true.

    The hypothesis is ``E[log p_B'(y_t) − log p_A(y_t) | past] ≤ 0`` at every t, of ``p_B' = (1 − s) p_B + s p_A``: B
    with a share s of A, which loses at most ``log 1/s`` on an example, so that money cannot run out. Against it,

        E_t = mean over λ of Π_{i ≤ t} (1 + λ d_i),        d = log p_B' − log p_A,    0 < λ < 1/log(1/s).

    Args:
        log_a: A's log-densities of the labels that came, in nats, shape ``(T,)``.
        log_b: B's.
        share: s, between 0 and 1.

    Returns:
        The evidence.

    Raises:
        InputError: If these are no two finite vectors of one length, or the share is not between 0 and 1.

    Example:
        >>> import numpy as np
        >>> a, b = np.log(np.tile([0.5, 0.5], 100)), np.log(np.tile([0.8, 0.45], 100))
        >>> better(a, b).rejected(), better(b, a).rejected()
        (67, None)
    """
    _between("share", share)
    a, b = _pair(log_a, log_b)
    d = np.logaddexp(math.log1p(-share) + b, math.log(share) + a) - a
    stakes = (np.arange(_BETS) + 0.5) / _BETS / -math.log(share)
    money = np.cumsum(np.log1p(stakes[:, None] * d), 1)
    top = money.max(0)
    return EProcess(top + np.log(np.exp(money - top).mean(0)), "B forecasts no better than A")


def changed(scores: object, *, seed: int = 0) -> EProcess:
    """Evidence that the data changed along the stream: against exchangeability.

    With the conformal p-value of each score among those so far,

        p_t = (#{i < t: s_i > s_t} + u #{i ≤ t: s_i = s_t}) / t,

    uniform and independent where the order tells nothing, money is kept in five pots, which bet ``1 + ε (p − ½)`` with
    ε from −1 (on surprisingly large scores) to 1, and a hundredth of it is dealt anew at every step, so that a change
    after a long quiet time is found too (Vovk's simple jumper).

    Args:
        scores: Numbers that tell each example's strangeness by a rule that was fixed before the stream, such as its
            loss under a trained network, shape ``(T,)``.
        seed: Seed of the uniforms that break ties.

    Returns:
        The evidence.

    Raises:
        InputError: If the scores are no finite vector.

    Example:
        >>> import numpy as np
        >>> quiet = np.random.default_rng(0).normal(size=300)
        >>> changed(quiet).rejected() is None, changed(np.r_[quiet, quiet[:100] + 2]).rejected() > 300
        (True, True)
    """
    s = _vector(scores, "scores")
    u = np.random.default_rng(seed).random(len(s))
    before = np.empty(0)
    slopes, pots, log_e = np.array(_SLOPES), np.full(len(_SLOPES), 1 / len(_SLOPES)), np.empty(len(s))
    total = 0.0
    for t, score in enumerate(s):
        low, high = before.searchsorted(score, "left"), before.searchsorted(score, "right")
        p = (t - high + u[t] * (high - low + 1)) / (t + 1)
        before = np.insert(before, high, score)
        pots = ((1 - _JUMP) * pots + _JUMP / len(slopes)) * (1 + slopes * (p - 0.5))
        total += math.log(gain := pots.sum())
        pots /= gain
        log_e[t] = total
    return EProcess(log_e, "the order of the stream tells nothing")


def _between(name: str, value: float) -> None:
    if not isinstance(value, int | float) or not 0 < value < 1:
        raise InputError(f"{name} between 0 and 1", repr(value), f"{name}=0.05")


def _pair(log_a: object, log_b: object) -> tuple[np.ndarray, np.ndarray]:
    a, b = _vector(log_a, "log_a"), _vector(log_b, "log_b")
    if len(a) != len(b):
        raise InputError("forecasts of the same labels", f"{len(a)} and {len(b)}", "score both models on one stream")
    return a, b


def _vector(values: object, name: str) -> np.ndarray:
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} as numbers (T,)", f"a {type(values).__name__}", "pass an array of floats") from error
    if found.ndim != 1 or not np.isfinite(found).all():
        got = f"shape {found.shape}" if found.ndim != 1 else "NaN or infinity among them"
        raise InputError(
            f"{name} as finite numbers (T,)", got, "one number an example, in the order in which they came"
        )
    return found
