"""A data directory as it stands, faults included: what validation looks at and repair starts from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from speechkit.data.kaldi.problem import Problem
from speechkit.data.kaldi.tables import Layout, layout_of, table_files
from speechkit.errors import InputError

_STRANGE_SPACE = re.compile(r"[^\S \t\r]")
_UNEVEN_SPACE = re.compile(r"^ | $|  ")
_VERBATIM = re.compile(r"([ \t]*)([^ \t]*)([ \t]*)(.*?)([ \t]*)", re.DOTALL)
_BOM = "\ufeff"


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A line with a key, its white space mended.

    Attributes:
        line: counted from 1.
        value: what follows the key and a space; bytes that are not UTF-8 are kept as surrogates.
    """

    line: int
    key: str
    value: str

    @property
    def fields(self) -> list[str]:
        """The value, split at spaces; nothing for an empty value."""
        return self.value.split(" ") if self.value else []


@dataclass(frozen=True, kw_only=True, slots=True)
class TableFile:
    """A table as it stands.

    Attributes:
        records: every line that has a key, in the order of the file, duplicates included.
        first: by key, the first record of each.
    """

    name: str
    layout: Layout
    records: list[Record]
    first: dict[str, Record]

    def has_fields(self, record: Record) -> bool:
        """Whether a record has as many fields as its table asks for; the others take no part in rules on values."""
        return len(record.fields) + 1 >= self.layout.min_fields


@dataclass(frozen=True, kw_only=True, slots=True)
class Directory:
    """The tables of a data directory that hold anything, by file name, and what is wrong with their form."""

    path: Path
    tables: dict[str, TableFile]
    empty: list[str]
    problems: list[Problem]

    def keyed_by(self, key: str) -> list[TableFile]:
        """The tables whose first field names an utterance, a recording or a speaker.

        Without `segments` a recording is an utterance.
        """
        kinds = {"utterance", "recording"} if key == "utterance" and "segments" not in self.tables else {key}
        if key == "recording" and "segments" not in self.tables:
            return []
        return [table for table in self.tables.values() if table.layout.key in kinds]

    def value(self, name: str, key: str) -> str:
        """The first field after a key; "" when there is none."""
        table = self.tables.get(name)
        record = table.first.get(key) if table else None
        return record.fields[0] if record and record.fields else ""


def read_directory(path: str | Path) -> Directory:
    """Read all tables once, with the faults of their form (E102–E106, and lines without a key as E107).

    Raises:
        InputError: the folder or one of its files cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        what = "not a folder" if path.exists() else "no such data directory"
        raise InputError(f"{path}: {what}", code="data.missing")
    directory = Directory(path=path, tables={}, empty=[], problems=[])
    for name in table_files(path):
        try:
            content = (path / name).read_bytes()
        except OSError as error:
            raise InputError(f"{path / name}: cannot read: {error.strerror}", code="data.missing") from error
        layout = layout_of(name)
        if layout is not None and content:
            directory.tables[name] = _read(name, layout, content, directory.problems)
        else:
            directory.empty.append(name)
            directory.problems.append(Problem(file=name, line=0, code="E102", message="file is empty"))
    return directory


def _read(name: str, layout: Layout, content: bytes, problems: list[Problem]) -> TableFile:
    lines = content.split(b"\n")
    if lines[-1]:
        what = "line does not end in a newline"
        problems.append(Problem(file=name, line=len(lines), code="E104", message=what))
    else:
        lines.pop()
    records: list[Record] = []
    first: dict[str, Record] = {}
    for number, line in enumerate(lines, 1):
        text = _decoded(name, number, line, problems)
        for code, message, hint in _white_space(text, layout.verbatim):
            problems.append(Problem(file=name, line=number, code=code, message=message, hint=hint))
        key, _, value = _mended(text, layout.verbatim).partition(" ")
        if not key:
            message = f"expected {layout.min_fields} fields, found 0"
            problems.append(Problem(file=name, line=number, code="E107", message=message))
            continue
        record = Record(line=number, key=key, value=value)
        records.append(record)
        first.setdefault(key, record)
    return TableFile(name=name, layout=layout, records=records, first=first)


def _decoded(name: str, number: int, line: bytes, problems: list[Problem]) -> str:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        column = len(line[: error.start].decode("utf-8")) + 1
        message = f"byte 0x{line[error.start]:02x} at column {column} is not UTF-8"
        problems.append(Problem(file=name, line=number, code="E103", message=message))
        text = line.decode("utf-8", "surrogateescape")
    if number == 1 and text.startswith(_BOM):
        message = "key begins with a byte order mark (U+FEFF)"
        problems.append(
            Problem(file=name, line=1, code="E110", message=message, hint="convert with: speechkit data fix")
        )
        text = text.removeprefix(_BOM)
    return text


def _white_space(text: str, verbatim: bool) -> Iterator[tuple[str, str, str]]:
    """Code, message and hint of what is wrong with the white space of a line, one of each code."""
    if "\r" in text:
        yield "E104", "carriage return (0x0D)", "convert with: speechkit data fix"
        text = text.rstrip("\r")
    looked_at, tab = text, "\t" in text
    if verbatim and (parts := _VERBATIM.fullmatch(text)):
        before, key, between, value, after = parts.groups()
        # the value stands for itself: only what surrounds it is looked at
        looked_at, tab = before + key + between + ("x" if value else "") + after, "\t" in before + between + after
    if strange := _STRANGE_SPACE.search(looked_at):
        column = strange.start() + 1
        yield "E105", f"disallowed white space U+{ord(strange[0]):04X} at column {column}", ""
    if tab:
        yield "E106", "tab between fields", "use one space"
    elif uneven := _UNEVEN_SPACE.search(looked_at):
        what = "two spaces between fields" if uneven[0] == "  " else "space at an end of the line"
        yield "E106", what, "use one space between fields, none at the ends"


def _mended(text: str, verbatim: bool) -> str:
    """The line with single spaces between fields; a verbatim value stays as it is."""
    if not verbatim:
        return " ".join(text.split())
    fields = text.rstrip("\r").replace("\r", " ").split(maxsplit=1)
    return " ".join(fields).rstrip()
