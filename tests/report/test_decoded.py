from __future__ import annotations

from speechkit.metrics.wer import score
from speechkit.report.decoded import SPEAKERS, WORST, Decoded, by_length, by_speaker, decoded, worst

REFS = {f"u{n}": "one two" for n in range(12)}
HYPS = {f"u{n}": "one two" if n % 3 else "one" for n in range(12)}  # every third loses a word
SCORE = score(REFS, HYPS)


def test_speakers_come_by_their_error_rate_and_their_counts_add_up() -> None:
    speakers = {id: "ann" if int(id[1:]) < 4 else "bob" for id in REFS if id != "u11"} | {"u11": ""}
    rows = by_speaker(SCORE, speakers)
    assert [(name, number, counts.errors, counts.length) for name, number, counts in rows] == [
        ("ann", 4, 2, 8),
        ("bob", 7, 2, 14),
    ]


def test_groups_of_length_are_of_equal_size_from_the_shortest_on() -> None:
    rows = by_length(SCORE, {id: 12.0 - int(id[1:]) for id in REFS})
    assert [(name, number) for name, number, _ in rows] == [
        ("1.00–2.00", 2),
        ("3.00–4.00", 2),
        ("5.00–7.00", 3),
        ("8.00–9.00", 2),
        ("10.00–12.00", 3),
    ]
    assert [counts.errors for _, _, counts in rows] == [0, 1, 1, 1, 1]
    assert sum(counts.length for _, _, counts in rows) == 24


def test_fewer_utterances_than_groups_are_each_one() -> None:
    assert [number for _, number, _ in by_length(SCORE, {"u0": 1.0, "u1": 2.0})] == [1, 1]
    assert by_length(SCORE, {}) == []


def test_worst_are_those_with_errors_and_not_too_many() -> None:
    assert worst(SCORE) == ["u0", "u3", "u6", "u9"]
    many = score({f"u{n:03}": "a" for n in range(99)}, {f"u{n:03}": "b" for n in range(99)})
    assert worst(many) == [f"u{n:03}" for n in range(WORST)]


def test_of_many_speakers_the_worst_are_shown() -> None:
    refs = {f"u{n:03}": "a" for n in range(30)}
    details = Decoded(speakers={id: f"speaker {id}" for id in refs})
    page = "".join(decoded(score(refs, refs | {"u007": "b"}), details))
    assert f"By speaker (the worst {SPEAKERS} of 30)" in page
    assert page.count("<td>speaker u0") == SPEAKERS
    assert "<td>speaker u007</td><td>1</td><td>1</td><td>100.00</td>" in page


def test_what_is_not_known_is_not_shown() -> None:
    page = "".join(decoded(SCORE, Decoded()))
    assert "By speaker" not in page
    assert "By length" not in page
    assert "<audio" not in page
