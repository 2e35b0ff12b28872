"""The samplers of mask spans, on addressed draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechkit import draws
from speechkit.data.span_mask import SpanSettings, Stream, span_mask, span_mask_transformers, streams

LENGTHS = st.lists(st.integers(0, 120), min_size=1, max_size=6)
KINDS = [
    SpanSettings(),
    SpanSettings(kind="uniform", other=2),
    SpanSettings(kind="normal", other=3),
    SpanSettings(kind="poisson"),
    SpanSettings(no_overlap=True),
    SpanSettings(prob=0.05, min_masks=0),
    SpanSettings(trim=True),
]


def draw(lengths: list[int], settings: SpanSettings, *, seed: int = 3) -> np.ndarray:
    ids = [f"u{i}" for i in range(len(lengths))]
    return span_mask(lengths, max(lengths), settings, streams(seed, 0, "mask.time", ids, max(lengths), settings))


@pytest.mark.parametrize("settings", KINDS, ids=str)
@given(lengths=LENGTHS)
def test_padding_is_never_masked_and_draws_suffice(settings: SpanSettings, lengths: list[int]) -> None:
    mask = draw(lengths, settings)
    assert mask.shape == (len(lengths), max(lengths))
    assert not (mask & (np.arange(max(lengths)) >= np.array(lengths)[:, None])).any()


@given(LENGTHS)
def test_a_row_does_not_depend_on_the_others(lengths: list[int]) -> None:
    together = draw(lengths, SpanSettings())
    alone = draw(lengths[:1], SpanSettings())
    assert (together[0, : lengths[0]] == alone[0]).all()


@given(st.lists(st.integers(15, 120), min_size=1, max_size=6))
def test_trimmed_rows_have_equally_many_masked_frames(lengths: list[int]) -> None:
    counts = draw(lengths, SpanSettings(trim=True)).sum(1)
    free = draw(lengths, SpanSettings()).sum(1)
    assert (counts == free.min()).all()


def test_published_settings_mask_the_published_share_of_frames() -> None:
    assert draw([499] * 60, SpanSettings()).mean() == pytest.approx(0.56, abs=0.01)


def test_spans_that_may_not_overlap_stay_apart() -> None:
    for row in draw([200] * 10, SpanSettings(prob=0.5, no_overlap=True)):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        assert (edges[1::2] - edges[0::2] == 10).all()


@given(st.lists(st.integers(1, 120), min_size=1, max_size=6))
def test_transformers_sampler_masks_full_spans(lengths: list[int]) -> None:
    settings = SpanSettings(prob=0.3)
    ids = [f"u{i}" for i in range(len(lengths))]
    sources = streams(3, 0, "mask.time", ids, max(lengths), settings)
    mask = span_mask_transformers(lengths, max(lengths), settings, sources, 0.5)
    for row, length in zip(mask, lengths, strict=True):
        if length >= 10:
            assert row.sum() >= 10
            assert not row[length:].any()
        elif max(lengths) >= 10:
            assert np.flatnonzero(row).tolist() == [max(lengths) - 1]
        else:
            assert not row.any()


def test_poisson_numbers_have_their_mean_and_variance() -> None:
    numbers = Stream(draws.words(0, 0, "test", ["a"], 20000)[0]).poisson(10.0, 20000)
    assert numbers.mean() == pytest.approx(10, abs=0.1)
    assert numbers.var() == pytest.approx(10, abs=0.4)


def test_weights_decide_how_often_an_index_comes() -> None:
    stream = Stream(draws.words(0, 0, "test", ["a"], 4000)[0])
    picks = [stream.weighted(np.array([0.25, 0.0, 0.75])) for _ in range(4000)]
    assert np.bincount(picks, minlength=3) / 4000 == pytest.approx([0.25, 0.0, 0.75], abs=0.02)
