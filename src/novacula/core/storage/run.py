"""The run folder: what a run leaves on disk, written atomically and read without torch.

| file | holds |
| --- | --- |
| ``run.json`` | what was learned, how well it does, where it came from; written last: it marks a whole run |
| ``manifest.json`` | size and SHA-256 of every file that was written with it |
| ``history.json`` | one record an epoch |
| ``weights.safetensors`` | ``weights/<name>`` and ``learned/<name>``; ``scaling/<name>`` of tables; ``check/<name>`` |
| ``posterior.safetensors`` | draws of the weights, where predictions average over draws |
| ``arrays.safetensors`` | predictions on the test set and a montage, for the report alone |
| ``report.html`` | the report, rebuilt from the files above at any time |
| ``checkpoint.safetensors`` | during a run: where to continue from |
| ``checkpoint-search.safetensors`` | the same, while folds look for extents |
| ``checkpoint-posterior.safetensors`` | the same, while the posterior is inferred |
| ``command.json`` | during a run: the options it was started with |

`novacula augment` leaves a folder of its own kind: ``advice.json``, which marks it as whole, ``pictures.npz`` and
``report.html``; while it runs, ``command.json`` and the folder ``networks``, with the plan and what each network
predicts.

The schema is versioned (`novacula.core.storage.schema`). A reader accepts its own version and the first, which had no
manifest, and refuses others, naming both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import asdict
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as save_numpy

from novacula.core.brief import brief
from novacula.core.checks.numbers import as_path
from novacula.core.errors import DamagedRun, InputError
from novacula.core.storage.atomic import write_bytes, write_json
from novacula.core.storage.plain import plain
from novacula.core.storage.schema import Entry, Epochs, Manifest, Record, Scores, check, manifest_of
from novacula.core.storage.seal import digest, parse, read_sealed, write_sealed
from novacula.core.storage.stage import settle, staged

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 2
_UNSEALED = 1  # the last schema without a manifest
RECORD, HISTORY, WEIGHTS, ARRAYS = "run.json", "history.json", "weights.safetensors", "arrays.safetensors"
MANIFEST = "manifest.json"
REPORT, CHECKPOINT, COMMAND = "report.html", "checkpoint.safetensors", "command.json"
CHECKPOINT_SEARCH = "checkpoint-search.safetensors"
POSTERIOR, CHECKPOINT_POSTERIOR = "posterior.safetensors", "checkpoint-posterior.safetensors"
ADVICE, PICTURES, NETWORKS, PLAN = "advice.json", "pictures.npz", "networks", "plan.json"
RESULTS = (ADVICE, PICTURES, RECORD, MANIFEST, HISTORY, WEIGHTS, POSTERIOR, ARRAYS, REPORT)
"""The files of a finished run."""
WORKING = (CHECKPOINT, CHECKPOINT_SEARCH, CHECKPOINT_POSTERIOR, COMMAND)
"""Those that only a run under way needs."""
FILES = (*RESULTS, *WORKING)
"""Every file that a run may write into its folder."""

_DTYPES = {
    **{f"{kind.upper()}{8 * size}": f"<{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": f"<f{size}" for size in (2, 4, 8)},
    "BOOL": "?",
}


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, as it stands on disk.

    Args:
        folder: Where it lies.
        record: The contents of ``run.json``.
        history: One dictionary an epoch; empty where it was not asked for.
        arrays: Arrays for the report, by name; empty where there are none, or they were not asked for.
        manifest: The files as they were written; None for a run of a version that wrote no checksums.
    """

    folder: Path
    record: dict[str, Any]
    history: tuple[dict[str, Any], ...]
    arrays: dict[str, np.ndarray]
    manifest: Manifest | None = None

    __repr__ = brief

    @classmethod
    def read(cls, folder: str | Path, *, parts: Collection[str] = (HISTORY, ARRAYS)) -> Run:
        """Read a run folder, without torch, and hold what is read against its checksums and the schema.

        Args:
            folder: The folder.
            parts: What is wanted beside ``run.json``: of the history and the arrays, which are read now; of weights and
                posterior, which are left on disk (see `weights`), nothing is looked at yet.

        Returns:
            The run.

        Raises:
            InputError: If the folder is missing, holds no finished run or one of another schema.
            DamagedRun: If its files are not those that were written; the hint says what can still be used.
        """
        folder = as_path(folder, "a run folder")
        _check_folder(folder)
        manifest = _manifest(folder)
        record = _check(_json(folder, RECORD, manifest), folder / RECORD)
        if manifest is None and record["schema"] > _UNSEALED:
            raise DamagedRun(*_damage(folder, MANIFEST, "missing", None))
        if manifest is None and (wrong := check(record, Scores)) is not None:
            raise DamagedRun(*_damage(folder, RECORD, wrong, None))
        run = cls(folder, record, (), {}, manifest)
        history = run._history() if HISTORY in parts else ()
        return dataclasses.replace(run, history=history, arrays=run._arrays(ARRAYS) if ARRAYS in parts else {})

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
        """Write a run folder. All files appear together or none does; until then an older run in it stays whole.

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
        folder = as_path(folder, "a run folder")
        content = _check({"schema": SCHEMA, **plain(record)}, folder / RECORD)
        kept = {name: np.ascontiguousarray(a) for name, a in (arrays or {}).items()}
        records = [plain(epoch) for epoch in history]
        with staged(folder, RESULTS, (RECORD,)) as new:
            for name, tensors in ((WEIGHTS, weights), (POSTERIOR, posterior)):
                if tensors is not None:
                    from safetensors.torch import save as save_torch  # torch only where there are tensors to write

                    own = {key: w.detach().cpu().contiguous().clone() for key, w in tensors.items()}
                    write_bytes(new / name, save_torch(own))
            write_bytes(new / ARRAYS, save_numpy(kept))
            write_json(new / HISTORY, {"epochs": records}, indent=None)
            write_json(new / RECORD, content)
            manifest = Manifest({p.name: _entry(p.read_bytes()) for p in sorted(new.iterdir())})
            write_sealed(new / MANIFEST, {"files": {k: asdict(e) for k, e in manifest.files.items()}})
        return cls(folder, content, tuple(records), kept, manifest)

    @property
    def unchecked(self) -> str | None:
        """What a reader must know of a run that was written without checksums; None for others."""
        if self.manifest is not None:
            return None
        return (
            f"{self.folder} was written by an earlier version, without checksums: names, shapes and finiteness are "
            "checked, and whether a number in it has changed cannot be"
        )

    def weights(self) -> dict[str, np.ndarray]:
        """Read weights and learned hyperparameters from disk, without torch.

        Returns:
            Arrays by name; empty where none were saved.
        """
        return self._arrays(WEIGHTS)

    def posterior(self) -> dict[str, np.ndarray]:
        """Read draws of the weights from disk, without torch.

        Returns:
            Arrays by name; empty where none were saved.
        """
        return self._arrays(POSTERIOR)

    def damaged(self, name: str, why: object) -> DamagedRun:
        """The error that says that a file of this run is damaged, and what can still be used."""
        return DamagedRun(*_damage(self.folder, name, why, self.manifest))

    def _history(self) -> tuple[dict[str, Any], ...]:
        if not _is_there(self.folder, HISTORY, self.manifest):
            return ()
        content = _json(self.folder, HISTORY, self.manifest)
        epochs = content.get("epochs")
        if not isinstance(epochs, list) or not all(isinstance(e, dict) for e in epochs):
            raise self.damaged(HISTORY, "no list of epochs")
        if self.manifest is None and (wrong := check(content, Epochs)) is not None:
            raise self.damaged(HISTORY, wrong)
        return tuple(epochs)

    def _arrays(self, name: str) -> dict[str, np.ndarray]:
        if not _is_there(self.folder, name, self.manifest):
            return {}
        content = _bytes(self.folder, name, self.manifest)
        try:
            return _tensors(content)
        except (SafetensorError, ValueError) as error:
            raise self.damaged(name, error) from error


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError("a run folder", f"{folder}, which does not exist", "pass the --output folder of a run")
    settle(folder, (RECORD,))
    if (folder / RECORD).is_file():
        return
    if (folder / MANIFEST).is_file():
        raise DamagedRun(*_damage(folder, RECORD, "missing", _manifest(folder)))
    if (folder / CHECKPOINT).is_file():
        hint = f"novacula learn --resume --output {folder}"
        raise InputError("a finished run", f"{folder}, which was interrupted", hint)
    raise InputError("a run folder", f"{folder}, which has no {RECORD}", "pass the --output folder of a run")


def _check(record: dict[str, Any], path: Path) -> dict[str, Any]:
    # A record of a schema that is known, with all that every run has.
    if "schema" not in record:
        raise InputError("a run of Novacula", f"{path}, which is something else", "pass the --output folder of a run")
    if type(record["schema"]) is not int or not _UNSEALED <= record["schema"] <= SCHEMA:
        hint = "read it with the version of Novacula that wrote it"
        raise InputError(f"a run of schema {SCHEMA}", f"{path} of schema {record['schema']}", hint)
    if (wrong := check(record, Record)) is not None:
        raise InputError(f"entries in {path.name} as in every run", f"{wrong} in {path}", "run it again")
    return record


def _manifest(folder: Path) -> Manifest | None:
    if not (folder / MANIFEST).is_file():
        return None
    try:
        return manifest_of(read_sealed(folder / MANIFEST))
    except (OSError, ValueError) as error:
        raise DamagedRun(*_damage(folder, MANIFEST, error, None)) from error


def _entry(content: bytes) -> Entry:
    return Entry(digest(content), len(content))


def _is_there(folder: Path, name: str, manifest: Manifest | None) -> bool:
    # What the manifest does not name was not written with this run, and is none of its files.
    return (folder / name).is_file() if manifest is None else name in manifest.files


def _bytes(folder: Path, name: str, manifest: Manifest | None) -> bytes:
    path = folder / name
    try:
        if (wrong := _fault(folder, name, manifest)) is not None:
            raise DamagedRun(*_damage(folder, name, wrong, manifest))
        content = path.read_bytes()
    except OSError as error:
        raise DamagedRun(*_damage(folder, name, error.strerror or error, manifest)) from error
    if manifest is not None and _entry(content) != manifest.files.get(name):
        raise DamagedRun(*_damage(folder, name, "its checksum is not that of the file that was written", manifest))
    return content


def _fault(folder: Path, name: str, manifest: Manifest | None) -> str | None:
    # What can be seen without reading it.
    path = folder / name
    if not path.is_file():
        return "a folder or something else" if path.exists() else "missing"
    if manifest is not None:
        if name not in manifest.files:
            return "not among the files that were written"
        wanted, found = manifest.files[name].bytes, path.stat().st_size
        if wanted != found:
            return f"{found:,} bytes of {wanted:,}"
    return None


def _json(folder: Path, name: str, manifest: Manifest | None) -> dict[str, Any]:
    try:
        return parse(_bytes(folder, name, manifest))
    except DamagedRun:
        raise
    except ValueError as error:
        raise DamagedRun(*_damage(folder, name, error, manifest)) from error


def _damage(folder: Path, name: str, why: object, manifest: Manifest | None) -> tuple[str, str, str]:
    # Which file is damaged, and what the others are still good for.
    def whole(*names: str) -> bool:
        if manifest is None or name in names:
            return False
        for other in names:
            if _fault(folder, other, manifest) or _entry((folder / other).read_bytes()) != manifest.files[other]:
                return False
        return True

    uses = {f"novacula show {folder}": (RECORD,), f"novacula report {folder}": (RECORD, HISTORY, ARRAYS)}
    if manifest is not None and WEIGHTS in manifest.files:
        uses["novacula predict"] = (RECORD, *(k for k in (WEIGHTS, POSTERIOR) if k in manifest.files))
    left = [use for use, names in uses.items() if whole(*names)]
    good = f"; {' and '.join(left)} can still be used" if left else ""
    return "readable files in the run folder", f"{folder / name}, damaged: {why}", f"restore it, or run it again{good}"


def _tensors(content: bytes) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name, entry in sorted(deserialize(content)):
        raw, shape = np.frombuffer(entry["data"], dtype=np.uint8), tuple(entry["shape"])
        if entry["dtype"] == "BF16":
            # NumPy has no bfloat16; its bits are the upper half of a float32.
            found[name] = (raw.view("<u2").astype("<u4") << 16).view("<f4").reshape(shape)
        elif entry["dtype"] in _DTYPES:
            found[name] = raw.view(_DTYPES[entry["dtype"]]).reshape(shape)
        else:
            raise ValueError(f"{name} of type {entry['dtype']}")
    return found
