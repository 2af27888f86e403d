"""Mapping a function over tasks: here, on threads, on processes or on a cluster.

A task must be a pure function of its value (its seed is part of it). Then neither the order in which tasks run, nor
where, nor how often a lost worker's task is repeated changes any result.
"""

from __future__ import annotations

import importlib
import reprlib
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from types import ModuleType
from typing import Any, Generic, Literal, NoReturn, TypeAlias, TypeVar, cast

from joblib import Parallel, cpu_count, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError

T = TypeVar("T")
R = TypeVar("R")
Backend: TypeAlias = Literal["loky", "threads", "dask", "ray"]
Progress: TypeAlias = Callable[[int, int], None]
_JOBLIB_NAMES = {"loky": "loky", "threads": "threading", "dask": "dask", "ray": "ray"}


class TaskError(RuntimeError):
    """A task that failed. The message names the task; the note holds the traceback from where it ran."""


@dataclass(frozen=True)
class _Failure:
    """An exception in a form that crosses processes, whatever it was."""

    message: str
    trace: str
    refusal: InputError | None


@dataclass(frozen=True)
class _Guarded(Generic[T, R]):
    """The function, with exceptions as values."""

    function: Callable[[T], R]

    def __call__(self, task: T) -> R | _Failure:
        try:
            return self.function(task)
        except Exception as error:
            refusal = error if isinstance(error, InputError) else None
            return _Failure(f"{type(error).__name__}: {error}", traceback.format_exc(), refusal)


def map(  # read as execute.map
    function: Callable[[T], R],
    tasks: Iterable[T],
    *,
    workers: int = 1,
    backend: Backend = "loky",
    progress: Progress | None = None,
) -> list[R]:
    """Apply a function to every task.

    Args:
        function: A pure function of one task. For "loky", "dask" and "ray" it and the tasks must be picklable.
        tasks: The tasks; each carries its own seed.
        workers: How many tasks run at once; 1 runs them here, one after another; -1 uses every core. Cluster backends
            use the cluster's own number where this is -1.
        backend: "loky" for processes, "threads" for threads, "dask" for the active ``dask.distributed.Client``, "ray"
            for a Ray cluster.
        progress: Called with (tasks done, tasks in all) after each task, in order.

    Returns:
        One result a task, in the tasks' order.

    Raises:
        TaskError: If a task raises; the first one that failed is named, and what has not been started is not.
        InputError: If a task raises one (its task is named), the backend is unknown or not installed, or ``workers``
            is 0.
        KeyboardInterrupt: On Ctrl-C, after the worker processes have been ended.

    Example:
        >>> map(abs, [-3, 2, -1])
        [3, 2, 1]
    """
    if workers != -1:
        check_whole("workers", workers)
    if backend not in _JOBLIB_NAMES:
        raise InputError(f"a backend among {', '.join(_JOBLIB_NAMES)}", repr(backend), "backend='loky'")
    listed = list(tasks)
    guarded = _Guarded(function)
    here = backend in {"loky", "threads"} and (workers == 1 or len(listed) <= 1)
    outcomes = (guarded(task) for task in listed) if here else _stream(guarded, listed, workers, backend)
    results: list[R] = []
    with closing(outcomes):
        for done, outcome in enumerate(outcomes):
            if isinstance(outcome, _Failure):
                _fail(outcome, done, listed[done])
            results.append(cast("R", outcome))
            if progress is not None:
                progress(done + 1, len(listed))
    return results


def cores() -> int:
    """How many tasks this machine can run at once: the cores that this process may use."""
    return cpu_count()


def send_by_value(module: ModuleType) -> None:
    """Let a module that a worker could not import, such as a person's file, travel to other processes as code."""
    for name in ("cloudpickle", "joblib.externals.cloudpickle"):  # joblib brought a copy until it came to require it
        with suppress(ImportError):
            importlib.import_module(name).register_pickle_by_value(module)


def _stream(function: Callable[[T], Any], tasks: list[T], workers: int, backend: Backend) -> Generator[Any, None, None]:
    _prepare(backend)
    # Results are streamed where joblib can; its Ray backend is a process pool that cannot.
    mode = "list" if backend == "ray" else "generator"
    outcomes: Any = None
    try:
        # No memory-mapping of large arrays: a worker would get them read-only.
        starting = _interrupts_blocked() if backend == "loky" else nullcontext()
        with parallel_config(backend=_JOBLIB_NAMES[backend], n_jobs=workers), starting:
            outcomes = iter(Parallel(return_as=mode, max_nbytes=None)(delayed(function)(task) for task in tasks))
        for outcome in outcomes:  # noqa: UP028  # "yield from" would close joblib's generator before the pool is ended
            yield outcome
    except BaseException as error:
        _stop(outcomes, backend)
        if backend == "dask" and isinstance(error, ValueError) and outcomes is None:
            raise InputError("an active Dask client", str(error), "create dask.distributed.Client() first") from error
        raise
    if backend == "loky":
        # Processes that are kept for another time end by themselves when they have been idle for long or have grown,
        # and tasks that come in that moment can wait for ever; each call has its own.
        _stop(None, backend)


# Holds back Ctrl-C while worker processes are started: they inherit this, and so leave Ctrl-C to their parent.
@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    # Started by the first worker otherwise, when it would (before Python 3.13) let signals through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stop(outcomes: Any, backend: Backend) -> None:
    if backend == "loky":
        # The stubs of loky call this a string; True means: the pool that is running, whatever its settings.
        reuse: Any = True
        get_reusable_executor(reuse=reuse).shutdown(wait=True, kill_workers=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tasks which were still being processed.*")
        if isinstance(outcomes, Generator):
            outcomes.close()


def _prepare(backend: Backend) -> None:
    module = {"dask": "distributed", "ray": "ray.util.joblib"}.get(backend)
    if module is None:
        return
    try:
        loaded = importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"{backend} to run tasks on", f"{error}", f"pip install 'novacula[{backend}]'") from error
    if backend == "ray":
        loaded.register_ray()


def _fail(failure: _Failure, index: int, task: object) -> NoReturn:
    name = f"task {index} ({reprlib.repr(task)})"
    if failure.refusal is not None:
        error = failure.refusal
        raise type(error)(error.expected, f"{error.got}, in {name}", error.hint)
    raised = TaskError(f"{name} failed: {failure.message}")
    raised.add_note(failure.trace)
    raise raised
