"""Data directories put together, cut down and moved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from speechkit.data.kaldi.tables import DataDir, Table, layout_of
from speechkit.errors import InputError, UsageError


def combine(named: Sequence[tuple[str, DataDir]]) -> tuple[DataDir, list[str]]:
    """One directory from several.

    Where some have `segments`, the whole recordings of the others become segments that end at -1. A table that not all
    have is left out, since it would lack utterances.

    Args:
        named: each with the name that messages use.

    Returns:
        The directory, and the names of the tables left out.

    Raises:
        InputError: one key has two values.
    """
    if any(tables.segments for _, tables in named):
        named = [(name, _with_segments(tables)) for name, tables in named]
    files = [set(tables.tables()) for _, tables in named]
    common = set.intersection(*files)
    merged: dict[str, Table] = {}
    for file in sorted(common):
        merged[file] = _merged(file, [(name, tables.tables()[file]) for name, tables in named])
    return DataDir.of(merged), sorted(set.union(*files) - common)


def _with_segments(tables: DataDir) -> DataDir:
    if tables.segments:
        return tables
    return DataDir.of({**tables.tables(), "segments": {id: f"{id} 0 -1" for id in tables.wav_scp}})


def _merged(file: str, named: Sequence[tuple[str, Table]]) -> Table:
    merged: Table = {}
    for name, table in named:
        for key, value in table.items():
            if merged.setdefault(key, value) != value:
                raise InputError(
                    f"{name}/{file}: '{key}' has another value in an earlier directory: '{value}' and '{merged[key]}'",
                    hint="give ids that are unique over all sets",
                    code="data.duplicate",
                )
    return merged


def subset(
    tables: DataDir, *, first: int | None = None, ids: Sequence[str] | None = None, speakers: int | None = None
) -> DataDir:
    """A part of a directory: the first utterances, those listed, or all of the first speakers (in byte order).

    Raises:
        UsageError: it has fewer utterances or speakers than asked for.
        InputError: an id is not in it.
    """
    if ids is not None:
        known = set(tables.ids)
        unknown = [id for id in ids if id not in known]
        if unknown or not ids:
            what = f"{len(unknown)} ids are not in the directory, such as '{unknown[0]}'" if unknown else "no ids"
            raise InputError(what, code="data.ids")
        return tables.select(ids)
    names = tables.ids if first is not None else sorted(tables.spk2utt)
    wanted = first if first is not None else speakers
    if wanted is None or not 1 <= wanted <= len(names):
        what = "utterances" if first is not None else "speakers"
        raise UsageError(f"asked for {wanted} of {len(names)} {what}", code="data.subset")
    if first is not None:
        return tables.select(names[:first])
    chosen = set(names[:speakers])
    return tables.select(id for id, speaker in tables.utt2spk.items() if speaker in chosen)


def moved(tables: DataDir, old_root: Path, new_root: Path) -> DataDir:
    """The same directory for another place: relative paths become absolute when they would mean something else.

    Commands stay as they are.
    """
    if old_root.resolve() == new_root.resolve():
        return tables
    changed = {}
    for name, table in tables.tables().items():
        layout = layout_of(name)
        if layout is not None and layout.verbatim:
            changed[name] = {key: _absolute(value, old_root.resolve()) for key, value in table.items()}
    return DataDir.of({**tables.tables(), **changed})


def _absolute(value: str, root: Path) -> str:
    return value if value.endswith("|") or value.startswith("~") else str(root / value)
