from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechkit.errors import InputError
from speechkit.metrics.wer import ErrorCounts, align_words, bootstrap_interval, count, score

WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=6)


def distance(ref: list[str], hyp: list[str]) -> int:
    row = list(range(len(hyp) + 1))
    for i, r in enumerate(ref, 1):
        before, row[0] = row[0], i
        for j, h in enumerate(hyp, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (r != h))
    return row[-1]


@given(WORDS, WORDS)
def test_an_alignment_holds_both_sides_and_has_the_fewest_errors(ref: list[str], hyp: list[str]) -> None:
    pairs = align_words(ref, hyp)
    assert [r for r, _ in pairs if r is not None] == ref
    assert [h for _, h in pairs if h is not None] == hyp
    counts = count(pairs)
    assert counts.errors == distance(ref, hyp)
    assert counts.length == len(ref)


def test_counts_name_the_kinds_of_errors() -> None:
    counts = count(align_words(["the", "cat", "sat", "on", "the", "mat"], ["the", "hat", "sat", "on", "mat", "today"]))
    assert counts == ErrorCounts(correct=4, substitutions=1, deletions=1, insertions=1)
    assert counts.rate == 0.5


def test_a_score_sums_utterances_and_keeps_their_confusions() -> None:
    result = score({"u2": "a b", "u1": "a b c"}, {"u1": "a x c", "u2": "a b"})
    assert result.counts == ErrorCounts(correct=4, substitutions=1)
    assert (result.sentence_errors, result.sentence_error_rate) == (1, 0.5)
    assert result.confusions() == {("b", "x"): 1}
    assert list(result.utterances) == ["u1", "u2"]


def test_characters_count_one_space_between_words() -> None:
    assert score({"u": "ab  c"}, {"u": "abc"}, "char").counts == ErrorCounts(correct=3, deletions=1)


def test_a_missing_hypothesis_is_all_deletions_and_an_unknown_one_an_error() -> None:
    assert score({"u": "a b", "v": "a"}, {"v": "a"}).counts == ErrorCounts(correct=1, deletions=2)
    with pytest.raises(InputError, match="w: a hypothesis without reference"):
        score({"u": "a"}, {"w": "a"})
    with pytest.raises(InputError, match="no references"):
        score({}, {})


def test_rates_without_reference_words() -> None:
    assert ErrorCounts().rate == 0
    assert ErrorCounts(insertions=1).rate == float("inf")


def test_the_interval_is_the_same_in_any_order_and_moves_with_the_seed() -> None:
    refs = {f"u{i}": "a b c d" for i in range(40)}
    hyps = {i: "a b c d" if int(i[1:]) % 4 else "a x y d" for i in refs}
    result = score(refs, hyps)
    low, high = bootstrap_interval(result)
    assert low < result.counts.rate < high
    assert high - low == pytest.approx(2 * 1.96 * 0.5 * (0.25 * 0.75 / 40) ** 0.5, rel=0.2)  # of the binomial
    assert bootstrap_interval(score(dict(reversed(refs.items())), hyps)) == (low, high)
    assert bootstrap_interval(result, seed=1) != (low, high)


def test_without_errors_the_interval_is_a_point() -> None:
    assert bootstrap_interval(score({"u": "a"}, {"u": "a"}), resamples=10) == (0.0, 0.0)
