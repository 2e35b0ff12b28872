"""The units of some work on Ray (extra `ray`): on the cluster that RAY_ADDRESS names, else on one started here."""

from __future__ import annotations

import atexit
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechkit.errors import MissingDependency, SpeechkitError
from speechkit.jobs.unit import KILLED, Failure, Interrupted, Work, call

_POLL_SECONDS = 0.2
_RETRIES = 3  # of a unit whose worker died
_LOCAL = {  # read when ray is imported
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # of every system: ports are those of the loopback alone
    "RAY_USAGE_STATS_ENABLED": "0",
}
_STORE_BYTES = 100_000_000  # units and results are small


def on_ray(
    function: Work[Any, Any], units: Sequence[Any], processes: int, should_stop: Callable[[], bool], *, gpu: bool
) -> Generator[tuple[int, Any]]:
    """The index of every unit and its result or `Failure`, as they get ready; see `run_jobs`.

    Units are plain tasks: Ray keeps its processes, so what a function caches in its module, such as a network, is made
    once in each.

    Raises:
        Interrupted: `should_stop` said so; units that were running begin anew the next time.
        MissingDependency: Ray is not installed.
    """
    with _connected(processes) as ray:
        gpus = 1 if gpu and ray.cluster_resources().get("GPU") else 0
        task = ray.remote(max_retries=_RETRIES, num_cpus=1, num_gpus=gpus)(_call_here)
        here = Path.cwd()
        waiting = {task.remote(here, function, index, unit): index for index, unit in enumerate(units)}
        try:
            while waiting:
                finished, _ = ray.wait(list(waiting), timeout=_POLL_SECONDS)
                for reference in finished:
                    yield waiting.pop(reference), _result(ray, reference)
                if waiting and should_stop():
                    raise Interrupted(f"stopped after {len(units) - len(waiting)} of {len(units)} units")
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)


def _call_here(folder: Path, function: Work[Any, Any], index: int, unit: Any) -> Any:
    """Call a unit in the folder of the command, where its relative paths count from."""
    entered = call(os.chdir, index, folder)
    if not isinstance(entered, Failure):
        return call(function, index, unit)
    hint = "the machines of a cluster must see the folder of the command and its outputs under the same names"
    return replace(entered, message=f"{socket.gethostname()}: {entered.message}", hint=hint)


def _result(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        hint = f"its unit was tried {_RETRIES + 1} times; Ray's own logs may tell more"
        said = str(error).splitlines()[:1] or [type(error).__name__]
        raise SpeechkitError(f"{KILLED} ({said[0]})", hint=hint, code="jobs.killed") from error


@contextmanager
def _connected(processes: int) -> Iterator[Any]:
    """Ray, joined to a cluster; one that was started here ends with the body."""
    named = os.environ.get("RAY_ADDRESS", "local") != "local"
    if not named:
        os.environ.update(_LOCAL)
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise MissingDependency(
            "the executor ray needs Ray, which is not installed",
            hint="pip install 'speechkit-torch[ray]' (in a clone: pip install '.[ray]')",
            code="extra.ray",
        ) from None
    if ray.is_initialized():  # by the caller, who ends it too
        yield ray
        return
    start = {
        "address": "local",
        "num_cpus": processes,
        "include_dashboard": False,
        "object_store_memory": _STORE_BYTES,
        "_node_ip_address": "127.0.0.1",
    }
    before = signal.getsignal(signal.SIGTERM)  # Ray sets its own
    try:
        ray.init(**({} if named else start), log_to_driver=False, logging_level="ERROR")
        with suppress(ValueError):  # only the main thread sets handlers
            signal.signal(signal.SIGTERM, before)
        yield ray
    except (KeyboardInterrupt, SystemExit) as stop:
        atexit.register(_leave, signal.SIGTERM if isinstance(stop, SystemExit) else signal.SIGINT)
        raise
    finally:
        ray.shutdown()


def _leave(after: signal.Signals) -> None:
    """End an interrupted process at once: one in four died of a segmentation fault of Ray's while Python ended."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(128 + after)
