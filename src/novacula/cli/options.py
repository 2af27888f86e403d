"""The options of ``novacula learn`` as one value that can be saved beside an interrupted run and read back."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from novacula.core.errors import InputError
from novacula.core.storage.atomic import write_json


@dataclass(frozen=True)
class Options:
    """What determines a run; how it is shown and where it is written is kept apart.

    Args:
        data: ``"digits"``, or the path of a file or folder.
        net: A built-in network or ``FILE.py:FUNCTION``.
        invariance: Transformations joined by ``+``; None to choose by the data.
        perturb: ``KIND=VALUE`` each.
        target: Columns to predict; empty to guess.
        split: A published split.
        likelihood: Its name, or ``"auto"``.
        prior: Its name.
        epochs: Passes over the training data.
        batch_size: Examples a step; None for the default.
        lr: Peak learning rate; None for the default.
        train: Training examples; None for all that are not set aside.
        test_fraction: The share set aside for testing; None for the default.
        copies: Transformed copies for training, evidence and prediction.
        seed: Seed of everything random.
        threads: Threads of a computation; None for torch's default.
        posterior: What predictions average over: a name, perhaps with settings.
        posterior_steps: Steps of each of its chains; None for the default.
        chains: Its chains; None for the default.
        ood: A file or folder of inputs of another kind, to be told from the test data.
    """

    data: str
    net: str = "auto"
    invariance: str | None = None
    perturb: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    split: int | None = None
    likelihood: str = "auto"
    prior: str = "gaussian"
    epochs: int = 24
    batch_size: int | None = None
    lr: float | None = None
    train: int | None = None
    test_fraction: float | None = None
    copies: str | None = None
    seed: int = 0
    threads: int | None = None
    posterior: str = "auto"
    posterior_steps: int | None = None
    chains: int | None = None
    ood: str | None = None

    def command(self) -> str:
        """The command that repeats the run: options that differ from their defaults, and the seed.

        Returns:
            One line for a shell.

        Example:
            >>> Options("digits", perturb=("rotate=180",)).command()
            'novacula learn digits --perturb rotate=180 --seed 0'
        """
        words = ["novacula", "learn", self.data]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "data" or (value == field.default and field.name != "seed"):
                continue
            for item in value if isinstance(value, tuple) else (value,):
                words += [f"--{field.name.replace('_', '-')}", str(item)]
        return shlex.join(words)

    def settings(self) -> dict[str, Any]:
        """The options as plain values, for the record of the run."""
        recorded = {"seed", "copies"}
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items() if k not in recorded}
        return {k: v for k, v in values.items() if v is not None and v != []}

    def save(self, path: Path) -> None:
        """Write the options, so that an interrupted run can be resumed without repeating them.

        Paths are made absolute: a run may be resumed from another folder.
        """
        write_json(path, {"options": vars(self.anchored())})

    def anchored(self) -> Options:
        """The same options with absolute paths."""
        data = str(Path(self.data).expanduser().resolve()) if Path(self.data).expanduser().exists() else self.data
        file, colon, name = self.net.rpartition(":")
        net = f"{Path(file).expanduser().resolve()}:{name}" if colon and file.endswith(".py") else self.net
        ood = self.ood
        if ood is not None and ood != "digits" and Path(ood).expanduser().exists():
            ood = str(Path(ood).expanduser().resolve())
        return dataclasses.replace(self, data="digits" if self.data == "digits" else data, net=net, ood=ood)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Options:
        """The options of a finished run."""
        names = {field.name for field in dataclasses.fields(cls)} - {"copies"}
        settings = {
            k: tuple(v) if isinstance(v, list) else v for k, v in record.get("settings", {}).items() if k in names
        }
        copies = record.get("settings", {}).get("copies") or {}
        asked = ",".join(str(copies[k]) for k in ("train", "evidence", "predict")) if copies else None
        return cls(**{"data": "", **settings, "seed": record.get("seed", 0), "copies": asked})

    @classmethod
    def load(cls, path: Path) -> Options:
        """Read saved options."""
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in saved["options"].items()}
            # Options of another version fail here, by name.
            return cls(**values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                "the options of an interrupted run", f"{path}: {error}", "start again with --overwrite"
            ) from error
