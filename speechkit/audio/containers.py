"""Recordings in containers that libsndfile does not read (m4a, mp4, webm, …), through PyAV (extra `ffmpeg`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from speechkit.audio.recording import AudioInfo, check_limits, seconds
from speechkit.errors import InputError

_MAGIC = {  # (offset, bytes there): kind
    (4, b"ftyp"): "mp4",
    (4, b"moov"): "mov",
    (4, b"mdat"): "mov",
    (4, b"wide"): "mov",
    (0, b"\x1a\x45\xdf\xa3"): "webm",
    (0, b"\xff\xf1"): "aac",
    (0, b"\xff\xf9"): "aac",
    (0, b"\x30\x26\xb2\x75"): "wma",
    (0, b"#!AMR"): "amr",
    (8, b"AVI "): "avi",
    (0, b"wvpk"): "wavpack",
    (0, b"FLV\x01"): "flv",
}
MAGIC_BYTES = 16
_RUN_UP_SECONDS = 1  # decoded before a span: AAC frames overlap, and its band replication looks further back


def container(head: bytes) -> str:
    """The kind of container that begins with these bytes; "" for none of ours."""
    return next((kind for (at, magic), kind in _MAGIC.items() if head[at : at + len(magic)] == magic), "")


class ContainerRecording:
    """An open file that ffmpeg's libraries decode.

    Args:
        file: at any position; it stays open.
        name: for messages.
        kind: of the container, for messages.

    Raises:
        InputError: PyAV is not installed, or there is no audio in the file, or it cannot be decoded.
    """

    _decoded: NDArray[np.float32]  # (T, C), decoded and not yet read
    _at: int  # the place of its first sample

    def __init__(self, file: BinaryIO, name: str, kind: str) -> None:
        self.name = name
        self._file = file
        self._av = _pyav(name, kind)
        self._open()
        codec = self._stream.codec_context
        self.info = AudioInfo(
            format=kind, subtype=codec.name, sample_rate=codec.sample_rate, channels=codec.channels, num_samples=1
        )
        check_limits(name, self.info)
        # only where time is counted in samples are positions, and the length stated, exact
        self._timed = self._stream.time_base * codec.sample_rate == 1
        length = self._stream.duration if self._timed else None
        self.info = replace(self.info, num_samples=self._count() if length is None else length)
        check_limits(name, self.info)

    def read(self, start: int, count: int, dtype: str) -> NDArray[Any]:
        """At most `count` samples from `start` on, float32 `(T, C)`.

        Raises:
            InputError: decoding breaks off.
        """
        assert dtype == "float32", "no container's coding is exact in int16"
        count = max(0, min(count, self.info.num_samples - start))
        run_up = _RUN_UP_SECONDS * self.info.sample_rate
        if start < self._at or (self._timed and start - self._at > 2 * run_up):
            self._go_to(start - run_up)
        pieces = [np.zeros((0, self.info.channels), dtype=np.float32)]
        while count:
            passed = min(start - self._at, len(self._decoded))
            self._at, self._decoded = self._at + passed, self._decoded[passed:]
            if len(self._decoded) == 0:
                if not self._decode():
                    self._fell_short(start)
                    break
                continue
            pieces.append(self._decoded[:count])
            start, count = start + len(pieces[-1]), count - len(pieces[-1])
        return np.concatenate(pieces)

    def close(self) -> None:
        """Free what the decoder holds."""
        self._container.close()

    def _open(self) -> None:
        self._file.seek(0)
        try:
            self._container = self._av.open(self._file, mode="r")
        except self._av.FFmpegError as error:
            raise InputError(f"{self.name}: cannot decode: {error.strerror}", code="audio.decode") from error
        if not self._container.streams.audio:
            raise InputError(f"{self.name}: holds no audio", code="audio.format")
        self._stream = self._container.streams.audio[0]
        self._frames = self._container.decode(self._stream)
        self._planar = self._av.AudioResampler(format="fltp")
        self._at, self._decoded = 0, np.zeros((0, 1), dtype=np.float32)

    def _decode(self) -> bool:
        """Decode the next frame; False at the end."""
        try:
            frame = next(self._frames, None)
        except self._av.FFmpegError as error:
            reached = seconds(self._at, self.info.sample_rate)
            raise InputError(
                f"{self.name}: decoding breaks off at {reached}: {error.strerror}", code="audio.decode"
            ) from error
        if frame is None:
            return False
        if self._at < 0:  # after a jump the frame says where it is
            self._at = frame.pts - (self._stream.start_time or 0)
        self._decoded = np.concatenate([f.to_ndarray() for f in self._planar.resample(frame)], axis=1).T
        return True

    def _go_to(self, start: int) -> None:
        self._container.close()
        self._open()
        if self._timed and start > 0:
            self._container.seek(start + (self._stream.start_time or 0), stream=self._stream)
            self._at = -1
            self._decode()

    def _count(self) -> int:
        count = 0
        while self._decode():
            count += len(self._decoded)
        self._go_to(0)
        return count

    def _fell_short(self, reached: int) -> None:
        promised_s, reached_s = (seconds(n, self.info.sample_rate) for n in (self.info.num_samples, reached))
        warning = f"the header promises {promised_s}, the file holds {reached_s}"
        self.info = replace(self.info, num_samples=reached, warning=warning)


def _pyav(name: str, kind: str) -> ModuleType:
    try:
        import av
    except ImportError:
        hint = f"convert first: ffmpeg -i {name} {Path(name).stem}.wav   (or: pip install 'speechkit-torch[ffmpeg]')"
        raise InputError(
            f"{name}: cannot decode: format not recognized ({kind})", hint=hint, code="audio.decode"
        ) from None
    return av
