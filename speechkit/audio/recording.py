"""What is known of a recording before its samples are read, and the limits that it has to keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from speechkit.errors import InputError

SAMPLE_RATES = range(4_000, 384_001)
MAX_CHANNELS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioInfo:
    """What a file says of itself, corrected where it lies.

    Attributes:
        format: the container, such as `WAV`, `FLAC`, `OGG`, `MP3`, `mp4`.
        subtype: the coding of the samples, such as `PCM_16`, `VORBIS`, `aac`.
        sample_rate: Hz.
        channels: how many.
        num_samples: of each channel.
        warning: one line when the file is not whole, else "".
    """

    format: str
    subtype: str
    sample_rate: int
    channels: int
    num_samples: int
    warning: str = ""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate


class Recording(Protocol):
    """An open file. `info` may get a warning by reading."""

    info: AudioInfo

    def read(self, start: int, count: int, dtype: str) -> NDArray[np.generic]:
        """At most `count` samples from `start` on as `(T, C)`, `float32`, or `int16` where that is exact."""

    def close(self) -> None:
        """Free what the decoder holds."""


def check_limits(name: str, info: AudioInfo) -> None:
    """Refuse what cannot be a recording.

    Raises:
        InputError: the rate or the number of channels is out of range, or there are no samples.
    """
    if info.sample_rate not in SAMPLE_RATES:
        raise InputError(
            f"{name}: {info.sample_rate} Hz; readable are {SAMPLE_RATES.start} to {SAMPLE_RATES.stop - 1} Hz",
            code="audio.format",
        )
    if not 1 <= info.channels <= MAX_CHANNELS:
        raise InputError(f"{name}: {info.channels} channels; readable are 1 to {MAX_CHANNELS}", code="audio.format")
    if info.num_samples == 0:
        reason = f": {info.warning}" if info.warning else ""
        raise InputError(f"{name}: holds no samples{reason}", code="audio.empty")


def seconds(num_samples: int, sample_rate: int) -> str:
    """A length for a message."""
    return f"{num_samples / sample_rate:.3f} s"
