"""Mel spectrograms of synthesizers and codecs: padded batches, librosa, edges."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given

from speechkit.audio.mel import PRESETS, codec_config, librosa_config, log_mel, num_frames
from speechkit.compat import load_torchaudio
from tests.audio.rows import LENGTHS, batch, check_rows, noise

CONFIGS = {
    **PRESETS,
    "codec 64": codec_config(64, log=True),
    "codec 512": codec_config(512, log=False),
    "codec 1024": codec_config(1024, log=True),
    "decibels": librosa_config(n_fft=512, win_samples=400, hop_samples=160, num_mel_bins=40, sample_rate=16_000),
}


@pytest.mark.parametrize("name", CONFIGS)
@given(lengths=LENGTHS)
def test_a_row_is_what_it_is_alone_and_padding_is_zero(name: str, lengths: list[int]) -> None:
    atol = 5e-3 if name == "decibels" else 5e-4
    check_rows(lambda w, n: log_mel(w, n, CONFIGS[name]), lengths, atol=atol)


@pytest.mark.parametrize(
    ("name", "samples", "frames"),
    [
        ("speecht5", 0, 0),
        ("speecht5", 1, 1),
        ("speecht5", 255, 1),
        ("speecht5", 256, 2),
        ("hifigan", 255, 0),
        ("hifigan", 256, 1),
        ("codec 64", 1, 1),
        ("codec 64", 17, 2),
    ],
)
def test_frames_are_counted_as_published(name: str, samples: int, frames: int) -> None:
    assert num_frames(torch.tensor([samples]), CONFIGS[name]).tolist() == [frames]


def test_what_lies_in_the_padding_changes_nothing() -> None:
    waves, lengths = batch([1700, 900])
    expected = log_mel(waves, lengths, PRESETS["speecht5"])[0]
    waves[1, 900:] = torch.nan
    torch.testing.assert_close(log_mel(waves, lengths, PRESETS["speecht5"])[0], expected)


@pytest.mark.parametrize("samples", [100, 512, 513, 2000])
def test_short_recordings_equal_transformers(samples: int) -> None:
    load_torchaudio()
    transformers = pytest.importorskip("transformers")
    extractor = transformers.SpeechT5FeatureExtractor()
    wave = noise(samples)
    expected = torch.tensor(extractor(audio_target=wave.numpy(), sampling_rate=16_000)["input_values"][0])
    torch.testing.assert_close(
        log_mel(wave[None], torch.tensor([samples]), PRESETS["speecht5"])[0][0], expected, atol=1e-4, rtol=1e-4
    )


def test_decibels_are_clipped_below_the_loudest_of_the_row_alone() -> None:
    waves, lengths = batch([3000, 3000])
    waves[0, 1500:] = 0
    waves[1] *= 1000
    found = log_mel(waves, lengths, CONFIGS["decibels"])[0]
    ranges = [(row.max() - row.min()).item() for row in found]
    assert ranges[0] == pytest.approx(80, abs=1e-3)
    assert ranges[1] < 79


def test_the_loss_of_a_codec_can_be_differentiated() -> None:
    waves, lengths = batch([2000, 700])
    waves.requires_grad_()
    for name in ("codec 64", "vocos", "hifigan"):
        log_mel(waves, lengths, CONFIGS[name])[0].sum().backward()
    assert waves.grad is not None
    assert torch.isfinite(waves.grad).all()
    assert waves.grad[1, :700].abs().sum() > 0
    assert waves.grad[1, 700:].abs().sum() == 0
