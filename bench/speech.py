"""Recordings that are like speech in what matters to speed: a voice in syllables, with pauses and noise, any length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechkit import draws
from speechkit.audio.files import save
from speechkit.data.utterance import Utterance

RATE = 16000
_SYLLABLE = 3200  # samples
_HARMONICS = 25


def voice(name: str, seconds: float) -> NDArray[np.float32]:
    """A voice of its own for every name, float32 `(T,)`."""
    num_samples = round(seconds * RATE)
    syllables = -(-num_samples // _SYLLABLE)
    pitch, *of_syllables = draws.uniform(draws.words(0, draws.EVALUATION, "sample", [name], 1 + 3 * syllables)[0])
    first, second, loudness = np.array(of_syllables).reshape(3, syllables).repeat(_SYLLABLE, axis=1)[:, :num_samples]
    time = np.arange(num_samples) / RATE
    frequency = (90 + 130 * pitch) * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time))
    phase = 2 * np.pi * np.cumsum(frequency) / RATE
    samples = np.zeros(num_samples)
    for k in range(1, _HARMONICS):
        low, high = (k * frequency - 300 - 500 * first) / 150, (k * frequency - 900 - 1500 * second) / 250
        samples += (np.exp(-(low**2)) + 0.5 * np.exp(-(high**2)) + 0.02) * np.sin(k * phase)
    samples *= (loudness > 0.2) * np.sin(np.pi * np.arange(num_samples) / _SYLLABLE) ** 2
    noise = draws.normal(draws.words(0, draws.EVALUATION, "noise", [name], 2 * num_samples))[0]
    return (0.15 * samples + 0.003 * noise).clip(-1, 1).astype(np.float32)


def record(folder: Path, seconds: Sequence[float]) -> list[Utterance]:
    """Write one FLAC file for each length."""
    folder.mkdir(parents=True)
    utterances = []
    for number, length in enumerate(seconds):
        samples = voice(f"u{number:04d}", length)
        path = folder / f"u{number:04d}.flac"
        save(path, samples, RATE)
        utterances.append(Utterance(id=path.stem, path=str(path), num_samples=len(samples), sample_rate=RATE))
    return utterances


def lengths(count: int, low: float, high: float) -> list[float]:
    """So many different lengths between two, in seconds, short ones as often as long ones."""
    return (
        low + (high - low) * draws.uniform(draws.words(0, draws.EVALUATION, "sample", ["lengths"], count)[0])
    ).tolist()
