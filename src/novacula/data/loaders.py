"""What a loader leaves out or repeats: a matter of training, which the data themselves must not inherit."""

from __future__ import annotations

import warnings
from itertools import chain
from typing import Any

from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from novacula.core.errors import NovaculaWarning

_PLAIN = (SequentialSampler, SubsetRandomSampler)


def every_row_once(loader: DataLoader) -> DataLoader:
    """A loader like this one that gives each row of its dataset once.

    Samplers that draw with replacement (`WeightedRandomSampler`), that draw fewer rows than there are, or that pad, and
    ``drop_last`` repeat or lose rows, which would make evidence too sure and change how frequent the classes are. A
    chosen part of the dataset (`SubsetRandomSampler`, `Subset`) is respected.

    Args:
        loader: The loader.

    Returns:
        The same one where nothing is to be changed; otherwise one that reads in order, which is said.

    Warns:
        NovaculaWarning: If rows were repeated or left out.
    """
    dataset: Any = loader.dataset
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        return loader
    sampler, batches = loader.sampler, loader.batch_sampler
    drops = bool(getattr(batches, "drop_last", False))
    own = batches is not None and not isinstance(batches, BatchSampler)
    if isinstance(batches, BatchSampler):
        sampler = batches.sampler
    if own and batches is not None:
        rows = list(chain.from_iterable(batches))  # type: ignore[arg-type]
    elif isinstance(sampler, _PLAIN) or (isinstance(sampler, RandomSampler) and _whole(sampler, dataset)):
        rows = None  # each of its rows once
    else:
        rows = list(sampler)
    repeated = rows is not None and len(set(rows)) < len(rows)
    fewer = rows is not None and len(set(rows)) < len(dataset)
    if not (repeated or fewer or drops):
        return loader
    name = type(batches if own else sampler).__name__
    what = [f"{name} repeats rows"] * repeated + [f"{name} leaves rows out"] * (fewer and not repeated)
    what += ["drop_last leaves rows out"] * drops
    chosen = sampler if isinstance(sampler, SubsetRandomSampler) and not own else None
    warnings.warn(
        f"{' and '.join(what)}: each of the {len(chosen or dataset):,} rows is read once, in order, as sampling is a "
        "matter of training (to keep a part, pass torch.utils.data.Subset)",
        NovaculaWarning,
        stacklevel=6,
    )
    return DataLoader(
        dataset,
        batch_size=loader.batch_size or 64,
        sampler=chosen,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
        worker_init_fn=loader.worker_init_fn,
        generator=loader.generator,
    )


def _whole(sampler: RandomSampler, dataset: Any) -> bool:
    return not sampler.replacement and sampler.num_samples == len(dataset)
