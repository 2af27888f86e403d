"""`infer`: run a method on a target and data, and return its posterior."""

from __future__ import annotations

from pathlib import Path

from novacula.core.data import Data
from novacula.core.errors import InputError
from novacula.inference.loop import Progress, run
from novacula.inference.method import Method, Posterior
from novacula.target import Target


def infer(
    method: Method,
    target: Target,
    data: Data,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int = 128,
    chains: int = 1,
    seed: int = 0,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Posterior:
    """Infer the weights of a network.

    Args:
        method: How: `MAP`, `Laplace`.
        target: The target density.
        data: The training data.
        steps: Steps in all; give this or ``epochs``.
        epochs: Passes over the data; give this or ``steps``.
        batch_size: Examples a step.
        chains: Independent runs of the method; the methods there are end in one point, so it must be 1.
        seed: Seed of everything random.
        checkpoint: A file to replace after every epoch.
        resume: Whether to continue from ``checkpoint`` where it exists.
        progress: Called after every epoch with (epochs done, epochs in all, the epoch's record).

    Returns:
        The posterior. It knows its target, so `novacula.predict` needs nothing else.

    Raises:
        InputError: If network, likelihood and data do not fit together, if ``chains`` is not 1, or if not exactly one
        of
            ``steps`` and ``epochs`` is given.

    Example:
        >>> import torch
        >>> from novacula.inference import MAP
        >>> from novacula.likelihoods import Normal
        >>> data = Data([[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 2.0, 3.0])
        >>> target = Target(torch.nn.Linear(1, 1), likelihood=Normal(sigma=0.1))
        >>> post = infer(MAP(lr=0.1), target, data, steps=500)
        >>> abs(float(post.mode["weight"]) - 1) < 0.1
        True
    """
    if chains != 1:
        raise InputError(
            "chains=1",
            f"chains={chains} with {type(method).__name__}, whose runs each end in one point",
            "call infer once for each seed and average the predictions",
        )
    target, data = target.prepare(data)
    outcome = run(
        method,
        target,
        data,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
    )
    return method.posterior(target, outcome.state)
