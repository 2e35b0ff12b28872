"""`speechkit run`: the numbered stages of a recipe."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechkit import config as configuration
from speechkit.cli.console import Console
from speechkit.cli.shares import add_sharing_arguments
from speechkit.errors import InputError, UsageError, nearest
from speechkit.recipe import Places, Planned, Recipe, Report, Resources, Selection, execute, load, plan, show
from speechkit.recipe.planning import no_stage, open_digests
from speechkit.recipe.record import last_corpus_dir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("recipe", type=Path, metavar="RECIPE", help="a folder with recipe.py, such as recipes/wavlm")
    add("--in", dest="system", type=Path, metavar="DIR", help="egs/CORPUS/SYSTEM; exp/ is made in it")
    add("--data-dir", type=Path, metavar="DIR", help="the corpus as its owner lays it out (default: the last run's)")
    add("--conf", nargs="+", action="extend", default=[], metavar="CONF", help="names in conf/ or files; later wins")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="over all files")
    add("--tag", metavar="NAME", help="the experiment, exp/NAME (default: the name of the last --conf)")

    stages = parser.add_argument_group("stages")
    stages.add_argument("--stage", type=int, metavar="N", help="the first one to run (default 1)")
    stages.add_argument("--stop-stage", type=int, metavar="M", help="the last one to run")
    stages.add_argument("--stages", type=_ranges, metavar="3,5-7", help="exactly these")
    stages.add_argument(
        "--force-stage", type=_ranges, default=[], metavar="N", help="run afresh although nothing changed"
    )
    add_sharing_arguments(stages, "parallel jobs of a stage")
    what = "processes of a training, one a GPU; 0: CPU only (default: one, on a GPU where there is one)"
    stages.add_argument("--ngpu", type=_count, metavar="N", help=what)

    shown = parser.add_argument_group("run nothing")
    only = shown.add_mutually_exclusive_group()
    only.add_argument("--list", action="store_true", help="the stages with their states")
    only.add_argument("--dry-run", action="store_true", help="what would run, and why")
    only.add_argument("--explain", type=int, metavar="N", help="what changed since stage N ran")
    only.add_argument("--print-config", action="store_true", help="all settings as they come out")
    shown.add_argument("--json", action="store_true", help="--list as one JSON object a stage")


def run(args: argparse.Namespace) -> int:
    """Run the stages, or show what would run."""
    recipe = load(args.recipe)
    selection = _selection(args, recipe)
    config = configuration.load(recipe.config, _conf_files(args), args.set)
    if args.print_config:
        print(configuration.dump(config), end="")
        return 0
    places = _places(args)
    if args.list or args.dry_run or args.explain is not None:
        _show(args, recipe, config, places, selection)
        return 0
    _check_gpus(args.ngpu)
    console = Console(quiet=args.verbosity < 0)
    resources = Resources(
        nj=args.nj,
        device={None: "auto", 0: "cpu"}.get(args.ngpu, "cuda"),
        command=shlex.join(["speechkit", *sys.argv[1:]]),
        processes=args.ngpu or 1,
        follower=lambda number: _follower(args, places, number),
        executor=args.executor,
        shard=args.shard,
    )
    report = execute(recipe, config, places, selection, console, resources)
    if report.next_stage is not None:
        console.line(f"next: {_command(args, places)} --stage {report.next_stage}")
    return _exit_code(report)


def _exit_code(report: Report) -> int:
    if report.signal in (signal.SIGINT, signal.SIGTERM):
        return 128 + report.signal
    return 0


def _show(args: argparse.Namespace, recipe: Recipe, config: Any, places: Places, selection: Selection) -> None:
    selection.check(recipe)
    digests = open_digests(places)
    planned = plan(recipe, config, places, selection, digests)
    if args.list:
        print(show.json_lines(planned) if args.json else show.table(planned))
    elif args.dry_run:
        print(show.dry_run(planned, places, digests, args.nj))
    else:
        print(show.explanation(_numbered(recipe, planned, args.explain), places))
    digests.save()


def _numbered(recipe: Recipe, planned: Sequence[Planned], number: int) -> Planned:
    for this in planned:
        if this.stage.number == number:
            return this
    raise no_stage(recipe, f"stage {number}")


def _check_gpus(count: int | None) -> None:
    """See that there is a GPU if any are asked for, before a stage is touched."""
    if not count:
        return
    import torch

    if not torch.cuda.is_available():
        raise UsageError(
            f"--ngpu {count}: torch sees no GPU",
            hint="--ngpu 0 trains on CPUs; several processes of them are started by torchrun (docs/scale.md)",
            code="usage.ngpu",
        )


def _selection(args: argparse.Namespace, recipe: Recipe) -> Selection:
    force = _in_ranges(args.force_stage, recipe)
    if args.stages is None:
        named = frozenset(n for n in (args.stage, args.stop_stage) if n is not None)
        return Selection(first=args.stage, last=args.stop_stage, named=named, force=force)
    if args.stage is not None or args.stop_stage is not None:
        raise UsageError("--stages goes with neither --stage nor --stop-stage", code="usage.option")
    named = frozenset(first for first, last in args.stages if first == last)
    return Selection(numbers=_in_ranges(args.stages, recipe), named=named, force=force)


def _in_ranges(ranges: Sequence[tuple[int, int]], recipe: Recipe) -> frozenset[int]:
    """The numbers of the recipe's stages that lie in the ranges."""
    found: set[int] = set()
    for first, last in ranges:
        inside = {stage.number for stage in recipe.stages if first <= stage.number <= last}
        if not inside:
            raise no_stage(recipe, f"stage {first}" if first == last else f"stage in {first}-{last}")
        found |= inside
    return frozenset(found)


def _ranges(text: str) -> list[tuple[int, int]]:
    """Read `3,5-7`; a leading minus belongs to the number."""
    ranges = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(-?\d+)(?:-(\d+))?\s*", part)
        if found is None:
            raise argparse.ArgumentTypeError(f"{text!r}: expected numbers and ranges such as 3,5-7")
        ranges.append((int(found[1]), int(found[2] or found[1])))
    return ranges


def _conf_files(args: argparse.Namespace) -> list[Path]:
    """The files of every --conf: a path, or a name in the recipe's conf/ and then in the system's."""
    folders = [folder / "conf" for folder in (args.recipe, args.system) if folder is not None]
    found: list[Path] = []
    for conf in args.conf:
        if "/" in conf or conf.endswith((".yaml", ".yml")):
            files = [Path(conf)]
        else:
            files = [folder / f"{conf}.yaml" for folder in folders if (folder / f"{conf}.yaml").is_file()]
        if not files or not files[0].is_file():
            known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
            hint = nearest(conf, known) or f"known here: {', '.join(known)}"
            raise UsageError(f"--conf {conf}: no such settings", hint=hint, code="config.file")
        found += files
    return found


def _places(args: argparse.Namespace) -> Places:
    if args.system is None:
        raise UsageError("--in is missing", hint="pass --in egs/CORPUS/SYSTEM", code="usage.option")
    if not args.system.is_dir():
        raise UsageError(f"--in {args.system}: no such folder", code="usage.option")
    tag = args.tag or (Path(args.conf[-1]).stem if args.conf else "default")
    if args.tag == "" or "/" in tag or tag.startswith("."):
        raise UsageError(f"--tag {args.tag!r}: not a plain name", code="usage.option")
    if args.data_dir is not None and not args.data_dir.is_dir():
        raise InputError(f"--data-dir {args.data_dir}: no such folder", code="corpus.missing")
    places = Places(system=args.system.absolute(), tag=tag, corpus_dir=args.data_dir and args.data_dir.absolute())
    if places.corpus_dir is None:
        others = places.exp.parent.glob(f"*/{places.records.name}")  # data/ is theirs too
        last = last_corpus_dir(places.records) or last_corpus_dir(*others)
        return Places(system=places.system, tag=tag, corpus_dir=last)
    return places


def _command(args: argparse.Namespace, places: Places) -> str:
    """The words that go on with this experiment, without stage numbers."""
    script = places.system / "run.sh"
    if script.is_file():
        relative = os.path.relpath(script)
        words = [relative if "/" in relative else f"./{relative}"]
        confs = args.conf[1:]  # run.sh names the first
    else:
        words = ["speechkit", "run", str(args.recipe), "--in", str(args.system)]
        confs = args.conf
    words += ["--conf", *confs] if confs else []
    words += ["--set", *args.set] if args.set else []
    words += ["--tag", args.tag] if args.tag else []
    return shlex.join(words)


def _follower(args: argparse.Namespace, places: Places, number: int) -> list[str]:
    """The command of the other processes of a training stage."""
    words = [sys.executable, "-m", "speechkit", "run", str(args.recipe), "--in", str(args.system), "--tag", places.tag]
    words += ["--conf", *args.conf] if args.conf else []
    words += ["--set", *args.set] if args.set else []
    return [*words, "--ngpu", "1", "--stages", str(number)]


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)
