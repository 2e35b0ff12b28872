"""Recordings as a network wants them: one channel, its sampling rate, normalized; long ones piece by piece.

T samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from speechkit.audio import files
from speechkit.audio.normalize import normalize
from speechkit.audio.resample import resample_array
from speechkit.data.kaldi.rxfilename import open_audio
from speechkit.errors import InputError
from speechkit.pipelines.sources import Source

Samples = NDArray[np.float32]

PIECE_SECONDS = 60  # what is held of a long recording at a time


class Recording:
    """One source, read as often as needed and never held whole when it is long.

    Args:
        source: what to read.
        sample_rate: that the network wants, in Hz.
        eps: of the waveform's normalization; None leaves the waveform as it is.
    """

    def __init__(self, source: Source, *, sample_rate: int, eps: float | None) -> None:
        self.source = source
        self.sample_rate = sample_rate
        self.eps = eps
        self.opened = open_audio(source.path) if isinstance(source.path, str) else source.path
        info = files.info(self.opened)
        self.file_rate = info.sample_rate
        self.num_channels = info.channels
        self.warning = info.warning
        self._check_channel()
        self.duration_s = 0.0  # of what was read, once `pieces` has come to its end

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done to the samples before the network sees them."""
        notes = []
        if self.num_channels > 1:
            channel = self.source.channel
            taken = "averaged" if channel == "mix" else f"channel {channel} taken"
            notes.append(f"{self.num_channels} channels, {taken}")
        if self.file_rate != self.sample_rate:
            notes.append(f"resampled from {self.file_rate} to {self.sample_rate} Hz")
        return tuple(notes)

    def pieces(self) -> Iterator[Samples]:
        """The recording for the network, float32 `(T,)` at a time.

        A normalized recording of more than one piece is read twice: mean and variance are those of all its samples.

        Raises:
            InputError: it cannot be read; a file that breaks off in the middle raises after the good part.
        """
        if self.eps is None:
            yield from self._resampled()
            return
        pieces = self._resampled()
        first, second = next(pieces, None), next(pieces, None)
        if first is None:
            return
        if second is None:
            yield normalize(torch.from_numpy(first)[None], torch.tensor([len(first)]), self.eps)[0].numpy()
            return
        mean, variance = _statistics(chain((first, second), pieces))
        scale = 1 / math.sqrt(variance + self.eps)
        for piece in self._resampled():
            yield ((piece - mean) * scale).astype(np.float32)

    def _check_channel(self) -> None:
        number = {"mix": 0, "left": 0, "right": 1}.get(str(self.source.channel), self.source.channel)
        if not isinstance(number, int) or number >= self.num_channels:
            raise InputError(
                f"{self.source.name}: no channel {self.source.channel}, there are {self.num_channels}",
                hint="channels count from 0; --channel mix averages all there are",
                code="audio.channel",
            )

    def _resampled(self) -> Iterator[Samples]:
        return resampled(self._mono(), self.file_rate, self.sample_rate)

    def _mono(self) -> Iterator[Samples]:
        num_samples = 0
        for audio in self._read():
            self.warning = self.warning or audio.warning
            mono = files.mono(audio.samples, self.source.channel)
            num_samples += len(mono)
            yield mono
        self.duration_s = num_samples / self.file_rate

    def _read(self) -> Iterator[files.Audio]:
        size = PIECE_SECONDS * self.file_rate
        start, left = self.source.start, self.source.num_samples
        if start == 0 and left is None:
            yield from files.blocks(self.opened, size)
            return
        while left is None or left > 0:
            audio = files.read(self.opened, start=start, num_samples=size if left is None else min(size, left))
            count = audio.samples.shape[1]
            if count:
                yield audio
            if count < size:
                return
            start, left = start + count, None if left is None else left - count


def resampled(pieces: Iterable[Samples], old: int, new: int) -> Iterator[Samples]:
    """Resample a recording that comes piece by piece, to pieces of `PIECE_SECONDS` and a rest.

    Pieces are cut at whole seconds, where both rates have a sample, and resampled with a second more on each side, so
    that the numbers are those of the whole.

    Args:
        pieces: float32 `(T,)` at `old` Hz, of any lengths.
        old: Hz.
        new: Hz.
    """
    held, lead = np.zeros(0, dtype=np.float32), 0
    for piece in pieces:
        held = np.concatenate([held, piece])
        while len(held) > (lead + PIECE_SECONDS + 1) * old:
            inside = resample_array(held[: (lead + PIECE_SECONDS + 1) * old], old, new)
            yield inside[lead * new : (lead + PIECE_SECONDS) * new]
            held, lead = held[(lead + PIECE_SECONDS - 1) * old :], 1
    if len(held):
        yield resample_array(held, old, new)[lead * new :]


def _statistics(pieces: Iterable[Samples]) -> tuple[float, float]:
    """Mean and variance of all samples, in one pass (Chan et al. 1979)."""
    count, mean, squares = 0, 0.0, 0.0
    for piece in pieces:
        own = float(piece.mean(dtype=np.float64))
        difference, total = own - mean, count + len(piece)
        squares += float(np.square(piece - own, dtype=np.float64).sum()) + difference**2 * count * len(piece) / total
        mean += difference * len(piece) / total
        count = total
    return mean, squares / count
