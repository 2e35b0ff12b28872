from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechkit.pipelines.transcript import Segment, Transcript, Word, segments_of


def words_at(*times: tuple[float, float]) -> list[Word]:
    return [Word(text=f" w{i}", start=start, end=end) for i, (start, end) in enumerate(times)]


def test_a_pause_of_half_a_second_begins_a_segment() -> None:
    words = words_at((0.0, 1.0), (1.48, 2.0), (2.5, 3.0))
    assert [s.text for s in segments_of(words)] == ["w0 w1", "w2"]


def test_a_pause_is_half_a_second_whatever_its_times_sum_to() -> None:
    words = words_at((0.0, 0.0025), (0.5025, 1.0))
    assert words[1].start - words[0].end < 0.5  # by a rounding error
    assert len(segments_of(words)) == 2


def test_beyond_ten_seconds_the_longest_pause_cuts() -> None:
    words = words_at((0.0, 2.0), (2.2, 5.0), (5.4, 9.0), (9.1, 12.0))
    segments = segments_of(words)
    assert [(s.start, s.end) for s in segments] == [(0.0, 5.0), (5.4, 12.0)]
    assert segments_of(words[:3])[0].end == 9.0


def test_of_equal_pauses_the_one_nearest_the_middle_cuts() -> None:
    words = words_at(*((i * 1.0, i * 1.0 + 0.9) for i in range(16)))
    assert [len(s.words) for s in segments_of(words)] == [8, 8]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 200)), max_size=40))
def test_segments_hold_all_words_in_order_and_are_short_where_they_can_be(gaps: list[tuple[int, int]]) -> None:
    at, times = 0, []
    for gap, length in gaps:
        times.append(((at + gap) / 50, (at + gap + length) / 50))
        at += gap + length
    words = words_at(*times)
    segments = segments_of(words)
    assert [w for s in segments for w in s.words] == words
    assert all(s.end - s.start <= 10.0 or len(s.words) == 1 for s in segments)


def test_a_segment_knows_its_mean_log_probability_and_how_far_its_text_packs() -> None:
    words = [Word(text=" a", start=0, end=1, probability=0.5), Word(text=" b", start=1, end=2, probability=0.125)]
    (segment,) = segments_of(words)
    assert segment.avg_logprob == pytest.approx(-2 * 0.6931472)
    assert Segment(start=0, end=1, text="la " * 100).compression_ratio > 2.4 > segment.compression_ratio


def test_speakers_come_in_order_of_appearance() -> None:
    segments = tuple(Segment(start=0, end=1, text="", speaker=s) for s in ("B", "", "A", "B"))
    assert Transcript(segments=segments).speakers == ["B", "A"]
