from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from speechkit.metrics.units import Span
from speechkit.metrics.wer import score
from speechkit.report.charts import MAX_POINTS, thinned
from speechkit.report.clips import clip
from speechkit.report.decoded import Decoded
from speechkit.report.page import DataSet, Page, Training, Units, flat, html, read_training
from speechkit.report.results import Entry, Row

VOID = {"meta", "img", "br"}
REFS = {"u<1>": "one two three", "u2": "four five", "u3": "six"}
HYPS = {"u<1>": "one <b> three", "u2": "four", "u3": "six & seven"}

PAGE = Page(
    title="wavlm <fsdd>",
    entry=Entry(
        tag="tiny",
        date="2026-03-01",
        rows=[Row(dataset="test", score=score(REFS, HYPS), interval=(0.1, 0.6), published=0.5)],
        commands={"train": "./run.sh --set a='<b>'"},
        environment={"torch": "2.6"},
    ),
    trainings=[
        Training(
            name="30 finetune",
            rows=[
                {"kind": "train", "step": 50, "loss": 2.0, "learning_rate": 1e-4, "audio_seconds_per_second": 99.0},
                {"kind": "valid", "step": 50, "loss": 2.5, "wer": 0.9, "example": "<i>"},
                {"kind": "train", "step": 100, "loss": math.nan, "learning_rate": 2e-4, "memory_mib": 1234.0},
            ],
        )
    ],
    sets=[DataSet(name="train", durations_s=[1.0, 2.0, 4.0], num_speakers=2)],
    dropped=[["u9", "too < short", "train"]],
    decoded={
        "test": Decoded(
            speakers={"u<1>": "a&b", "u2": "a&b", "u3": "c"},
            seconds={"u<1>": 3.0, "u2": 1.0, "u3": 2.0},
            clips={"u<1>": clip(np.zeros(8000), 8000, [Span(0.1, 0.2, "one"), Span(0.3, 0.3, "<b>")])},
        )
    },
    units=[Units(name="units_1", counts=np.array([4, 0, 4]))],
    config={"model": {"dim": 128, "dropout": 0.1}, "seed": 0},
    defaults={"model": {"dim": 768, "dropout": 0.1}, "seed": 0},
)


class Checked(HTMLParser):
    """Collects text, classes and addresses, and sees that every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pairs: list[tuple[str, str]] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        classes = dict(attrs).get("class") or ""
        if classes.startswith("pair "):
            self.pairs.append((classes.split()[1], ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if len(self.open) > 1 and self.open[-2:] == ["span", "span"]:
            kind, text = self.pairs[-1]
            self.pairs[-1] = (kind, f"{text}{data}/")


def test_the_page_is_well_formed_and_needs_nothing_from_outside() -> None:
    page = html(PAGE)
    addresses = Checked(page).addresses
    assert addresses
    assert all(re.match(r"data:(image/svg\+xml|audio/mpeg);base64,", address) for address in addresses)
    assert sum(address.startswith("data:audio") for address in addresses) == 1
    assert not re.search(r"<script|<link|@import|url\(", page)


def test_what_comes_from_data_is_escaped() -> None:
    page = html(PAGE)
    assert "<b> three" not in page
    assert "<i>" not in page
    text = "".join(Checked(page).words)
    for word in ("wavlm <fsdd>", "u<1>", "<b>", "./run.sh --set a='<b>'", "too < short", "Left out: 1"):
        assert word in text


def test_alignments_of_wrong_utterances_are_marked_pair_by_pair() -> None:
    pairs = Checked(html(PAGE)).pairs[3:]  # after the legend
    assert pairs == [
        ("correct", "six/six/"),
        ("inserted", "·/&/"),
        ("inserted", "·/seven/"),
        ("correct", "four/four/"),
        ("deleted", "five/·/"),
        ("correct", "one/one/"),
        ("substituted", "two/<b>/"),
        ("correct", "three/three/"),
    ]


def test_every_numeric_value_of_a_training_is_drawn_or_in_the_table_of_rates() -> None:
    page = html(PAGE)
    assert {*re.findall(r'alt="([^"]+) over steps"', page)} == {"loss", "learning rate", "wer"}
    text = " ".join(Checked(page).words)
    assert "memory, MiB 1,234" in text
    assert "steps 100" in text


def test_units_are_counted_and_drawn() -> None:
    page = html(PAGE)
    assert "units_1 3 2 8 2.0" in " ".join(" ".join(Checked(page).words).split())  # units, used, frames, perplexity
    assert 'alt="units_1: share of frames, sorted"' in page


def test_settings_that_are_not_at_their_defaults_stand_out() -> None:
    page = html(PAGE)
    changed, everything = page.split("<summary>All 3 settings")
    assert "<td>model.dim</td><td>128</td><td>768</td>" in changed
    assert "model.dropout" not in changed
    assert "<td>model.dropout</td><td>0.1</td>" in everything


def test_scores_show_interval_and_published_figure() -> None:
    text = " ".join(Checked(html(PAGE)).words)
    assert "66.67 %" in text  # 4 errors in 6 words
    assert "66.67 (10.00–60.00)" in text
    assert "test WER: paper 50.00, here 66.67 (+16.67)" in text


def test_a_run_without_errors_trainings_or_data_is_still_a_page() -> None:
    good = Row(dataset="test", score=score(REFS, REFS), interval=(0.0, 0.0))
    page = html(Page(title="x", entry=replace(PAGE.entry, rows=[good], commands={}, environment={})))
    text = "".join(Checked(page).words)
    assert "No errors." in text
    assert "Training" not in text
    assert "Data" not in text
    assert Checked(html(Page(title="x", entry=Entry(tag="t", date="d", rows=[])))).words


def test_the_same_run_gives_the_same_bytes() -> None:
    assert html(PAGE) == html(PAGE)


def test_long_curves_keep_their_last_point_and_at_most_2000() -> None:
    line = [(float(step), 0.0) for step in range(5001)]
    points = thinned(line)
    assert len(points) <= MAX_POINTS
    assert points[-1] == line[-1]
    assert thinned(line[:3]) == line[:3]
    assert thinned([]) == []


def test_nested_settings_become_dotted_names() -> None:
    assert flat({"a": {"b": {"c": [1, 2]}, "d": None}, "e": {}}) == {"a.b.c": "[1, 2]", "a.d": "null", "e": "{}"}


def test_a_training_is_read_from_its_file(tmp_path: Path) -> None:
    rows = [{"kind": "train", "step": 1, "loss": 2.5}, {"kind": "valid", "step": 1, "loss": 3.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_training("x", tmp_path / "metrics.jsonl") == Training(name="x", rows=rows)
