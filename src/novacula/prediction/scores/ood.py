"""Telling inputs of another kind (out of distribution) from those like the training data, by how unsure the model is.

A score is larger for inputs that look strange. Four numbers say how well it separates the two; none needs a threshold
to be chosen. Ties count exactly, as if broken at random (AUROC) or taken together (the others).

| name | meaning |
| --- | --- |
| ``auroc`` | probability that a strange input scores above a usual one, a tie counting ½ |
| ``aupr_out`` | average precision with strange inputs as the positives, high scores first |
| ``aupr_in`` | average precision with usual inputs as the positives, low scores first |
| ``fpr95`` | share of strange inputs let in where 95 % of the usual ones are (those of low score) |

The two AUPR depend on how many inputs of each kind there are: a coin has the share of the positives.

References:
    A baseline for detecting misclassified and out-of-distribution examples in neural networks. D. Hendrycks, K. Gimpel,
    2017. arXiv:1610.02136.
    Enhancing the reliability of out-of-distribution image detection in neural networks. S. Liang, Y. Li, R. Srikant,
    2018. arXiv:1706.02690 (FPR at 95 % TPR).
    Energy-based out-of-distribution detection. W. Liu, X. Wang, J. D. Owens, Y. Li, 2020. arXiv:2010.03759.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.prediction.predictive import Predictive

OodScore = Literal["entropy", "max_probability", "epistemic", "energy"]


@dataclass(frozen=True, eq=False)
class Detection:
    """How well a score tells strange inputs from usual ones.

    Args:
        auroc: Area under the receiver operating characteristic; ½ is a coin's.
        aupr_out: Average precision, strange inputs positive.
        aupr_in: Average precision, usual inputs positive.
        fpr95: Share of strange inputs let in where 95 % of the usual ones are.
        usual: The usual inputs' scores, shape ``(N,)``, for a histogram.
        strange: The strange inputs' scores, shape ``(M,)``.
    """

    auroc: float
    aupr_out: float
    aupr_in: float
    fpr95: float
    usual: Tensor
    strange: Tensor

    __repr__ = brief

    def to_dict(self) -> dict[str, Any]:
        """The four numbers, and how many inputs they are from.

        Returns:
            Numbers by name.
        """
        counts = {"n_in": len(self.usual), "n_out": len(self.strange)}
        return {k: getattr(self, k) for k in ("auroc", "aupr_out", "aupr_in", "fpr95")} | counts


def ood_score(predictive: Predictive, score: OodScore = "entropy") -> Tensor:
    """How strange the inputs look to the model.

    Args:
        predictive: Predictions for N inputs.
        score: ``"entropy"``: the predictive's entropy; ``"max_probability"``: one less the largest probability (classes
            only); ``"epistemic"``: the mutual information of label and weights (mixtures only); ``"energy"``: the
            average over the components of ``−log Σ_c exp f_c`` (classes, and outputs that are a network's own).

    Returns:
        Shape ``(N,)``, float64; larger is stranger.

    Raises:
        InputError: If the predictive has no such score.
    """
    if score not in get_args(OodScore):
        raise InputError(f"a score among {', '.join(get_args(OodScore))}", repr(score), 'use "entropy"')
    if score == "entropy":
        return predictive.entropy().total.double()
    if score == "epistemic":
        found = predictive.entropy().epistemic
        if found is None:
            raise InputError(
                "a predictive that averages over weights", f"one of kind {predictive.kind!r}", 'use "entropy"'
            )
        return found.double()
    if (task := predictive.likelihood.task) != "classification":
        raise InputError(f"classes for {score!r}", f"the task {task!r}", 'use "entropy"')
    if score == "max_probability":
        return 1 - predictive.mean().double().amax(-1)
    if predictive.kind.startswith("probit"):
        # Its outputs are log-probabilities up to a constant, which the energy is all about.
        raise InputError("outputs of a network", f"the kind {predictive.kind!r}", 'predict with rule="monte_carlo"')
    return -predictive.outputs.double().logsumexp(-1).mean(0)


def ood(usual: Predictive, strange: Predictive, score: OodScore = "entropy") -> Detection:
    """How well a model's doubt tells strange inputs from usual ones.

    Args:
        usual: The predictive of inputs like the training data, which were not trained on.
        strange: The same model's predictive of other inputs.
        score: What doubt is, see `ood_score`.

    Returns:
        The numbers of the module's table.

    Raises:
        InputError: If a predictive has no such score, or a score is not finite.

    Example:
        >>> from novacula.likelihoods import Categorical
        >>> sure = Predictive(Categorical(), torch.tensor([[[9.0, 0.0], [0.0, 8.0]]]), "plug-in")
        >>> unsure = Predictive(Categorical(), torch.tensor([[[0.1, 0.0], [0.0, 0.0]]]), "plug-in")
        >>> ood(sure, unsure).to_dict()["auroc"]
        1.0
    """
    return detection(ood_score(usual, score), ood_score(strange, score))


def detection(usual: Tensor, strange: Tensor) -> Detection:
    """How well scores tell strange inputs from usual ones.

    Args:
        usual: Scores of usual inputs, shape ``(N,)``; larger is stranger.
        strange: Scores of strange inputs, shape ``(M,)``.

    Returns:
        The numbers of the module's table, in float64.

    Raises:
        InputError: If there are none of either, or a score is not finite.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score  # a second of import that others need not pay

    a, b = (torch.as_tensor(s).detach().double().cpu() for s in (usual, strange))
    for name, s in (("usual", a), ("strange", b)):
        if s.ndim != 1 or len(s) == 0 or not bool(torch.isfinite(s).all()):
            got = f"shape {tuple(s.shape)}" if s.ndim != 1 or len(s) == 0 else "NaN or infinity"
            raise InputError(f"finite scores of one or more {name} inputs, shape (N,)", got, "check the inputs")
    score, is_out = torch.cat([a, b]).numpy(), torch.cat([torch.zeros(len(a)), torch.ones(len(b))]).numpy()
    # The smallest score that lets in 95 % of the usual inputs; whole numbers keep the rank exact.
    threshold = a.kthvalue(-(-19 * len(a) // 20)).values
    return Detection(
        auroc=float(roc_auc_score(is_out, score)),
        aupr_out=float(average_precision_score(is_out, score)),
        aupr_in=float(average_precision_score(1 - is_out, -score)),
        fpr95=float((b <= threshold).double().mean()),
        usual=a,
        strange=b,
    )
