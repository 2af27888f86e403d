"""The output folder of a run: claimed before any work, and left whole, resumable, or not at all."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from novacula.core.errors import InputError
from novacula.core.storage.run import CHECKPOINT, CHECKPOINT_POSTERIOR, COMMAND, FILES, NETWORKS, RECORD


@dataclass(eq=False)
class OutputFolder:
    """A run's folder.

    Attributes:
        made: The folders that this run created, outermost first.
    """

    path: Path  # the folder
    overwrite: bool = False  # whether an older run in it may be replaced
    resume: bool = False  # whether an interrupted run in it may be continued
    made: list[Path] = field(default_factory=list)
    record: str = RECORD  # the file that marks a whole run
    checkpoint: str = CHECKPOINT  # the file from which one goes on

    def check(self) -> None:
        """Refuse a folder that holds something else, without touching it."""
        if self.path.exists() and not self.path.is_dir():
            raise InputError("a folder to write to", f"{self.path}, which is a file", "choose another --output")
        try:
            occupied = self.path.is_dir() and any(self.path.iterdir())
        except OSError as error:
            raise InputError(
                "a folder that can be read", f"{self.path}: {error.strerror}", "choose another --output"
            ) from error
        if occupied and not (self.overwrite or self.resume):
            hint = "--resume to continue the run in it" if self.interrupted else "--overwrite to replace it"
            raise InputError(
                "a new or empty folder", f"{self.path}, which has contents", f"{hint}, or another --output"
            )

    def claim(self) -> None:
        """Make the folder, and clear an older run's files from it; files of others stay."""
        missing = [p for p in (self.path, *self.path.parents) if not p.exists()]
        try:
            for folder in reversed(missing):
                folder.mkdir(exist_ok=True)
                self.made.append(folder)
            if not self.resume:
                self._clear()
        except OSError as error:
            raise InputError(
                "a folder that can be created", f"{self.path}: {error.strerror}", "choose another --output"
            ) from error

    @property
    def interrupted(self) -> bool:
        """Whether a run in the folder can be resumed."""
        return (self.path / self.checkpoint).is_file() and (self.path / COMMAND).is_file()

    @property
    def finished(self) -> bool:
        """Whether the folder holds a finished run."""
        return (self.path / self.record).is_file()

    def settle(self) -> None:
        """Remove what only an unfinished run needs, once the results are on disk."""
        for name in (CHECKPOINT, CHECKPOINT_POSTERIOR, COMMAND):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / NETWORKS, ignore_errors=True)

    def abandon(self, *, keep_resumable: bool) -> None:
        """Leave nothing half-written behind after a failure."""
        if self.finished or (keep_resumable and self.interrupted):
            return
        with suppress(OSError):
            self._clear()
            for folder in reversed(self.made):
                folder.rmdir()  # fails, rightly, where something else has been put there

    def _clear(self) -> None:
        for name in FILES:
            (self.path / name).unlink(missing_ok=True)
            for leftover in self.path.glob(f".{name}.*.tmp"):
                leftover.unlink(missing_ok=True)
        shutil.rmtree(self.path / NETWORKS, ignore_errors=True)


def default_folder(name: str) -> Path:
    """A new folder under ``runs``, named after the data and the time."""
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-.") or "run"
    stem = f"{safe}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, n = Path("runs") / stem, 2
    while path.exists():
        path, n = Path("runs") / f"{stem}-{n}", n + 1
    return path
