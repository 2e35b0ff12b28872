"""Labels that are cut with the audio."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechkit.data.labels import Labels, cut_labels, pad_labels
from speechkit.data.utterance import Utterance
from speechkit.errors import InputError


def utterance(id: str, num_samples: int) -> Utterance:
    return Utterance(id=id, path=f"{id}.wav", num_samples=num_samples, sample_rate=16000)


@given(st.lists(st.integers(16000, 64000), min_size=1, max_size=5), st.sampled_from([50, 100]), st.data())
def test_labels_of_crops_are_equally_many_and_start_within_half_a_label(
    sizes: list[int], rate: int, data: st.DataObject
) -> None:
    size = min(sizes)
    starts = [data.draw(st.integers(0, s - size)) for s in sizes]
    rows = [np.arange(s * rate // 16000) for s in sizes]
    cut = cut_labels(rows, starts, [size] * len(sizes), rate, 16000, cropped=True)
    assert len({len(row) for row in cut}) == 1
    assert size * rate / 16000 - len(cut[0]) <= 2
    for row, start in zip(cut, starts, strict=True):
        assert abs(row[0] - start * rate / 16000) <= 0.5


def test_padded_rows_keep_their_own_number_of_labels() -> None:
    rows = [np.arange(50), np.arange(70)]
    cut = cut_labels(rows, [0, 0], [16000, 22400], 50, 16000, cropped=False)
    assert [len(row) for row in cut] == [50, 70]


def test_tokens_are_not_cut() -> None:
    labels = Labels(values={"a": [5, 6, 7]})
    (row,) = labels.rows(["a"], [8000], [160], 16000, cropped=False)
    assert row.tolist() == [5, 6, 7]


def test_labels_are_padded_with_zeros() -> None:
    padded, lengths = pad_labels([np.array([3, 4]), np.array([], dtype=np.int64), np.array([5])])
    assert padded.tolist() == [[3, 4], [0, 0], [5, 0]]
    assert lengths.tolist() == [2, 0, 1]


def test_an_utterance_without_labels_is_named() -> None:
    with pytest.raises(InputError, match="b: no units"):
        Labels(values={"a": [1]}, rate=50).check("units", [utterance("a", 320), utterance("b", 320)])


@pytest.mark.parametrize(("num_labels", "warned"), [(50, False), (45, False), (44, True), (56, True)])
def test_labels_and_audio_of_different_length_are_warned_about(
    num_labels: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Labels(values={"a": [0] * num_labels}, rate=50).check("units", [utterance("a", 16000)])
    assert bool(caplog.records) == warned
