"""Mean, variance, level and loudness of padded rows."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given

from speechkit.audio.loudness import loudness, set_loudness
from speechkit.audio.normalize import cmvn, normalize, rms, set_peak, set_rms
from tests.audio.rows import LENGTHS, batch, check_rows, noise

FORMS = {
    "layer norm": lambda w, n: normalize(w, n, 1e-5),
    "transformers": lambda w, n: normalize(w, n, 1e-7),
    "rms": set_rms,
    "peak": set_peak,
    "loudness": lambda w, n: set_loudness(w, n, 4000),
}


@pytest.mark.parametrize("name", FORMS)
@given(lengths=LENGTHS)
def test_a_row_is_what_it_is_alone_and_padding_is_zero(name: str, lengths: list[int]) -> None:
    check_rows(lambda w, n: (FORMS[name](w, n), n), lengths, atol=1e-5)


@pytest.mark.parametrize("name", FORMS)
def test_what_lies_in_the_padding_changes_nothing(name: str) -> None:
    waves, lengths = batch([2500, 1900, 0])
    expected = FORMS[name](waves, lengths)
    for row, length in enumerate(lengths.tolist()):
        waves[row, length:] = torch.nan
    torch.testing.assert_close(FORMS[name](waves, lengths), expected)


@pytest.mark.parametrize("name", FORMS)
def test_silence_stays_silence(name: str) -> None:
    assert torch.count_nonzero(FORMS[name](torch.zeros(2, 3000), torch.tensor([3000, 10]))) == 0


def test_a_quiet_row_shows_which_eps_was_added() -> None:
    wave = noise(4000)[None] * 0.1
    variance = wave.var(unbiased=False)
    for eps in (1e-5, 1e-7):
        found = normalize(wave, torch.tensor([4000]), eps)
        torch.testing.assert_close(found.var(unbiased=False), variance / (variance + eps))


def test_level_and_peak_are_what_was_asked_for() -> None:
    waves, lengths = batch([3000, 1000])
    levels = rms(set_rms(waves, lengths, dbfs=-30.0), lengths).log10() * 20
    torch.testing.assert_close(levels, torch.full((2,), -30.0), atol=1e-3, rtol=0)  # eps lowers them by 1e-4 dB
    peaks = set_peak(waves, lengths, dbfs=-6.0).abs().amax(dim=1)
    torch.testing.assert_close(peaks.log10() * 20, torch.full((2,), -6.0))


def test_a_peak_above_full_scale_turns_the_whole_row_down() -> None:
    wave = noise(3000)[None] * 1e-3
    wave[0, 7] = 1.0
    found = set_rms(wave, torch.tensor([3000]), dbfs=-10.0)
    torch.testing.assert_close(found.abs().max(), torch.tensor(1.0))
    torch.testing.assert_close(found[0, 100] / found[0, 7], wave[0, 100] / wave[0, 7])


def test_frames_are_normalized_over_a_rows_own_frames() -> None:
    features = noise(60).reshape(2, 6, 5)
    found = cmvn(features, torch.tensor([6, 4]))
    torch.testing.assert_close(found[1, :4].mean(dim=0), torch.zeros(5), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[1, :4].std(dim=0), torch.ones(5))
    assert torch.count_nonzero(found[1, 4:]) == 0


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_a_tone_has_the_loudness_of_the_recommendation(rate: int) -> None:
    time = torch.arange(3 * rate) / rate
    tone = torch.sin(2 * math.pi * 997 * time)
    found = loudness(torch.stack([tone, tone / 10]), torch.tensor([3 * rate] * 2), rate)
    # ITU-R BS.1770: a tone of 997 Hz at 0 dBFS in one channel reads −3.01 LKFS
    torch.testing.assert_close(found, torch.tensor([-3.01, -23.01]), atol=0.05, rtol=0)


def test_pauses_do_not_count_as_quiet() -> None:
    rate = 16_000
    tone = torch.sin(2 * math.pi * 997 * torch.arange(8 * rate) / rate) * 0.1
    paused = tone.clone()
    paused[4 * rate :] = 0
    found = loudness(torch.stack([tone, paused]), torch.tensor([8 * rate] * 2), rate)
    assert found[1].item() == pytest.approx(found[0].item(), abs=0.3)


def test_loudness_is_brought_to_what_was_asked_for() -> None:
    rate = 16_000
    waves = torch.stack([noise(rate, 0), noise(rate, 1) * 3])
    lengths = torch.tensor([rate, rate // 2])
    torch.testing.assert_close(
        loudness(set_loudness(waves, lengths, rate, lufs=-20.0), lengths, rate), torch.full((2,), -20.0)
    )
