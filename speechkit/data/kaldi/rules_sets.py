"""Rules between tables: who speaks what, which ids are where (E121–E124, W181, W182, W191)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from speechkit.data.kaldi.directory import Directory, TableFile
from speechkit.data.kaldi.problem import Problem


def check_sets(directory: Directory) -> Iterator[Problem]:
    """All rules between the tables of one directory; tables that are absent or empty take no part."""
    yield from _check_inverse(directory)
    yield from _check_utterances(directory)
    yield from _check_recordings(directory)
    yield from _check_speakers(directory)
    yield from _check_case(directory)


def check_against(directory: Directory, other: Directory, other_path: Path) -> Iterator[Problem]:
    """W191: utterances that another directory has as well."""
    if "utt2spk" not in directory.tables or "utt2spk" not in other.tables:
        return
    theirs = other.tables["utt2spk"].first
    for key, record in directory.tables["utt2spk"].first.items():
        if key in theirs:
            message = f"also in {other_path}:{theirs[key].line}"
            yield Problem(file="utt2spk", line=record.line, code="W191", message=message)


def _check_inverse(directory: Directory) -> Iterator[Problem]:
    """E121, W181."""
    utt2spk, spk2utt = directory.tables.get("utt2spk"), directory.tables.get("spk2utt")
    if spk2utt and len(spk2utt.first) == 1:
        message = "only one speaker; speaker adaptation and speaker-wise splits are meaningless"
        yield Problem(file="spk2utt", line=1, code="W181", message=message)
    if not utt2spk or not spk2utt:
        return
    for speaker, record in spk2utt.first.items():
        seen = set()
        for utterance in record.fields:
            owner = directory.value("utt2spk", utterance)
            if utterance in seen:
                yield _inverse(record.line, f"speaker '{speaker}' lists utterance '{utterance}' twice")
            elif utterance not in utt2spk.first:
                yield _inverse(record.line, f"speaker '{speaker}' lists utterance '{utterance}', not in utt2spk")
            elif owner and owner != speaker:
                what = f"speaker '{speaker}' lists utterance '{utterance}', which utt2spk gives to '{owner}'"
                yield _inverse(record.line, what)
            seen.add(utterance)
    listed = {speaker: set(record.fields) for speaker, record in spk2utt.first.items()}
    for utterance, record in utt2spk.first.items():
        speaker = directory.value("utt2spk", utterance)
        if speaker and utterance not in listed.get(speaker, ()):
            place = spk2utt.first.get(speaker)
            where = "" if place else f" of utt2spk:{record.line}"
            what = f"speaker '{speaker}' misses utterance '{utterance}'{where}"
            yield _inverse(place.line if place else 0, what)


def _inverse(line: int, message: str) -> Problem:
    return Problem(file="spk2utt", line=line, code="E121", message=message, hint="rebuild: speechkit data fix")


def _check_utterances(directory: Directory) -> Iterator[Problem]:
    """E122."""
    if utt2spk := directory.tables.get("utt2spk"):
        for table in directory.keyed_by("utterance"):
            if table.name not in ("utt2spk", "utt2uniq"):
                yield from _differences("E122", "utterance", utt2spk, table)


def _check_recordings(directory: Directory) -> Iterator[Problem]:
    """E123, W123."""
    segments, wav = directory.tables.get("segments"), directory.tables.get("wav.scp")
    if not segments:
        return
    used: dict[str, int] = {}
    for record in segments.records:
        if record.fields:
            used.setdefault(record.fields[0], record.line)
            if wav and record.fields[0] not in wav.first:
                message = f"segment of unknown recording '{record.fields[0]}'"
                yield Problem(file="segments", line=record.line, code="E123", message=message)
    for recording, record in wav.first.items() if wav else ():
        if recording not in used:
            message = f"recording '{recording}' has no segment"
            yield Problem(file="wav.scp", line=record.line, code="W123", message=message)
    for table in directory.keyed_by("recording"):
        if table.name != "wav.scp":
            yield from _check_recording_table(table, used, wav)


def _check_recording_table(table: TableFile, used: dict[str, int], wav: TableFile | None) -> Iterator[Problem]:
    """A table of recordings has all that segments use, and none that neither segments nor wav.scp knows."""
    for recording, line in used.items():
        if recording not in table.first and (wav is None or recording in wav.first):
            message = f"recording '{recording}' is in segments:{line} but not here"
            yield Problem(file=table.name, line=0, code="E123", message=message)
    for recording, record in table.first.items():
        if recording not in used and (wav is None or recording not in wav.first):
            message = f"recording '{recording}' is in neither segments nor wav.scp"
            yield Problem(file=table.name, line=record.line, code="E123", message=message)


def _check_speakers(directory: Directory) -> Iterator[Problem]:
    """E124."""
    if spk2utt := directory.tables.get("spk2utt"):
        for table in directory.keyed_by("speaker"):
            if table.name != "spk2utt":
                yield from _differences("E124", "speaker", spk2utt, table)


def _differences(code: str, kind: str, primary: TableFile, table: TableFile) -> Iterator[Problem]:
    for key, record in primary.first.items():
        if key not in table.first:
            message = f"{kind} '{key}' is in {primary.name}:{record.line} but not here"
            yield Problem(file=table.name, line=0, code=code, message=message)
    for key, record in table.first.items():
        if key not in primary.first:
            message = f"{kind} '{key}' is not in {primary.name}"
            yield Problem(file=table.name, line=record.line, code=code, message=message)


def _check_case(directory: Directory) -> Iterator[Problem]:
    """W182."""
    seen: dict[str, str] = {}
    for key, record in directory.tables["utt2spk"].first.items() if "utt2spk" in directory.tables else ():
        other = seen.setdefault(key.casefold(), key)
        if other != key:
            message = f"'{other}' and '{key}' differ only in case"
            yield Problem(file="utt2spk", line=record.line, code="W182", message=message)
