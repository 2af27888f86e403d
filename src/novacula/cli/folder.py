"""The output folder of a run: claimed before any work, and left whole, resumable, or not at all."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from novacula.cli.options import save_options
from novacula.core.errors import InputError
from novacula.core.storage.atomic import disk_errors, full_disk, is_full
from novacula.core.storage.run import (
    CHECKPOINT,
    CHECKPOINT_SEARCH,
    COMMAND,
    FILES,
    NETWORKS,
    RECORD,
    REPORT,
    WORKING,
)
from novacula.core.storage.stage import NEW, discard, settle

LOCK = ".lock"


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
    checkpoints: tuple[str, ...] = (CHECKPOINT, CHECKPOINT_SEARCH)  # files from any of which one goes on
    lock: FileLock | None = None  # held from `claim` to `release`
    whole: bool = False  # whether the results of this run are in it

    def check(self) -> None:
        """Refuse a folder that holds something else, without touching it."""
        if self.path.exists() and not self.path.is_dir():
            raise InputError("a folder to write to", f"{self.path}, which is a file", "choose another --output")
        try:
            left = {LOCK, NEW, *(p.name for p in self._unwritten())}
            occupied = self.path.is_dir() and any(p.name not in left for p in self.path.iterdir())
        except OSError as error:
            raise InputError(
                "a folder that can be read", f"{self.path}: {error.strerror}", "choose another --output"
            ) from error
        if occupied and not (self.overwrite or self.resume):
            begun = (self.path / COMMAND).is_file() and not self.finished
            hint = "--resume to continue the run in it" if begun or self.interrupted else "--overwrite to replace it"
            raise InputError(
                "a new or empty folder", f"{self.path}, which has contents", f"{hint}, or another --output"
            )

    def claim(self) -> None:
        """Make the folder, keep other processes out, and clear what unfinished runs left; a finished one stays."""
        missing = [p for p in (self.path, *self.path.parents) if not p.exists()]
        with disk_errors(self.path):
            for folder in reversed(missing):
                folder.mkdir(exist_ok=True)
                self.made.append(folder)
            self._lock()
            settle(self.path, (self.record,))
            self._tidy()
            if not self.resume:
                self._clear(WORKING if self.finished else FILES)

    def release(self) -> None:
        """Let other processes have the folder."""
        if self.lock is None:
            return
        with suppress(OSError):  # where an open file cannot be removed, the next owner takes it over
            (self.path / LOCK).unlink()
        self.lock.release()
        self.lock = None

    def _lock(self) -> None:
        # The system lets go of the lock when the process ends, however it does: there are no stale ones.
        lock = FileLock(self.path / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            hint = "wait for it, or choose another --output"
            raise InputError("a folder that no other process writes to", f"{self.path}, in use", hint) from None
        self.lock = lock

    @property
    def interrupted(self) -> bool:
        """Whether a run in the folder can be resumed."""
        there = any((self.path / name).is_file() for name in self.checkpoints)
        return there and (self.path / COMMAND).is_file()

    @property
    def finished(self) -> bool:
        """Whether the folder holds a finished run."""
        return (self.path / self.record).is_file()

    def settle(self) -> None:
        """Remove what only an unfinished run needs, once the results are on disk."""
        self.whole = True
        self._clear(WORKING)

    def complete(self, *, report: bool) -> None:
        """Do what a process that was killed at its end had left to do: clear up, and write the report."""
        missing = report and not (self.path / REPORT).is_file()
        if missing or any((self.path / name).exists() for name in (LOCK, NETWORKS, *WORKING)):
            self.claim()
            self.settle()
            if missing:
                self.report()
            self.release()

    def left(self, verb: str) -> str:
        """What is in the folder after an interrupt, and how to go on, in words."""
        where = shlex.quote(str(self.path))
        if self.whole:
            return f"; the results are whole, and novacula report {where} writes the report"
        kept = f"; resume with: novacula {verb} --resume --output {where}"
        return kept if self.interrupted else " before there was anything to keep"

    @contextmanager
    def owned(self, verb: str, options: Any, *, hopeless: Callable[[BaseException], bool]) -> Iterator[None]:
        """Claim the folder, keep a verb's options in it, and leave it resumable; or not, after what is hopeless."""
        try:
            self.claim()
            if not (self.path / COMMAND).is_file():
                save_options(options, self.path / COMMAND)
            yield
            self.release()
        except KeyboardInterrupt:
            self.abandon(keep_resumable=True)
            raise KeyboardInterrupt(self.left(verb)) from None
        except BaseException as error:
            self.abandon(keep_resumable=self.resume or not hopeless(error))
            if is_full(error):
                raise full_disk(error, self.path) from error  # type: ignore[arg-type]  # it is an OSError
            raise

    def report(self) -> None:
        """Write the report of what is in it."""
        from novacula.reporting import report

        report(self.path)

    def abandon(self, *, keep_resumable: bool) -> None:
        """Leave nothing half-written behind after a failure; a finished run that was there before stays."""
        if self.lock is None:
            return  # the folder is another process's
        with suppress(OSError):
            if not (keep_resumable and self.interrupted):
                self._clear(WORKING if self.finished else FILES)
            self._tidy()
            self.release()
            for folder in reversed(self.made):
                folder.rmdir()  # fails, rightly, where there is something in it

    def _clear(self, names: tuple[str, ...]) -> None:
        for name in names:
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / NETWORKS, ignore_errors=True)

    def _tidy(self) -> None:
        # What a process that was killed had begun to write; nobody else writes while the lock is held.
        discard(self.path)
        for leftover in self._unwritten():
            leftover.unlink(missing_ok=True)

    def _unwritten(self) -> list[Path]:
        return [leftover for name in FILES for leftover in self.path.glob(f".{name}.*.tmp")]


def default_folder(name: str) -> Path:
    """A new folder under ``runs``, named after the data and the time."""
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-.") or "run"
    stem = f"{safe}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, n = Path("runs") / stem, 2
    while path.exists():
        path, n = Path("runs") / f"{stem}-{n}", n + 1
    return path
