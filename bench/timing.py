"""Sides that do the same work in turns, each in a process of its own.

A process of its own gives each side its own memory, threads and libraries; while it waits for its turn it sleeps. On a
CUDA device it gives back what it doesn't hold, and works once more before each turn.
"""

from __future__ import annotations

import contextlib
import re
import resource
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechkit.errors import SpeechkitError

FLOOR = "floor"  # the name of a side that computes products alone
Output = Sequence[Any]  # texts, or tensors and arrays
Work = Callable[[], Output]


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One who does the work.

    Attributes:
        name: what it is, with its setting.
        make: a function of a module, called once in the side's process; what it returns is timed.
        arguments: of `make`.
        tolerance: the largest difference from the output that is right; None: it is stated, and may be any.
    """

    name: str
    make: Callable[..., Work]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How a side did.

    Attributes:
        name: of the side.
        seconds: of each turn.
        startup_seconds: from nothing to ready: interpreter, imports, weights.
        memory_mib: the most that its process held, or on a CUDA device allocated.
        difference: of its output from the right one, see `difference`; None where there is nothing to compare.
        tolerance: that was allowed; None: any.
    """

    name: str
    seconds: tuple[float, ...]
    startup_seconds: float
    memory_mib: float
    difference: float | None
    tolerance: float | None

    @property
    def median(self) -> float:
        """Of the turns."""
        return statistics.median(self.seconds)


def compare(sides: Sequence[Side], trials: int, *, expected: int = 0, starts: int = 1) -> list[Timing]:
    """Time the sides in turns, after each has worked once and its output was compared.

    Args:
        sides: who takes part, ours first.
        trials: turns of each; every other round goes backwards.
        expected: the side whose output is right.
        starts: how often each is started; the median counts.

    Raises:
        SpeechkitError: a side failed, or an output differs by more than its tolerance.
    """
    with contextlib.ExitStack() as running:
        processes = [running.enter_context(_running(side, starts)) for side in sides]
        outputs = [process.work(output=True) for process in processes]
        right = sides[expected], outputs[expected]
        differences = [_checked(*made, *right) for made in zip(sides, outputs, strict=True)]
        for process in processes:
            process.seconds.clear()
        for trial in range(trials):
            for process in processes[:: -1 if trial % 2 else 1]:
                process.work()
        return [
            Timing(
                name=process.side.name,
                seconds=tuple(process.seconds),
                startup_seconds=process.startup_seconds,
                memory_mib=process.memory_mib,
                difference=found,
                tolerance=process.side.tolerance,
            )
            for process, found in zip(processes, differences, strict=True)
        ]


def _checked(side: Side, output: Output, right: Side, expected: Output) -> float | None:
    """The difference of an output, which is no more than allowed; None where there is nothing to compare."""
    if side is right or (not len(output) and side.tolerance is None):
        return None
    found = difference(output, expected)
    if side.tolerance is not None and not found <= side.tolerance:
        raise SpeechkitError(
            f"{side.name}: its output differs by {found:.2g} from that of {right.name}, {side.tolerance:g} is allowed",
            code="bench.difference",
        )
    return found


def difference(found: Output, expected: Output) -> float:
    """How far one output is from another: the share of texts that differ, or ‖found − expected‖ / ‖expected‖."""
    if len(found) != len(expected):
        raise SpeechkitError(f"{len(found)} outputs against {len(expected)}", code="bench.difference")
    if any(isinstance(item, str) for item in expected):
        return sum(a != b for a, b in zip(found, expected, strict=True)) / len(expected)
    wrong = sum(_square(np.subtract(a, b, dtype=np.float64)) for a, b in zip(found, expected, strict=True))
    return (wrong / sum(_square(np.asarray(b, dtype=np.float64)) for b in expected)) ** 0.5


def _square(array: NDArray[np.float64]) -> float:
    return float(np.square(array).sum())


class _Process:
    """A side in its process."""

    def __init__(self, side: Side, connection: Connection) -> None:
        self.side = side
        self.connection = connection
        self.startup_seconds = 0.0
        self.seconds: list[float] = []
        self.memory_mib = 0.0

    def work(self, *, output: bool = False) -> Output:
        """Take a turn; the output only if asked for."""
        self.connection.send(output)
        seconds, self.memory_mib, made = self.answer()
        self.seconds.append(seconds)
        return made

    def answer(self) -> Any:
        try:
            answer = self.connection.recv()
        except EOFError:
            raise SpeechkitError(f"{self.side.name}: its process ended", hint="too little memory?") from None
        if isinstance(answer, str):
            raise SpeechkitError(f"{self.side.name} failed:\n{answer}", code="bench.side")
        return answer


@contextlib.contextmanager
def _running(side: Side, starts: int = 1) -> Iterator[_Process]:
    """The side, ready to work; it was started so many times."""
    context = get_context("spawn")
    before = []
    for _ in range(starts - 1):
        with _running(side) as process:
            before.append(process.startup_seconds)
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(theirs, side.make, dict(side.arguments)))
    start = time.perf_counter()
    child.start()
    theirs.close()
    process = _Process(side, ours)
    try:
        process.answer()
        process.startup_seconds = statistics.median([*before, time.perf_counter() - start])
        yield process
    finally:
        ours.close()  # which ends it
        child.join()


def _serve(connection: Connection, make: Callable[..., Work], arguments: dict[str, Any]) -> None:
    """Work whenever asked, until nobody asks any more."""
    warnings.simplefilter("ignore")  # of libraries, which nobody here can act on
    try:
        work = make(**arguments)
        connection.send(None)
        gpu = None
        while True:
            wanted = connection.recv()
            if gpu:
                work()  # takes the memory again that was given back
                gpu.synchronize()
            start = time.perf_counter()
            output = work()
            if gpu := _gpu():
                gpu.synchronize()
            seconds = time.perf_counter() - start
            connection.send((seconds, _peak_mib(), _plain(output) if wanted else []))
            del output
            if gpu:
                gpu.empty_cache()  # the others are on the same device
    except (EOFError, BrokenPipeError):
        pass
    except Exception:  # it has to be told where it is seen
        connection.send(traceback.format_exc())


def _plain(output: Output) -> list[Any]:
    """What goes through a pipe: texts and arrays."""
    return [item.detach().float().cpu().numpy() if hasattr(item, "detach") else item for item in output]


def _peak_mib() -> float:
    """The most memory that this process held, or allocated on a CUDA device."""
    if gpu := _gpu():
        return float(gpu.max_memory_allocated()) / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count what the parent held when it forked
        held = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        assert held
        return int(held[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _gpu() -> Any:
    """torch.cuda, where this process uses it."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
