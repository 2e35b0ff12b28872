from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechkit.errors import InputError, UsageError
from speechkit.pipelines.formats import as_json, json_line, parse, render
from speechkit.pipelines.scoring_files import parse_ctm, parse_rttm, parse_stm
from speechkit.pipelines.subtitles import Layout
from speechkit.pipelines.transcript import Segment, Transcript, Word

LETTERS = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=6)
SPEAKERS = st.sampled_from(["SPEAKER_00", "SPEAKER_01"])


@st.composite
def transcripts(draw: Callable[[st.SearchStrategy], object], *, words: bool, speakers: bool) -> Transcript:
    """Segments one after another at milliseconds, with hours among them."""
    at = draw(st.sampled_from([0, 3_599_000, 36_000_000]))
    segments = []
    for _ in range(draw(st.integers(0, 4))):
        parts = []
        for word in draw(st.lists(LETTERS.filter(lambda t: "->" not in t), min_size=1, max_size=4)):
            start = at + draw(st.integers(0, 3000))
            at = start + draw(st.integers(1, 3000))
            probability = draw(st.integers(0, 100)) / 100
            parts.append(Word(text=" " + word, start=start / 1000, end=at / 1000, probability=probability))
        segment = Segment(
            start=parts[0].start, end=parts[-1].end, text="".join(p.text for p in parts).strip(),
            words=tuple(parts) if words else (), speaker=draw(SPEAKERS) if speakers else "",
        )  # fmt: skip
        segments.append(segment)
    text = " ".join(s.text for s in segments)
    return Transcript(text=text, segments=tuple(segments), duration_s=(at + draw(st.integers(0, 99))) / 1000)


def times(segments: tuple[Segment, ...] | list[Segment]) -> list[tuple[float, float, str]]:
    return [(s.start, s.end, s.text) for s in segments]


@pytest.mark.parametrize("format", ["srt", "vtt", "tsv"])
@given(x=transcripts(words=False, speakers=False))
def test_what_was_written_is_read_back(format: str, x: Transcript) -> None:
    back = parse(render(x, format), format)
    assert times(back.segments) == times(x.segments)
    assert back.text == x.text


@pytest.mark.parametrize("format", ["srt", "vtt"])
@given(x=transcripts(words=True, speakers=True))
def test_speaker_labels_are_read_back(format: str, x: Transcript) -> None:
    back = parse(render(x, format, layout=Layout(speaker_labels=True)), format)
    assert [(s.speaker, *t) for s, t in zip(back.segments, times(back.segments), strict=True)] == [
        (s.speaker, *t) for s, t in zip(x.segments, times(x.segments), strict=True)
    ]


@given(x=transcripts(words=True, speakers=False))
def test_a_textgrid_is_read_back_with_its_words(x: Transcript) -> None:
    back = parse(render(x, "textgrid"), "textgrid")
    assert times(back.segments) == times(x.segments)
    assert [replace(w, probability=1.0) for w in x.words] == back.words
    assert back.duration_s == x.duration_s


@given(x=transcripts(words=True, speakers=True))
def test_json_is_read_back_whole(x: Transcript) -> None:
    x = replace(x, language="en", model="exp/demo")
    assert parse(render(x, "json"), "json") == x
    line = json.loads(json_line(x))
    assert line["segments"] == as_json(x)["segments"]
    assert (line["input"], line["ok"], line["text"]) == ("", True, x.text)


@given(x=transcripts(words=True, speakers=True))
def test_scoring_files_are_read_back(x: Transcript) -> None:
    key = ("my_call", "1")
    place = {"file": "my call", "channel": "1"}
    assert parse_ctm(render(x, "ctm", **place)).get(key, []) == x.words
    turns = parse_rttm(render(x, "rttm", **place)).get(key, [])
    assert [(t.start, t.end, t.speaker) for t in turns] == [(s.start, s.end, s.speaker) for s in x.segments]
    segments = parse_stm(render(x, "stm", **place)).get(key, [])
    assert segments == [replace(s, words=()) for s in x.segments]


def test_speakers_who_overlap_get_tiers_of_their_own() -> None:
    words = (Word(text=" hi", start=0.5, end=1.5),)
    segments = (
        Segment(start=0.0, end=1.0, text='say "A"', speaker="SPEAKER_00"),
        Segment(start=0.5, end=1.5, text="hi", speaker="SPEAKER_01", words=words),
    )
    text = render(Transcript(segments=segments, duration_s=2.0), "textgrid")
    assert 'name = "segments:SPEAKER_00"' in text
    assert 'name = "words:SPEAKER_01"' in text
    assert parse(text, "textgrid").segments == segments


def test_text_shows_speakers_on_request_only() -> None:
    x = Transcript(
        segments=(Segment(start=0, end=1, text=" hi ", speaker="SPEAKER_01"), Segment(start=1, end=2, text="x"))
    )
    assert render(x, "txt") == "hi\nx\n"
    assert render(x, "txt", layout=Layout(speaker_labels=True)) == "[SPEAKER_01]: hi\nx\n"


def test_stm_without_speakers_writes_the_file_and_rttm_refuses() -> None:
    x = Transcript(segments=(Segment(start=0, end=1, text="hi"),))
    assert render(x, "stm", file="call") == "call 1 call 0.000 1.000 hi\n"
    with pytest.raises(UsageError, match="no speakers"):
        render(x, "rttm")


def test_a_long_pause_breaks_a_cue_when_width_and_count_are_given() -> None:
    words = tuple(Word(text=f" {t}", start=s, end=s + 0.1) for t, s in (("a", 0.0), ("b", 3.0), ("c", 6.1)))
    x = Transcript(segments=(Segment(start=0, end=6.2, text="a b c", words=words),))
    text = render(x, "srt", layout=Layout(max_line_width=40, max_line_count=2))
    assert [s.text for s in parse(text, "srt").segments] == ["a b", "c"]
    assert len(parse(render(x, "srt", layout=Layout(max_line_width=40)), "srt").segments) == 1


def test_highlighting_shows_gaps_without_a_mark() -> None:
    words = (Word(text=" a", start=0.0, end=0.1), Word(text=" b", start=0.5, end=0.6))
    x = Transcript(segments=(Segment(start=0, end=0.6, text="a b", words=words),))
    cues = parse(render(x, "vtt", layout=Layout(highlight_words=True)), "vtt").segments
    assert times(cues) == [(0.0, 0.1, "<u>a</u> b"), (0.1, 0.5, "a b"), (0.5, 0.6, "a <u>b</u>")]


def test_ctm_alternatives_comments_and_missing_confidence() -> None:
    text = ";; c\nf 1 * * <ALT_BEGIN>\nf 1 0.0 0.5 a\nf 1 * * <ALT>\nf 1 0.0 0.5 b\nf 1 * * <ALT_END>\nf A 1 .5 c NA\n"
    assert [(k, [w.text for w in ws]) for k, ws in parse_ctm(text).items()] == [
        (("f", "1"), [" a"]),
        (("f", "A"), [" c"]),
    ]


def test_stm_labels_are_no_text_and_old_rttm_has_nine_fields() -> None:
    assert parse_stm("f 1 s 0 1 <o,f0> a b\n")[("f", "1")][0].text == "a b"
    assert parse_rttm("SPKR-INFO f 1\nSPEAKER f 1 0.5 1.0 <NA> <NA> s <NA>\n")[("f", "1")][0].end == 1.5


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: parse_ctm("f 1 0 1 a\nf 1 x 1 b\n", "h.ctm"), "h.ctm:2: expected"),
        (lambda: parse_stm("f 1 s 0\n", "r.stm"), "r.stm:1: expected"),
        (lambda: parse_rttm("SPEAKER f 1 0\n", "r.rttm"), "r.rttm:1: expected"),
        (lambda: parse("hello\n", "srt", name="a.srt"), "a.srt: not subtitles: 'hello'"),
        (lambda: parse("start\tend\ttext\n1\tx\ty\n", "tsv", name="a.tsv"), "a.tsv:2"),
        (lambda: parse("{}", "json", name="a.json"), "a.json: not a transcript"),
        (lambda: parse("x", "textgrid", name="a.textgrid"), "a.textgrid: not a TextGrid"),
    ],
)
def test_a_file_of_another_form_is_named(read: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read()
