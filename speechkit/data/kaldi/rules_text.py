"""Rules on transcripts (E141–W145)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping

from speechkit.data.kaldi.directory import Directory, Record
from speechkit.data.kaldi.problem import Problem
from speechkit.data.kaldi.rules_times import Duration
from speechkit.data.kaldi.spans import MIN_SEGMENT_SECONDS

RESERVED = ("<s>", "</s>", "#0")

_WORDS_PER_SECOND = (0.2, 8.0)
_MAX_CHARACTERS_PER_SECOND = 40.0
_MIN_UTTERANCES_FOR_REPEATS = 1000
_MAX_REPEATED_SHARE = 0.01


def check_texts(directory: Directory, durations: Mapping[str, Duration], *, allow_empty: bool) -> Iterator[Problem]:
    """All rules on `text` and its translations; the rate of speech and repeats on `text` alone."""
    for name, table in directory.tables.items():
        if name != "text" and not name.startswith("text."):
            continue
        for record in table.records:
            for code, message in _wrong(record, allow_empty):
                yield Problem(file=name, line=record.line, code=code, message=message)
    if "text" in directory.tables:
        records = list(directory.tables["text"].first.values())
        yield from _check_rates(records, durations)
        yield from _check_repeats(records)


def _wrong(record: Record, allow_empty: bool) -> Iterator[tuple[str, str]]:
    if not record.value:
        yield "W142" if allow_empty else "E142", "no words"
    for symbol in RESERVED:
        if symbol in record.value and symbol in record.fields:
            yield "E141", f"reserved symbol '{symbol}' in a transcript"
    if record.value.isascii() and record.value.isprintable():
        return
    for character in record.value:
        if unicodedata.category(character) in ("Cc", "Cf"):
            yield "W143", f"U+{ord(character):04X} in transcript"
            return
    if not unicodedata.is_normalized("NFC", record.value):
        yield "W143", "transcript is not in Unicode's composed form (NFC)"


def _check_rates(records: list[Record], durations: Mapping[str, Duration]) -> Iterator[Problem]:
    """W144; what is too short anyway has been named for that."""
    for record in records:
        seconds = durations[record.key].seconds if record.key in durations else 0.0
        if not record.value or seconds < MIN_SEGMENT_SECONDS:
            continue
        num_words, num_characters = len(record.fields), len(record.value)
        if not _WORDS_PER_SECOND[0] <= num_words / seconds <= _WORDS_PER_SECOND[1]:
            words = "word" if num_words == 1 else "words"
            message = f"{num_words} {words} in {seconds:.1f} s"
        elif num_characters / seconds > _MAX_CHARACTERS_PER_SECOND:
            message = f"{num_characters} characters in {seconds:.1f} s"
        else:
            continue
        yield Problem(file="text", line=record.line, code="W144", message=message)


def _check_repeats(records: list[Record]) -> Iterator[Problem]:
    """W145, at the first line with the transcript."""
    if len(records) < _MIN_UTTERANCES_FOR_REPEATS:
        return
    same: dict[str, list[int]] = {}
    for record in records:
        if record.value:
            same.setdefault(record.value, []).append(record.line)
    for text, lines in same.items():
        if len(lines) > _MAX_REPEATED_SHARE * len(records):
            message = f"'{text}' is the transcript of {len(lines):,} utterances"
            yield Problem(file="text", line=lines[0], code="W145", message=message)
