"""`speechkit data`: look at, mend, divide and index Kaldi data directories; lhotse's cuts and Shar; training steps."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from speechkit.cli import why
from speechkit.cli.model import seconds
from speechkit.errors import InputError, OutputError, UsageError

if TYPE_CHECKING:
    from speechkit.data.kaldi import Measured
    from speechkit.data.problem import Problem
    from speechkit.data.repair import Dropped, Repair
    from speechkit.data.rules_audio import Depth
    from speechkit.data.stats import Stats
    from speechkit.data.tables import DataDir

_SHOWN = 20  # of each rule
_OUR_FILES = ("dropped.tsv", "utterances.jsonl")
_OUR_FOLDERS = (".backup", "cuts.index")
_MANIFEST = re.compile(r"(cuts|recordings?|supervisions)(\.\d+)?\.(jsonl|jsonl\.gz|tar)")

Handler = Callable[[argparse.Namespace], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    validate = _command(commands, "validate", "report all problems by file and line", _validate)
    for name, what in (("text", "text"), ("wav", "wav.scp"), ("feats", "feats.scp")):
        _switch(validate, name, name != "feats", f"{what} must be there")
    validate.add_argument("--allow-empty-text", action="store_true", help="a transcript without words is a warning")
    _switch(validate, "spk-sort", True, "sorting by speaker must give the same order")
    validate.add_argument("--check-audio", choices=["none", "stat", "header", "full"], default="none")
    validate.add_argument("--against", type=Path, metavar="DIR", help="a set that must not share utterances")
    validate.add_argument("--max-seconds", type=seconds, metavar="S", help="name utterances longer than this")
    validate.add_argument("--strict", action="store_true", help="warnings count as errors")
    validate.add_argument("--json", action="store_true", help="one object a line on standard output")
    _audio_options(validate)

    fix = _command(commands, "fix", "repair what can be repaired without inventing anything", _fix)
    fix.add_argument("--max-drop", type=float, default=5.0, metavar="PERCENT", help="of the utterances (default 5)")
    fix.add_argument("--dry-run", action="store_true", help="show the table only")

    stats = _command(commands, "stats", "hours, utterances, speakers, words, durations", _stats, many=True)
    stats.add_argument("--json", action="store_true", help="one object a line")
    _audio_options(stats)

    split = _command(commands, "split", "divide into N parts of equal length", _split)
    split.add_argument("parts", type=int, metavar="N")
    split.add_argument("--per-utt", action="store_true", help="speakers may be divided")
    _output(split, required=False, what="folder of the parts (default DIR/splitN or DIR/splitNutt)")
    _audio_options(split)

    combine = _command(commands, "combine", "put several directories together", _combine, many=True)
    subset = _command(commands, "subset", "take a part of a directory", _subset)
    chosen = subset.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--first", type=int, metavar="N", help="the first N utterances")
    chosen.add_argument("--ids", type=Path, metavar="FILE", help="the utterances listed, one id a line")
    chosen.add_argument("--speakers", type=int, metavar="N", help="all utterances of the first N speakers")
    copy = _command(commands, "copy", "copy the tables", _copy)
    for command in (combine, subset, copy):
        _output(command, required=True, what="the new directory")
        _root_option(command)

    what = "list utterances with their lengths, from audio headers; index a Shar folder"
    index = _command(commands, "index", what, _index)
    _output(index, required=False, what="the list (default DIR/utterances.jsonl; of Shar always DIR/cuts.index)")
    _audio_options(index)
    _jobs_option(index, "processes that go through shards")

    to_lhotse = _command(commands, "to-lhotse", "write recordings, supervisions and cuts for lhotse", _to_lhotse)
    to_shar = _command(commands, "to-shar", "store audio and transcripts as Shar, for lhotse and for us", _to_shar)
    to_shar.add_argument("--shard-size", type=int, default=1000, metavar="N", help="utterances a shard (default 1000)")
    what = "of the audio (default flac); original keeps files that are one utterance as they are"
    to_shar.add_argument("--format", choices=["flac", "wav", "original"], default="flac", help=what)
    _jobs_option(to_shar, "processes that write shards")
    for command in (to_lhotse, to_shar):
        _output(command, required=True, what="the new folder")
        _audio_options(command)
    what = "take over lhotse's cuts: a manifest, its folder, or a Shar folder, whose audio stays where it is"
    from_lhotse = _command(commands, "from-lhotse", what, _from_lhotse, metavar="CUTS")
    _output(from_lhotse, required=True, what="the new data directory")

    what = "what a step of a training saw: utterances, lengths, padding and everything drawn"
    why.add_arguments(_command(commands, "why", what, why.why, metavar="EXP"))


def run(args: argparse.Namespace) -> int:
    """Run the chosen subcommand."""
    handler: Handler = args.handler
    return handler(args)


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    what: str,
    handler: Handler,
    many: bool = False,
    metavar: str = "DIR",
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what, description=what)
    parser.add_argument("dirs" if many else "dir", type=Path, metavar=metavar, nargs="+" if many else None)
    parser.set_defaults(handler=handler)
    return parser


def _switch(parser: argparse.ArgumentParser, name: str, default: bool, what: str) -> None:
    parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=default, help=what)


def _root_option(parser: argparse.ArgumentParser) -> None:
    what = "where relative paths count from (default: the parent of the data/ it lies in, else the current folder)"
    parser.add_argument("--root", type=Path, metavar="DIR", help=what)


def _audio_options(parser: argparse.ArgumentParser) -> None:
    _root_option(parser)
    parser.add_argument("--allow-pipes", action="store_true", help="run the commands in wav.scp")


def _jobs_option(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--nj", type=int, default=1, metavar="N", help=f"{what} (default 1)")


def _output(parser: argparse.ArgumentParser, *, required: bool, what: str) -> None:
    parser.add_argument("-o", "--output", type=Path, required=required, metavar="OUT", help=what)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing OUT")


def _validate(args: argparse.Namespace) -> int:
    from speechkit.data.validate import ValidateOptions, validate

    options = ValidateOptions(
        text=args.text,
        wav=args.wav,
        feats=args.feats,
        allow_empty_text=args.allow_empty_text,
        speaker_order=args.spk_sort,
        check_audio=_depth(args),
        against=args.against,
        max_seconds=args.max_seconds,
        root=args.root,
        allow_pipes=args.allow_pipes,
    )
    problems = validate(args.dir, options)
    counts: Counter[str] = Counter()
    for problem in problems:
        counts[problem.code] += 1
        if args.json:
            print(json.dumps(problem.as_json(), ensure_ascii=False))
        elif counts[problem.code] <= _SHOWN:
            _say(f"{args.dir}/{problem}")
    for code, count in sorted(counts.items()):
        if count > _SHOWN and not args.json:
            _say(f"{args.dir}: {code}: {count:,} in all, the first {_SHOWN} shown")
    num_warnings = sum(problem.is_warning for problem in problems)
    num_errors = len(problems) - num_warnings
    _say(f"{args.dir}: {_count(num_errors, 'error')}, {_count(num_warnings, 'warning')}")
    return int(num_errors > 0 or (args.strict and num_warnings > 0))


def _depth(args: argparse.Namespace) -> Depth:
    """How far to look into recordings; their lengths are in their headers."""
    depth: Depth = args.check_audio
    return "header" if args.max_seconds is not None and depth in ("none", "stat") else depth


def _fix(args: argparse.Namespace) -> int:
    from speechkit.data.repair import apply_repair, plan_repair

    repair = plan_repair(args.dir)
    for line in _repair_table(repair):
        print(line)
    if not args.dry_run:
        backup = apply_repair(args.dir, repair, max_drop_percent=args.max_drop)
        changed = ", ".join(sorted(repair.contents))
        _say(f"{args.dir}: {f'repaired {changed}; originals in {backup}' if backup else 'nothing to repair'}")
    left = [*repair.conflicts] if args.dry_run else _errors_left(args.dir)
    for problem in left[:_SHOWN]:
        _say(f"{args.dir}/{problem}")
    if repair.conflicts:
        _say(f"hint: keep one line of each of these keys yourself, then run fix again: {args.dir}")
    elif left:
        _say(f"hint: {_count(len(left), 'error')} left that only you can mend: {args.dir}")
    return int(bool(left))


def _errors_left(path: Path) -> list[Problem]:
    from speechkit.data.validate import ValidateOptions, validate

    options = ValidateOptions(text=(path / "text").exists(), wav=(path / "wav.scp").exists())
    return [problem for problem in validate(path, options) if not problem.is_warning]


def _repair_table(repair: Repair) -> Iterable[str]:
    yield f"utterances before\t{repair.num_before}"
    yield f"utterances after\t{repair.num_after}"
    yield from _drops("dropped", repair.utterances)
    yield from _drops("records removed", repair.records)
    for note in repair.notes:
        yield f"note\t{note}"


def _drops(what: str, drops: Sequence[Dropped]) -> Iterable[str]:
    reasons: dict[tuple[str, str], list[str]] = {}
    for drop in drops:
        reasons.setdefault((drop.reason, drop.file), []).append(drop.utterance)
    for (reason, file), ids in sorted(reasons.items()):
        more = ", …" if len(ids) > 3 else ""
        yield f"{what}\t{len(ids)}\t{reason} ({file})\t{', '.join(ids[:3])}{more}"


def _stats(args: argparse.Namespace) -> int:
    from speechkit.data.stats import stats

    results = [(path, stats(path, root=_root(args, path), allow_pipes=args.allow_pipes)) for path in args.dirs]
    if args.json:
        for path, result in results:
            print(json.dumps({"dir": str(path), **asdict(result)}))
        return 0
    print("|set|hours|utterances|speakers|words|shortest|median|mean|longest|")
    print("|---|---|---|---|---|---|---|---|---|")
    for path, s in results:
        counts = f"{s.hours:.3f}|{s.num_utterances}|{s.num_speakers}|{s.num_words}"
        print(f"|{path}|{counts}|{s.shortest_s:.2f}|{s.median_s:.2f}|{s.mean_s:.2f}|{s.longest_s:.2f}|")
    for path, s in results:
        print(f"\n{path}: utterances by seconds")
        for line in _histogram(s):
            print(line)
    return 0


def _histogram(stats: Stats) -> Iterable[str]:
    from speechkit.data.stats import EDGES_SECONDS

    ends = [*map(str, EDGES_SECONDS[1:]), ""]
    for start, end, count in zip(EDGES_SECONDS, ends, stats.histogram, strict=True):
        bar = "#" * round(50 * count / max(stats.histogram))
        yield f"{f'{start}-{end}':>6}  {count:>8}  {bar}".rstrip()


def _split(args: argparse.Namespace) -> int:
    from speechkit.data.split import split

    out = args.output or args.dir / f"split{args.parts}{'utt' if args.per_utt else ''}"
    _check_output(out, [args.dir], args.overwrite)
    parts = split(
        args.dir,
        args.parts,
        out,
        root=_root(args, args.dir),
        per_utterance=args.per_utt,
        allow_pipes=args.allow_pipes,
    )
    for number, part in enumerate(parts, 1):
        print(f"{out / str(number)}\t{_count(len(part.ids), 'utterance')}")
    _name_left([args.dir])
    return 0


def _combine(args: argparse.Namespace) -> int:
    from speechkit.data.combine import combine, moved
    from speechkit.data.tables import DataDir, root_of

    _check_output(args.output, args.dirs, args.overwrite)
    named = [(str(path), moved(DataDir.read(path), _root(args, path), root_of(args.output))) for path in args.dirs]
    tables, left = combine(named)
    if left:
        _say(f"{args.output}: left out, since not every set has them: {', '.join(left)}")
    return _write(tables, args.output, args.dirs)


def _subset(args: argparse.Namespace) -> int:
    from speechkit.data.combine import subset
    from speechkit.data.tables import DataDir

    ids = None
    if args.ids:
        try:
            ids = args.ids.read_text(encoding="utf-8-sig").split()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{args.ids}: cannot read: {error}", code="data.ids") from error
    part = subset(DataDir.read(args.dir), first=args.first, ids=ids, speakers=args.speakers)
    return _write_moved(part, args)


def _copy(args: argparse.Namespace) -> int:
    from speechkit.data.tables import DataDir

    return _write_moved(DataDir.read(args.dir), args)


def _write_moved(tables: DataDir, args: argparse.Namespace) -> int:
    from speechkit.data.combine import moved
    from speechkit.data.tables import root_of

    _check_output(args.output, [args.dir], args.overwrite)
    return _write(moved(tables, _root(args, args.dir), root_of(args.output)), args.output, [args.dir])


def _write(tables: DataDir, out: Path, sources: Sequence[Path]) -> int:
    from speechkit.files import whole

    if not tables.tables():
        raise InputError(f"{', '.join(map(str, sources))}: no data directory: no table is in it", code="data.missing")
    with whole(out) as temporary:
        tables.write(temporary)
    print(f"{out}\t{_count(len(tables.ids), 'utterance')}")
    _name_left(sources)
    return 0


def _index(args: argparse.Namespace) -> int:
    from speechkit.data.shar import is_shar
    from speechkit.data.utterance import write_utterances

    if is_shar(args.dir):
        return _index_shar(args)
    out = args.output or args.dir / "utterances.jsonl"
    if args.output:
        _check_output(out, [args.dir], args.overwrite)
    measured = _measured(args)
    write_utterances(out, measured.utterances)
    dropped = f"\t{_count(len(measured.dropped), 'segment')} dropped" if measured.dropped else ""
    print(f"{out}\t{_size(measured)}{dropped}")
    return 0


def _index_shar(args: argparse.Namespace) -> int:
    from speechkit.data.shar import index_shar

    if args.output:
        raise UsageError("-o: the index of a Shar folder lies in it", hint="leave -o out", code="usage.output")
    index = index_shar(args.dir, nj=args.nj)
    out = index.save(args.dir)
    print(f"{out}\t{_count(len(index), 'utterance')}\t{index.seconds / 3600:.3f} h")
    return 0


def _measured(args: argparse.Namespace) -> Measured:
    from speechkit.data.kaldi import measure

    measured = measure(args.dir, root=_root(args, args.dir), allow_pipes=args.allow_pipes)
    for problem in measured.dropped:
        _say(f"{args.dir}/{problem}")
    measured.check(args.dir)
    return measured


def _size(measured: Measured) -> str:
    hours = sum(utterance.duration_s for utterance in measured.utterances) / 3600
    return f"{_count(len(measured.utterances), 'utterance')}\t{hours:.3f} h"


def _to_lhotse(args: argparse.Namespace) -> int:
    from speechkit.data.manifests import write_manifests
    from speechkit.data.tables import DataDir

    _check_output(args.output, [args.dir], args.overwrite)
    measured = _measured(args)
    _name_without_place(args, write_manifests(args.output, DataDir.read(args.dir), measured))
    print(f"{args.output}\t{_size(measured)}")
    return 0


def _to_shar(args: argparse.Namespace) -> int:
    from speechkit.data.lhotse import supervision_fields
    from speechkit.data.shar import write_shar
    from speechkit.data.tables import DataDir

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
    print(f"{args.output}\t{_size(measured)}\t{_count(len(index.shards), 'shard')}")
    return 0


def _name_without_place(args: argparse.Namespace, tables: Sequence[str]) -> None:
    if tables:
        _say(f"{args.dir}: not carried over: {', '.join(tables)}")
    _name_left([args.dir])


def _from_lhotse(args: argparse.Namespace) -> int:
    from speechkit.data.lhotse import manifest, read_cuts
    from speechkit.data.manifests import data_dir
    from speechkit.data.shar import SharUtterances, is_shar
    from speechkit.files import whole

    _check_output(args.output, [args.dir], args.overwrite)
    cuts = SharUtterances(args.dir).cuts() if is_shar(args.dir) else read_cuts(manifest(args.dir))
    tables, notes = data_dir(cuts)
    with whole(args.output) as temporary:
        tables.write(temporary)
    for note in notes:
        _say(f"{args.dir}: {note}")
    print(f"{args.output}\t{_count(len(tables.ids), 'utterance')}")
    return 0


def _root(args: argparse.Namespace, path: Path) -> Path:
    from speechkit.data.tables import root_of

    root: Path | None = args.root
    return root or root_of(path)


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
    from speechkit.data.tables import layout_of

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
    from speechkit.data.tables import layout_of

    for path in sources:
        files = [p.name for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith(".")]
        if left := [name for name in files if not layout_of(name) and name not in _OUR_FILES]:
            _say(f"{path}: not carried over: {', '.join(left)}")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _say(text: str) -> None:
    print(text, file=sys.stderr)
