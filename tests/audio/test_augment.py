"""Speed, noise, rooms and SpecAugment on padded batches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from speechkit.audio.augment import (
    _fast_length,
    add_noise,
    change_speed,
    change_volume,
    reverberate,
    spec_augment,
    tilt,
    warp_time,
)
from tests.audio.rows import LENGTHS, batch, check_rows, noise

ROOM = torch.cat([torch.zeros(20), torch.tensor([-1.5, 1.0]), noise(300) * torch.linspace(1, 0, 300)])


def speed(waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return change_speed(waves, lengths, torch.full((len(waves),), 0.9), 16_000)


def noisy(waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    rows = len(waves)
    heard = noise(400).expand(rows, -1)
    return add_noise(
        waves, lengths, heard, torch.full((rows,), 390), torch.full((rows,), 30), torch.full((rows,), 5.0)
    ), lengths


def room(waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    rows = len(waves)
    return reverberate(waves, lengths, ROOM.expand(rows, -1), torch.full((rows,), len(ROOM))), lengths


def tilted(waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    return tilt(waves, lengths, torch.full((len(waves),), -5.0), 16_000), lengths


@pytest.mark.parametrize("change", [speed, noisy, room, tilted])
@given(lengths=LENGTHS)
def test_a_row_is_what_it_is_alone_and_padding_is_zero(change, lengths: list[int]) -> None:
    check_rows(change, lengths, atol=1e-5)


@given(
    lengths=st.lists(st.integers(0, 2000), min_size=1, max_size=5),
    factors=st.lists(st.sampled_from([0.9, 1.0, 1.1]), min_size=5, max_size=5),
)
def test_rows_of_different_speeds_are_what_they_are_alone(lengths: list[int], factors: list[float]) -> None:
    waves, counts = batch(lengths)
    chosen = torch.tensor(factors[: len(lengths)])
    found, changed = change_speed(waves, counts, chosen, 16_000)
    assert found.shape[1] == changed.max()
    for row, length in enumerate(lengths):
        alone, count = change_speed(noise(length, row)[None], torch.tensor([length]), chosen[row : row + 1], 16_000)
        assert int(count) == int(changed[row]) == -(-length * 16_000 // round(16_000 * factors[row]))
        torch.testing.assert_close(found[row, : int(count)], alone[0], atol=1e-6, rtol=0)
        assert torch.count_nonzero(found[row, int(count) :]) == 0


def test_the_lengths_given_are_left_as_they_were() -> None:
    waves, lengths = batch([2000, 100])
    change_speed(waves, lengths, torch.tensor([0.9, 1.1]), 16_000)
    assert lengths.tolist() == [2000, 100]


def test_volume_scales_each_row() -> None:
    waves, _ = batch([500, 200])
    found = change_volume(waves, torch.tensor([0.5, 2.0]))
    torch.testing.assert_close(found, torch.stack([waves[0] / 2, waves[1] * 2]))


@pytest.mark.parametrize("snr", [-5.0, 0.0, 20.0])
def test_noise_lies_as_far_below_the_signal_as_asked_for(snr: float) -> None:
    wave, length = batch([3000])
    found = add_noise(wave, length, noise(3000, 9)[None] * 7, length, torch.tensor([0]), torch.tensor([snr]))
    added = found - wave
    ratio = 10 * (wave.square().mean() / added.square().mean()).log10()
    assert ratio.item() == pytest.approx(snr, abs=1e-3)


def test_silent_noise_and_noise_without_samples_add_nothing() -> None:
    wave, length = batch([300])
    for other in (torch.zeros(1, 200), torch.zeros(1, 0)):
        count = torch.tensor([other.shape[1]])
        assert torch.equal(add_noise(wave, length, other, count, torch.tensor([0]), torch.tensor([0.0])), wave)


def test_noise_may_begin_before_the_row_and_end_behind_it() -> None:
    wave, length = torch.ones(1, 10), torch.tensor([8])
    steps = torch.arange(1.0, 31.0)[None]
    found = add_noise(wave, length, steps, torch.tensor([30]), torch.tensor([-5]), torch.tensor([0.0]))
    added = (found - 1)[0, :8]
    torch.testing.assert_close(added / added[0], torch.arange(6.0, 14.0) / 6)
    assert torch.count_nonzero(found[0, 8:]) == 0


def test_a_room_with_one_echo_repeats_the_row_in_time_with_it() -> None:
    wave, length = batch([500])
    echo = torch.zeros(1, 100)
    echo[0, 10], echo[0, 60] = 1.0, 0.5
    found = reverberate(wave, length, echo, torch.tensor([100]), keep_power=False)
    expected = wave.clone()
    expected[0, 50:] += 0.5 * wave[0, :-50]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    early = reverberate(wave, length, echo, torch.tensor([100]), early_samples=30, keep_power=False)
    torch.testing.assert_close(early, wave, atol=1e-6, rtol=0)


def test_a_room_keeps_the_power_of_each_row_and_leaves_silence() -> None:
    waves, lengths = batch([2000, 700])
    waves = torch.cat([waves, torch.zeros(1, 2000)])
    lengths = torch.cat([lengths, torch.tensor([2000])])
    found = reverberate(waves, lengths, ROOM.expand(3, -1), torch.full((3,), len(ROOM)))
    torch.testing.assert_close(found.square().sum(dim=1), waves.square().sum(dim=1))


def test_rooms_of_different_lengths_do_not_mix() -> None:
    waves, lengths = batch([600, 600])
    responses = torch.full((2, 50), torch.nan)
    responses[0] = torch.linspace(1, 0, 50)
    responses[1, :1] = 1.0
    found = reverberate(waves, lengths, responses, torch.tensor([50, 1]))
    torch.testing.assert_close(found[1], waves[1], atol=1e-6, rtol=0)


def test_ffts_have_lengths_of_small_factors() -> None:
    smooth = sorted(2**i * 3**j * 5**k for i in range(12) for j in range(8) for k in range(6))
    for size in (1, 2, 7, 11, 97, 361, 1001, 2047):
        assert _fast_length(size) == next(s for s in smooth if s >= size)


@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=4), data=st.data())
def test_masks_cover_exactly_what_they_say_with_the_mean_of_the_row(lengths: list[int], data: st.DataObject) -> None:
    rows, frames, width = len(lengths), max(lengths) + 3, 8
    spans = st.tuples(st.integers(0, frames), st.integers(0, 6)).map(lambda s: [s[0], s[0] + s[1]])
    drawn = st.lists(st.lists(spans, min_size=2, max_size=2), min_size=rows, max_size=rows)
    bins, times = (torch.tensor(data.draw(drawn)) for _ in range(2))
    features = noise(rows * frames * width).reshape(rows, frames, width)
    found = spec_augment(features, torch.tensor(lengths), freq_masks=bins, time_masks=times)
    for row, length in enumerate(lengths):
        expected = features[row].clone()
        mean = expected[:length].mean() if length else 0.0
        for start, end in bins[row].tolist():
            expected[:length, start:end] = mean
        for start, end in times[row].tolist():
            expected[start : min(end, length)] = mean
        torch.testing.assert_close(found[row], expected)


def test_warping_moves_a_frame_and_keeps_the_length_and_the_padding() -> None:
    steps = torch.arange(40.0)[:, None].expand(-1, 3)
    found = warp_time(steps, 30, 10, 20)
    assert found.shape == steps.shape
    assert found[20, 0].item() == pytest.approx(10, abs=0.6)
    assert torch.equal(found[30:], steps[30:])
    assert torch.equal(warp_time(steps, 30, 10, 10), steps)


def test_a_warp_of_a_batch_is_that_of_each_row() -> None:
    features = noise(2 * 20 * 4).reshape(2, 20, 4)
    none = torch.zeros(2, 0, 2, dtype=torch.long)
    lengths, warps = torch.tensor([20, 12]), torch.tensor([[8, 11], [5, 5]])
    found = spec_augment(features, lengths, freq_masks=none, time_masks=none, warps=warps)
    torch.testing.assert_close(found[0], warp_time(features[0], 20, 8, 11))
    torch.testing.assert_close(found[1], features[1])


def test_tilt_changes_octaves_by_the_slope_and_keeps_power_and_time() -> None:
    time = torch.arange(16_000) / 16_000
    tones = [torch.sin(2 * torch.pi * hertz * time) for hertz in (500, 1000, 2000, 4000)]
    waves, lengths = torch.stack([sum(tones)] * 3), torch.full((3,), 16_000)
    found = tilt(waves, lengths, torch.tensor([-6.0, 0.0, 3.0]), 16_000)
    heard = torch.stack([2 * (found * tone).mean(dim=1) for tone in tones], dim=1)  # in phase, so in time
    steps = 20 * (heard[:, 1:] / heard[:, :-1]).log10()
    torch.testing.assert_close(steps, torch.tensor([[-6.0], [0.0], [3.0]]).expand(3, 3), atol=0.3, rtol=0)
    torch.testing.assert_close(found.square().mean(dim=1), waves.square().mean(dim=1), rtol=1e-4, atol=0)
