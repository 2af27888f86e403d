"""What the verbs read: rows of data, and a network for them."""

from __future__ import annotations

from typing import Any, TypeAlias

from novacula.cli.functions.options import EvidenceOptions, PriorOptions, SgdVsBayesOptions
from novacula.core.errors import InputError
from novacula.runs.settings import target_of

Options: TypeAlias = PriorOptions | EvidenceOptions | SgdVsBayesOptions


def data_of(options: Options, path: str) -> Any:
    """Some rows of data, in standard units if they are a table."""
    from novacula.data.load import load_splits
    from novacula.data.standardise import Standardiser

    target, task = target_of(options.target), getattr(options, "task", None)
    data = load_splits(path, target, task=task, categorical=options.categorical, drop=options.drop).train
    if not 1 <= options.rows <= data.n:
        raise InputError(f"--rows from 1 to {data.n}", str(options.rows), f"--rows {min(16, data.n)}")
    data = Standardiser.fit(data).apply(data)
    return data if options.rows == data.n else data.split(options.rows, options.seed)[0]


def network_of(options: Options, x_shape: tuple[int, ...], outputs: int) -> Any:
    """The network that was asked for."""
    from novacula.networks.make import make

    return make(options.net, x_shape, outputs, seed=options.seed)
