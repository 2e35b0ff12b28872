"""Utterance mixing: what is drawn, and what the draws do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from speechkit import draws
from speechkit.data.batch import Batch
from speechkit.data.mixing import Overlap, UtteranceMixing, mix
from speechkit.data.utterance import Utterance

NOISES = tuple(
    Utterance(id=f"n{i}", path=f"n{i}.wav", num_samples=n, sample_rate=r)
    for i, (n, r) in enumerate([(300, 16000), (40, 8000), (1, 16000)])
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


def noise(name: str, *shape: int) -> Tensor:
    generator = draws.generator(0, 0, "test", name)
    return torch.randn(shape, generator=generator)


def with_waves(batch: Batch, transform: UtteranceMixing) -> Batch:
    """What the loader does: random waves, zero padding, and the noises that were asked for."""
    assert batch.lengths is not None
    waves = noise("waves", len(batch.ids), max(int(batch.lengths.max()), 1))
    waves *= torch.arange(waves.shape[1]) < batch.lengths[:, None]
    cuts = transform.recordings(batch)["mix"]
    read = {}
    if cuts:
        lengths = torch.tensor([c.num_samples for c in cuts])
        noises = noise("noises", len(cuts), int(lengths.max())) * (torch.arange(int(lengths.max())) < lengths[:, None])
        read = {"mix.waves": noises, "mix.lengths": lengths}
    return replace(batch, waves=waves, draws={**batch.draws, **read})


@given(st.lists(st.integers(0, 400), min_size=1, max_size=6), st.sampled_from([0.0, 0.5, 1.0]))
def test_pieces_lie_inside_rows_and_others_and_cover_at_most_half(lengths: list[int], noise_prob: float) -> None:
    transform = UtteranceMixing(prob=1.0, noises=NOISES, noise_prob=noise_prob)
    drawn = transform.draw(batch_of(lengths), 5)
    for row, length in enumerate(lengths):
        size, start, other = (int(drawn.draws[f"mix.{k}"][row]) for k in ("length", "start", "other"))
        pick = int(drawn.draws["mix.pick"][row])
        other_length = [300, 80, 1][pick] if drawn.draws["mix.noise"][row] else lengths[pick]
        assert 0 <= size <= length // 2
        assert 0 <= start <= length - size
        assert 0 <= other <= other_length - size


@given(st.lists(st.integers(0, 400), min_size=1, max_size=6), st.sampled_from([0.0, 0.5]))
def test_padding_stays_zero_and_all_is_finite(lengths: list[int], noise_prob: float) -> None:
    transform = UtteranceMixing(prob=1.0, noises=NOISES, noise_prob=noise_prob, eps=1e-5)
    drawn = transform.draw(batch_of(lengths), 5)
    mixed = transform(with_waves(drawn, transform))
    assert mixed.waves is not None
    assert mixed.waves.isfinite().all()
    beyond = torch.arange(mixed.waves.shape[1]) >= torch.tensor(lengths)[:, None]
    assert not mixed.waves[beyond].any()


def test_shares_of_mixed_rows_and_of_noise_are_as_asked() -> None:
    drawn = UtteranceMixing(prob=0.2, noises=NOISES, noise_prob=0.1).draw(batch_of([1000] * 5000), 5).draws
    mixed = drawn["mix.pick"] >= 0
    assert mixed.double().mean() == pytest.approx(0.2, abs=0.015)
    assert drawn["mix.noise"][mixed].double().mean() == pytest.approx(0.1, abs=0.03)
    speech = ~drawn["mix.noise"]
    assert drawn["mix.energy"][speech].min() >= -5
    assert 4.9 < drawn["mix.energy"][speech].max() < 5
    assert 15 < drawn["mix.energy"][~speech].max() < 20
    assert drawn["mix.length"][speech].double().mean() == pytest.approx(250, rel=0.05)


def test_draws_of_an_utterance_depend_on_the_epoch_and_not_on_the_order_of_the_noises() -> None:
    batch = batch_of([1000] * 50)
    first = UtteranceMixing(prob=0.5, noises=NOISES, noise_prob=0.5).draw(batch, 5).draws
    other = UtteranceMixing(prob=0.5, noises=NOISES[::-1], noise_prob=0.5).draw(batch, 5).draws
    assert all((first[name] == other[name]).all() for name in first)
    later = UtteranceMixing(prob=0.5, noises=NOISES, noise_prob=0.5).draw(batch_of([1000] * 50, epoch=1), 5).draws
    assert (first["mix.start"] != later["mix.start"]).any()


def overlap(**fields: float) -> Overlap:
    defaults = {"row": 0, "start": 10, "num_samples": 30, "other": 1, "other_start": 0, "noise": False, "ratio_db": 0.0}
    return Overlap(**{**defaults, **fields})  # type: ignore[arg-type]


def test_energies_over_whole_rows_have_the_ratio() -> None:
    waves = noise("waves", 2, 100) * torch.tensor([[1.0], [20.0]])
    mixed, covered = mix(waves, torch.tensor([100, 100]), [overlap(ratio_db=3.0)])
    added = mixed[0] - waves[0]
    scale = added[10:40] / waves[1, :30]
    ratio = waves[0].square().mean() / (scale[0] * waves[1]).square().mean()
    assert 10 * torch.log10(ratio) == pytest.approx(3.0, abs=1e-4)
    assert not torch.cat([added[:10], added[40:]]).any()
    assert covered.tolist() == pytest.approx([0.3, 0.0])
    assert (mixed[1] == waves[1]).all()


def test_energies_are_those_of_the_true_samples() -> None:
    waves = noise("waves", 2, 100)
    waves[1, 50:] = 0
    padded, _ = mix(waves, torch.tensor([100, 50]), [overlap()])
    scale = (waves[0].square().mean() / waves[1, :50].square().mean()).sqrt()
    torch.testing.assert_close(padded[0, 10:40], waves[0, 10:40] + scale * waves[1, :30])


@pytest.mark.parametrize("silent", [0, 1], ids=["row", "other"])
def test_what_is_silent_adds_nothing_and_is_not_counted(silent: int) -> None:
    waves = noise("waves", 2, 100)
    waves[silent] = 0
    mixed, covered = mix(waves, torch.tensor([100, 100]), [overlap()])
    assert (mixed == waves).all()
    assert covered.tolist() == [0, 0]


def test_a_row_can_be_mixed_with_a_piece_of_itself() -> None:
    waves = torch.ones(1, 100)
    mixed, _ = mix(waves, torch.tensor([100]), [overlap(other=0, other_start=5)])
    assert mixed[0].tolist() == [1.0] * 10 + [2.0] * 30 + [1.0] * 60


def test_mixed_rows_alone_are_normalized_again() -> None:
    waves = noise("waves", 2, 100) * 3 + 1
    mixed, _ = mix(waves, torch.tensor([100, 100]), [overlap()], eps=1e-5)
    assert mixed[0].mean() == pytest.approx(0, abs=1e-6)
    assert mixed[0].var(correction=0) == pytest.approx(1, abs=1e-4)
    assert (mixed[1] == waves[1]).all()


def test_noise_without_noises_is_refused() -> None:
    with pytest.raises(ValueError, match="no noises"):
        UtteranceMixing(noise_prob=0.1)


def test_what_was_overlapped_is_measured() -> None:
    transform = UtteranceMixing(prob=0.5)
    mixed = transform(with_waves(transform.draw(batch_of([400] * 20), 5), transform))
    chosen = mixed.draws["mix.pick"] >= 0
    expected = torch.where(chosen, mixed.draws["mix.length"] / 400, 0)
    torch.testing.assert_close(mixed.draws["mix.overlap"], expected.float())
    assert np.isclose(chosen.double().mean(), 0.5, atol=0.3)
