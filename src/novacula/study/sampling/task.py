"""What is trained and drawn: a network and its prior on training data, and examples on which functions are told apart.

Networks with one output say class 1 where it is above zero; of several outputs the largest is the class.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.many import members_of
from novacula.core.params import Params
from novacula.core.storage.atomic import write_bytes
from novacula.data.data import Data
from novacula.data.given import DataLike, as_data
from novacula.data.meaning.soft import check_hard
from novacula.likelihoods import Bernoulli, Categorical
from novacula.priors.base import Prior
from novacula.target import Target
from novacula.target.many import outputs
from novacula.target.margins import margins

Arrays: TypeAlias = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Functions:
    """What S networks say, one row each."""

    labels: np.ndarray  # on the held-out examples, ``(S, H)``
    margins: np.ndarray  # the least margin on the training examples over the size of the outputs there, ``(S,)``
    # which independent population each is of, ``(S,)``; all of one where networks are independent
    population: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """Parts one after another."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def __getitem__(self, rows: np.ndarray) -> Functions:
        return Functions(self.labels[rows], self.margins[rows], self.population[rows])


@dataclass(frozen=True, eq=False)
class Task:
    """A target on training data, held-out inputs with their labels, and a folder that keeps what was computed."""

    target: Target
    data: Data
    x: Tensor  # held-out inputs, ``(H, …)``
    y: np.ndarray  # and their labels, ``(H,)``
    classes: int
    folder: Path | None

    @classmethod
    def of(cls, network: nn.Module, data: DataLike, held_out: DataLike, prior: Prior, folder: Path | None) -> Task:
        """From what a person gives."""
        train, rest = as_data(data), as_data(held_out)
        check_hard(train.y, "networks that make no error")
        if train.task == "regression" or rest.task == "regression" or (train.y.ndim == 2 and train.y.shape[1] > 1):
            raise InputError("one label of a class for each example", f"{train.task}", "nv.Data(x, y) of whole numbers")
        if rest.x.shape[1:] != train.x.shape[1:]:
            got = f"{tuple(rest.x.shape[1:])} and {tuple(train.x.shape[1:])}"
            raise InputError("held-out inputs like those of training", got, "split one data set")
        y, labels = train.y.flatten().long(), rest.y.flatten().long()
        single = Target(network).forward.check(train.x[:2]) == 1
        classes = 2 if single else max(int(y.max()), int(labels.max())) + 1
        if max(int(y.max()), int(labels.max())) >= classes:
            raise InputError("labels 0 and 1 of a network with one output", f"label {int(y.max())}", "more outputs")
        binary = Data(train.x, y[:, None].to(train.x.dtype), task="multilabel") if single else train
        target, bound = Target(network, Bernoulli() if single else Categorical(), prior).prepare(
            binary if single else Data(train.x, y, task="classification")
        )
        return cls(target, bound, rest.x.to(bound.x), labels.cpu().numpy(), classes, folder)

    def functions(self, params: Params, population: np.ndarray | int = 0) -> Functions:
        """What networks compute, of weights ``(S, *shape)``."""
        n = members_of(params)
        fitted = outputs(self.target, params, self.data.x).double()
        said = outputs(self.target, params, self.x)
        each = margins(fitted, self.data.y).amin(1)
        centred = fitted - fitted.mean(2, keepdim=True) if self.data.y.ndim == 1 else fitted
        size = centred.square().mean((1, 2)).sqrt()
        labels = said[..., 0] > 0 if said.shape[2] == 1 else said.argmax(2)
        return Functions(
            labels.to(torch.uint8).cpu().numpy(),
            (each / size).cpu().numpy(),
            np.broadcast_to(np.asarray(population, np.int64), (n,)).copy(),
        )

    def kept(self, settings: Mapping[str, object], compute: Callable[[], Arrays]) -> Arrays:
        """What was computed with these settings, from the folder where it is there."""
        if self.folder is None:
            return compute()
        words, tensors = self.target.identity()
        digest = hashlib.blake2b(digest_size=12)
        own = [self.data.fingerprint, repr(self.target.prior), torch.__version__]
        about = [*own, *words, *(f"{k}={v!r}" for k, v in settings.items())]
        digest.update(json.dumps(about).encode())
        for w in (*tensors.values(), self.x):
            digest.update(w.detach().cpu().double().numpy().tobytes())
        path = self.folder / f"{next(iter(settings.values()))}-{digest.hexdigest()}.npz"
        if path.exists():
            with np.load(path, allow_pickle=False) as stored:
                return dict(stored)
        found, buffer = compute(), io.BytesIO()
        np.savez_compressed(buffer, **found)  # type: ignore[arg-type]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, buffer.getvalue())
        return found
