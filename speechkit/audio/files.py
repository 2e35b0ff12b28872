"""Recordings in and out: any format, any span, 16 bits that are the ones in the file, and a clear word about damage.

Letters: C channels, T samples.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from speechkit import files
from speechkit.audio.containers import MAGIC_BYTES, ContainerRecording, container
from speechkit.audio.recording import AudioInfo, Recording, seconds
from speechkit.audio.sndfile import EXACT_INT16, FLOATING, UNKNOWN_LENGTH, SoundFileRecording
from speechkit.errors import InputError, OutputError

__all__ = [
    "EXTENSIONS",
    "FORMATS",
    "MAX_SECONDS",
    "Audio",
    "AudioInfo",
    "Channel",
    "blocks",
    "encode",
    "info",
    "mono",
    "quantize",
    "read",
    "read_int16",
    "save",
]

Source = str | Path | BinaryIO
Channel = Literal["mix", "left", "right"] | int

MAX_SECONDS = 12 * 3600  # decoded at once

_CODINGS = {  # by ending: container and coding of what is written
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".aiff": ("AIFF", "PCM_16"),
    ".aif": ("AIFF", "PCM_16"),
    ".au": ("AU", "PCM_16"),
    ".caf": ("CAF", "PCM_16"),
    ".w64": ("W64", "PCM_16"),
    ".rf64": ("RF64", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
}
FORMATS = tuple(ending.removeprefix(".") for ending in _CODINGS)  # that are written
_READ_BY_LIBSNDFILE = frozenset({".aifc", ".snd", ".oga", ".sph"})
_READ_BY_PYAV = frozenset({".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".webm", ".mkv", ".mka", ".aac", ".wma", ".amr"})
EXTENSIONS = frozenset(_CODINGS) | _READ_BY_LIBSNDFILE | _READ_BY_PYAV


@dataclass(frozen=True, kw_only=True, slots=True)
class Audio:
    """What was read.

    Attributes:
        samples: float32 `(C, T)`, ±1 is full scale.
        sample_rate: Hz.
        warning: one line when the file is not whole, else "".
    """

    samples: NDArray[np.float32]
    sample_rate: int
    warning: str = ""


def info(source: Source) -> AudioInfo:
    """Look at the header; only where it does not tell the length is more of the file read.

    Raises:
        InputError: see `read`.
    """
    with _opened(source) as recording:
        return recording.info


def read(source: Source, *, start: int = 0, num_samples: int | None = None) -> Audio:
    """Read a span of a recording, without the rest of it.

    Args:
        source: a path, or a binary file such as standard input; one that cannot seek is taken into memory.
        start: first sample.
        num_samples: at most; None reads to the end.

    Raises:
        InputError: the file is missing (`audio.missing`), holds no samples (`audio.empty`), is not audio or out of
            limits (`audio.format`), cannot be decoded to the end of the span (`audio.decode`), or holds NaN or infinite
            values in it (`audio.nan`).
    """
    with _opened(source) as recording:
        samples = _floats(recording, _name(source), start, _span(recording, _name(source), start, num_samples))
        return Audio(samples=samples, sample_rate=recording.info.sample_rate, warning=recording.info.warning)


def read_int16(
    source: Source, *, start: int = 0, num_samples: int | None = None, channel: int | None = None
) -> tuple[NDArray[np.int16], int]:
    """Read a span of one channel, or of the mean of all, as 16 bits; louder values are clipped.

    Args:
        source: as for `read`.
        start: first sample.
        num_samples: at most; None reads to the end.
        channel: counted from 0; None averages.

    Returns:
        int16 `(T,)` and the rate in Hz.

    Raises:
        InputError: see `read`; there is no such channel (`audio.channel`).
    """
    with _opened(source) as recording:
        name, rate = _name(source), recording.info.sample_rate
        if channel is not None and not 0 <= channel < recording.info.channels:
            raise InputError(
                f"{name}: channel {channel} of a file with {recording.info.channels} (counted from 0)",
                code="audio.channel",
            )
        count = _span(recording, name, start, num_samples)
        wanted: Channel = "mix" if channel is None else channel
        if recording.info.subtype in EXACT_INT16:
            return mono(recording.read(start, count, "int16").T, wanted), rate
        return quantize(mono(_floats(recording, name, start, count), wanted)), rate


def blocks(source: Source, num_samples: int) -> Iterator[Audio]:
    """Read a recording piece by piece, `num_samples` each but the last, never more of it in memory.

    Raises:
        InputError: see `read`; after the pieces before the damage.
    """
    with _opened(source) as recording:
        name, start = _name(source), 0
        _span(recording, name, 0, None)
        while start < recording.info.num_samples:
            samples = _floats(recording, name, start, num_samples)
            if samples.shape[1]:
                yield Audio(samples=samples, sample_rate=recording.info.sample_rate, warning=recording.info.warning)
            start += num_samples


def mono(samples: NDArray[Any], channel: Channel = "mix") -> NDArray[Any]:
    """One channel, or the mean of all, of `(C, T)` as `(T,)` of the same type; int16 means are rounded half to even."""
    if channel == "mix":
        if len(samples) == 1:
            return samples[0]
        mean = samples.mean(axis=0, dtype=np.float32)
        return np.rint(mean).astype(np.int16) if samples.dtype == np.int16 else mean
    return samples[{"left": 0, "right": 1}.get(channel, channel) if isinstance(channel, str) else channel]


def quantize(samples: NDArray[Any]) -> NDArray[np.int16]:
    """Samples as 16 bits: ±1 is full scale, rounded half to even, clipped; int16 comes back as it is.

    Raises:
        ValueError: values are NaN or infinite.
    """
    if samples.dtype == np.int16:
        return samples
    if not np.isfinite(samples).all():
        raise ValueError("samples hold NaN or infinite values")
    return np.clip(np.rint(samples * np.float32(32768)), -32768, 32767).astype(np.int16)


def save(path: str | Path, samples: NDArray[Any], sample_rate: int, *, format: str | None = None) -> None:
    """Write 16-bit samples, whole or not at all; what is read back from a lossless container is what was given.

    Args:
        path: the file.
        samples: int16 or float, `(T,)` or `(C, T)`.
        sample_rate: Hz.
        format: an ending such as `flac` that stands for the container; by default that of `path`.

    Raises:
        OutputError: the file cannot be written, or the container cannot hold this rate or so many channels.
        ValueError: the format is unknown, or values are NaN or infinite.
    """
    # encoded in memory: libsndfile does not notice a full disk
    encoded = encode(str(path), samples, sample_rate, format or Path(path).suffix.lower().removeprefix("."))
    with files.whole(path) as temporary:
        temporary.write_bytes(encoded)


def encode(name: str, samples: NDArray[Any], sample_rate: int, format: str) -> memoryview:
    """The bytes of the file that `save` would write; `name` is for messages.

    Raises:
        OutputError: the container cannot hold this rate or so many channels.
        ValueError: the format is unknown, or values are NaN or infinite.
    """
    if f".{format}" not in _CODINGS:
        known = " ".join(sorted(_CODINGS))
        raise ValueError(f"{name}: cannot write the format {f'.{format}'!r}; known are {known}")
    container_name, coding = _CODINGS[f".{format}"]
    encoded = io.BytesIO()
    try:
        soundfile.write(encoded, quantize(samples).T, sample_rate, format=container_name, subtype=coding)
    except soundfile.LibsndfileError as error:
        channels = 1 if samples.ndim == 1 else len(samples)
        raise OutputError(
            f"{name}: {container_name} cannot hold {channels} channels at {sample_rate} Hz: {error.error_string}",
            code="output.format",
        ) from error
    return encoded.getbuffer()


def _floats(recording: Recording, name: str, start: int, count: int) -> NDArray[np.float32]:
    samples = np.ascontiguousarray(recording.read(start, count, "float32").T)
    if recording.info.subtype in FLOATING and not np.isfinite(samples).all():
        first = start + int(np.argmin(np.isfinite(samples).all(axis=0)))
        at = seconds(first, recording.info.sample_rate)
        raise InputError(f"{name}: holds NaN or infinite samples, the first at {at}", code="audio.nan")
    return samples


def _span(recording: Recording, name: str, start: int, num_samples: int | None) -> int:
    if start < 0 or (num_samples is not None and num_samples < 0):
        raise ValueError(f"a span of {num_samples} samples from sample {start}: neither can be negative")
    left = max(0, recording.info.num_samples - start)
    count = left if num_samples is None else min(num_samples, left)
    if count > MAX_SECONDS * recording.info.sample_rate:
        hours = count / recording.info.sample_rate / 3600
        raise InputError(
            f"{name}: {hours:.1f} h asked for at once; at most {MAX_SECONDS // 3600} h are decoded",
            hint="cut it, or read it in spans",
            code="audio.format",
        )
    return count


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[Recording]:
    with _binary(source) as file:
        name = _name(source)
        head = file.read(MAGIC_BYTES)
        if not head:
            raise InputError(f"{name}: is empty (0 bytes)", code="audio.empty")
        with contextlib.closing(_recording(file, name, container(head))) as recording:
            yield recording


def _recording(file: BinaryIO, name: str, kind: str) -> Recording:
    if kind:
        return ContainerRecording(file, name, kind)
    recording = SoundFileRecording(file, name)
    if recording.info.num_samples < UNKNOWN_LENGTH:
        return recording
    recording.close()
    return ContainerRecording(file, name, "flac without a length")


@contextlib.contextmanager
def _binary(source: Source) -> Iterator[BinaryIO]:
    if not isinstance(source, str | Path):
        if not source.seekable():
            source = io.BytesIO(source.read())
        source.seek(0)
        yield source
        return
    path = Path(source)
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", code="audio.missing") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, not a recording", code="audio.format") from None
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror}", code="audio.missing") from error
    with file:
        yield file


def _name(source: Source) -> str:
    if isinstance(source, str | Path):
        return str(source)
    name = getattr(source, "name", None)
    return name.strip("<>") if isinstance(name, str) else "audio"
