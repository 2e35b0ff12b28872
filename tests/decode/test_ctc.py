from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechkit.decode import ctc
from speechkit.decode.ctc import BestPath, FrameClock, Span
from speechkit.decode.vocabulary import Vocabulary
from speechkit.errors import InputError


def log_probs(seed: int, num_frames: int, size: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(scale=2, size=(num_frames, size))
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


def sums_over_paths(table: np.ndarray, blank: int) -> dict[tuple[int, ...], float]:
    sums: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(table.shape[1]), repeat=len(table)):
        ids = tuple(ctc.collapse(np.array(path), blank))
        score = float(sum(table[f, s] for f, s in enumerate(path)))
        sums[ids] = float(np.logaddexp(sums.get(ids, -np.inf), score))
    return sums


def test_greedy_merges_repeats_drops_blanks_and_ignores_padding() -> None:
    ids = torch.tensor([[1, 1, 0, 1, 2, 2], [0, 2, 2, 1, 1, 1]])
    logits = torch.nn.functional.one_hot(ids, 3).float()
    assert ctc.greedy(logits, torch.tensor([6, 3]), blank=0) == [[1, 1, 2], [2]]
    assert ctc.greedy(logits, torch.tensor([0, 6]), blank=2) == [[], [0, 1]]


def test_paths_hold_the_probability_of_the_best_symbol() -> None:
    logits = torch.from_numpy(log_probs(0, 5, 4))
    path = ctc.best_path(logits + 3)
    assert path.ids.tolist() == logits.argmax(-1).tolist()
    np.testing.assert_allclose(path.log_probs, logits.max(-1).values, rtol=1e-5)


def test_spans_are_the_runs_of_a_path() -> None:
    path = BestPath(ids=np.array([0, 2, 2, 0, 2, 1]), log_probs=np.array([-1, -2, -3, -4, -5, -6], dtype=np.float32))
    assert ctc.path_spans(path, blank=0) == [
        Span(token=2, start=1, end=3, log_prob=-5.0),
        Span(token=2, start=4, end=5, log_prob=-5.0),
        Span(token=1, start=5, end=6, log_prob=-6.0),
    ]
    assert ctc.path_spans(BestPath(ids=path.ids[:0], log_probs=path.log_probs[:0]), blank=0) == []


@given(st.integers(0, 1000), st.integers(0, 5), st.integers(0, 2))
def test_a_wide_prefix_beam_sums_over_all_paths(seed: int, num_frames: int, blank: int) -> None:
    table = log_probs(seed, num_frames, 3)
    sums = sums_over_paths(table, blank)
    found = ctc.prefix_beam(table, beam=len(sums) + 50, blank=blank)
    assert {tuple(ids) for ids, _ in found} == set(sums)
    for ids, score in found:
        assert score == pytest.approx(sums[tuple(ids)], abs=1e-4)
    assert [s for _, s in found] == sorted((s for _, s in found), reverse=True)


@given(st.integers(0, 1000))
def test_a_narrow_prefix_beam_never_claims_more_than_the_true_probability(seed: int) -> None:
    table = log_probs(seed, 6, 3)
    sums = sums_over_paths(table, 0)
    found = ctc.prefix_beam(table, beam=3, blank=0)
    assert len(found) == 3
    assert len({tuple(ids) for ids, _ in found}) == 3
    assert all(score <= sums[tuple(ids)] + 1e-4 for ids, score in found)


@given(st.integers(0, 1000), st.lists(st.integers(1, 2), max_size=3), st.integers(0, 6))
def test_alignment_is_the_most_probable_path_of_the_text(seed: int, tokens: list[int], num_frames: int) -> None:
    table = log_probs(seed, num_frames, 3)
    scores = {
        path: sum(float(table[f, s]) for f, s in enumerate(path))
        for path in itertools.product(range(3), repeat=num_frames)
        if ctc.collapse(np.array(path, dtype=np.int64), 0) == tokens
    }
    if not scores:
        with pytest.raises(InputError, match="frames"):
            ctc.align(table, tokens, blank=0)
        return
    spans = ctc.align(table, tokens, blank=0)
    path = [0] * num_frames
    for span in spans:
        path[span.start : span.end] = [span.token] * (span.end - span.start)
        assert span.log_prob == pytest.approx(float(table[span.start : span.end, span.token].sum()), abs=1e-5)
    assert [span.token for span in spans] == tokens
    if tokens:
        assert scores[tuple(path)] == pytest.approx(max(scores.values()), abs=1e-4)


def test_words_lie_where_their_frames_are_and_never_past_the_end() -> None:
    vocabulary = Vocabulary(("-", "|", "a", "b"), blank=0)
    clock = FrameClock(hop_samples=320, field_samples=400, sample_rate=16000)
    spans = [
        Span(token=2, start=1, end=2, log_prob=-0.2),
        Span(token=3, start=3, end=5, log_prob=-0.4),
        Span(token=1, start=6, end=7, log_prob=-9.0),
        Span(token=2, start=8, end=10, log_prob=-0.1),
    ]
    first, second = ctc.word_times(spans, vocabulary, clock, duration_s=0.2)
    assert (first.text, first.start, first.end) == ("ab", pytest.approx(0.0225), pytest.approx(0.1025))
    assert first.probability == pytest.approx(np.exp(-0.6 / 3))
    assert (second.text, second.start, second.end) == ("a", pytest.approx(0.1625), 0.2)
