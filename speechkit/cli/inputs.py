"""The recordings that a command line names: files, folders, patterns, lists, Kaldi dirs, Shar, standard input."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from speechkit.errors import InputError, SpeechkitError, UsageError

if TYPE_CHECKING:
    from speechkit.pipelines.sources import Source

_MAX_STDIN_BYTES = 2 << 30
_WILD = "*?["


@dataclass(frozen=True, kw_only=True, slots=True)
class Input:
    """One input of a command.

    Attributes:
        name: as the user knows it.
        source: what to read; None when it is not there.
        error: why it is not there.
        place: the file that it stands for, for the names of outputs; None for standard input and utterances.
        output: name of its outputs without the format's ending, relative to the output folder.
    """

    name: str
    source: Source | None = None
    error: SpeechkitError | None = None
    place: Path | None = None
    output: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """All inputs of a command, and whether it asked for one single recording."""

    items: list[Input]
    single: bool


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how recordings are named."""
    parser.add_argument(
        "inputs", nargs="*", metavar="AUDIO", help="file, folder, pattern, Kaldi dir, Shar, or - for stdin"
    )
    parser.add_argument("--from-file", metavar="LIST", help="a file with one input a line; - for stdin")
    parser.add_argument("--recursive", action="store_true", help="look into the folders of folders")
    parser.add_argument(
        "--include", action="append", default=[], metavar="GLOB", help="of folders take only these names"
    )
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB", help="of folders leave out these names"
    )
    parser.add_argument("--channel", default="mix", help="mix (default), left, right, a number from 0, or each")


def find_inputs(args: argparse.Namespace) -> Inputs:
    """Everything that the arguments name, in order, once each; what is missing carries its error.

    Raises:
        UsageError: nothing is named, or standard input twice.
        InputError: the list or a Kaldi dir cannot be read.
    """
    names = list(args.inputs)
    if names.count("-") + (args.from_file == "-") > 1:
        raise UsageError("standard input can be read only once", code="usage.stdin")
    if args.from_file:
        names += _listed(args.from_file)
    if not names:
        raise UsageError(
            "no input named", hint="name a recording, a folder, or - for standard input", code="usage.input"
        )
    _check_channel(args.channel)
    found: dict[str, Input] = {}
    single = len(names) == 1 and not args.from_file
    for name in names:
        items = list(_expand(name, args))
        single = single and len(items) == 1 and not _is_collection(name)
        for item in items:
            found.setdefault(_identity(item), item)
    named = _name_outputs(list(found.values()))
    return Inputs(items=[part for item in named for part in _channels(item, args.channel)], single=single)


def one_input(name: str) -> Input:
    """The one recording that a command takes; `-` is standard input.

    Raises:
        InputError: there is no such file.
    """
    if name == "-":
        return _standard_input()
    path = Path(name)
    if not path.exists():
        raise _missing(name)
    return replace(_file(path), output=path.stem)


def _listed(path: str) -> list[str]:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"{path}: cannot be read as a list: {reason}", code="input.list") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _is_collection(name: str) -> bool:
    path = Path(name)
    return path.is_dir() or path.suffix == ".scp" or (not path.exists() and any(c in name for c in _WILD))


def _expand(name: str, args: argparse.Namespace) -> Iterator[Input]:
    path = Path(name)
    if name == "-":
        yield _standard_input()
    elif path.is_dir() and (path / "wav.scp").is_file():
        yield from _kaldi(path)
    elif path.is_dir():
        yield from _shar(path) or _folder(path, args)
    elif path.suffix == ".scp" and path.is_file():
        yield from _kaldi(path.parent) if path.name == "wav.scp" else _scp(path)
    elif path.exists():
        yield _file(path)
    elif any(c in name for c in _WILD):
        yield from _pattern(name, args)
    else:
        yield Input(name=name, error=_missing(name), place=path)


def _file(path: Path) -> Input:
    from speechkit.pipelines.sources import Source

    return Input(name=str(path), source=Source(name=str(path), path=path), place=path)


def _folder(folder: Path, args: argparse.Namespace) -> Iterator[Input]:
    from speechkit.audio.files import EXTENSIONS

    paths = [p for p in (folder.rglob("*") if args.recursive else folder.iterdir()) if p.is_file()]
    chosen = [p for p in sorted(paths) if not p.name.startswith(".") and _wanted(p, args, EXTENSIONS)]
    yield from (_file(path) for path in chosen)
    if not chosen:
        hint = "" if args.recursive else "--recursive looks into its folders too"
        error = InputError(f"{folder}: a folder without audio files", hint=hint, code="audio.missing")
        yield Input(name=str(folder), error=error, place=folder)


def _wanted(path: Path, args: argparse.Namespace, extensions: Iterable[str]) -> bool:
    if any(fnmatch(path.name, pattern) for pattern in args.exclude):
        return False
    if args.include:
        return any(fnmatch(path.name, pattern) for pattern in args.include)
    return path.suffix.lower() in extensions


def _pattern(pattern: str, args: argparse.Namespace) -> Iterator[Input]:
    import glob

    matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 pathlib's takes no absolute pattern
    for match in matches:
        path = Path(match)
        if path.is_dir():
            yield from _folder(path, args)
        elif not any(fnmatch(path.name, excluded) for excluded in args.exclude):
            yield _file(path)
    if not matches:
        error = InputError(f"{pattern}: no file of that name, and none that matches it", code="audio.missing")
        yield Input(name=pattern, error=error, place=Path(pattern))


def _kaldi(folder: Path) -> Iterator[Input]:
    from speechkit.data.kaldi.tables import root_of
    from speechkit.data.kaldi.utterances import measure
    from speechkit.pipelines.sources import Source

    measured = measure(folder, root=root_of(folder))
    for utterance in measured.utterances:
        yield _utterance(utterance.id, Source.of_utterance(utterance))
    for problem in measured.problems:
        where = f"{folder}/{problem.file}:{problem.line}"
        hint = problem.hint
        if problem.code == "E413":
            hint = f"store what it gives, then transcribe SHAR: speechkit data to-shar {folder} --allow-pipes -o SHAR"
        error = InputError(f"{where}: {problem.message}", hint=hint, code=problem.code)
        yield Input(
            name=f"{folder}/{problem.file}:{problem.line}", error=error, output=f"{problem.file}.{problem.line}"
        )
    for problem in measured.dropped:
        print(f"speechkit: warning: {folder}/{problem}", file=sys.stderr)


def _shar(folder: Path) -> list[Input]:
    """The cuts of a Shar folder; none where a folder is no Shar."""
    from speechkit.data.lhotse.shar import SharUtterances, is_shar
    from speechkit.pipelines.sources import Source

    utterances = SharUtterances(folder) if is_shar(folder) else []
    return [_utterance(utterance.id, Source.of_utterance(utterance)) for utterance in utterances]


def _scp(path: Path) -> Iterator[Input]:
    from speechkit.data.kaldi.tables import read_table
    from speechkit.pipelines.sources import Source

    for name, value in read_table(path).items():
        yield _utterance(name, Source(name=name, path=value))


def _utterance(name: str, source: Source) -> Input:
    return Input(name=name, source=source, output=name.replace("/", "_"))


class _Stdin(io.BytesIO):
    name = "standard input"  # in messages


def _standard_input() -> Input:
    from speechkit.pipelines.sources import Source

    if sys.stdin is None:
        raise InputError("standard input is closed", hint="give a file", code="audio.missing")
    data = sys.stdin.buffer.read(_MAX_STDIN_BYTES + 1)
    if len(data) > _MAX_STDIN_BYTES:
        raise InputError("standard input: more than 2 GB", hint="give a file", code="audio.size")
    return Input(name="-", source=Source(name="-", path=_Stdin(data)), output="stdin")


def _missing(name: str) -> InputError:
    return InputError(f"{name}: no such file", code="audio.missing")


def _identity(item: Input) -> str:
    return f"utterance {item.name}" if item.place is None else os.path.abspath(item.place)  # noqa: PTH100 no links


def _check_channel(channel: str) -> None:
    if channel not in ("mix", "left", "right", "each") and not channel.isdecimal():
        raise UsageError(f"--channel {channel}: not mix, left, right, each or a number", code="usage.channel")


def _channels(item: Input, channel: str) -> Iterator[Input]:
    """The input with its channel chosen; for `each`, an input a channel."""
    source = item.source
    if source is None or channel == "mix" or source.channel != "mix":
        yield item
    elif channel != "each":
        chosen = int(channel) if channel.isdecimal() else {"left": 0, "right": 1}[channel]
        yield replace(item, source=replace(source, channel=chosen))
    else:
        from speechkit.audio.files import info
        from speechkit.data.kaldi.rxfilename import open_audio

        try:
            count = info(open_audio(source.path) if isinstance(source.path, str) else source.path).channels
        except SpeechkitError as error:
            yield replace(item, source=None, error=error)
            return
        for number in range(count):
            name = f"{item.name}#{number}"
            one = replace(source, name=name, channel=number)
            yield replace(item, name=name, source=one, output=f"{item.output}.{number}")


def _name_outputs(items: list[Input]) -> list[Input]:
    """Name the outputs of each input: the stem, with as much of the path and of the ending as tells them apart."""
    stems = Counter(item.place.stem for item in items if item.place)
    parents = [str(item.place.absolute().parent) for item in items if item.place and stems[item.place.stem] > 1]
    common = Path(os.path.commonpath(parents)) if parents else Path()
    named = [replace(item, output=_stem(item.place, stems, common)) if item.place else item for item in items]
    outputs = Counter(item.output for item in named)
    return [
        replace(item, output=str(PurePath(item.output).with_name(item.place.name)))
        if item.place and outputs[item.output] > 1
        else item
        for item in named
    ]


def _stem(place: Path, stems: Counter[str], common: Path) -> str:
    if stems[place.stem] == 1:
        return place.stem
    return str(place.absolute().relative_to(common).with_name(place.stem))
