"""Folds: parts of the data of about equal size, each to be predicted by a network that has not seen it."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.rng import generator
from novacula.data.arrays import to_tensor
from novacula.data.data import Data
from novacula.data.lazy import row_keys
from novacula.data.meaning.soft import most_probable


def folds_of(data: Data, k: int = 3, seed: int = 0) -> Tensor:
    """Deal the examples to K folds.

    Examples with the same inputs stay in one fold, as a network that has seen one of them has seen all. Apart from
    that, folds differ by at most one example in size, and of each class by at most one.

    Args:
        data: The examples.
        k: K, at least 2.
        seed: Seed of the order in which they are dealt.

    Returns:
        The fold of each example, 0 to K − 1, int64, shape ``(N,)``.

    Raises:
        InputError: If K is less than 2, or there are fewer than K different inputs.

    Warns:
        NovaculaWarning: If a class has fewer than K examples.

    Example:
        >>> data = Data([[0.0], [1.0], [2.0], [3.0], [1.0]], [0.0, 1.0, 2.0, 3.0, 4.0])
        >>> folds = folds_of(data, 2)
        >>> sorted(folds.bincount().tolist()), bool(folds[1] == folds[4])
        ([2, 3], True)
    """
    check_whole("folds", k, least=2)
    if k > data.n:
        raise InputError(f"at most {data.n} folds, one for each example", str(k), f"use folds={min(data.n, 3)}")
    same = row_keys(data.x).tolist()
    if (different := max(same) + 1) < k:
        raise InputError(f"at least {k} examples with different inputs", str(different), "use fewer folds")
    classes = _classes(data, k)
    members: defaultdict[int, list[int]] = defaultdict(list)
    for row in torch.randperm(data.n, generator=generator(seed, "folds")).tolist():
        members[same[row]].append(row)
    # Repeated inputs first, the most frequent ones before others; then, class by class, what fills the gaps.
    groups = sorted(members.values(), key=lambda rows: (-len(rows), classes[rows[0]]))
    of_class = np.zeros((int(classes.max()) + 1, k), dtype=int)
    sizes, found = np.zeros(k, dtype=int), np.zeros(data.n, dtype=np.int64)
    for rows in groups:
        fold = int(np.lexsort((sizes, of_class[classes[rows]].sum(0)))[0])
        found[rows] = fold
        sizes[fold] += len(rows)
        of_class[:, fold] += np.bincount(classes[rows], minlength=len(of_class))
    return torch.from_numpy(found)


def given_folds(data: Data, folds: int | Tensor | Sequence[int], seed: int) -> Tensor:
    """The fold of each example, ``(N,)``, dealt or as a person says; what does not fit the examples is refused."""
    if not isinstance(folds, Tensor | Sequence | np.ndarray) or isinstance(folds, str):
        return folds_of(data, cast("int", folds), seed)
    folds = to_tensor(folds, "folds")
    if folds.shape != (data.n,) or folds.is_floating_point() or folds.dtype == torch.bool:
        got = f"shape {tuple(folds.shape)}, {folds.dtype}"
        raise InputError(f"the number of folds, or whole numbers of shape ({data.n},)", got, "use folds=3")
    counts = folds.unique(return_counts=True)[0]
    if len(counts) < 2 or not torch.equal(counts.cpu().long(), torch.arange(len(counts))):
        raise InputError("folds numbered 0 to K − 1, at least two", f"{counts.tolist()[:9]}", "number them anew")
    return folds.cpu().long()


def _classes(data: Data, k: int) -> np.ndarray:
    if data.task != "classification":
        return np.zeros(data.n, dtype=int)
    values, numbers, counts = np.unique(
        most_probable(data.y).detach().cpu().numpy(), return_inverse=True, return_counts=True
    )
    if few := [i for i, count in enumerate(counts) if count < k]:
        label = int(values[few[0]])
        name = data.classes[label] if label < len(data.classes) else label
        more = f" and {len(few) - 1} more" if len(few) > 1 else ""
        warnings.warn(
            f"class {name!r}{more} has fewer examples ({counts[few[0]]}) than there are folds ({k}): networks that "
            "are blind to its fold have seen few or none of it; use fewer folds, or add examples",
            NovaculaWarning,
            stacklevel=3,
        )
    return numbers.ravel()
