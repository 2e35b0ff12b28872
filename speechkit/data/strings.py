"""Random strings of short clips: more to learn from where a corpus has single words only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from speechkit import draws
from speechkit.audio.files import read_int16, save
from speechkit.data.kaldi.tables import DataDir
from speechkit.errors import InputError
from speechkit.files import whole

Samples = NDArray[np.int16]

_RMS = 1640.0  # the common loudness, -26 dB of full scale


class Clip(NamedTuple):
    """A short recording; its text may be any number of words."""

    id: str
    speaker: str
    text: str
    path: Path


class Spoken(NamedTuple):
    """An utterance with its samples."""

    id: str
    speaker: str
    text: str
    samples: Samples


@dataclass(frozen=True, kw_only=True, slots=True)
class StringSettings:
    """What strings to make.

    Attributes:
        hours: of strings, all speakers together.
        several: share of the hours in which the clips of a string are of any speakers; else they are of one.
        fewest: clips of a string.
        most: clips of a string.
        gap_seconds: the longest silence before, between and after the clips.
        loudness_db: each clip is louder or softer than the common loudness by up to so much, and never clipped.
        seed: of the draws.
    """

    hours: float = 2.0
    several: float = 0.0
    fewest: int = 1
    most: int = 4
    gap_seconds: float = 0.2
    loudness_db: float = 9.0
    seed: int = 0


def write_clips(path: Path, clips: Sequence[Clip]) -> None:
    """Write a data dir in which every clip is an utterance."""
    DataDir(
        wav_scp={clip.id: str(clip.path) for clip in clips},
        text={clip.id: clip.text for clip in clips},
        utt2spk={clip.id: clip.speaker for clip in clips},
    ).write(path)


def write_strings(path: Path, audio: Path, clips: Sequence[Clip], settings: StringSettings) -> None:
    """Write a data dir of random strings and of the clips they are made of.

    Args:
        path: the data dir.
        audio: the folder for the recordings of strings, somewhere below the folder that holds data/.
        clips: of any number of speakers, all at one sampling rate.
        settings: of the strings.
    """
    samples, rate = _read(clips)
    strings = join(_strings(clips, samples, rate, settings), audio, path.parent.parent, rate)
    DataDir(
        wav_scp=strings.wav_scp | {clip.id: str(clip.path) for clip in clips},
        segments=strings.segments | {clip.id: f"{clip.id} 0 {len(samples[clip.id]) / rate:.7f}" for clip in clips},
        text=strings.text | {clip.id: clip.text for clip in clips},
        utt2spk=strings.utt2spk | {clip.id: clip.speaker for clip in clips},
    ).write(path)


def join(utterances: Iterable[Spoken], audio: Path, root: Path, rate: int) -> DataDir:
    """Write what each speaker says, one utterance after the other, to one file; thousands of small files are slow.

    Args:
        utterances: those of a speaker together.
        audio: the folder for the files, below `root`.
        root: where relative paths in a data dir count from.
        rate: Hz.

    Returns:
        The tables, `segments` among them.
    """
    tables = DataDir()
    with whole(audio) as folder:
        folder.mkdir()
        for speaker, group in groupby(utterances, key=lambda utterance: utterance.speaker):
            recording, start = f"{speaker}-{audio.name}", 0
            pieces = []
            for utterance in group:
                end = start + len(utterance.samples)
                tables.segments[utterance.id] = f"{recording} {start / rate:.7f} {end / rate:.7f}"
                tables.text[utterance.id] = utterance.text
                tables.utt2spk[utterance.id] = speaker
                pieces.append(utterance.samples)
                start = end
            save(folder / f"{speaker}.wav", np.concatenate(pieces), rate)
            tables.wav_scp[recording] = str(audio.relative_to(root) / f"{speaker}.wav")
    return tables


def _strings(
    clips: Sequence[Clip], samples: dict[str, Samples], rate: int, settings: StringSettings
) -> Iterator[Spoken]:
    speakers = sorted({clip.speaker for clip in clips})
    seconds = settings.hours * 3600
    for speaker in speakers:
        own = [clip for clip in clips if clip.speaker == speaker]
        yield from _of(speaker, own, samples, rate, settings, seconds * (1 - settings.several) / len(speakers))
    yield from _of("several", clips, samples, rate, settings, seconds * settings.several)


def _of(
    speaker: str,
    clips: Sequence[Clip],
    samples: dict[str, Samples],
    rate: int,
    settings: StringSettings,
    seconds: float,
) -> Iterator[Spoken]:
    leveled = [level(samples[clip.id]) for clip in clips]
    length = number = 0
    while length < seconds * rate:
        id = f"{speaker}-string-{number:05d}"
        wave, chosen = string(leveled, settings, rate, id)
        yield Spoken(id, speaker, " ".join(clips[i].text for i in chosen), wave)
        length, number = length + len(wave), number + 1


def level(samples: Samples) -> Samples:
    """Scale to a common loudness, less where that would clip."""
    return _scaled(samples, _RMS / max(1.0, float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))))


def _scaled(samples: Samples, gain: float) -> Samples:
    wave = samples.astype(np.float64)
    peak = max(1.0, float(np.abs(wave).max()))
    return np.rint(wave * min(gain, 32767 / peak)).astype(np.int16)


def string(clips: Sequence[Samples], settings: StringSettings, rate: int, id: str) -> tuple[Samples, list[int]]:
    """One string: silence, a clip, silence, another … silence; and which clips were drawn (purpose `strings`)."""
    most = settings.most
    words = draws.words(settings.seed, draws.EVALUATION, "strings", [id], 2 + 3 * most)[0]
    count = settings.fewest + int(draws.randint(words[0], most - settings.fewest + 1))
    chosen = draws.randint(words[1 : 1 + count], len(clips)).tolist()
    gaps = draws.randint(words[1 + most : 2 + most + count], round(settings.gap_seconds * rate) + 1).tolist()
    louder_db = settings.loudness_db * (2 * draws.uniform(words[2 + 2 * most : 2 + 2 * most + count]) - 1)
    pieces = [np.zeros(gaps[0], dtype=np.int16)]
    for i, gap, gain in zip(chosen, gaps[1:], 10 ** (louder_db / 20), strict=True):
        pieces += [_scaled(clips[i], gain), np.zeros(gap, dtype=np.int16)]
    return np.concatenate(pieces), chosen


def _read(clips: Sequence[Clip]) -> tuple[dict[str, Samples], int]:
    samples: dict[str, Samples] = {}
    rates: dict[int, Path] = {}
    for clip in clips:
        samples[clip.id], rate = read_int16(clip.path)
        rates.setdefault(rate, clip.path)
    if len(rates) > 1:
        (one, first), (other, second), *_ = rates.items()
        raise InputError(f"{second}: {other} Hz, but {first} has {one} Hz", hint="resample one of them", code="E201")
    return samples, next(iter(rates))
