"""Reading, here and in other processes."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speechkit import draws
from speechkit.audio.files import save
from speechkit.data import reader
from speechkit.data.cut import cut, num_samples_at
from speechkit.data.reader import Request, read_ahead, read_here, read_waves
from speechkit.data.utterance import Utterance
from speechkit.errors import SpeechkitError


def write(folder: Path, id: str, num_samples: int, *, rate: int = 16000, channels: int = 1) -> Utterance:
    words = draws.words(0, 0, "test", [f"{id}-{c}" for c in range(channels)], num_samples)
    samples = (draws.uniform(words) * 20000 - 10000).astype(np.int16)
    path = folder / f"{id}.wav"
    save(path, samples, rate)
    return Utterance(id=id, path=str(path), num_samples=num_samples, sample_rate=rate)


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    return [write(tmp_path, f"u{i}", 500 + 37 * i) for i in range(12)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def requests(utterances: list[Utterance]) -> Iterator[Request]:
    return (Request(number=n, utterances=tuple(utterances[3 * n : 3 * n + 3])) for n in range(len(utterances) // 3))


def test_a_span_of_a_channel_is_read(tmp_path: Path) -> None:
    whole = replace(write(tmp_path, "stereo", 1000, channels=2), channel=1)
    (samples,) = read_waves([whole]).samples
    (span,) = read_waves([replace(whole, start=300, num_samples=200)]).samples
    assert (span == samples[300:500]).all()


def test_a_cache_gives_the_same_and_reads_a_file_once(utterances: list[Utterance]) -> None:
    spans = [replace(utterances[0], start=s, num_samples=100) for s in (0, 250, 400)]
    cache: reader.Recordings = {}
    first = read_waves(spans, cache)
    Path(utterances[0].path).unlink()
    again = read_waves(spans, cache)
    for a, b in zip(first.samples, again.samples, strict=True):
        assert (a == b).all()
    assert not again.bad


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda u: Path(u.path).unlink(), "no such"),
        (lambda u: Path(u.path).write_bytes(b"this is not audio at all, whatever its name"), ""),
        (lambda u: save(u.path, np.ones(u.num_samples - 100, dtype=np.int16), 16000), "the index says"),
        (lambda u: save(u.path, np.ones(u.num_samples, dtype=np.int16), 8000), "8000 Hz, the index says 16000 Hz"),
    ],
    ids=["missing", "not audio", "too short", "another rate"],
)
def test_a_bad_file_is_silence_of_its_length_and_recorded(utterances: list[Utterance], damage, said: str) -> None:
    damage(utterances[1])
    waves = read_waves(utterances[:3])
    assert [len(s) for s in waves.samples] == [u.num_samples for u in utterances[:3]]
    assert list(waves.bad) == [1]
    assert not waves.samples[1].any()
    assert waves.samples[2].any()
    bad = waves.bad[1]
    assert (bad.id, bad.path, bad.num_samples) == ("u1", utterances[1].path, utterances[1].num_samples)
    assert said in bad.error


def test_a_file_that_fails_once_is_read_at_the_second_try(
    utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, tries = reader.read_int16, []

    def flaky(*args, **kwargs):
        tries.append(args)
        if len(tries) == 1:
            raise OSError("the network went away")
        return read(*args, **kwargs)

    monkeypatch.setattr(reader, "read_int16", flaky)
    waves = read_waves(utterances[:1])
    assert not waves.bad
    assert waves.samples[0].any()


@pytest.mark.parametrize("missing", [-2, 2])
def test_a_length_off_by_less_than_half_a_percent_is_padded_or_cut(tmp_path: Path, missing: int) -> None:
    utterance = replace(write(tmp_path, "a", 1000), num_samples=1000 + missing)
    waves = read_waves([utterance])
    assert not waves.bad
    assert len(waves.samples[0]) == 1000 + missing


def test_utterances_of_no_or_one_sample_are_read(tmp_path: Path) -> None:
    utterance = write(tmp_path, "a", 100)
    waves = read_waves([replace(utterance, num_samples=0), replace(utterance, start=50, num_samples=1)])
    assert [len(s) for s in waves.samples] == [0, 1]
    assert not waves.bad


@pytest.mark.parametrize("workers", [1, 4])
def test_processes_give_what_is_read_here_in_the_same_order(utterances: list[Utterance], workers: int) -> None:
    here = list(read_here(requests(utterances)))
    ahead = list(read_ahead(requests(utterances), workers=workers, prefetch=2))
    assert len(here) == len(ahead) == 4
    for a, b in zip(here, ahead, strict=True):
        assert all((x == y).all() for x, y in zip(a.samples, b.samples, strict=True))


def test_no_more_is_asked_for_ahead_than_allowed(utterances: list[Utterance]) -> None:
    asked = []

    def watched() -> Iterator[Request]:
        for request in requests(utterances):
            asked.append(request.number)
            yield request

    reading = read_ahead(watched(), workers=1, prefetch=2)
    next(reading)
    assert asked == [0, 1]
    reading.close()


def test_a_killed_process_is_reported_and_nothing_is_lost(
    utterances: list[Utterance], caplog: pytest.LogCaptureFixture
) -> None:
    before = set(multiprocessing.active_children())
    reading = read_ahead(requests(utterances), workers=1, prefetch=1)
    got = [next(reading)]
    for process in set(multiprocessing.active_children()) - before:
        process.kill()
        process.join()
    with caplog.at_level(logging.WARNING):
        got += reading
    assert [len(s) for w in got for s in w.samples] == [u.num_samples for u in utterances]
    assert "a reading process was killed while micro-batches 1 to 1 were read; 1 holds u3, u4, u5" in caplog.text


def test_processes_that_die_again_and_again_stop_the_run(
    utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(workers: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            workers, multiprocessing.get_context("forkserver"), initializer=os._exit, initargs=(1,)
        )

    monkeypatch.setattr(reader, "_start", dying)
    with pytest.raises(SpeechkitError, match=r"micro-batches 0 to 3 .* 0 holds u0, u1, u2") as caught:
        next(read_ahead(requests(utterances), workers=1, prefetch=4))
    assert "memory" in caught.value.hint


def test_reading_that_takes_too_long_names_the_micro_batch(utterances: list[Utterance]) -> None:
    with pytest.raises(SpeechkitError, match="micro-batch 0 took longer than 0 s; it holds u0, u1, u2"):
        next(read_ahead(requests(utterances), workers=1, prefetch=1, timeout_s=0.0))


ORPHAN = """
import json, multiprocessing, sys, time
from speechkit.data.reader import Request, read_ahead
from speechkit.data.utterance import Utterance
if __name__ == "__main__":
    utterance = Utterance(**json.loads(sys.argv[1]))
    reading = read_ahead((Request(number=n, utterances=(utterance,)) for n in range(99)), workers=1, prefetch=1)
    next(reading)
    print(*[p.pid for p in multiprocessing.active_children()], flush=True)
    time.sleep(60)
"""


def test_reading_processes_end_when_their_parent_is_killed(tmp_path: Path, utterances: list[Utterance]) -> None:
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    u = utterances[0]
    fields = {"id": u.id, "path": u.path, "num_samples": u.num_samples, "sample_rate": u.sample_rate}
    command = [sys.executable, script, json.dumps(fields)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    assert parent.stdout is not None
    (worker,) = (int(pid) for pid in parent.stdout.readline().split())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    end = time.monotonic() + 20
    while _lives(worker) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _lives(worker)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_reading_processes_need_no_torch() -> None:
    code = "import sys, speechkit.data.reader; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment()).returncode == 0


@pytest.mark.parametrize("rates", [(16000, 16000), (8000, 16000), (44100, 16000), (16000, 24000)])
def test_cuts_at_another_rate_stay_inside_and_are_long_enough(rates: tuple[int, int]) -> None:
    old, new = rates
    for num_samples in (1, 2, 441, 1000):
        utterance = Utterance(id="a", path="a.wav", start=7, num_samples=num_samples, sample_rate=old)
        length = num_samples_at(utterance, new)
        for size in range(1, length + 1, max(1, length // 50)):
            for start in {0, (length - size) // 2, length - size}:
                span = cut(utterance, start, size, new)
                assert span.utterance.start >= 7
                assert span.utterance.start + span.utterance.num_samples <= 7 + num_samples
                assert num_samples_at(span.utterance, new) >= size
                assert abs((span.utterance.start - 7) - start * old / new) <= 1 + old / new
