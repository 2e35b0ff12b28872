"""Recordings that libsndfile decodes: exact int16, exact spans, and no silence about damage.

What goes wrong where was measured with libsndfile 1.2.2.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from speechkit.audio.damaged import finish_wav, mpg123_silenced, other_warning, wav_sizes
from speechkit.audio.recording import AudioInfo, check_limits, seconds
from speechkit.errors import InputError

# libsndfile's int16 is right for these alone: it makes zeros of floats, cuts off the low bits of 24 and 32 bits, and
# lets Vorbis and Opus samples beyond full scale change their sign
EXACT_INT16 = frozenset({"PCM_S8", "PCM_U8", "PCM_16", "ULAW", "ALAW", "MPEG_LAYER_III"})
FLOATING = frozenset({"FLOAT", "DOUBLE"})
UNKNOWN_LENGTH = 1 << 62  # a FLAC stream written to a pipe says so

# samples decoded before a span of an MP3: a frame takes up to 511 bytes from the frames before it, which at the lowest
# bit rates are 9 of 1152 samples or 12 of 576; what is decoded without them is silence
_MP3_EARLY = 16 * 1152
_MAX_SAMPLES_PER_BYTE = 1000  # digital silence in FLAC needs a byte for some hundred samples
_NOT_RECOGNIZED = 1
_PIECE = 1024


class SoundFileRecording:
    """An open file that libsndfile decodes.

    Args:
        file: at any position; it stays open.
        name: for messages.

    Raises:
        InputError: it is not audio that libsndfile knows (`audio.format`), it is damaged, empty or out of limits.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(4)
        self._noisy = head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)
        sizes = wav_sizes(file)
        warning = sizes.warning if sizes else other_warning(file)
        self._source = finish_wav(file, sizes) if sizes and sizes.unfinished else file
        self._file = self._open()  # from here on the decoder alone moves in the file
        if warning and self._file.format == "OGG":
            warning += f", after {seconds(self._file.frames, self._file.samplerate)}"
        self.info = AudioInfo(
            format=self._file.format,
            subtype=self._file.subtype,
            sample_rate=self._file.samplerate,
            channels=self._file.channels,
            num_samples=self._file.frames,
            warning=warning,
        )
        check_limits(name, self.info)
        if sizes is None and self._size * _MAX_SAMPLES_PER_BYTE < self.info.num_samples < UNKNOWN_LENGTH:
            promised = seconds(self.info.num_samples, self.info.sample_rate)
            raise InputError(
                f"{name}: the header promises {promised}, the file has {self._size} bytes", code="audio.decode"
            )

    def read(self, start: int, count: int, dtype: str) -> NDArray[Any]:
        """At most `count` samples from `start` on, `(T, C)` in `float32` or, of an exact subtype, `int16`.

        Raises:
            InputError: decoding breaks off.
        """
        count = min(count, self.info.num_samples - start)
        if count <= 0:
            return np.zeros((0, self.info.channels), dtype=dtype)
        early = min(start, _MP3_EARLY) if self.info.format == "MP3" else 0
        try:
            with self._quietly():
                self._file.seek(start - early)
                samples = self._file.read(early + count, dtype=dtype, always_2d=True)
        except soundfile.LibsndfileError as error:
            raise self._broken() from error
        if len(samples) < early + count:
            self._fell_short(start - early + len(samples))
        return samples[early:]

    def close(self) -> None:
        """Free what the decoder holds."""
        self._file.close()

    def _open(self) -> soundfile.SoundFile:
        # by descriptor, not by path: libsndfile takes some endings for headerless audio
        source = self._source
        try:
            source.seek(0)
            with self._quietly():
                descriptor = source.fileno() if isinstance(source, io.FileIO) else source
                return soundfile.SoundFile(descriptor, closefd=False)
        except soundfile.LibsndfileError as error:
            if error.code == _NOT_RECOGNIZED:
                files = [self.name, f"{Path(self.name).stem}.wav"]
                how = f": ffmpeg -i {shlex.join(files)}" if os.path.lexists(self.name) else ""  # standard input
                hint = f"if it is audio, convert it first{how}"
                raise InputError(
                    f"{self.name}: not audio: format not recognized", hint=hint, code="audio.format"
                ) from error
            reason = "no MPEG audio found" if self._noisy else error.error_string.rstrip(".")
            raise InputError(f"{self.name}: cannot decode: {reason}", code="audio.decode") from error

    def _quietly(self) -> contextlib.AbstractContextManager[None]:
        return mpg123_silenced() if self._noisy else contextlib.nullcontext()

    def _broken(self) -> InputError:
        self._file.close()
        self._file = self._open()
        reached = 0
        with contextlib.suppress(soundfile.LibsndfileError), self._quietly():
            while piece := len(self._file.read(_PIECE, dtype="int16", always_2d=True)):
                reached += piece
        return self._breaks_off(reached)

    def _breaks_off(self, reached: int) -> InputError:
        reached_s, promised_s = (seconds(n, self.info.sample_rate) for n in (reached, self.info.num_samples))
        return InputError(f"{self.name}: decoding breaks off at {reached_s} of {promised_s}", code="audio.decode")

    def _fell_short(self, reached: int) -> None:
        if self.info.format == "FLAC":
            raise self._breaks_off(reached)
        promised_s, reached_s = (seconds(n, self.info.sample_rate) for n in (self.info.num_samples, reached))
        warning = f"the header promises {promised_s}, the file holds {reached_s}"
        self.info = replace(self.info, num_samples=reached, warning=warning)
