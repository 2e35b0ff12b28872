"""The tables of a Kaldi data directory: one record a line, sorted in byte order.

A table is a dict from key to the rest of the line. Everything here is strict: it reads what is right and names file
and line of what is not; `validate` beside it finds all that is wrong and `repair` mends it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, NoReturn

from speechkit.errors import InputError
from speechkit.files import unwritable, write_text

Table = dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """What the lines of a table hold.

    Attributes:
        key: what the first field names; `recording` means the utterance where there is no `segments`.
        min_fields: the key included.
        max_fields: the key included; None for any number.
        verbatim: the rest of the line is one value in which spaces mean something (paths and commands).
        derived: can be made again from other tables and the audio.
    """

    key: Literal["utterance", "recording", "speaker"]
    min_fields: int = 2
    max_fields: int | None = 2
    verbatim: bool = False
    derived: bool = False


_TEXT = Layout(key="utterance", min_fields=1, max_fields=None)
_TRANSLATION = re.compile(r"text\.(tc|lc|lc\.rm)\.[A-Za-z_-]+")

LAYOUTS: dict[str, Layout] = {
    "utt2spk": Layout(key="utterance"),
    "spk2utt": Layout(key="speaker", max_fields=None, derived=True),
    "text": _TEXT,
    "segments": Layout(key="utterance", min_fields=4, max_fields=5),
    "wav.scp": Layout(key="recording", max_fields=None, verbatim=True),
    "reco2dur": Layout(key="recording", derived=True),
    "reco2file_and_channel": Layout(key="recording", min_fields=3, max_fields=3),
    "utt2dur": Layout(key="utterance", derived=True),
    "utt2num_samples": Layout(key="utterance", derived=True),
    "utt2num_frames": Layout(key="utterance", derived=True),
    "utt2lang": Layout(key="utterance"),
    "utt2uniq": Layout(key="utterance"),
    "utt2category": Layout(key="utterance"),
    "utt2warp": Layout(key="utterance"),
    "feats.scp": Layout(key="utterance", max_fields=None, verbatim=True),
    "vad.scp": Layout(key="utterance", max_fields=None, verbatim=True),
    "spk2gender": Layout(key="speaker"),
    "spk2warp": Layout(key="speaker"),
    "cmvn.scp": Layout(key="speaker", max_fields=None, verbatim=True),
}


def layout_of(name: str) -> Layout | None:
    """The layout of a file by its name, `text.<case>.<lang>` included; None for a file that is no table."""
    return _TEXT if _TRANSLATION.fullmatch(name) else LAYOUTS.get(name)


def table_files(path: Path) -> list[str]:
    """Names of the tables in a data directory, sorted.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        return sorted(p.name for p in path.iterdir() if layout_of(p.name) and p.is_file())
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror}", code="data.missing") from error


def read_table(path: str | Path) -> Table:
    """Read `key rest` lines, in their order.

    Raises:
        InputError: the file is missing, or a line breaks the form (file and line are named).
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror}", code="data.missing") from error
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        _malformed(path, number, "E103", f"byte 0x{content[error.start]:02x} is not UTF-8")
    if lines.pop():
        _malformed(path, len(lines) + 1, "E104", "line does not end in a newline")
    table: Table = {}
    for number, line in enumerate(lines, 1):
        key, _, value = line.partition(" ")
        if not key or "\t" in key or "\r" in line:
            what = ("E104", "carriage return (0x0D)") if "\r" in line else ("E106", "line does not begin with a key")
            _malformed(path, number, *what)
        if key in table:
            _malformed(path, number, "E109", f"duplicate key '{key}'")
        table[key] = value
    return table


def _malformed(path: Path, line: int, code: str, message: str) -> NoReturn:
    raise InputError(f"{path}:{line}: {code} {message}", hint=f"run: speechkit data fix {path.parent}", code=code)


def write_table(path: str | Path, table: Mapping[str, str]) -> None:
    """Write `key rest` lines in byte order, whole or not at all; an empty rest leaves the key alone.

    Raises:
        ValueError: a key is empty or holds white space, or a value would break its line.
    """
    for key, value in table.items():
        if key.split() != [key]:
            raise ValueError(f"{path}: {key!r} cannot be a key")
        if value != value.strip(" ") or "\n" in value or "\r" in value:
            raise ValueError(f"{path}: value of {key!r} breaks its line: {value!r}")
    # the order of code points is the order of UTF-8 bytes
    write_text(path, "".join(f"{key} {table[key]}\n" if table[key] else f"{key}\n" for key in sorted(table)))


@dataclass(frozen=True, kw_only=True, slots=True)
class DataDir:
    """The tables of a data directory; one that is empty is not written. `spk2utt` follows from `utt2spk`.

    Attributes:
        others: by file name, such as `utt2lang` or `text.tc.de`.
    """

    wav_scp: Table = field(default_factory=dict)
    segments: Table = field(default_factory=dict)
    text: Table = field(default_factory=dict)
    utt2spk: Table = field(default_factory=dict)
    utt2dur: Table = field(default_factory=dict)
    reco2dur: Table = field(default_factory=dict)
    reco2file_and_channel: Table = field(default_factory=dict)
    spk2gender: Table = field(default_factory=dict)
    others: Mapping[str, Table] = field(default_factory=dict)

    @classmethod
    def of(cls, tables: Mapping[str, Table]) -> DataDir:
        """From tables by file name; `spk2utt` is left out."""
        named = {f.name: tables.get(_file(f.name), {}) for f in fields(cls) if f.name != "others"}
        rest = {name: t for name, t in tables.items() if name not in {*map(_file, named), "spk2utt"} and t}
        return cls(**named, others=rest)

    @classmethod
    def read(cls, path: str | Path) -> DataDir:
        """Read every table of a folder; other files are left alone.

        Raises:
            InputError: there is no such folder, or a table breaks the form.
        """
        path = Path(path)
        if not path.is_dir():
            raise InputError(f"{path}: no such data directory", code="data.missing")
        return cls.of({name: read_table(path / name) for name in table_files(path)})

    def write(self, path: str | Path) -> None:
        """Write the tables, and remove tables of an earlier writing that are no longer there."""
        path = Path(path)
        tables = self.tables()
        if self.utt2spk:
            tables["spk2utt"] = self.spk2utt
        for name, table in tables.items():
            write_table(path / name, table)
        for name in set(table_files(path)) - set(tables) if path.is_dir() else ():
            try:
                (path / name).unlink()
            except OSError as error:
                raise unwritable(path / name, error) from error

    def tables(self) -> dict[str, Table]:
        """The tables that hold something, by file name; without `spk2utt`."""
        named = {_file(f.name): getattr(self, f.name) for f in fields(self) if f.name != "others"}
        return {name: table for name, table in {**named, **self.others}.items() if table}

    @property
    def spk2utt(self) -> Table:
        """The inverse of `utt2spk`, utterances in byte order."""
        utterances: dict[str, list[str]] = {}
        for utterance, speaker in sorted(self.utt2spk.items()):
            utterances.setdefault(speaker, []).append(utterance)
        return {speaker: " ".join(utterances[speaker]) for speaker in sorted(utterances)}

    @property
    def ids(self) -> list[str]:
        """Utterance ids in byte order."""
        return sorted(self.utt2spk or self.segments or self.wav_scp or self.text)

    def select(self, ids: Iterable[str]) -> DataDir:
        """The records of these utterances, of their recordings and of their speakers."""
        utterances = set(ids)
        recordings = {value.split(" ")[0] for utt, value in self.segments.items() if utt in utterances}
        kept = {
            "utterance": utterances,
            "recording": recordings if self.segments else utterances,
            "speaker": {speaker for utt, speaker in self.utt2spk.items() if utt in utterances},
        }
        return DataDir.of({name: _filtered(table, kept[_key(name)]) for name, table in self.tables().items()})


def _file(field_name: str) -> str:
    return "wav.scp" if field_name == "wav_scp" else field_name


def _key(name: str) -> str:
    layout = layout_of(name)
    if layout is None:
        raise ValueError(f"{name!r} is no table of a data directory")
    return layout.key


def _filtered(table: Table, keys: set[str]) -> Table:
    return {key: value for key, value in table.items() if key in keys}


def root_of(path: str | Path) -> Path:
    """Where relative paths in a data directory count from.

    The parent of the `data` folder it lies in (`ROOT/data/SET`, `ROOT/data/SET/split4/1`), else the current folder.
    """
    folder = Path(path).resolve()
    if re.fullmatch(r"split\d+(utt)?", folder.parent.name):
        folder = folder.parent.parent
    return folder.parent.parent if folder.parent.name == "data" else Path.cwd()
