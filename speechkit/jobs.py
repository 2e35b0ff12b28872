"""One function over many units, in this process or in several; results in the order of the units."""

from __future__ import annotations

import functools
import importlib.util
import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import ForkServerContext
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, TypeVar

from speechkit.errors import SpeechkitError

log = logging.getLogger(__name__)

Unit = TypeVar("Unit")
Result = TypeVar("Result")
Work = Callable[[Unit], Result] | tuple[str | Path, str]  # or the file and the name of the function in it

_GRACE_SECONDS = 30.0  # what running units get after a stop is asked for
_POLL_SECONDS = 0.2
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Interrupted(Exception):
    """Work ended early because it was asked to stop; what it finished is kept where it keeps it."""


class JobsFailed(SpeechkitError):
    """Some units failed. The exit code is theirs when all failed alike."""


def run_jobs(
    function: Work[Unit, Result],
    units: Sequence[Unit],
    *,
    nj: int = 1,
    log_file: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
    should_stop: Callable[[], bool] = lambda: False,
    fail_fast: bool = False,
) -> list[Result]:
    """Call a function on every unit and return the results in the order of the units, whatever `nj` is.

    A unit that fails does not end the others; all are tried before the error is raised.

    Args:
        function: called with one unit. With several processes it must be importable, or be given as a pair of a
            Python file and a name in it.
        units: what the work is divided into.
        nj: the number of processes; 1 is this one. No more are started than there are units or, beyond 1.4 times the
            cores, than there are cores.
        log_file: process number J logs to this name with `.J` before its ending.
        progress: called with the number of units done and of all.
        should_stop: asked between units; when it says so no unit is begun and those running get 30 seconds.
        fail_fast: begin no unit after the first failure.

    Raises:
        JobsFailed: with the number of failed units, the first error and where the logs are.
        Interrupted: `should_stop` said so.
    """
    if nj < 1:
        raise ValueError(f"nj must be at least 1, not {nj}")
    if nj > len(units) > 0:
        log.info("nj is %d instead of %d: there are no more units", len(units), nj)
    processes = min(_at_once(nj), len(units))
    outcomes: list[Result | _Failure | None] = [None] * len(units)
    work = _inline(function, units, should_stop)
    if processes > 1:
        work = _in_processes(function, units, processes, log_file, should_stop)
    for done, (index, outcome) in enumerate(work, start=1):
        outcomes[index] = outcome
        progress(done, len(units))
        if isinstance(outcome, _Failure):
            log.error("%s of %d: %s", outcome.unit, len(units), outcome.message)
            if fail_fast:
                break
    failures = [o for o in outcomes if isinstance(o, _Failure)]
    if failures:
        raise _failed(failures, len(units), log_file if processes > 1 else None)
    return outcomes  # type: ignore[return-value]  # every one is a result


@dataclass(frozen=True, kw_only=True, slots=True)
class _Failure:
    """What is known of a unit that raised, in a form that any process can send."""

    unit: str
    message: str
    hint: str
    exit_code: int


def _failed(failures: list[_Failure], total: int, log_file: Path | None) -> JobsFailed:
    where = f"; log is in {log_file.with_suffix('')}.*{log_file.suffix}" if log_file else ""
    first = failures[0]
    error = JobsFailed(
        f"{len(failures)} / {total} failed, the first: {first.message}{where}", hint=first.hint, code="jobs.failed"
    )
    if len({f.exit_code for f in failures}) == 1:
        error.exit_code = first.exit_code
    return error


def _at_once(nj: int) -> int:
    return nj if nj < 1.4 * _cores() else _cores()  # run.pl's rule


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _call(function: Work[Any, Any], index: int, unit: Any) -> Any:
    """Run one unit; an error comes back as a value, its traceback goes to the log."""
    if isinstance(function, tuple):
        function = _load(*function)
    try:
        return function(unit)
    except Exception as error:
        name = f"unit {index + 1}" + (f" ({unit})" if isinstance(unit, str | Path) else "")
        log.info("%s failed\n%s", name, traceback.format_exc().rstrip())
        known = isinstance(error, SpeechkitError)
        return _Failure(
            unit=name,
            message=str(error).partition("\n")[0] if known else f"{type(error).__name__}: {error}".partition("\n")[0],
            hint=error.hint if isinstance(error, SpeechkitError) else "",
            exit_code=error.exit_code if isinstance(error, SpeechkitError) else 1,
        )


@functools.cache
def _load(file: str | Path, name: str) -> Callable[[Any], Any]:
    spec = importlib.util.spec_from_file_location(f"speechkit_work_{Path(file).stem}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[[Any], Any] = getattr(module, name)
    return function


def _inline(
    function: Work[Any, Any], units: Sequence[Any], should_stop: Callable[[], bool]
) -> Iterator[tuple[int, Any]]:
    for index, unit in enumerate(units):
        if should_stop():
            raise Interrupted(f"stopped after {index} of {len(units)} units")
        yield index, _call(function, index, unit)


def _in_processes(
    function: Work[Any, Any],
    units: Sequence[Any],
    processes: int,
    log_file: Path | None,
    should_stop: Callable[[], bool],
) -> Iterator[tuple[int, Any]]:
    context = multiprocessing.get_context("forkserver")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        processes,
        mp_context=context,
        initializer=_start_process,
        initargs=(_numbers(context, processes), max(1, _cores() // processes), log_file),
    )
    try:
        futures = {pool.submit(_call, function, index, unit): index for index, unit in enumerate(units)}
        waiting = set(futures)
        while waiting:
            finished, waiting = wait(waiting, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in finished:
                yield futures[future], _result(future)
            if waiting and should_stop():
                _wait_for_running(pool, waiting)
                raise Interrupted(f"stopped after {len(units) - len(waiting)} of {len(units)} units")
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise
    pool.shutdown()


def _result(future: Future[Any]) -> Any:
    try:
        return future.result()
    except BrokenProcessPool as error:
        message = "a job was killed from outside, perhaps for want of memory"
        raise SpeechkitError(message, hint="use a smaller --nj", code="jobs.killed") from error


def _wait_for_running(pool: ProcessPoolExecutor, waiting: set[Future[Any]]) -> None:
    log.info("waiting up to %d s for running jobs", _GRACE_SECONDS)
    pool.shutdown(wait=False, cancel_futures=True)
    end = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < end and not all(future.done() for future in waiting):
        time.sleep(_POLL_SECONDS)


def _numbers(context: ForkServerContext, count: int) -> SimpleQueue[int]:
    numbers = context.SimpleQueue()
    for number in range(1, count + 1):
        numbers.put(number)
    return numbers


def _start_process(numbers: SimpleQueue[int], threads: int, log_file: Path | None) -> None:
    """Prepare a worker before anything heavy is imported in it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches every process; the parent decides
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if log_file is not None:
        name = log_file.with_suffix(f".{numbers.get()}{log_file.suffix}")
        logging.basicConfig(filename=name, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    with suppress(OSError):
        if parent is not None:
            connection.wait([parent.sentinel])
            os._exit(1)
