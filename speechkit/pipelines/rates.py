"""How fast this machine is at what transcribing and training are made of."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from speechkit import draws
from speechkit.audio.fbank import FbankConfig, fbank
from speechkit.audio.files import read_int16, save
from speechkit.audio.resample import resample
from speechkit.models.wavlm.config import PRESETS
from speechkit.models.wavlm.model import WavLM
from speechkit.pipelines.device import choose_dtype

_RATE = 16000
_FILE_SECONDS = 60
_BATCH, _ROW_SECONDS = 8, 15
_FORWARD_SECONDS = 10
_REAL_TIME = "x real time"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """The median of several trials.

    Attributes:
        name: of what was done.
        value: how fast.
        unit: `x real time` is seconds of audio a second.
        trials: that were made.
    """

    name: str
    value: float
    unit: str
    trials: int


def measure(device: torch.device, *, seconds: float = 1.5) -> Iterator[Rate]:
    """Measure one after the other; networks with random weights.

    Args:
        device: of features, networks and products; files are decoded on one core.
        seconds: of trials of each, at least; there are three or more, or one that alone takes three times as long.
    """
    yield from _decoding(seconds)
    yield _features(device, seconds)
    yield _resampling(device, seconds)
    yield _forward(device, seconds)
    for dtype in (torch.float32, torch.bfloat16):
        yield _product(device, dtype, seconds)


def _decoding(seconds: float) -> Iterator[Rate]:
    """WAV, FLAC and MP3 of a minute, mono at 16 kHz: a voice-like tone with noise."""
    time_s = np.arange(_FILE_SECONDS * _RATE) / _RATE
    tones = sum(np.sin(2 * np.pi * 120 * k * time_s) / k for k in range(1, 20)) * (1 + np.sin(2 * np.pi * 3 * time_s))
    noise = draws.normal(draws.words(0, draws.EVALUATION, "sample", ["noise"], 2 * len(time_s)))[0]
    samples = (0.08 * tones + 0.005 * noise).clip(-1, 1).astype(np.float32)
    with tempfile.TemporaryDirectory(prefix="speechkit-") as folder:
        for ending in ("wav", "flac", "mp3"):
            path = Path(folder, f"minute.{ending}")
            save(path, samples, _RATE)
            yield _rate(f"decode_{ending}", _FILE_SECONDS, _REAL_TIME, lambda path=path: read_int16(path), seconds)  # type: ignore[misc]


def _features(device: torch.device, seconds: float) -> Rate:
    waves, lengths = _waves(_BATCH, _ROW_SECONDS, _RATE, device)
    work = _finished(lambda: fbank(waves, lengths, FbankConfig()), device)
    return _rate("fbank", _BATCH * _ROW_SECONDS, _REAL_TIME, work, seconds)


def _resampling(device: torch.device, seconds: float) -> Rate:
    waves, lengths = _waves(_BATCH, _ROW_SECONDS, 24000, device)
    work = _finished(lambda: resample(waves, lengths, 24000, _RATE), device)
    return _rate("resample_24000_16000", _BATCH * _ROW_SECONDS, _REAL_TIME, work, seconds)


def _forward(device: torch.device, seconds: float) -> Rate:
    """WavLM Base as `transcribe` runs it: in the type that `--dtype auto` takes."""
    dtype = choose_dtype("auto", device)
    model = WavLM(PRESETS["wavlm-base"]).to(device).eval()
    waves, lengths = _waves(1, _FORWARD_SECONDS, _RATE, device)

    def run() -> None:
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            model(waves, lengths)

    name = f"wavlm_base_{_FORWARD_SECONDS}s_{str(dtype).removeprefix('torch.')}"
    return _rate(name, _FORWARD_SECONDS, _REAL_TIME, _finished(run, device), seconds)


def _product(device: torch.device, dtype: torch.dtype, seconds: float) -> Rate:
    size = 512 if device.type == "cpu" else 8192  # a CPU without bfloat16 units takes long for more
    matrix = torch.linspace(-1, 1, size * size, device=device).view(size, size).to(dtype)
    work = _finished(lambda: matrix @ matrix, device)
    return _rate(f"matmul_{str(dtype).removeprefix('torch.')}", 2 * size**3 / 1e9, "GFLOP/s", work, seconds)


def _waves(rows: int, seconds: int, rate: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    noise = draws.normal(draws.words(0, draws.EVALUATION, "sample", ["waves"], 2 * seconds * rate))[0]
    waves = torch.from_numpy(noise.astype(np.float32)).mul(0.1).repeat(rows, 1)
    return waves.to(device), torch.full((rows,), seconds * rate, device=device)


def _finished(work: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """The work, and waiting for a device that computes on the side."""

    def run() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()

    return run


def _rate(name: str, amount: float, unit: str, work: Callable[[], object], seconds: float) -> Rate:
    """The median over trials of `amount` a second; the first one, which warms up, counts only if it is too long."""
    times = [_timed(work)]
    if times[0] < 3 * seconds:
        times = []
        while len(times) < 3 or sum(times) < seconds:
            times.append(_timed(work))
    return Rate(name=name, value=amount / statistics.median(times), unit=unit, trials=len(times))


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
