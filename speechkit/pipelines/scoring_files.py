"""NIST's scoring files, read: ctm, stm and rttm.

Source of the forms: SCTK's documentation of sclite's input files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from speechkit.errors import InputError
from speechkit.pipelines.transcript import Segment, Word

Key = tuple[str, str]  # file and channel

IGNORED = "IGNORE_TIME_SEGMENT_IN_SCORING"


def parse_ctm(text: str, name: str = "ctm") -> dict[Key, list[Word]]:
    """The words of each file and channel; of alternatives the first is taken.

    Raises:
        InputError: a line is not a word with its times (file and line are named).
    """
    words: dict[Key, list[Word]] = {}
    taken = True
    for number, fields in _lines(text):
        if len(fields) > 4 and fields[4] in ("<ALT_BEGIN>", "<ALT>", "<ALT_END>"):
            taken = fields[4] != "<ALT>"
            continue
        try:
            file, channel, start, duration, word, *rest = fields
            first, length = _seconds(start), _seconds(duration)
            confidence = float(rest[0]) if rest and rest[0] != "NA" else 1.0
        except ValueError as error:
            raise _bad(name, number, "file channel start duration word [confidence]", fields) from error
        if taken:
            end = round(first + length, 3)
            words.setdefault((file, channel), []).append(
                Word(text=" " + word, start=first, end=end, probability=confidence)
            )
    return words


def parse_stm(text: str, name: str = "stm") -> dict[Key, list[Segment]]:
    """The segments of each file and channel; a label `<…>` before the text is dropped.

    Raises:
        InputError: a line is not a segment (file and line are named).
    """
    segments: dict[Key, list[Segment]] = {}
    for number, fields in _lines(text):
        try:
            file, channel, speaker, start, end, *words = fields
            first, last = _seconds(start), _seconds(end)
        except ValueError as error:
            raise _bad(name, number, "file channel speaker start end text", fields) from error
        if words and words[0].startswith("<") and words[0].endswith(">"):
            words = words[1:]
        segment = Segment(start=first, end=last, text=" ".join(words), speaker=speaker)
        segments.setdefault((file, channel), []).append(segment)
    return segments


def parse_rttm(text: str, name: str = "rttm") -> dict[Key, list[Segment]]:
    """The turns of each file and channel, without text; nine fields or ten.

    Raises:
        InputError: a SPEAKER line is malformed (file and line are named).
    """
    turns: dict[Key, list[Segment]] = {}
    for number, fields in _lines(text):
        if fields[0] != "SPEAKER":
            continue
        try:
            _, file, channel, start, duration, _, _, speaker, *_ = fields
            first, length = _seconds(start), _seconds(duration)
        except ValueError as error:
            raise _bad(name, number, "SPEAKER file channel start duration <NA> <NA> speaker", fields) from error
        turn = Segment(start=first, end=round(first + length, 3), text="", speaker=speaker)
        turns.setdefault((file, channel), []).append(turn)
    return turns


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.startswith(";;"):
            yield number, line.split()


def _seconds(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _bad(name: str, number: int, expected: str, fields: list[str]) -> InputError:
    return InputError(f"{name}:{number}: expected {expected!r}, found {' '.join(fields)!r}", code="format.parse")
