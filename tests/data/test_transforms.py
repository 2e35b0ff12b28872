"""The transforms of the device loader: what is drawn, and that padding stays exactly 0."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from speechkit import draws
from speechkit.audio.fbank import FbankConfig
from speechkit.audio.mfcc import MfccConfig
from speechkit.data.batch import Batch
from speechkit.data.span_mask import SpanSettings
from speechkit.data.transforms import (
    ChannelMask,
    Features,
    Noise,
    Normalize,
    Reverberation,
    SpanMask,
    SpecAugment,
    Speed,
    Tilt,
    Transform,
    Volume,
)
from speechkit.data.utterance import Utterance

LENGTHS = st.lists(st.integers(0, 900), min_size=1, max_size=5).map(lambda lengths: [*lengths, 0, 1])
NOISES = tuple(
    Utterance(id=f"n{i}", path=f"n{i}.wav", num_samples=n, sample_rate=r)
    for i, (n, r) in enumerate([(700, 16000), (40, 8000), (1, 16000)])
)


def batch_of(lengths: list[int], *, epoch: int = 0) -> Batch:
    return Batch(
        ids=[f"u{i}" for i in range(len(lengths))],
        number=0,
        epoch=epoch,
        lengths=torch.tensor(lengths),
        sample_rate=16000,
        weights=torch.ones(len(lengths)),
    )


def random_rows(name: str, lengths: list[int]) -> Tensor:
    waves = torch.randn(len(lengths), max(lengths), generator=draws.generator(0, 0, "test", name))
    return waves * (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])


def apply(transform: Transform, lengths: list[int], *, seed: int = 5) -> tuple[Batch, Batch]:
    """The batch as drawn, and what the transform makes of random waves and of the recordings that it asked for."""
    drawn = transform.draw(batch_of(lengths), seed)
    read = {}
    for name, cuts in transform.recordings(drawn).items():
        if cuts:
            sizes = [c.num_samples for c in cuts]
            read |= {f"{name}.waves": random_rows(name, sizes), f"{name}.lengths": torch.tensor(sizes)}
    waves = random_rows("waves", lengths)
    batch = replace(drawn, waves=waves, lengths=torch.tensor(lengths), draws={**drawn.draws, **read})
    return drawn, transform(batch)


@pytest.mark.parametrize(
    "transform",
    [
        Speed(),
        Speed(factors=(0.8, 1.2)),
        Tilt(),
        Volume(),
        Normalize(eps=1e-5),
        Noise(utterances=NOISES, prob=0.7),
        Reverberation(utterances=NOISES),
    ],
    ids=lambda t: type(t).__name__,
)
@given(lengths=LENGTHS)
def test_lengths_are_those_foretold_and_padding_is_exactly_zero(transform: Transform, lengths: list[int]) -> None:
    drawn, batch = apply(transform, lengths)
    assert batch.waves is not None
    assert batch.lengths is not None
    assert drawn.lengths is not None
    assert batch.lengths.tolist() == drawn.lengths.tolist()
    assert batch.waves.shape == (len(lengths), max(drawn.lengths.tolist()))
    assert batch.waves.isfinite().all()
    assert not batch.waves[torch.arange(batch.waves.shape[1]) >= batch.lengths[:, None]].any()


@pytest.mark.parametrize(
    "transform",
    [
        Speed(),
        Tilt(),
        Volume(),
        Noise(utterances=NOISES),
        Reverberation(utterances=NOISES, prob=0.5),
        SpanMask(num_frames=lambda n: n // 20),
        ChannelMask(width=40),
    ],
    ids=lambda t: type(t).__name__,
)
def test_draws_belong_to_the_utterance_and_change_with_the_epoch_and_the_seed(transform: Transform) -> None:
    lengths = [800] * 12
    together = transform.draw(batch_of(lengths), 5).draws
    last = replace(batch_of([800]), ids=["u11"], number=9)
    alone = transform.draw(last, 5).draws
    assert together
    for name, values in alone.items():
        assert torch.equal(values[0], together[name][11]), name
    for other in (transform.draw(batch_of(lengths, epoch=1), 5).draws, transform.draw(batch_of(lengths), 6).draws):
        assert any((together[name] != other[name]).any() for name in together)


def test_every_speed_factor_is_drawn_and_lengths_are_rounded_up() -> None:
    drawn, batch = apply(Speed(factors=(0.9, 1.0, 1.1)), [5000] * 30)
    assert drawn.lengths is not None
    expected = {0.9: 5556, 1.0: 5000, 1.1: 4546}
    for factor, length in zip(drawn.draws["speed"].tolist(), drawn.lengths.tolist(), strict=True):
        assert length == expected[factor]
    assert set(drawn.draws["speed"].tolist()) == set(expected)
    assert batch.waves is not None
    same = drawn.draws["speed"] == 1.0
    assert torch.equal(batch.waves[same, :5000], random_rows("waves", [5000] * 30)[same])


def test_volume_is_drawn_in_decibels() -> None:
    drawn, batch = apply(Volume(low_db=-20, high_db=0), [100] * 400)
    decibels = 20 * drawn.draws["volume"].log10()
    assert decibels.min() >= -20
    assert decibels.max() < 0
    assert decibels.mean() == pytest.approx(-10, abs=1)
    assert batch.waves is not None
    torch.testing.assert_close(batch.waves, random_rows("waves", [100] * 400) * drawn.draws["volume"][:, None])


def test_tilt_is_drawn_as_much_up_as_down() -> None:
    drawn, _ = apply(Tilt(most_db=4), [100] * 400)
    slopes = drawn.draws["tilt"]
    assert slopes.min() >= -4
    assert slopes.max() < 4
    assert slopes.mean() == pytest.approx(0, abs=0.5)


def test_a_share_of_the_utterances_is_put_into_rooms_of_at_most_a_second() -> None:
    lengths = [600] * 60
    rooms = (*NOISES[:1], Utterance(id="hall", path="hall.wav", num_samples=48000, sample_rate=16000))
    transform = Reverberation(utterances=rooms, prob=0.5, most_seconds=0.02)
    drawn, batch = apply(transform, lengths)
    picks = drawn.draws["rir.pick"]
    assert set(picks.tolist()) == {-1, 0, 1}
    assert {c.num_samples for c in transform.recordings(drawn)["rir"]} == {320}
    dry = random_rows("waves", lengths)
    assert batch.waves is not None
    changed = (batch.waves != dry).any(dim=1)
    assert torch.equal(changed, picks >= 0)
    torch.testing.assert_close(batch.waves.square().mean(1), dry.square().mean(1), rtol=1e-4, atol=0)


def test_noise_has_the_drawn_ratio_where_both_are() -> None:
    lengths = [300] * 40
    drawn, batch = apply(Noise(utterances=NOISES[:1], prob=0.5, low_db=3, high_db=9), lengths)
    clean = random_rows("waves", lengths)
    assert batch.waves is not None
    added = batch.waves - clean
    chosen = drawn.draws["noise.pick"] >= 0
    assert 8 < int(chosen.sum()) < 32
    assert not added[~chosen].any()
    ratio = 10 * (clean.square().mean(1) / added.square().mean(1)).log10()
    torch.testing.assert_close(ratio[chosen], drawn.draws["noise.snr"][chosen], atol=1e-2, rtol=0)


def test_short_noise_lies_inside_the_row_and_long_noise_is_cut_from_its_offset() -> None:
    noise = Noise(utterances=NOISES, prob=1.0)
    drawn, batch = apply(noise, [300] * 40)
    picks, offsets = drawn.draws["noise.pick"], drawn.draws["noise.offset"]
    assert offsets[picks == 0].max() <= 0
    assert offsets[picks == 0].min() >= -400
    assert len(set(offsets[picks == 0].tolist())) > 5
    assert offsets[picks == 1].min() >= 0
    assert offsets[picks == 1].max() <= 300 - 80
    for cut, pick, offset in zip(noise.recordings(drawn)["noise"], picks.tolist(), offsets.tolist(), strict=True):
        assert cut.num_samples == min(300, [700, 80, 1][pick])
        assert cut.utterance.start == (-offset if pick == 0 else 0)
    assert batch.waves is not None
    for row, pick, offset in zip(batch.waves - random_rows("waves", [300] * 40), picks, offsets, strict=True):
        if pick == 1:
            assert not torch.cat([row[:offset], row[offset + 80 :]]).any()


def test_silent_noise_adds_nothing() -> None:
    drawn = Noise(utterances=NOISES, prob=1.0).draw(batch_of([300, 200]), 5)
    waves = random_rows("waves", [300, 200])
    silence = {"noise.waves": torch.zeros(2, 300), "noise.lengths": torch.tensor([300, 200])}
    batch = replace(drawn, waves=waves, draws={**drawn.draws, **silence})
    assert torch.equal(Noise(utterances=NOISES, prob=1.0)(batch).waves, waves)  # type: ignore[arg-type]


def test_noise_needs_noises() -> None:
    with pytest.raises(ValueError, match="no noises"):
        Noise(utterances=())


def test_masks_cover_frames_of_the_model_and_channels() -> None:
    drawn = SpanMask(num_frames=lambda n: n // 20, spans=SpanSettings(length=4)).draw(batch_of([800, 400, 0]), 5)
    mask = drawn.draws["mask.time"]
    assert mask.shape == (3, 40)
    assert mask.dtype == torch.bool
    assert mask.any(1).tolist() == [True, True, False]
    assert not mask[1, 20:].any()
    channels = ChannelMask(width=768).draw(batch_of([800] * 50), 5).draws["mask.feat"]
    assert channels.shape == (50, 768)
    # 6 spans of 64 at random starts: 1 − (1 − 64 / 704)^6, a little less at the edges
    assert channels.double().mean() == pytest.approx(0.41, abs=0.03)


def test_transformers_sampler_shares_one_rounding_for_the_micro_batch() -> None:
    spans = SpanSettings(prob=0.25, length=10, min_masks=0)
    kinds = set()
    for number in range(12):
        batch = replace(batch_of([60 * 20] * 4), number=number)
        drawn = SpanMask(num_frames=lambda n: n // 20, spans=spans, sampler="transformers").draw(batch, 5)
        (single,) = set((drawn.draws["mask.time"].sum(1) == 10).tolist())  # 1.5 spans: one or two, for all rows alike
        kinds.add(single)
    assert kinds == {False, True}


@pytest.mark.parametrize(
    "config", [FbankConfig(), MfccConfig(), FbankConfig(snip_edges=False)], ids=["fbank", "mfcc", "edges kept"]
)
def test_features_have_the_foretold_number_of_frames(config: FbankConfig | MfccConfig) -> None:
    drawn, batch = apply(Features(config=config), [4000, 399, 400, 1, 0])
    assert batch.features is not None
    assert batch.feature_lengths is not None
    assert drawn.feature_lengths is not None
    assert batch.feature_lengths.tolist() == drawn.feature_lengths.tolist()
    assert batch.features.shape[1] == max(drawn.feature_lengths.tolist())
    beyond = torch.arange(batch.features.shape[1]) >= batch.feature_lengths[:, None]
    assert not batch.features[beyond].any()
    assert np.isfinite(batch.features.numpy()).all()


def features_of(frames: list[int]) -> Batch:
    lengths = torch.tensor(frames)
    features = torch.randn(len(frames), max(frames), 80, generator=draws.generator(0, 0, "test", "features"))
    features *= (torch.arange(max(frames)) < lengths[:, None])[..., None]
    return replace(batch_of([n * 160 for n in frames]), features=features, feature_lengths=lengths)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=5), st.sampled_from([0, 20, 80]))
def test_spec_augment_stays_inside_rows_and_leaves_padding_zero(frames: list[int], warp: int) -> None:
    transform = SpecAugment(width=80, prob=1.0, warp=warp)
    batch = transform.draw(features_of([*frames, 1, 6]), 5)
    for count, spans, (center, to) in zip(
        batch.feature_lengths.tolist(),  # type: ignore[union-attr]
        batch.draws["specaug.spans"],
        batch.draws["specaug.warp"].tolist(),
        strict=True,
    ):
        widths = spans[:, 1] - spans[:, 0]
        assert spans.max() <= count
        assert widths.min() >= 0
        assert widths.sum() <= 0.15 * count
        assert (center, to) == (0, 0) or (0 < center < count and 0 < to < count)
    assert batch.draws["specaug.bands"].min() >= 0
    assert batch.draws["specaug.bands"].max() <= 80
    augmented = transform(batch).features
    assert augmented is not None
    assert augmented.isfinite().all()
    beyond = torch.arange(augmented.shape[1]) >= batch.feature_lengths[:, None]  # type: ignore[index]
    assert not augmented[beyond].any()


def test_spec_augment_changes_the_asked_share_of_utterances() -> None:
    transform = SpecAugment(width=80, prob=0.9)
    batch = transform.draw(features_of([300] * 200), 5)
    before, after = batch.features, transform(batch).features
    assert before is not None
    assert after is not None
    assert (before != after).any(2).any(1).double().mean() == pytest.approx(0.9, abs=0.05)
    widths = batch.draws["specaug.bands"][..., 1] - batch.draws["specaug.bands"][..., 0]
    assert widths.max() == 26
    center, to = batch.draws["specaug.warp"][batch.draws["specaug.warp"][:, 0] > 0].T
    assert center.min() >= 81
    assert center.max() < 220
    assert (center - to).abs().max() <= 80


def test_spec_augment_without_warping_only_masks() -> None:
    transform = SpecAugment(width=80, prob=1.0, warp=0)
    batch = transform.draw(features_of([300]), 5)
    before, after = batch.features, transform(batch).features
    assert before is not None
    assert after is not None
    changed = before != after
    torch.testing.assert_close(after[changed], before.mean().expand(int(changed.sum())))
