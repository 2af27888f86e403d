"""The run folder: what a run leaves on disk, written atomically and read without torch.

| file | holds |
| --- | --- |
| ``run.json`` | what was learned, how well it does, where it came from; written last: it marks a whole run |
| ``history.json`` | one record an epoch |
| ``weights.safetensors`` | ``weights/<name>`` and ``learned/<name>``; ``scaling/<name>`` of tables; ``check/<name>`` |
| ``posterior.safetensors`` | draws of the weights, where predictions average over draws |
| ``arrays.safetensors`` | predictions on the test set and a montage, for the report alone |
| ``report.html`` | the report, rebuilt from the files above at any time |
| ``checkpoint.safetensors`` | during a run: where to continue from |
| ``checkpoint-posterior.safetensors`` | the same, while the posterior is inferred |
| ``command.json`` | during a run: the options it was started with |

`novacula augment` leaves a folder of its own kind: ``advice.json``, which marks it as whole, ``pictures.npz`` and
``report.html``; while it runs, ``command.json`` and the folder ``networks``, with the plan and what each network
predicts.

The schema is versioned. A reader accepts its own version and refuses others, naming both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as save_numpy

from novacula.core.errors import InputError
from novacula.core.storage.atomic import write_bytes, write_json

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1
RECORD, HISTORY, WEIGHTS, ARRAYS = "run.json", "history.json", "weights.safetensors", "arrays.safetensors"
REPORT, CHECKPOINT, COMMAND = "report.html", "checkpoint.safetensors", "command.json"
POSTERIOR, CHECKPOINT_POSTERIOR = "posterior.safetensors", "checkpoint-posterior.safetensors"
ADVICE, PICTURES, NETWORKS, PLAN = "advice.json", "pictures.npz", "networks", "plan.json"
FILES = (
    ADVICE,
    PICTURES,
    RECORD,
    HISTORY,
    WEIGHTS,
    POSTERIOR,
    ARRAYS,
    REPORT,
    CHECKPOINT,
    CHECKPOINT_POSTERIOR,
    COMMAND,
)
"""Every file that a run may write into its folder."""

_DTYPES = {
    **{f"{kind.upper()}{8 * size}": f"<{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": f"<f{size}" for size in (2, 4, 8)},
    "BOOL": "?",
}
# What a reader of any run may count on; the rest may be absent or null.
_REQUIRED: dict[str, type | tuple[type, ...]] = {
    "kind": str,
    "data": dict,
    "weights": int,
    "evidence": dict,
    "seconds": dict,
    "versions": dict,
}


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, as it stands on disk.

    Args:
        folder: Where it lies.
        record: The contents of ``run.json``.
        history: One dictionary an epoch.
        arrays: Arrays for the report, by name; empty where there are none.
    """

    folder: Path
    record: dict[str, Any]
    history: tuple[dict[str, Any], ...]
    arrays: dict[str, np.ndarray]

    @classmethod
    def read(cls, folder: str | Path) -> Run:
        """Read a run folder, without torch. Weights are left on disk: see `weights`.

        Args:
            folder: The folder.

        Returns:
            The run.

        Raises:
            InputError: If the folder is missing, holds no finished run, one of another schema, or unreadable files.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError("a run folder", f"{folder}, which does not exist", "pass the --output folder of a run")
        if not (folder / RECORD).is_file():
            if (folder / CHECKPOINT).is_file():
                raise InputError(
                    "a finished run", f"{folder}, which was interrupted", f"novacula learn --resume --output {folder}"
                )
            raise InputError("a run folder", f"{folder}, which has no {RECORD}", "pass the --output folder of a run")
        record = _check(_read_json(folder / RECORD), folder / RECORD)
        history: tuple[dict[str, Any], ...] = ()
        if (folder / HISTORY).is_file():
            epochs = _read_json(folder / HISTORY).get("epochs")
            if not isinstance(epochs, list) or not all(isinstance(e, dict) for e in epochs):
                raise InputError(*_unreadable(folder / HISTORY, "no list of epochs"))
            history = tuple(epochs)
        arrays = _read_tensors(folder / ARRAYS) if (folder / ARRAYS).is_file() else {}
        return cls(folder, record, history, arrays)

    @classmethod
    def write(
        cls,
        folder: str | Path,
        record: Mapping[str, Any],
        *,
        history: Sequence[Mapping[str, Any]] = (),
        weights: Mapping[str, Tensor] | None = None,
        posterior: Mapping[str, Tensor] | None = None,
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> Run:
        """Write a run folder. Each file appears whole or not at all, and ``run.json`` last.

        Args:
            folder: Where to; made if it is missing.
            record: The contents of ``run.json``, less ``schema``. Non-finite numbers become null.
            history: One record an epoch.
            weights: Tensors by name: ``weights/<name>``, ``learned/<name>``.
            posterior: Draws of the weights, by name; None where there are none.
            arrays: Arrays for the report, by name.

        Returns:
            The run as it was written.

        Raises:
            InputError: If an entry that every run must have is missing, or the folder cannot be written.
        """
        folder = Path(folder)
        content = _check({"schema": SCHEMA, **plain(record)}, folder / RECORD)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # An older run in this folder stops being one before any of its files is replaced.
            (folder / RECORD).unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                "a folder that can be written", f"{folder}: {error.strerror}", "choose another place"
            ) from error
        for name, tensors in ((WEIGHTS, weights), (POSTERIOR, posterior)):
            if tensors is None:
                (folder / name).unlink(missing_ok=True)  # an older run's would be taken for this one's
                continue
            from safetensors.torch import save as save_torch  # torch only where there are tensors to write

            own = {key: w.detach().cpu().contiguous().clone() for key, w in tensors.items()}
            write_bytes(folder / name, save_torch(own))
        kept = {name: np.ascontiguousarray(a) for name, a in (arrays or {}).items()}
        write_bytes(folder / ARRAYS, save_numpy(kept))
        records = [plain(epoch) for epoch in history]
        write_json(folder / HISTORY, {"epochs": records}, indent=None)
        write_json(folder / RECORD, content)
        return cls(folder, content, tuple(records), kept)

    def weights(self) -> dict[str, np.ndarray]:
        """Read weights and learned hyperparameters from disk, without torch.

        Returns:
            Arrays by name; empty where none were saved.
        """
        path = self.folder / WEIGHTS
        return _read_tensors(path) if path.is_file() else {}

    def posterior(self) -> dict[str, np.ndarray]:
        """Read draws of the weights from disk, without torch.

        Returns:
            Arrays by name; empty where none were saved.
        """
        path = self.folder / POSTERIOR
        return _read_tensors(path) if path.is_file() else {}


def plain(value: Any) -> Any:
    """Turn a value into what strict JSON can hold.

    Args:
        value: Dictionaries, sequences, numbers, strings, paths, numpy scalars and arrays, nested at will.

    Returns:
        The same with string keys, lists and Python numbers; NaN and infinities become None, other objects their
        ``str``.

    Example:
        >>> plain({"a": (1, float("nan")), "p": Path("x")})
        {'a': [1, None], 'p': 'x'}
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _check(record: Any, path: Path) -> dict[str, Any]:
    # A record of this schema, with all that every run has.
    if not isinstance(record, dict) or "schema" not in record:
        raise InputError("a run of Novacula", f"{path}, which is something else", "pass the --output folder of a run")
    if record["schema"] != SCHEMA:
        raise InputError(
            f"a run of schema {SCHEMA}",
            f"{path} of schema {record['schema']}",
            "read it with the version of Novacula that wrote it",
        )
    for key, kind in _REQUIRED.items():
        if not isinstance(record.get(key), kind):
            raise InputError(f"an entry {key!r} in {path.name}", f"{record.get(key)!r} in {path}", "run it again")
    return record


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(*_unreadable(path, error)) from error
    if not isinstance(content, dict):
        raise InputError(*_unreadable(path, "no JSON object"))
    return content


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    try:
        entries = deserialize(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise InputError(*_unreadable(path, error)) from error
    found: dict[str, np.ndarray] = {}
    for name, entry in sorted(entries):
        raw, shape = np.frombuffer(entry["data"], dtype=np.uint8), tuple(entry["shape"])
        if entry["dtype"] == "BF16":
            # NumPy has no bfloat16; its bits are the upper half of a float32.
            found[name] = (raw.view("<u2").astype("<u4") << 16).view("<f4").reshape(shape)
        elif entry["dtype"] in _DTYPES:
            found[name] = raw.view(_DTYPES[entry["dtype"]]).reshape(shape)
        else:
            raise InputError(*_unreadable(path, f"{name} of type {entry['dtype']}"))
    return found


def _unreadable(path: Path, why: object) -> tuple[str, str, str]:
    return "readable files in the run folder", f"{path}: {why}", "run it again, or restore the file"
