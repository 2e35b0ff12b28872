"""The units of some work in processes of this machine."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.context import ForkServerContext
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

from speechkit.errors import SpeechkitError
from speechkit.jobs.unit import KILLED, Interrupted, Work, call

log = logging.getLogger(__name__)

_GRACE_SECONDS = 30.0  # what running units get after a stop is asked for
_POLL_SECONDS = 0.2
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def at_once(nj: int) -> int:
    """How many processes `nj` jobs get here, by the rule of Kaldi's run.pl."""
    return nj if nj < 1.4 * cores() else cores()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(
    function: Work[Any, Any],
    units: Sequence[Any],
    processes: int,
    log_file: Path | None,
    should_stop: Callable[[], bool],
) -> Generator[tuple[int, Any]]:
    """The index of every unit and its result or `Failure`, as they get ready; see `run_jobs`."""
    context = multiprocessing.get_context("forkserver")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        processes,
        mp_context=context,
        initializer=_start_process,
        initargs=(_numbers(context, processes), max(1, cores() // processes), log_file),
    )
    try:
        futures = {pool.submit(call, function, index, unit): index for index, unit in enumerate(units)}
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
        raise SpeechkitError(KILLED, hint="use a smaller --nj", code="jobs.killed") from error


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
    number = numbers.get()
    os.environ["LOCAL_RANK"] = str(number - 1)  # which GPU is its own
    if log_file is not None:
        name = log_file.with_suffix(f".{number}{log_file.suffix}")
        logging.basicConfig(filename=name, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    with suppress(OSError):
        if parent is not None:
            connection.wait([parent.sentinel])
            os._exit(1)
