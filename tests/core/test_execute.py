"""`execute.map`: the same results everywhere, failures that name their task, and Ctrl-C that ends the workers."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from novacula.core import execute
from novacula.core.errors import InputError, NonFiniteError


def draw(seed: int) -> float:
    return random.Random(seed).gauss(0, 1)  # not torch: a worker would take seconds to import it


def reverse(task: int) -> int:
    time.sleep(0.03 * (4 - task))  # later tasks end first
    return task


def fail_at_2(task: int) -> int:
    if task == 2:
        raise ZeroDivisionError("no such number")
    return task


def refuse_at_2(task: int) -> int:
    if task == 2:
        raise NonFiniteError("a finite loss", "nan", "lower the rate")
    return task


def slow_after_1(task: int) -> int:
    if task == 1:
        raise ValueError("stop")
    time.sleep(30 if task > 1 else 0)
    return task


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


def raise_unpicklable(task: int) -> int:
    raise Unpicklable


PLACES = [(1, "loky"), (2, "loky"), (2, "threads"), (1, "threads")]


@pytest.mark.parametrize("workers, backend", PLACES)
class TestEverywhere:
    def test_results_are_a_function_of_the_seed_alone(self, workers: int, backend: Any) -> None:
        results = execute.map(draw, range(5), workers=workers, backend=backend)
        assert results == [draw(seed) for seed in range(5)]

    def test_order_and_progress(self, workers: int, backend: Any) -> None:
        seen: list[tuple[int, int]] = []
        results = execute.map(
            reverse, iter(range(4)), workers=workers, backend=backend, progress=lambda done, n: seen.append((done, n))
        )
        assert results == [0, 1, 2, 3]
        assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def test_failures_name_the_task(self, workers: int, backend: Any) -> None:
        with pytest.raises(execute.TaskError, match=re.escape("task 2 (2) failed: ZeroDivisionError: no such")) as info:
            execute.map(fail_at_2, range(5), workers=workers, backend=backend)
        assert "fail_at_2" in info.value.__notes__[0]  # the traceback from where it ran

    def test_refusals_keep_their_kind_and_their_hint(self, workers: int, backend: Any) -> None:
        with pytest.raises(NonFiniteError, match=re.escape("got nan, in task 2 (2). Try: lower the rate")):
            execute.map(refuse_at_2, range(5), workers=workers, backend=backend)

    def test_any_exception_crosses_processes(self, workers: int, backend: Any) -> None:
        with pytest.raises(execute.TaskError, match="Unpicklable: locked"):
            execute.map(raise_unpicklable, [0, 1], workers=workers, backend=backend)

    def test_no_tasks_and_one(self, workers: int, backend: Any) -> None:
        assert execute.map(draw, [], workers=workers, backend=backend) == []
        assert len(execute.map(draw, [0], workers=workers, backend=backend)) == 1


def test_a_failure_ends_what_runs_and_the_next_map_works() -> None:
    """Tasks of 30 s are under way when another fails; were they awaited, this would take two minutes."""
    with pytest.raises(execute.TaskError, match="stop"):
        execute.map(slow_after_1, range(6), workers=2)
    assert execute.map(fail_at_2, [0, 1], workers=2) == [0, 1]


def test_work_is_done_elsewhere() -> None:
    assert os.getpid() not in execute.map(process_id, range(3), workers=2)
    assert set(execute.map(process_id, range(3), workers=1)) == {os.getpid()}


def process_id(_: int) -> int:
    return os.getpid()


def test_large_tasks_are_described_briefly() -> None:
    with pytest.raises(execute.TaskError) as info:
        execute.map(raise_unpicklable, [list(range(10_000))])
    assert len(str(info.value)) < 200


@pytest.mark.parametrize(
    "options, message",
    [
        ({"workers": 0}, "workers as a whole number of 1 or more"),
        ({"workers": -2}, "workers as a whole number of 1 or more"),
        ({"backend": "spark"}, "a backend among loky, threads, dask, ray; got 'spark'"),
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        execute.map(draw, [0], **options)


@pytest.mark.parametrize("backend, module", [("dask", "distributed"), ("ray", "ray.util.joblib")])
def test_backends_that_are_not_installed(monkeypatch: pytest.MonkeyPatch, backend: Any, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=re.escape(f"pip install 'novacula[{backend}]'")):
        execute.map(draw, [0, 1], backend=backend)


@pytest.mark.parametrize("backend", ["loky", "threads"])
def test_ctrl_c_is_clean(tmp_path: Path, backend: str) -> None:
    """SIGINT reaches the whole group, as from a terminal, while workers may still be starting: nothing is printed."""
    script = tmp_path / "work.py"
    script.write_text(
        textwrap.dedent(
            """
            import signal, sys, time
            from novacula.core import execute

            def work(task):
                time.sleep(0 if task == 0 else 30)

            if __name__ == "__main__":
                signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell has it ignored
                try:
                    show = lambda *done: print(*done, flush=True)
                    execute.map(work, range(6), workers=2, backend=sys.argv[1], progress=show)
                except KeyboardInterrupt:
                    print("stopped", flush=True)
                    sys.exit(130)
            """
        )
    )
    child = subprocess.Popen(
        [sys.executable, str(script), backend],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "1 6\n"
    os.killpg(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=25)
    assert (child.returncode, out, err) == (130, "stopped\n", "")
