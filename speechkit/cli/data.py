"""`speechkit data`: look at, mend, divide and index Kaldi data directories; lhotse's cuts and Shar; training steps."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from speechkit.cli import data_write, why
from speechkit.cli.data_write import counted, root, say
from speechkit.cli.model import seconds

if TYPE_CHECKING:
    from speechkit.data.kaldi.problem import Problem
    from speechkit.data.kaldi.repair import Dropped, Repair
    from speechkit.data.kaldi.rules_audio import Depth
    from speechkit.data.kaldi.stats import Stats

_SHOWN = 20  # of each rule

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

    split = _command(commands, "split", "divide into N parts of equal length", data_write.split_dir)
    split.add_argument("parts", type=int, metavar="N")
    split.add_argument("--per-utt", action="store_true", help="speakers may be divided")
    _output(split, required=False, what="folder of the parts (default DIR/splitN or DIR/splitNutt)")
    _audio_options(split)

    combine = _command(commands, "combine", "put several directories together", data_write.combine_dirs, many=True)
    subset = _command(commands, "subset", "take a part of a directory", data_write.subset_dir)
    chosen = subset.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--first", type=int, metavar="N", help="the first N utterances")
    chosen.add_argument("--ids", type=Path, metavar="FILE", help="the utterances listed, one id a line")
    chosen.add_argument("--speakers", type=int, metavar="N", help="all utterances of the first N speakers")
    copy = _command(commands, "copy", "copy the tables", data_write.copy_dir)
    for command in (combine, subset, copy):
        _output(command, required=True, what="the new directory")
        _root_option(command)

    what = "list utterances with their lengths, from audio headers; index a Shar folder"
    index = _command(commands, "index", what, data_write.index_dir)
    _output(index, required=False, what="the list (default DIR/utterances.jsonl; of Shar always DIR/cuts.index)")
    _audio_options(index)
    _jobs_option(index, "processes that go through shards")

    to_lhotse = _command(
        commands, "to-lhotse", "write recordings, supervisions and cuts for lhotse", data_write.to_lhotse
    )
    to_shar = _command(
        commands, "to-shar", "store audio and transcripts as Shar, for lhotse and for us", data_write.to_shar
    )
    to_shar.add_argument("--shard-size", type=int, default=1000, metavar="N", help="utterances a shard (default 1000)")
    what = "of the audio (default flac); original keeps files that are one utterance as they are"
    to_shar.add_argument("--format", choices=["flac", "wav", "original"], default="flac", help=what)
    _jobs_option(to_shar, "processes that write shards")
    for command in (to_lhotse, to_shar):
        _output(command, required=True, what="the new folder")
        _audio_options(command)
    what = "take over lhotse's cuts: a manifest, its folder, or a Shar folder, whose audio stays where it is"
    from_lhotse = _command(commands, "from-lhotse", what, data_write.from_lhotse, metavar="CUTS")
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
    from speechkit.data.kaldi.validate import ValidateOptions, validate

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
            say(f"{args.dir}/{problem}")
    for code, count in sorted(counts.items()):
        if count > _SHOWN and not args.json:
            say(f"{args.dir}: {code}: {count:,} in all, the first {_SHOWN} shown")
    num_warnings = sum(problem.is_warning for problem in problems)
    num_errors = len(problems) - num_warnings
    say(f"{args.dir}: {counted(num_errors, 'error')}, {counted(num_warnings, 'warning')}")
    return int(num_errors > 0 or (args.strict and num_warnings > 0))


def _depth(args: argparse.Namespace) -> Depth:
    """How far to look into recordings; their lengths are in their headers."""
    depth: Depth = args.check_audio
    return "header" if args.max_seconds is not None and depth in ("none", "stat") else depth


def _fix(args: argparse.Namespace) -> int:
    from speechkit.data.kaldi.repair import apply_repair, plan_repair

    repair = plan_repair(args.dir)
    for line in _repair_table(repair):
        print(line)
    if not args.dry_run:
        backup = apply_repair(args.dir, repair, max_drop_percent=args.max_drop)
        changed = ", ".join(sorted(repair.contents))
        say(f"{args.dir}: {f'repaired {changed}; originals in {backup}' if backup else 'nothing to repair'}")
    left = [*repair.conflicts] if args.dry_run else _errors_left(args.dir)
    for problem in left[:_SHOWN]:
        say(f"{args.dir}/{problem}")
    if repair.conflicts:
        say(f"hint: keep one line of each of these keys yourself, then run fix again: {args.dir}")
    elif left:
        say(f"hint: {counted(len(left), 'error')} left that only you can mend: {args.dir}")
    return int(bool(left))


def _errors_left(path: Path) -> list[Problem]:
    from speechkit.data.kaldi.validate import ValidateOptions, validate

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
    from speechkit.data.kaldi.stats import stats

    results = [(path, stats(path, root=root(args, path), allow_pipes=args.allow_pipes)) for path in args.dirs]
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
    from speechkit.data.kaldi.stats import EDGES_SECONDS

    ends = [*map(str, EDGES_SECONDS[1:]), ""]
    for start, end, count in zip(EDGES_SECONDS, ends, stats.histogram, strict=True):
        bar = "#" * round(50 * count / max(stats.histogram))
        yield f"{f'{start}-{end}':>6}  {count:>8}  {bar}".rstrip()
