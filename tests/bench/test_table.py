"""The table and the page that keeps it."""

from __future__ import annotations

from bench.case import Group
from bench.table import HEAD, page, table
from bench.timing import Timing

CASES = ("one", "two", "three")


def timing(name: str, *seconds: float, difference: float | None = None, tolerance: float | None = None) -> Timing:
    return Timing(
        name=name, seconds=seconds, startup_seconds=1.0, memory_mib=2000.4, difference=difference, tolerance=tolerance
    )


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_ratios_are_to_the_first_side_and_the_floor() -> None:
    timings = [
        timing("ours", 2.0, 1.0, 4.0),
        timing("theirs", 3.0, difference=1.23e-6, tolerance=1e-4),
        timing("floor", 1.5),
    ]
    head, rule, *rows = cells(table([Group(what="4 × 10 s", timings=timings, audio_seconds=40.0)]))
    assert head == list(HEAD)
    assert len(rule) == len(head)
    assert rows == [
        ["4 × 10 s", "ours", "2", "1–4", "1.00", "20.0", "75%", "2,000", ""],
        ["4 × 10 s", "theirs", "3", "3–3", "1.50", "13.3", "50%", "2,000", "1e-06 (0.0001)"],
        ["4 × 10 s", "floor", "1.5", "1.5–1.5", "0.75", "", "100%", "2,000", ""],
    ]


def test_without_floor_or_audio_their_cells_are_empty() -> None:
    row = cells(table([Group(what="k-means", timings=[timing("ours", 0.01234)])]))[2]
    assert row == ["k-means", "ours", "0.0123", "0.0123–0.0123", "1.00", "", "", "2,000", ""]


def test_a_new_section_replaces_the_old_one_of_its_case_and_no_other() -> None:
    first = page("", CASES, {"two": "old two\n\n| a |\n", "three": "old three"})
    assert "## one" not in first
    second = page(first, CASES, {"one": "new one", "three": "new three"})
    parts = [part.split("\n\n") for part in second.split("## ")[1:]]
    assert [[line.strip() for line in part if line.strip()] for part in parts] == [
        ["one", "new one"],
        ["two", "old two", "| a |"],
        ["three", "new three"],
    ]
    assert page(second, CASES, {}) == second
