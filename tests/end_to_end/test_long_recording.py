"""An hour of audio in bounded memory."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechkit import draws
from tests.end_to_end.commands import environment
from tests.end_to_end.conftest import RATE, Finished, say

MINUTES = 60
GIB = 1 << 30


def speechlike(minute: int) -> np.ndarray:
    """A minute of words, louder and softer ones, with pauses of 0.1 to 1.3 s; int16 `(T,)`."""
    wave = np.zeros(60 * RATE, dtype=np.float32)
    drawn, at = iter(draws.uniform(draws.words(0, 0, "test", [f"minute {minute}"], 400))[0]), 0
    spoken = {name: say([name], "ann", name) for name in ("la", "mi", "so")}
    while True:
        name, loudness, pause = (next(drawn) for _ in range(3))
        word = spoken[("la", "mi", "so")[int(3 * name)]]
        if at + len(word) > len(wave):
            return np.rint(32767 * wave.clip(-1, 1)).astype(np.int16)
        wave[at : at + len(word)] += (0.2 + 0.8 * loudness) * word
        at += len(word) + int(1.2 * pause * RATE)


@pytest.mark.slow
def test_an_hour_is_read_in_under_two_gibibytes(finished: Finished, tmp_path: Path) -> None:
    parts = [speechlike(minute) for minute in range(6)]
    with soundfile.SoundFile(tmp_path / "hour.wav", "w", RATE, 1, "PCM_16") as file:
        for minute in range(MINUTES):
            file.write(parts[minute % len(parts)])
    command = [sys.executable, "-m", "speechkit", "transcribe", "hour.wav", "-m", finished.workspace.exp]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [*map(str, command), "-o", "hour.json"], cwd=tmp_path, env=environment(), stderr=said
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    (tmp_path / "hour.wav").unlink()
    assert process.returncode == 0, (tmp_path / "said").read_text()
    peak = usage.ru_maxrss if sys.platform == "darwin" else 1024 * usage.ru_maxrss
    assert peak < 2 * GIB
    found = json.loads((tmp_path / "hour.json").read_text())
    assert found["duration"] == 60 * MINUTES
    words = [word for segment in found["segments"] for word in segment["words"]]
    starts = [word["start"] for word in words]
    assert starts == sorted(starts)
    assert starts[-1] > 60 * (MINUTES - 1)  # no part of it is left out at the end, nor in between
    assert max(b - a for a, b in itertools.pairwise(starts)) < 30
