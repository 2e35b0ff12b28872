"""Noise made from draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from speechkit.data.kaldi.utterances import utterances
from speechkit.data.kaldi.validate import ValidateOptions, validate
from speechkit.data.noise import NoiseSettings, sloped, write_noise


def test_noises_are_a_valid_set_of_what_was_asked_for(tmp_path: Path) -> None:
    path, settings = tmp_path / "data" / "noise", NoiseSettings(count=3, seconds=2.0, rate=8000)
    write_noise(path, tmp_path / "dump" / "noise", settings)
    found = utterances(path, root=tmp_path)
    assert [(u.id, u.num_samples, u.sample_rate) for u in found] == [(f"noise-0{n}", 16000, 8000) for n in range(3)]
    assert not validate(path, ValidateOptions(text=False, check_audio="header", root=tmp_path))
    for u in found:
        assert np.abs(soundfile.read(tmp_path / u.path, dtype="int16")[0]).max() == 28000


def test_power_falls_with_frequency_as_asked() -> None:
    white = np.random.default_rng(0).standard_normal(1 << 16)
    for power in (0, 1, 2):
        density = np.abs(np.fft.rfft(sloped(white, power))) ** 2
        octaves = [density[2**n : 2 ** (n + 1)].mean() for n in range(8, 15)]
        np.testing.assert_allclose(np.diff(np.log2(octaves)), -power, atol=0.2)
