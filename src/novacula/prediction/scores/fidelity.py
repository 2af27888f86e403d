"""How near a predictive is to a reference, such as that of long Hamiltonian chains: in function space, where it counts.

Weights of two good posteriors need not be near each other (neurons can be permuted); predictions must be. Judge the
numbers by what two independent runs of the reference itself have.

References:
    What are Bayesian neural network posteriors really like? P. Izmailov, S. Vikram, M. D. Hoffman, A. G. Wilson, 2021.
    arXiv:2104.14421 (agreement, total variation, R̂ in function space).
"""

from __future__ import annotations

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.diagnostics import rhat
from novacula.prediction.predictive import Predictive


def agreement(a: Predictive | Tensor, b: Predictive | Tensor) -> float:
    """The share of inputs for which both find the same class most probable; for multilabel, of labels.

    Args:
        a: A predictive, or probabilities of exclusive classes, shape ``(N, C)``.
        b: Another one, of the same inputs.

    Returns:
        A number in [0, 1].

    Raises:
        InputError: If shapes differ or these are no probabilities.

    Example:
        >>> agreement(torch.tensor([[0.9, 0.1], [0.4, 0.6]]), torch.tensor([[0.6, 0.4], [0.7, 0.3]]))
        0.5
    """
    p, q, exclusive = _pair(a, b)
    same = p.argmax(-1) == q.argmax(-1) if exclusive else (p > 0.5) == (q > 0.5)
    return float(same.double().mean())


def total_variation(a: Predictive | Tensor, b: Predictive | Tensor) -> float:
    """``½ Σ_c |p_c − q_c|``, averaged over inputs; for multilabel ``|p − q|``, averaged over labels.

    Args:
        a: A predictive, or probabilities of exclusive classes, shape ``(N, C)``.
        b: Another one, of the same inputs.

    Returns:
        A number in [0, 1].

    Raises:
        InputError: If shapes differ or these are no probabilities.

    Example:
        >>> round(total_variation(torch.tensor([[0.9, 0.1]]), torch.tensor([[0.6, 0.4]])), 6)
        0.3
    """
    p, q, exclusive = _pair(a, b)
    gap = (p - q).abs()
    return float(0.5 * gap.sum(-1).mean() if exclusive else gap.mean())


def function_rhat(samples: Tensor) -> Tensor:
    """R̂ of each input's predictions over chains: whether the chains agree on functions, whatever their weights do.

    Args:
        samples: Predictions by the K draws of each of M chains, shape ``(M, K, N, C)``, such as probabilities: a
            predictive's ``samples`` where chain by chain they were kept.

    Returns:
        R̂ (rank-normalised and split, see `novacula.diagnostics.rhat`), shape ``(N, C)``; NaN where a prediction never
        varies.

    Raises:
        InputError: If there are fewer than two chains or four draws, or the axes are others.
    """
    if samples.ndim != 4 or samples.shape[0] < 2:
        raise InputError(
            "predictions of shape (M, K, N, C) by M ≥ 2 chains",
            f"shape {tuple(samples.shape)}",
            "reshape predictive.samples, (M·K, N, C), if its draws are kept chain by chain",
        )
    return rhat(samples)


def _pair(a: Predictive | Tensor, b: Predictive | Tensor) -> tuple[Tensor, Tensor, bool]:
    p, one = _probabilities(a)
    q, other = _probabilities(b)
    if p.shape != q.shape or one != other:
        raise InputError(
            "two predictives of the same inputs and labels",
            f"shapes {tuple(p.shape)} and {tuple(q.shape)}",
            "predict the same rows with both",
        )
    return p, q.to(p.device), one


def _probabilities(a: Predictive | Tensor) -> tuple[Tensor, bool]:
    exclusive = True
    if isinstance(a, Predictive):
        task = a.likelihood.task
        if task not in {"classification", "multilabel"}:
            raise InputError("predictions of classes or labels", f"the task {task!r}", "compare means and intervals")
        exclusive, a = task == "classification", a.mean()
    p = torch.as_tensor(a).detach().double()
    valid = p.ndim == 2 and len(p) > 0 and bool(((p >= 0) & (p <= 1 + 1e-6)).all())
    if not valid or (exclusive and not torch.allclose(p.sum(1), torch.ones_like(p[:, 0]), atol=1e-4, rtol=0)):
        raise InputError(
            "probabilities of shape (N, C) that sum to 1",
            f"shape {tuple(p.shape)}" if p.ndim != 2 or not len(p) else f"values from {p.min():g} to {p.max():g}",
            "average probabilities over the draws, not logits",
        )
    return p, exclusive
