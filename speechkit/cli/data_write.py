"""The subcommands of `speechkit data` that write: parts, copies, lists, and lhotse's forms of a data directory."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from speechkit.errors import InputError, OutputError, UsageError

if TYPE_CHECKING:
    from speechkit.data.kaldi.tables import DataDir
    from speechkit.data.kaldi.utterances import Measured

_OUR_FILES = ("dropped.tsv", "utterances.jsonl")
_OUR_FOLDERS = (".backup", "cuts.index")
_MANIFEST = re.compile(r"(cuts|recordings?|supervisions)(\.\d+)?\.(jsonl|jsonl\.gz|tar)")


def split_dir(args: argparse.Namespace) -> int:
    """Divide into parts of about equal length."""
    from speechkit.data.kaldi.split import split

    out = args.output or args.dir / f"split{args.parts}{'utt' if args.per_utt else ''}"
    _check_output(out, [args.dir], args.overwrite)
    parts = split(
        args.dir,
        args.parts,
        out,
        root=root(args, args.dir),
        per_utterance=args.per_utt,
        allow_pipes=args.allow_pipes,
    )
    for number, part in enumerate(parts, 1):
        print(f"{out / str(number)}\t{counted(len(part.ids), 'utterance')}")
    _name_left([args.dir])
    return 0


def combine_dirs(args: argparse.Namespace) -> int:
    """Put several directories together."""
    from speechkit.data.kaldi.combine import combine, moved
    from speechkit.data.kaldi.tables import DataDir, root_of

    _check_output(args.output, args.dirs, args.overwrite)
    named = [(str(path), moved(DataDir.read(path), root(args, path), root_of(args.output))) for path in args.dirs]
    tables, left = combine(named)
    if left:
        say(f"{args.output}: left out, since not every set has them: {', '.join(left)}")
    return _write(tables, args.output, args.dirs)


def subset_dir(args: argparse.Namespace) -> int:
    """Take a part of a directory."""
    from speechkit.data.kaldi.combine import subset
    from speechkit.data.kaldi.tables import DataDir

    ids = None
    if args.ids:
        try:
            ids = args.ids.read_text(encoding="utf-8-sig").split()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{args.ids}: cannot read: {error}", code="data.ids") from error
    part = subset(DataDir.read(args.dir), first=args.first, ids=ids, speakers=args.speakers)
    return _write_moved(part, args)


def copy_dir(args: argparse.Namespace) -> int:
    """Copy the tables."""
    from speechkit.data.kaldi.tables import DataDir

    return _write_moved(DataDir.read(args.dir), args)


def _write_moved(tables: DataDir, args: argparse.Namespace) -> int:
    from speechkit.data.kaldi.combine import moved
    from speechkit.data.kaldi.tables import root_of

    _check_output(args.output, [args.dir], args.overwrite)
    return _write(moved(tables, root(args, args.dir), root_of(args.output)), args.output, [args.dir])


def _write(tables: DataDir, out: Path, sources: Sequence[Path]) -> int:
    from speechkit.files import whole

    if not tables.tables():
        raise InputError(f"{', '.join(map(str, sources))}: no data directory: no table is in it", code="data.missing")
    with whole(out) as temporary:
        tables.write(temporary)
    print(f"{out}\t{counted(len(tables.ids), 'utterance')}")
    _name_left(sources)
    return 0


def index_dir(args: argparse.Namespace) -> int:
    """List utterances with their lengths, or index a Shar folder."""
    from speechkit.data.lhotse.shar import is_shar
    from speechkit.data.utterance import write_utterances

    if is_shar(args.dir):
        return _index_shar(args)
    out = args.output or args.dir / "utterances.jsonl"
    if args.output:
        _check_output(out, [args.dir], args.overwrite)
    measured = _measured(args)
    write_utterances(out, measured.utterances)
    dropped = f"\t{counted(len(measured.dropped), 'segment')} dropped" if measured.dropped else ""
    print(f"{out}\t{_size(measured)}{dropped}")
    return 0


def _index_shar(args: argparse.Namespace) -> int:
    from speechkit.data.lhotse.shar import index_shar

    if args.output:
        raise UsageError("-o: the index of a Shar folder lies in it", hint="leave -o out", code="usage.output")
    index = index_shar(args.dir, nj=args.nj)
    out = index.save(args.dir)
    print(f"{out}\t{counted(len(index), 'utterance')}\t{index.seconds / 3600:.3f} h")
    return 0


def _measured(args: argparse.Namespace) -> Measured:
    from speechkit.data.kaldi.utterances import measure

    measured = measure(args.dir, root=root(args, args.dir), allow_pipes=args.allow_pipes)
    for problem in measured.dropped:
        say(f"{args.dir}/{problem}")
    measured.check(args.dir)
    return measured


def _size(measured: Measured) -> str:
    hours = sum(utterance.duration_s for utterance in measured.utterances) / 3600
    return f"{counted(len(measured.utterances), 'utterance')}\t{hours:.3f} h"


def to_lhotse(args: argparse.Namespace) -> int:
    """Write lhotse's manifests."""
    from speechkit.data.kaldi.tables import DataDir
    from speechkit.data.lhotse.manifests import write_manifests

    _check_output(args.output, [args.dir], args.overwrite)
    measured = _measured(args)
    _name_without_place(args, write_manifests(args.output, DataDir.read(args.dir), measured))
    print(f"{args.output}\t{_size(measured)}")
    return 0


def to_shar(args: argparse.Namespace) -> int:
    """Write a Shar folder."""
    from speechkit.data.kaldi.tables import DataDir
    from speechkit.data.lhotse.forms import supervision_fields
    from speechkit.data.lhotse.shar import write_shar

    if args.shard_size < 1:
        raise UsageError(f"--shard-size {args.shard_size}: at least 1", code="usage.shard_size")
    _check_output(args.output, [args.dir], args.overwrite)
    measured = _measured(args)
    fields, left = supervision_fields(DataDir.read(args.dir))
    index = write_shar(
        args.output,
        measured.utterances,
        fields,
        shard_size=args.shard_size,
        format=args.format,
        nj=args.nj,
        allow_pipes=args.allow_pipes,
    )
    _name_without_place(args, left)
    print(f"{args.output}\t{_size(measured)}\t{counted(len(index.shards), 'shard')}")
    return 0


def _name_without_place(args: argparse.Namespace, tables: Sequence[str]) -> None:
    if tables:
        say(f"{args.dir}: not carried over: {', '.join(tables)}")
    _name_left([args.dir])


def from_lhotse(args: argparse.Namespace) -> int:
    """Take over lhotse's cuts."""
    from speechkit.data.lhotse.forms import manifest, read_cuts
    from speechkit.data.lhotse.manifests import data_dir
    from speechkit.data.lhotse.shar import SharUtterances, is_shar
    from speechkit.files import whole

    _check_output(args.output, [args.dir], args.overwrite)
    cuts = SharUtterances(args.dir).cuts() if is_shar(args.dir) else read_cuts(manifest(args.dir))
    tables, notes = data_dir(cuts)
    with whole(args.output) as temporary:
        tables.write(temporary)
    for note in notes:
        say(f"{args.dir}: {note}")
    print(f"{args.output}\t{counted(len(tables.ids), 'utterance')}")
    return 0


def root(args: argparse.Namespace, path: Path) -> Path:
    """Where relative paths of a data directory count from."""
    from speechkit.data.kaldi.tables import root_of

    chosen: Path | None = args.root
    return chosen or root_of(path)


def _check_output(out: Path, sources: Sequence[Path], overwrite: bool) -> None:
    if any(source.resolve().is_relative_to(out.resolve()) for source in sources):
        raise UsageError(f"{out}: would replace its own source", code="output.source")
    if not out.exists():
        return
    if not overwrite:
        raise OutputError(f"{out}: exists", hint="pass --overwrite to replace it", code="output.exists")
    if strange := _not_ours(out):
        hint = "--overwrite replaces what these commands wrote, and nothing else"
        what = "is no data directory" if strange == out else f"holds {strange.name}, no part of a data directory"
        raise OutputError(f"{out}: {what}", hint=hint, code="output.exists")


def _not_ours(folder: Path) -> Path | None:
    """Something in a folder that these commands do not write; they write files of one name into none."""
    from speechkit.data.kaldi.tables import layout_of

    for path in sorted(folder.iterdir()) if folder.is_dir() else [folder]:
        if path.is_dir():
            strange = None if path.name in _OUR_FOLDERS else _not_ours(path) if path.name.isdecimal() else path
        else:
            ours = layout_of(path.name) or path.name in _OUR_FILES or _MANIFEST.fullmatch(path.name)
            strange = None if ours else path
        if strange:
            return strange
    return None


def _name_left(sources: Sequence[Path]) -> None:
    """Say which files beside the tables were not carried over."""
    from speechkit.data.kaldi.tables import layout_of

    for path in sources:
        files = [p.name for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith(".")]
        if left := [name for name in files if not layout_of(name) and name not in _OUR_FILES]:
            say(f"{path}: not carried over: {', '.join(left)}")


def counted(number: int, what: str) -> str:
    """A number and what is counted, in the plural where it is not one."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def say(text: str) -> None:
    """Tell the user something that is no result."""
    print(text, file=sys.stderr)
