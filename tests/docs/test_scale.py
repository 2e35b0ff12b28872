"""docs/scale.md holds what docs/scale.py computes."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
SCALE = runpy.run_path(str(DOCS / "scale.py"))
PAGE = (DOCS / "scale.md").read_text(encoding="utf-8")


def cells(name: str) -> dict[str, list[str]]:
    """The rows of a table, by their first cells."""
    block = PAGE.partition(f"<!-- {name} -->")[2].partition("<!-- end -->")[0]
    rows = [line.strip("|").split("|") for line in block.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows[2:]}


def test_the_page_is_what_the_script_writes() -> None:
    assert SCALE["page"](PAGE, SCALE["Assumptions"]()) == PAGE


def test_the_tables_are_worked_out_right() -> None:
    assert cells("storage")["FLAC"] == ["64.6", "1,486", "189", "7.7 M ($3.1)"]
    assert cells("storage")["Opus 28k"][:3] == ["12.7", "292", "1,299"]
    assert cells("shards")["5,000"] == ["72,000", "0.90", "13.9"]
    assert cells("compute")["WavLM Base, training"] == ["4.3e+10", "9,283", "108", "269"]
    assert cells("readers")["FLAC"] == ["3.2", "34"]


def test_a_page_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="0 places for the table 'shards'"):
        SCALE["page"](PAGE.replace("<!-- shards -->", ""), SCALE["Assumptions"]())
