"""Sides take turns in processes of their own and are compared first."""

from __future__ import annotations

import pytest

from bench.timing import Side, compare, difference
from speechkit.errors import SpeechkitError
from tests.bench import sides


def test_every_side_is_timed_and_its_difference_from_the_first_is_told() -> None:
    first, near, free, floor = compare(
        [
            Side(name="first", make=sides.array, arguments={"value": 2.0}),
            Side(name="near", make=sides.array, arguments={"value": 2.002, "pause": 0.05}, tolerance=0.01),
            Side(name="free", make=sides.array, arguments={"value": 3.0}),
            Side(name="floor", make=sides.nothing),
        ],
        trials=3,
    )
    assert [len(timing.seconds) for timing in (first, near, free, floor)] == [3] * 4
    assert first.median < 0.05 <= near.median
    assert [first.difference, near.difference, free.difference] == [None, pytest.approx(1e-3), pytest.approx(0.5)]
    assert floor.difference is None
    assert all(timing.startup_seconds > 0 for timing in (first, near, free, floor))


def test_any_side_may_be_the_right_one() -> None:
    arguments = [{"value": 1.0}, {"value": 2.0}]
    both = [Side(name=str(a), make=sides.array, arguments=a, tolerance=0.6) for a in arguments]
    assert [timing.difference for timing in compare(both, trials=1, expected=1)] == [0.5, None]


def test_too_large_a_difference_stops_before_anything_is_timed() -> None:
    first = Side(name="ours", make=sides.array, arguments={"value": 2.0})
    other = Side(name="theirs", make=sides.array, arguments={"value": 2.2, "pause": 0.2}, tolerance=0.01)
    with pytest.raises(SpeechkitError, match=r"theirs: its output differs by 0\.1 from that of ours, 0\.01 is allowed"):
        compare([first, other], trials=10_000)


def test_an_empty_output_is_not_equal() -> None:
    first = Side(name="ours", make=sides.array, arguments={"value": 2.0})
    with pytest.raises(SpeechkitError, match="0 outputs against 2"):
        compare([first, Side(name="theirs", make=sides.nothing, tolerance=0.5)], trials=1)


def test_what_breaks_in_a_side_is_told_with_its_name() -> None:
    with pytest.raises(SpeechkitError, match=r"(?s)theirs failed:.*RuntimeError: no such library"):
        compare([Side(name="theirs", make=sides.broken)], trials=1)


def test_memory_is_that_of_each_process_alone() -> None:
    small, large = compare(
        [Side(name=f"{mib} MiB", make=sides.large, arguments={"mib": mib}) for mib in (1, 300)], trials=1
    )
    assert 280 < large.memory_mib - small.memory_mib < 320


def test_texts_differ_by_their_share() -> None:
    assert difference(["a", "b", "", "d"], ["a", "x", "", "d"]) == 0.25
