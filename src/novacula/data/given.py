"""Training data as they are given to a verb: `Data`, a pair of arrays, or a dataset of PyTorch's."""

from __future__ import annotations

from typing import Any, TypeAlias

from torch.utils.data import DataLoader, Dataset

from novacula.core.errors import InputError
from novacula.data.data import Data

DataLike: TypeAlias = Data | tuple[Any, Any] | Dataset[Any] | DataLoader[Any]
"""`Data`, or what it is made of without a doubt: a pair ``(x, y)``, a dataset or a loader of PyTorch's."""


def as_data(data: DataLike) -> Data:
    """Data from what a verb was given.

    Args:
        data: `Data`, a pair ``(x, y)``, or a dataset or loader of PyTorch's.

    Returns:
        The data; those of a pair or dataset as `Data` reads them by default.

    Raises:
        InputError: If it is none of these.

    Example:
        >>> as_data(([[0.0], [1.0], [2.0]], [0, 1, 0])).task
        'classification'
    """
    if isinstance(data, Data):
        return data
    if isinstance(data, tuple) and len(data) == 2:
        return Data(*data)
    if isinstance(data, Dataset | DataLoader):
        return Data.from_dataset(data)
    hint = f"nv.load({data!r})" if isinstance(data, str) else "pass nv.Data(x, y), a pair (x, y), or nv.load(path)"
    raise InputError("training data", f"a {type(data).__name__}", hint)
