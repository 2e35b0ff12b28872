"""Rate conversion: padded batches, the formula, torchaudio, awkward ratios."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechkit.audio import resample as resampling
from speechkit.audio.resample import resample, resample_array, resample_soxr
from speechkit.compat import load_torchaudio
from tests.audio.rows import LENGTHS, batch, check_rows, noise

PAIRS = [(48_000, 16_000), (8_000, 16_000), (14_400, 16_000), (44_100, 16_000), (16_001, 16_000), (16_000, 16_000)]


@pytest.mark.parametrize("kind", ["hann", "kaiser64"])
@pytest.mark.parametrize(("old", "new"), PAIRS)
@given(lengths=LENGTHS)
def test_a_row_is_what_it_is_alone_and_padding_is_zero(old: int, new: int, kind: str, lengths: list[int]) -> None:
    check_rows(lambda w, n: resample(w, n, old, new, kind=kind), lengths, atol=1e-6)


@given(samples=st.integers(0, 10**12), old=st.integers(4000, 384_000), new=st.integers(4000, 384_000))
def test_lengths_are_rounded_up_in_integers(samples: int, old: int, new: int) -> None:
    assert resampling.resampled_lengths(torch.tensor([samples]), old, new).item() == -(-samples * new // old)


def by_the_formula(x: np.ndarray, old: int, new: int) -> np.ndarray:
    a, b = old // math.gcd(old, new), new // math.gcd(old, new)
    c = 0.99 * min(a, b)
    t = (np.arange(len(x)) / a - np.arange(-(-len(x) * b // a))[:, None] / b) * c
    weights = np.where(abs(t) <= 6, np.sinc(t) * np.cos(np.pi * t / 12) ** 2, 0)
    return c / a * (weights * x).sum(axis=1)


@pytest.mark.parametrize(("old", "new"), [(16_001, 16_000), (15_999, 44_100), (383_999, 16_000), (44_100, 16_000)])
def test_awkward_ratios_follow_the_formula(old: int, new: int) -> None:
    x = noise(3000).numpy()
    np.testing.assert_allclose(resample_array(x, old, new), by_the_formula(x, old, new), atol=2e-6)


def test_both_ways_to_compute_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    waves, lengths = batch([3000, 1234])
    for kind in ("hann", "kaiser64"):
        expected = resample(waves, lengths, 22_050, 16_000, kind=kind)[0]
        with monkeypatch.context() as patch:
            patch.setattr(resampling, "_LARGEST_TABLE", 0)
            found = resample(waves, lengths, 22_050, 16_000, kind=kind)[0]
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_blocks_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    waves, lengths = batch([3000, 1234])
    for old, new in ((48_000, 16_000), (16_001, 16_000)):
        expected = resample(waves, lengths, old, new)[0]
        with monkeypatch.context() as patch:
            patch.setattr(resampling, "_AT_ONCE", 1000)
            torch.testing.assert_close(resample(waves, lengths, old, new)[0], expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize(("old", "new"), PAIRS[:4])
def test_it_equals_torchaudio(old: int, new: int) -> None:
    wave = noise(4001)[None]
    expected = load_torchaudio().functional.resample(wave, old, new)
    torch.testing.assert_close(resample(wave, torch.tensor([4001]), old, new)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("new", [8000, 24_000, 11_025])
def test_a_tone_below_the_new_limit_comes_through(new: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    expected = np.sin(2 * np.pi * 440 * np.arange(new) / new)
    np.testing.assert_allclose(resample_array(tone, 16_000, new)[200:-200], expected[200:-200], atol=1e-3)


def test_arrays_keep_their_dimensions() -> None:
    x = noise(1000).numpy()
    one = resample_array(x, 16_000, 8000)
    two = resample_array(np.stack([x, -x]), 16_000, 8000)
    assert one.shape == (500,)
    assert one.dtype == np.float32
    np.testing.assert_allclose(two, np.stack([one, -one]), atol=1e-7)


def test_soxr_takes_channels_first() -> None:
    x = np.stack([noise(700, n).numpy() for n in range(2)])
    found = resample_soxr(x, 16_000, 44_100)
    np.testing.assert_array_equal(found, [resample_soxr(row, 16_000, 44_100) for row in x])
    assert -(-700 * 441 // 160) - found.shape[1] in (0, 1)


def test_a_rate_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="rates of 0 and 16000 Hz"):
        resample_array(np.zeros(5), 0, 16_000)
