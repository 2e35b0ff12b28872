"""Filter banks and MFCC: padded batches, torchaudio, edges."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from torch import Tensor

from speechkit.audio.fbank import PRESETS, FbankConfig, fbank, mel_bank, num_frames
from speechkit.audio.framing import blocks
from speechkit.audio.mfcc import MfccConfig, deltas, hubert_mfcc, mfcc, superb_fbank
from speechkit.compat import load_torchaudio
from tests.audio.rows import LENGTHS, batch, check_rows, noise

CONFIGS = {
    "defaults": FbankConfig(),
    "mirrored": FbankConfig(snip_edges=False),
    "icefall": PRESETS["icefall"],
    "beats": PRESETS["beats"],
    "energy": FbankConfig(use_energy=True, num_mel_bins=23, energy_floor=0.0),
    "plain": FbankConfig(preemphasis=0.0, remove_dc_offset=False, window="hanning", round_to_power_of_two=False),
    "8 kHz, long shift": FbankConfig(sample_rate=8000, num_mel_bins=40, frame_shift_ms=40.0, snip_edges=False),
}
STACKED = {
    "mfcc": lambda waves, lengths: mfcc(waves, lengths, MfccConfig()),
    "mfcc with energy": lambda waves, lengths: mfcc(waves, lengths, MfccConfig(use_energy=True, cepstral_lifter=0.0)),
    "hubert": hubert_mfcc,
    "hubert, 20 ms": lambda waves, lengths: hubert_mfcc(waves, lengths, frame_shift_ms=20.0),
    "superb": superb_fbank,
}


@pytest.mark.parametrize("name", CONFIGS)
@given(lengths=LENGTHS)
def test_a_row_is_what_it_is_alone_and_padding_is_zero(name: str, lengths: list[int]) -> None:
    check_rows(lambda w, n: fbank(w, n, CONFIGS[name]), lengths, atol=2e-4)


@pytest.mark.parametrize("name", STACKED)
@given(lengths=LENGTHS)
def test_a_row_with_its_deltas_is_what_it_is_alone_and_padding_is_zero(name: str, lengths: list[int]) -> None:
    check_rows(STACKED[name], lengths, atol=2e-3)


@pytest.mark.parametrize("padding", [float("nan"), 5.0])
@pytest.mark.parametrize("name", ["defaults", "mirrored"])
def test_what_lies_in_the_padding_changes_nothing(name: str, padding: float) -> None:
    waves, lengths = batch([1700, 900, 0])
    expected = fbank(waves, lengths, CONFIGS[name])[0]
    for row, length in enumerate(lengths.tolist()):
        waves[row, length:] = padding
    torch.testing.assert_close(fbank(waves, lengths, CONFIGS[name])[0], expected)


@pytest.mark.parametrize("window", ["povey", "hamming", "hanning", "rectangular", "blackman"])
@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100])
def test_other_rates_and_windows_equal_torchaudio(rate: int, window: str) -> None:
    kaldi = load_torchaudio().compliance.kaldi
    wave = noise(rate // 4)[None]
    config = FbankConfig(sample_rate=rate, window=window, num_mel_bins=30, snip_edges=rate < 20_000)
    expected = kaldi.fbank(
        wave, sample_frequency=rate, window_type=window, num_mel_bins=30, snip_edges=config.snip_edges
    )
    torch.testing.assert_close(fbank(wave, torch.tensor([wave.shape[1]]), config)[0][0], expected, atol=1e-4, rtol=1e-4)


def test_mfcc_equals_torchaudio() -> None:
    wave = noise(5000)[None]
    expected = load_torchaudio().compliance.kaldi.mfcc(wave, use_energy=False)
    torch.testing.assert_close(mfcc(wave, torch.tensor([5000]), MfccConfig())[0][0], expected, atol=1e-4, rtol=1e-4)


def test_deltas_equal_torchaudio() -> None:
    features = noise(120).reshape(1, 20, 6)
    expected = load_torchaudio().functional.compute_deltas(features.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(deltas(features, torch.tensor([20])), expected)


@pytest.mark.parametrize(
    ("samples", "snip", "mirrored"),
    [(0, 0, 0), (79, 0, 0), (80, 0, 1), (399, 0, 2), (400, 1, 3), (480, 1, 3), (8000, 48, 50), (8080, 49, 51)],
)
def test_frames_are_counted_as_kaldi_counts_them(samples: int, snip: int, mirrored: int) -> None:
    lengths = torch.tensor([samples])
    assert num_frames(lengths, FbankConfig()).tolist() == [snip]
    assert num_frames(lengths, FbankConfig(snip_edges=False)).tolist() == [mirrored]


def test_a_recording_shorter_than_a_window_is_mirrored_again_and_again() -> None:
    wave = noise(100)
    left, tiled = 120, torch.cat([wave, wave.flip(0)]).repeat(6)
    start = 600 - left  # tiled repeats every 200 samples, so sample 0 of the wave lies at 600
    config = FbankConfig(snip_edges=True)
    expected = fbank(tiled[start : start + 400][None], torch.tensor([400]), config)[0]
    found = fbank(wave[None], torch.tensor([100]), FbankConfig(snip_edges=False))[0]
    torch.testing.assert_close(found, expected)


def test_scaling_to_16_bits_adds_a_constant_to_the_logarithm() -> None:
    wave, length = batch([4000])
    small, large = (fbank(wave, length, FbankConfig(int16_scale=s))[0] for s in (False, True))
    torch.testing.assert_close(large - small, torch.full_like(small, 20.794415), atol=1e-3, rtol=0)


def test_silence_is_the_floor_and_has_energy_zero() -> None:
    found = fbank(torch.zeros(1, 800), torch.tensor([800]), FbankConfig(use_energy=True))[0]
    assert found[..., 0].abs().max() == 0
    torch.testing.assert_close(found[..., 1:], torch.full((1, 3, 80), -15.942385))


def test_no_batch_at_all_gives_no_frames() -> None:
    found, counts = fbank(torch.zeros(0, 800), torch.zeros(0, dtype=torch.long), FbankConfig())
    assert found.shape == (0, 3, 80)
    assert counts.shape == (0,)


def test_one_frame_is_left_unnormalized_by_superb() -> None:
    wave = noise(400)[None]
    mel = fbank(wave, torch.tensor([400]), FbankConfig())[0]
    found = superb_fbank(wave, torch.tensor([400]))[0]
    torch.testing.assert_close(found, torch.cat([mel, torch.zeros(1, 1, 160)], dim=2))


def test_blocks_cover_every_frame_once() -> None:
    for rows, frames in [(1, 1), (3, 200), (2, 1500), (700, 2), (5, 0), (0, 5)]:
        seen = torch.zeros(rows, frames, dtype=torch.long)
        for row, frame in blocks(rows, frames, torch.device("cpu")):
            seen[row, frame] += 1
        assert (seen == 1).all()


@pytest.mark.parametrize("options", [{"low_freq": 8000.0}, {"high_freq": 9000.0}, {"frame_length_ms": 25.0625}])
def test_impossible_filters_are_refused(options: dict[str, float]) -> None:
    config = FbankConfig(round_to_power_of_two="frame_length_ms" not in options, **options)
    with pytest.raises(ValueError, match="edges must lie between"):
        mel_bank(config, torch.device("cpu"))


def test_half_precision_around_it_changes_nothing() -> None:
    waves, lengths = batch([3000])
    expected = hubert_mfcc(waves, lengths)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found: Tensor = hubert_mfcc(waves, lengths)[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
