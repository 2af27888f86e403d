"""PAC-Bayes bounds: how often a network that fits errs on new examples, from how rare such networks are.

Let P be the probability that a network of the prior fits n examples, drawn independently, and let Q be the prior
restricted to those that fit, so that ``KL(Q‖prior) = log 1/P``. With probability 1 − δ over the examples the mean error
ε of Q's networks obeys, with ``c = log 1/P``,

    realizable:       −log(1 − ε) ≤ (c + log(1/δ)) / n        (all networks of Q have no error on the examples)
    Langford–Seeger:  kl(ε̂ ‖ ε) ≤ (KL + log(2√n/δ)) / n
    McAllester:       ε ≤ ε̂ + √((KL + log(2√n/δ)) / 2n).

A single network that is written down in b bits by a code that was fixed before the examples were seen has
``KL = b log 2``: the bounds above with this KL are compression bounds.

They hold for any network and any true distribution, provided that the prior does not depend on the examples.

References:
    PAC-Bayesian model averaging. D. McAllester, 1999.
    Bounds for averaging classifiers. J. Langford, M. Seeger, 2001.
    A note on the PAC Bayesian theorem. A. Maurer, 2004. arXiv:cs/0411099 (the constant 2√n).
    Generalization bounds for deep learning. G. Valle-Pérez, A. A. Louis, 2020. arXiv:2012.04115.
    Non-vacuous generalization bounds at the ImageNet scale: a PAC-Bayesian compression approach. W. Zhou et al., 2019.
    arXiv:1804.05862.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.evidence.fitting.estimate import FIT

_SE = 1.959963984540054


@dataclass(frozen=True)
class Bounds:
    """Upper bounds of the error on new examples.

    Args:
        realizable: Where no training error is made, else NaN.
        langford_seeger: By the relative entropy of errors; 1 where it says nothing.
        mcallester: Looser, in closed form; at most 1.
        kl: What was paid for, in nats: ``log 1/P`` or the length of the code.
        n: The number of examples.
        delta: The probability that the examples are so misleading that the bounds do not hold.
    """

    realizable: float
    langford_seeger: float
    mcallester: float
    kl: float
    n: int
    delta: float


def pac_bayes(evidence: Estimate, *, delta: float = 0.05) -> Bounds:
    """Bound the mean error of networks that fit, by the probability of a fit.

    The lower end of the estimate's 95 % interval is used, as a probability that is taken too large makes a bound too
    small; the bounds hold as far as that interval does.

    Args:
        evidence: Of zero training error: of `Splitting`, or of `NNGP` for classes.
        delta: δ.

    Returns:
        The bounds.

    Raises:
        InputError: If the estimate is of something else, or only bounds the probability from above, or δ is outside
            (0, 1).
    """
    if not isinstance(evidence, Estimate) or evidence.loss != FIT:
        got = evidence.loss if isinstance(evidence, Estimate) else type(evidence).__name__
        raise InputError(f"an estimate of {FIT}", got, "use nv.evidence.Splitting() or nv.evidence.NNGP()")
    if evidence.kind == "upper bound":
        raise InputError("a probability of a fit that was found", "an upper bound of it", "no fit, no bound")
    slack = _SE * evidence.stderr if math.isfinite(evidence.stderr) else 0.0
    return bounds(max(0.0, -float(evidence) + slack), evidence.n, delta=delta)


def compression(bits: float, n: int, *, error: float = 0.0, delta: float = 0.05) -> Bounds:
    """Bound the error of one network that is written down in some bits.

    Args:
        bits: The length of the network's code, in a prefix-free code that was fixed before the examples were seen: of
            weights quantised to b bits, ``b · P`` and what it takes to say how they were quantised.
        n: The number of examples.
        error: The network's training error, as written down.
        delta: δ.

    Returns:
        The bounds.

    Raises:
        InputError: If a number is outside its range.

    Example:
        >>> round(compression(100, 1000).realizable, 3)
        0.07
    """
    if not 0 <= bits < math.inf:
        raise InputError("a length in bits of at least 0", repr(bits), "count what has to be written down")
    return bounds(bits * math.log(2), n, error=error, delta=delta)


def bounds(kl: float, n: int, *, error: float = 0.0, delta: float = 0.05) -> Bounds:
    """The three bounds, of a training error ``error`` and a KL in nats."""
    check_whole("n", n)
    if not 0 <= error <= 1:
        raise InputError(
            "an error between 0 and 1", repr(error), "pass the share of training examples that it has wrong"
        )
    if not 0 < delta < 1:
        raise InputError("delta between 0 and 1", repr(delta), "leave it out for .05")
    rate = (kl + math.log(2 * math.sqrt(n) / delta)) / n
    realizable = -math.expm1(-(kl + math.log(1 / delta)) / n) if error == 0 else math.nan
    return Bounds(
        realizable=realizable,
        langford_seeger=_largest(error, rate),
        mcallester=min(1.0, error + math.sqrt(rate / 2)),
        kl=kl,
        n=n,
        delta=delta,
    )


def _largest(error: float, rate: float) -> float:
    # The largest ε with kl(error ‖ ε) ≤ rate, by bisection: kl grows with ε above the error.
    low, high = error, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _kl(error, middle) <= rate else (low, middle)
    return high


def _kl(a: float, b: float) -> float:
    first = 0.0 if a == 0 else math.inf if b == 0 else a * math.log(a / b)
    second = 0.0 if a == 1 else math.inf if b == 1 else (1 - a) * math.log((1 - a) / (1 - b))
    return first + second
