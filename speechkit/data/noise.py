"""Noise made from draws: what training adds to clean recordings where a corpus has no recorded noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechkit import draws
from speechkit.audio.files import save
from speechkit.data.kaldi.tables import DataDir
from speechkit.files import whole


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseSettings:
    """What noise to make.

    Attributes:
        count: recordings, from white noise (the power density is flat) to brown (it falls as 1 / frequency²).
        seconds: of each.
        rate: Hz.
        seed: of the draws.
    """

    count: int = 9
    seconds: float = 20.0
    rate: int = 16000
    seed: int = 0


def write_noise(path: Path, audio: Path, settings: NoiseSettings) -> None:
    """Write a data dir of noise, 1 to 2 dB below what would clip.

    Args:
        path: the data dir.
        audio: the folder for the recordings, somewhere below the folder that holds data/.
        settings: of the noise.
    """
    root, tables = path.parent.parent, DataDir()
    with whole(audio) as folder:
        folder.mkdir()
        for number, power in enumerate(np.linspace(0, 2, settings.count)):
            id = f"noise-{number:02d}"
            wave = sloped(gaussian(settings.seed, "noise", id, round(settings.seconds * settings.rate)), power)
            save(folder / f"{id}.wav", np.rint(wave * 28000 / np.abs(wave).max()).astype(np.int16), settings.rate)
            tables.wav_scp[id] = str(audio.relative_to(root) / f"{id}.wav")
            tables.utt2spk[id] = id
    tables.write(path)


def gaussian(seed: int, purpose: str, id: str, count: int) -> NDArray[np.float64]:
    """White noise: `count` standard normal numbers, drawn by their address."""
    return draws.normal(draws.words(seed, draws.EVALUATION, purpose, [id], 2 * count)[0])


def sloped(noise: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """White noise whose power density then falls as 1 / frequency ** `power`."""
    size = 1 << (len(noise) - 1).bit_length()
    spectrum = np.fft.rfft(noise, size)
    return np.fft.irfft(spectrum * np.maximum(np.arange(len(spectrum)), 1) ** (-power / 2), size)[: len(noise)]
