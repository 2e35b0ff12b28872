"""The other processes of a training stage: `--ngpu N` starts them beside this one, torchrun has started them all.

Either way the environment says who is who: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT. Process 0 runs the
stage as ever. The others run the same function for its training alone; what they would write goes nowhere.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from speechkit.errors import SpeechkitError, UsageError
from speechkit.recipe.context import Bar, Console, Context, ShareDone
from speechkit.recipe.environment import environment
from speechkit.recipe.logs import stage_log
from speechkit.recipe.places import Places
from speechkit.recipe.signals import StopSignals
from speechkit.recipe.stage import Stage

_WAIT_SECONDS = 60.0
_GRACE_SECONDS = 30.0  # for process 0 to find out by itself, as it does with gloo
_STOP_GRACE_SECONDS = 600.0  # for it to write a checkpoint after all were asked to stop
_POLL_SECONDS = 1.0
_PARENT = "SPEECHKIT_PARENT"  # the process that a follower ends with; torchrun looks after its own
_STOPPED = {code for number in (signal.SIGINT, signal.SIGTERM) for code in (-number, 128 + number)}


def rank() -> int:
    """The number of this process among those that train together; 0 when it is alone."""
    return int(os.environ.get("RANK", "0"))


def started_together() -> bool:
    """Whether this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def beside(command: Sequence[str], count: int) -> Iterator[None]:
    """Let `command` run in `count` - 1 processes while the body runs as process 0.

    Where one of them dies, the body may wait for it within a kernel of the device, which nothing interrupts: half a
    minute later this process ends too, with a line that says why.

    Raises:
        SpeechkitError: one of them failed.
    """
    if count == 1:
        yield
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), _PARENT: str(os.getpid())}
    ranks = [{"RANK": str(n), "LOCAL_RANK": str(n)} for n in range(count)]
    others = [subprocess.Popen(command, env=os.environ | shared | mine) for mine in ranks[1:]]
    mine = shared | ranks[0]
    os.environ |= mine
    done = threading.Event()
    for number in range(1, count):
        threading.Thread(target=_end_with, args=(others, number, done), daemon=True).start()
    try:
        yield
        done.set()
        deadline = time.monotonic() + _WAIT_SECONDS
        for number, other in enumerate(others, 1):
            try:
                code = other.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise SpeechkitError(f"process {number} of {count} does not end", code="recipe.process") from None
            if code and code not in _STOPPED:
                raise SpeechkitError(f"process {number} of {count} ended with code {code}", code="recipe.process")
    finally:
        done.set()
        for other in others:
            other.kill()
            other.wait()
        for name in mine:
            del os.environ[name]


def _end_with(others: Sequence[subprocess.Popen[bytes]], number: int, done: threading.Event) -> None:
    """End all processes after one that failed, unless this one is done first.

    One that was asked to stop has not failed, but process 0 gets ten minutes at most to write its checkpoint.
    """
    code = others[number - 1].wait()
    if code and not done.wait(_STOP_GRACE_SECONDS if code in _STOPPED else _GRACE_SECONDS):
        for other in others:
            other.kill()
        count = len(others) + 1
        sys.stderr.write(f"error: process {number} of {count} ended with code {code}; this one waits for it\n")
        sys.stderr.write("hint: the same command continues from the last checkpoint\n")
        sys.stderr.flush()
        os._exit(SpeechkitError.exit_code)


def _end_with_parent() -> None:
    """End this process when the one that started it has died, whatever kernel it waits in."""
    while os.getppid() == int(os.environ[_PARENT]):
        time.sleep(_POLL_SECONDS)
    os._exit(SpeechkitError.exit_code)


def the_training(stages: Sequence[Stage[Any, Any]]) -> Stage[Any, Any]:
    """The one stage that several processes run.

    Raises:
        UsageError: it is not one, or no training.
    """
    if len(stages) == 1 and stages[0].work is not None:
        return stages[0]
    numbers = ", ".join(str(stage.number) for stage in stages)
    hint = "choose one with --stages N, or let one process start the others: --ngpu N"
    raise UsageError(f"several processes run a training stage, not stages {numbers}", hint=hint, code="recipe.process")


def follow(stage: Stage[Any, Any], config: Any, places: Places, device: str, command: str) -> int | None:
    """Take part in a training as a process other than 0; gives the signal that ended it, if one did."""
    if _PARENT in os.environ:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    name = f"process{rank()}"
    with taking_part(stage, config, places, name, command, device=device) as (context, signals):
        try:
            stage.run(context, stage.settings(config))
        except ShareDone:
            context.log.info("the share of process %d is done", rank())
        return signals.received


@contextmanager
def taking_part(
    stage: Stage[Any, Any],
    config: Any,
    places: Places,
    name: str,
    command: str,
    *,
    console: Console | None = None,
    **known: Any,
) -> Iterator[tuple[Context, StopSignals]]:
    """The context of a process that helps with a stage: its outputs go nowhere, and its log has a name of its own.

    Args:
        stage: which.
        config: of the recipe.
        places: the folders.
        name: of the process.
        command: for the log.
        console: is told how it goes; None: nobody is.
        known: fields of the context that are not those of a process with one job.
    """
    console = console or _Silence()
    log_file = places.exp / "log" / f"{stage.label}.{name}.log"
    with (
        StopSignals(console.line) as signals,
        tempfile.TemporaryDirectory() as nowhere,
        stage_log(log_file, command, environment()) as log,
    ):
        signals.gentle = True
        work = places.work(stage, config)
        usual: dict[str, Any] = {
            "inputs": {n: places.path(i.path) for n, i in places.inputs(stage, config).items() if i.path},
            "outputs": {n: Path(nowhere) / str(number) for number, n in enumerate(places.outputs(stage, config))},
            "work": None if work is None else places.path(work),
            "exp": places.exp,
            "egs": places.egs,
            "corpus_dir": places.corpus_dir,
            "nj": 1,
            "log": log,
            "log_file": log_file,
            "console": console,
            "note": _nothing,
            "should_stop": signals.stopping,
        }
        yield Context(**(usual | known)), signals


def _nothing(text: str) -> None:
    """Whoever has the stage notes how far it is."""


class _Silence:
    """A console for processes that have nothing to tell."""

    def line(self, text: str) -> None:
        """Nothing."""

    def result(self, text: str) -> None:
        """Nothing."""

    def bar(self, label: str, unit: str) -> Bar:  # noqa: ARG002
        """Nothing."""
        return _NoBar()


class _NoBar:
    def update(self, done: int, total: int, text: str) -> None:
        pass

    def close(self) -> None:
        pass


Follower = Callable[[int], Sequence[str]]  # the command of the other processes, by the number of the stage
