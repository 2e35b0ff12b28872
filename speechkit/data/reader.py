"""Read and decode the recordings of micro-batches, in this process or ahead in others; nothing else happens there.

This module does without torch, so that a reading process is small and starts at once.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechkit.audio.files import read_int16
from speechkit.data.kaldi.rxfilename import open_audio
from speechkit.data.utterance import Utterance
from speechkit.errors import InputError, SpeechkitError

log = logging.getLogger(__name__)

Samples = NDArray[np.int16]
Recordings = dict[tuple[str, int | None], tuple[Samples, int]]  # whole files with their rates, by path and channel

_LENGTH_TOLERANCE = 0.005
_TRIES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class BadCut:
    """An utterance that could not be read, and why."""

    id: str
    path: str
    start: int
    num_samples: int
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a micro-batch needs from the disk.

    Attributes:
        number: of the micro-batch.
        utterances: what to read, in order.
    """

    number: int
    utterances: tuple[Utterance, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Waves:
    """What was read: every utterance at its file's rate, as long as asked for, and which are silence instead."""

    samples: list[Samples]
    bad: dict[int, BadCut]


def read_waves(utterances: Sequence[Utterance], cache: Recordings | None = None) -> Waves:
    """Read utterances; one that fails twice becomes silence.

    Args:
        utterances: what to read.
        cache: keeps every recording in memory as a whole, and is looked at first.
    """
    samples: list[Samples] = []
    bad = {}
    for position, utterance in enumerate(utterances):
        for attempt in range(_TRIES):
            try:
                samples.append(_read(utterance, cache))
                break
            except (InputError, OSError) as error:
                if attempt == _TRIES - 1:
                    samples.append(np.zeros(utterance.num_samples, dtype=np.int16))
                    bad[position] = _bad_cut(utterance, error)
    return Waves(samples=samples, bad=bad)


def _read(utterance: Utterance, cache: Recordings | None) -> Samples:
    if utterance.num_samples == 0:
        return np.zeros(0, dtype=np.int16)
    if cache is None:
        source, count = open_audio(utterance.path), utterance.num_samples
        samples, rate = read_int16(source, start=utterance.start, num_samples=count, channel=utterance.channel)
    else:
        key = utterance.path, utterance.channel
        if key not in cache:
            cache[key] = read_int16(open_audio(utterance.path), channel=utterance.channel)
        recording, rate = cache[key]
        samples = recording[utterance.start : utterance.start + utterance.num_samples]
    return _checked(samples, rate, utterance)


def _checked(samples: Samples, rate: int, utterance: Utterance) -> Samples:
    if rate != utterance.sample_rate:
        raise InputError(f"{utterance.path}: {rate} Hz, the index says {utterance.sample_rate} Hz", code="audio.rate")
    missing = utterance.num_samples - len(samples)
    if abs(missing) > _LENGTH_TOLERANCE * utterance.num_samples:
        raise InputError(
            f"{utterance.path}: {len(samples)} samples from {utterance.start}, the index says {utterance.num_samples}",
            code="audio.length",
        )
    return np.pad(samples, (0, missing)) if missing > 0 else samples[: utterance.num_samples]


def _bad_cut(utterance: Utterance, error: Exception) -> BadCut:
    return BadCut(
        id=utterance.id,
        path=utterance.path,
        start=utterance.start,
        num_samples=utterance.num_samples,
        error=str(error),
    )


def read_here(requests: Iterator[Request], cache: Recordings | None = None) -> Generator[Waves]:
    """Read one request after the other in this thread."""
    for request in requests:
        yield read_waves(request.utterances, cache)


def read_ahead(
    requests: Iterator[Request], *, workers: int, prefetch: int, timeout_s: float = 300.0
) -> Generator[Waves]:
    """Read in other processes, in the order of the requests, `workers` × `prefetch` requests ahead.

    When a process is killed, all are started again once, from the first request that was not delivered.

    Raises:
        SpeechkitError: a process is killed twice at the same request, or reading takes longer than `timeout_s`.
    """
    pending: deque[Request] = deque()
    futures: deque[Future[Waves]] = deque()
    restarted_at = None
    pool = _start(workers)
    try:
        while True:
            pending.extend(itertools.islice(requests, workers * prefetch - len(pending)))
            if not pending:
                return
            try:
                while len(futures) < len(pending):
                    futures.append(pool.submit(read_waves, pending[len(futures)].utterances))
                waves = futures[0].result(timeout_s)
            except BrokenProcessPool as error:
                killed = _killed(pending)
                if restarted_at == pending[0].number:
                    raise killed from error
                log.warning("%s; reading goes on with new ones", killed.message)
                restarted_at = pending[0].number
                futures.clear()
                pool = _start(workers)
                continue
            except TimeoutError as error:
                for process in pool._processes.values():  # one that hangs would keep this one from ending
                    process.kill()
                raise _too_slow(pending[0], timeout_s) from error
            pending.popleft()
            futures.popleft()
            yield waves
    finally:
        pool.shutdown(cancel_futures=True)


def _start(workers: int) -> ProcessPoolExecutor:
    context = get_context("forkserver")  # a fork of a process with threads or CUDA can hang
    context.set_forkserver_preload([__name__])
    return ProcessPoolExecutor(workers, context, initializer=_prepare_worker)


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _killed(in_flight: Sequence[Request]) -> SpeechkitError:
    first, last = in_flight[0], in_flight[-1]
    return SpeechkitError(
        f"a reading process was killed while micro-batches {first.number} to {last.number} were read; "
        f"{first.number} holds {_ids(first)}",
        hint="if memory ran out, use fewer workers or a smaller batch_seconds",
        code="data.worker",
    )


def _too_slow(request: Request, timeout_s: float) -> SpeechkitError:
    return SpeechkitError(
        f"reading micro-batch {request.number} took longer than {timeout_s:g} s; it holds {_ids(request)}",
        hint=f"see whether {Path(request.utterances[0].path).parent} can be read",
        code="data.slow",
    )


def _ids(request: Request) -> str:
    ids = [u.id for u in request.utterances]
    return ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
