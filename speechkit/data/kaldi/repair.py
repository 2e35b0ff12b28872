"""Repair of a Kaldi data directory: form, order, identical duplicates, and ids that not all tables have.

`utt2spk` is primary. Values are never invented and conflicts never decided: a key with two different values stays.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from speechkit.data.kaldi.directory import Directory, Record, TableFile, read_directory
from speechkit.data.kaldi.problem import Problem, escaped
from speechkit.errors import InputError, SpeechkitError
from speechkit.files import unwritable, whole, write_text

MAX_DROP_PERCENT = 5.0

_NOT_OPTIONAL = ("text", "segments", "wav.scp", "feats.scp")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """An utterance, or a record without one, that repair leaves out.

    Attributes:
        utterance: its id, or the key of the record.
        reason: why, the same words for the same cause.
        file: the table that decided, or that held the record.
    """

    utterance: str
    reason: str
    file: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Repair:
    """What repair would do.

    Attributes:
        num_before: utterances in `utt2spk`.
        num_after: those that stay.
        utterances: those that go, in byte order.
        records: records of other tables that belong to no utterance of `utt2spk`, and recordings without segments.
        contents: new content by file name; None for a table that goes.
        notes: what else happens, for people.
        conflicts: duplicates with different values, which stay (E109).
    """

    num_before: int
    num_after: int
    utterances: list[Dropped]
    records: list[Dropped]
    contents: dict[str, bytes | None]
    notes: list[str]
    conflicts: list[Problem]


def plan_repair(path: str | Path) -> Repair:
    """Work out the repair of a directory; nothing is written.

    Raises:
        InputError: the directory cannot be read, or has no `utt2spk`.
    """
    directory = read_directory(path)
    utt2spk = directory.tables.get("utt2spk")
    if utt2spk is None or not utt2spk.first:
        raise InputError(f"{path}/utt2spk: E101 no such file, or it is empty: nothing to repair from", code="E101")
    dropped = {key: reason for key in utt2spk.first if (reason := _reason(directory, key))}
    kept = _kept_keys(directory, [key for key in utt2spk.first if key not in dropped])
    tables, records, notes = _kept_records(directory, kept, set(dropped))
    tables["spk2utt"] = _inverse(tables["utt2spk"])
    contents: dict[str, bytes | None] = {name: _content(tables[name]) for name in tables}
    empty = [name for name in directory.empty if name not in (*_NOT_OPTIONAL, "spk2utt")]
    for name in [*directory.tables, *empty]:
        contents.setdefault(name, None)
    notes += [f"{name}: empty, removed" for name in empty]
    return Repair(
        num_before=len(utt2spk.first),
        num_after=len(kept["utterance"]),
        utterances=[Dropped(utterance=key, reason=dropped[key][0], file=dropped[key][1]) for key in sorted(dropped)],
        records=records,
        contents={name: content for name, content in contents.items() if content != _present(directory.path / name)},
        notes=notes,
        conflicts=[problem for table in directory.tables.values() for problem in _conflicts(table)],
    )


def apply_repair(path: str | Path, repair: Repair, *, max_drop_percent: float = MAX_DROP_PERCENT) -> Path | None:
    """Write a repair; the files it replaces are copied to `.backup/TIME` first, drops are listed in `dropped.tsv`.

    Returns:
        The folder of the copies; None when there was nothing to do.

    Raises:
        SpeechkitError: more utterances would go than `max_drop_percent`, or all.
    """
    path = Path(path)
    num_dropped = repair.num_before - repair.num_after
    percent = 100 * num_dropped / repair.num_before
    if percent > max_drop_percent or not repair.num_after:
        raise SpeechkitError(
            f"{path}: {num_dropped:,} of {repair.num_before:,} utterances ({percent:.1f} %) would be dropped; "
            f"--max-drop is {max_drop_percent:g} %, and never all; nothing was written",
            hint="see the reasons above: mend those tables, or raise --max-drop",
            code="data.drop",
        )
    if not repair.contents:
        return None
    backup = path / ".backup" / _utc_time()
    try:
        backup.mkdir(parents=True)
        for name in repair.contents:
            if (path / name).exists():
                shutil.copy2(path / name, backup / name)
        _write(path, repair)
    except OSError as error:
        raise unwritable(path, error) from error
    return backup


def _write(path: Path, repair: Repair) -> None:
    if rows := repair.utterances + repair.records:
        lines = ["utt\treason\tfile", *(f"{row.utterance}\t{row.reason}\t{row.file}" for row in rows)]
        write_text(path / "dropped.tsv", escaped("\n".join(lines) + "\n"))
    for name, content in repair.contents.items():
        if content is None:
            (path / name).unlink()
        else:
            with whole(path / name) as temporary:
                temporary.write_bytes(content)


def _utc_time() -> str:
    """Now, as the name of a folder; with nanoseconds, so that two repairs in a row do not meet."""
    now = time.time_ns()
    return time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09d}Z"


def _reason(directory: Directory, utterance: str) -> tuple[str, str] | None:
    """Why an utterance cannot stay, and the table that says so."""
    for name in directory.empty:
        if name in _NOT_OPTIONAL:
            return f"{name} is empty", name
    for table in directory.keyed_by("utterance"):
        if _decides(table) and utterance not in table.first:
            return f"not in {table.name}", table.name
    if "segments" in directory.tables:
        recording = directory.value("segments", utterance)
        for table in directory.keyed_by("recording"):
            if _decides(table) and recording not in table.first:
                return f"recording not in {table.name}", table.name
    speaker = directory.value("utt2spk", utterance)
    for table in directory.keyed_by("speaker"):
        if _decides(table) and speaker not in table.first:
            return f"speaker not in {table.name}", table.name
    return None


def _decides(table: TableFile) -> bool:
    """Whether what is missing here has to go: not for what can be made again, nor for `utt2uniq`."""
    return not table.layout.derived and table.name != "utt2uniq"


def _kept_keys(directory: Directory, utterances: list[str]) -> dict[str, set[str]]:
    """The utterances, recordings and speakers that stay."""
    recordings = {directory.value("segments", utterance) for utterance in utterances}
    return {
        "utterance": set(utterances),
        "recording": recordings if "segments" in directory.tables else set(utterances),
        "speaker": {directory.value("utt2spk", utterance) for utterance in utterances},
    }


def _kept_records(
    directory: Directory, kept: Mapping[str, set[str]], dropped: set[str]
) -> tuple[dict[str, list[Record]], list[Dropped], list[str]]:
    """The records of every table that stay, those that belong to nothing, and tables that go as a whole."""
    tables: dict[str, list[Record]] = {}
    records: list[Dropped] = []
    notes: list[str] = []
    for name, table in directory.tables.items():
        keys = kept[table.layout.key]
        missing = keys - table.first.keys()
        if name == "spk2utt":
            continue
        if missing and table.layout.derived:
            what = f"lacks {len(missing):,} of {len(keys):,}, such as '{escaped(min(missing))}'"
            notes.append(f"{name}: {what}; removed, it can be made again")
            continue
        tables[name] = [record for record in _unique(table.records) if record.key in keys]
        if table.layout.key != "speaker" and name != "utt2uniq":
            unused = table.layout.key == "recording" and "segments" in directory.tables
            reason = "recording without segments" if unused else "not in utt2spk"
            strays = [key for key in table.first if key not in keys and key not in dropped]
            records += [Dropped(utterance=key, reason=reason, file=name) for key in strays]
    return tables, records, notes


def _unique(records: Iterable[Record]) -> list[Record]:
    """Sorted, with identical duplicates once."""
    once = {(record.key, record.value): record for record in reversed(list(records))}
    return sorted(once.values(), key=lambda record: (record.key, record.line))


def _inverse(utt2spk: list[Record]) -> list[Record]:
    speakers: dict[str, dict[str, None]] = {}
    owners = {record.key: record.fields[0] for record in reversed(utt2spk) if record.fields}
    for utterance in sorted(owners):
        speakers.setdefault(owners[utterance], {})[utterance] = None
    return [Record(line=0, key=speaker, value=" ".join(speakers[speaker])) for speaker in sorted(speakers)]


def _content(records: list[Record]) -> bytes:
    lines = (f"{record.key} {record.value}\n" if record.value else f"{record.key}\n" for record in records)
    return "".join(lines).encode("utf-8", "surrogateescape")


def _present(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _conflicts(table: TableFile) -> list[Problem]:
    found = []
    for record in table.records:
        first = table.first[record.key]
        if record.value != first.value and table.name != "spk2utt":
            message = f"duplicate key '{record.key}' (first at line {first.line}) has another value"
            found.append(Problem(file=table.name, line=record.line, code="E109", message=message))
    return found
