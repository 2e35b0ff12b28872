"""One function over many units, in this process, in several or on Ray; results in the order of the units."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from speechkit.errors import SpeechkitError
from speechkit.jobs.processes import at_once, in_processes
from speechkit.jobs.unit import Failure, Interrupted, Result, Unit, Work, call

log = logging.getLogger(__name__)

Executor = Literal["local", "ray"]


class JobsFailed(SpeechkitError):
    """Some units failed. The exit code is theirs when all failed alike."""


def run_jobs(
    function: Work[Unit, Result],
    units: Sequence[Unit],
    *,
    nj: int = 1,
    executor: Executor = "local",
    gpu: bool = False,
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
        executor: `local` for processes of this machine; `ray` for a Ray cluster, or where there is none for one of
            `nj` processes that is started here. A process that dies costs Ray its unit, which is run again, and ends
            the work of `local`.
        gpu: on Ray every unit gets a GPU of its own, if the cluster has any.
        log_file: process number J logs to this name with `.J` before its ending.
        progress: called with the number of units done and of all.
        should_stop: asked between units; when it says so no unit is begun; those that run in local processes get
            30 seconds, those on Ray none.
        fail_fast: begin no unit after the first failure.

    Raises:
        JobsFailed: with the number of failed units, the first error and where the logs are.
        Interrupted: `should_stop` said so.
        MissingDependency: Ray is not installed.
    """
    if nj < 1:
        raise ValueError(f"nj must be at least 1, not {nj}")
    if nj > len(units) > 0:
        log.info("nj is %d instead of %d: there are no more units", len(units), nj)
    processes = min(at_once(nj), len(units))
    outcomes: list[Result | Failure | None] = [None] * len(units)
    work = _inline(function, units, should_stop)
    if executor == "ray" and units:
        from speechkit.jobs.on_ray import on_ray

        work = on_ray(function, units, processes, should_stop, gpu=gpu)
    elif processes > 1:
        work = in_processes(function, units, processes, log_file, should_stop)
    with closing(work):
        for done, (index, outcome) in enumerate(work, start=1):
            outcomes[index] = outcome
            progress(done, len(units))
            if isinstance(outcome, Failure):
                log.error("%s of %d: %s", outcome.unit, len(units), outcome.message)
                if fail_fast:
                    break
    failures = [o for o in outcomes if isinstance(o, Failure)]
    if failures:
        raise _failed(failures, len(units), log_file if processes > 1 and executor == "local" else None)
    return outcomes  # type: ignore[return-value]  # every one is a result


def _failed(failures: list[Failure], total: int, log_file: Path | None) -> JobsFailed:
    where = f"; log is in {log_file.with_suffix('')}.*{log_file.suffix}" if log_file else ""
    first = failures[0]
    error = JobsFailed(
        f"{len(failures)} / {total} failed, the first: {first.message}{where}", hint=first.hint, code="jobs.failed"
    )
    if len({f.exit_code for f in failures}) == 1:
        error.exit_code = first.exit_code
    return error


def _inline(
    function: Work[Any, Any], units: Sequence[Any], should_stop: Callable[[], bool]
) -> Generator[tuple[int, Any]]:
    for index, unit in enumerate(units):
        if should_stop():
            raise Interrupted(f"stopped after {index} of {len(units)} units")
        yield index, call(function, index, unit)
