"""Rules on single tables: present, fields, keys, order (E101, E107–E111)."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator

from speechkit.data.kaldi.directory import Directory, TableFile
from speechkit.data.kaldi.problem import Problem
from speechkit.data.kaldi.tables import Layout


def check_present(directory: Directory, *, text: bool, wav: bool, feats: bool) -> Iterator[Problem]:
    """E101: tables that a directory needs. `wav.scp` is not needed beside `feats.scp`."""
    there = {*directory.tables, *directory.empty}
    needed = {"utt2spk": "", "spk2utt": ""}
    if text:
        needed["text"] = " (or pass --no-text)"
    if feats:
        needed["feats.scp"] = " (or pass --no-feats)"
    if wav and "feats.scp" not in there:
        needed["wav.scp"] = " (or pass --no-wav)"
    for name, otherwise in needed.items():
        if name not in there:
            message = f"no such file; a data directory needs it{otherwise}"
            yield Problem(file=name, line=0, code="E101", message=message)


def check_tables(directory: Directory, *, speaker_order: bool) -> Iterator[Problem]:
    """E107–E111 of every table."""
    for table in directory.tables.values():
        yield from _check_fields(table)
        yield from _check_keys(table)
        disorder = list(_check_order(table))
        yield from (_at(directory, problem) for problem in disorder)
        if table.name == "utt2spk" and speaker_order and not disorder:
            yield from _check_speaker_order(table)


def _at(directory: Directory, problem: Problem) -> Problem:
    hint = f"run: speechkit data fix {directory.path}"
    return Problem(file=problem.file, line=problem.line, code=problem.code, message=problem.message, hint=hint)


def _check_fields(table: TableFile) -> Iterator[Problem]:
    layout = table.layout
    for record in table.records:
        found = len(record.fields) + 1
        if found < layout.min_fields or (layout.max_fields and found > layout.max_fields):
            message = f"expected {_expected(layout)} fields, found {found}"
            yield Problem(file=table.name, line=record.line, code="E107", message=message)


def _expected(layout: Layout) -> str:
    return str(layout.min_fields) if layout.max_fields else f"at least {layout.min_fields}"


def _check_keys(table: TableFile) -> Iterator[Problem]:
    for record in table.records:
        if record.key.isalnum() and record.key.isascii():
            continue
        for character in record.key:
            invisible = unicodedata.category(character) in ("Cc", "Cf")
            if character == "/" or invisible:
                what = f"U+{ord(character):04X}" if invisible else f"'{character}'"
                yield Problem(file=table.name, line=record.line, code="E110", message=f"key contains {what}")
                break


def _check_order(table: TableFile) -> Iterator[Problem]:
    """E109, and E108 among the records that are no duplicates."""
    previous = ""
    for record in table.records:
        first = table.first[record.key]
        if first is not record:
            message = f"duplicate key '{record.key}' (first at line {first.line})"
            yield Problem(file=table.name, line=record.line, code="E109", message=message)
            continue
        # the order of code points is the order of UTF-8 bytes
        if record.key < previous:
            message = f"'{record.key}' after '{previous}' is not in C-locale (byte) order"
            yield Problem(file=table.name, line=record.line, code="E108", message=message)
        previous = record.key


def _check_speaker_order(utt2spk: TableFile) -> Iterator[Problem]:
    records = [r for r in utt2spk.records if utt2spk.first[r.key] is r and r.fields]
    for before, after in itertools.pairwise(records):
        if after.fields[0] < before.fields[0]:
            yield Problem(
                file=utt2spk.name,
                line=after.line,
                code="E111",
                message=f"sorting by speaker gives another order: '{after.key}' of speaker '{after.fields[0]}' "
                f"comes after '{before.key}' of '{before.fields[0]}'",
                hint="make speaker ids fixed-width prefixes of utterance ids",
            )
