"""Where results go: standard output, one file, or a folder with a record of what is done."""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speechkit.cli.inputs import Input, Inputs
from speechkit.errors import OutputError, UsageError, nearest
from speechkit.files import left_of, lock, refuse_special, unwritable, write_text
from speechkit.jobs import Shard

RECORD = ".speechkit.jsonl"
LOCK = ".speechkit.lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where results go and in which formats.

    Attributes:
        formats: at least one.
        file: the one output file.
        folder: the output folder; with neither, results go to standard output.
    """

    formats: tuple[str, ...]
    file: Path | None = None
    folder: Path | None = None

    @property
    def is_stdout(self) -> bool:
        """Whether results go to standard output."""
        return self.file is None and self.folder is None

    def paths(self, item: Input) -> list[Path]:
        """The output files of an input, one a format."""
        if self.file:
            return [self.file]
        return [self.folder / f"{item.output}.{format}" for format in self.formats] if self.folder else []


def add_output_arguments(parser: argparse.ArgumentParser, formats: Sequence[str], *, several: bool) -> None:
    """Declare where results go; a command for several inputs can be resumed."""
    parser.add_argument(
        "-o", "--output", metavar="PATH", help="a file for one input, a folder for several, - for stdout (default)"
    )
    parser.add_argument(
        "-f",
        "--format",
        metavar="F[,F…]",
        help=f"{', '.join(formats)} (default: by the ending of -o, else {formats[0]})",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--overwrite", action="store_true", help="replace outputs that exist (default: refuse, exit 5)")
    if several:
        again.add_argument("--resume", action="store_true", help="skip inputs of a folder run that are done, unchanged")


def choose_formats(given: str | None, output: str | None, known: Sequence[str], default: str) -> tuple[str, ...]:
    """The formats of `-f`, else by the ending of `-o`, else the default.

    Raises:
        UsageError: there is no such format.
    """
    if given is None:
        ending = Path(output).suffix.lower().removeprefix(".") if output else ""
        return (ending if ending in known else default,)
    formats = tuple(dict.fromkeys(f.strip().lower() for f in given.split(",") if f.strip()))
    for format in formats or (given,):
        if format not in known:
            hint = nearest(format, known) or f"there are {', '.join(known)}"
            raise UsageError(f"unknown format {format!r}", hint=hint, code="usage.format")
    return formats


def choose_target(
    inputs: Inputs, output: str | None, formats: tuple[str, ...], *, known: Sequence[str], joinable: frozenset[str]
) -> Target:
    """Tell a file from a folder: a file is for one input in one format.

    Raises:
        UsageError: standard output or a file cannot take all the results.
    """
    if output == "":
        raise UsageError("-o is given, but empty", hint="a file, a folder, or - for stdout", code="usage.output")
    if output in (None, "-"):
        if len(formats) > 1:
            raise UsageError(
                f"several formats ({', '.join(formats)}) on standard output", hint="-o FOLDER", code="usage.output"
            )
        if not inputs.single and formats[0] not in joinable:
            raise UsageError(
                f"{formats[0]} of several inputs on standard output",
                hint=f"-o FOLDER, or one of {', '.join(sorted(joinable))}",
                code="usage.output",
            )
        return Target(formats=formats)
    path = Path(output or "")
    is_folder = path.is_dir() or str(output).endswith("/")
    refuse_special(path, path)
    if not is_folder and inputs.single and len(formats) == 1 and len(inputs.items) == 1:
        return Target(formats=formats, file=path)
    if not is_folder and path.suffix.lower().removeprefix(".") in known:
        what = f"{len(formats)} formats" if len(formats) > 1 else "several inputs"
        raise UsageError(f"-o {output}: one file for {what}", hint="give a folder: -o out/", code="usage.output")
    if path.exists() and not path.is_dir():
        raise OutputError(f"{output}: is a file, not a folder", code="output.exists")
    return Target(formats=formats, folder=path)


@dataclass(kw_only=True, slots=True)
class Outputs:
    """The outputs of one run: what may be written, what is done already, and the record of it.

    Attributes:
        target: where they go.
        settings: everything of the command that changes results.
        overwrite: whether what exists is replaced.
        resume: whether inputs that are done are skipped.
        shard: this process's share of the inputs: others write to the same folder, each with a record of its own.
        record: entries of the folder's record by input.
    """

    target: Target
    settings: dict[str, Any]
    overwrite: bool = False
    resume: bool = False
    shard: Shard | None = None
    record: dict[str, dict[str, Any]] = field(default_factory=dict)

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the folder for this run alone, with its record read.

        Raises:
            OutputError: it cannot be written to.
            Busy: another run writes there.
        """
        folder = self.target.folder
        if folder is None:
            if self.target.file:
                _make(self.target.file.parent)
            yield
            return
        _make(folder)
        with lock(folder / self._own(LOCK), str(folder)):
            self.record = _read_records(folder)
            self._remove_leftovers(folder)
            yield

    def _own(self, name: str) -> str:
        """`.speechkit.2-of-7.jsonl` for `.speechkit.jsonl` of share 2 of 7."""
        stem, _, ending = name.rpartition(".")
        return f"{stem}.{self.shard.index}-of-{self.shard.count}.{ending}" if self.shard else name

    def _remove_leftovers(self, folder: Path) -> None:
        """Remove what a killed run had begun to write of the outputs in the record."""
        ours = {path for entry in self.record.values() for path in entry["outputs"]}
        for path in folder.rglob(".*") if ours else ():
            output = left_of(path)
            if output and self._relative(output) in ours:
                path.unlink(missing_ok=True)

    def left(self, items: Sequence[Input], sources: Sequence[Path] = ()) -> list[Input]:
        """The inputs still to work on; `sources` are other files that are read.

        Raises:
            UsageError: `--resume` without a folder, two inputs with one output, or an output that is read too.
            OutputError: an output exists already.
        """
        if self.resume and self.target.folder is None:
            raise UsageError("--resume needs a folder of outputs", hint="-o FOLDER", code="usage.resume")
        todo = [item for item in items if not (self.resume and self._is_done(item))]
        self._refuse_clashes(todo)
        self._refuse_sources(todo, [*sources, *(item.place for item in items if item.place and item.source)])
        self._refuse_existing(todo)
        if self.target.folder:  # what is planned is ours, so a killed run may be resumed over its own outputs
            self._append([self._entry(item) | {"status": "planned"} for item in todo])
        return todo

    def write(self, item: Input, texts: Sequence[str]) -> None:
        """Write the results of an input, one a format, whole or not at all."""
        if self.target.is_stdout:
            print_text("".join(texts))
            return
        for path, text in zip(self.target.paths(item), texts, strict=True):
            write_text(path, text)
        self.finish(item, "done")

    def finish(self, item: Input, status: str) -> None:
        """Note in the record how an input ended."""
        if self.target.folder:
            self._append([self._entry(item) | {"status": status}])

    def _is_done(self, item: Input) -> bool:
        known = self.record.get(item.name)
        return known == self._entry(item) | {"status": "done"} and all(p.exists() for p in self.target.paths(item))

    def _refuse_clashes(self, items: Sequence[Input]) -> None:
        owners: dict[Path, str] = {}
        for item in items:
            for path in self.target.paths(item):
                if path in owners:
                    raise UsageError(f"{path} would be the output of both {owners[path]} and {item.name}", code="usage")
                owners[path] = item.name

    def _refuse_sources(self, items: Sequence[Input], sources: Sequence[Path]) -> None:
        read = {path.resolve() for path in sources}
        for path in (path for item in items for path in self.target.paths(item)):
            if path.resolve() in read:
                raise UsageError(f"{path}: would replace its own source", code="output.source")

    def _refuse_existing(self, items: Sequence[Input]) -> None:
        ours = {path for entry in self.record.values() for path in entry["outputs"]} if self.resume else set()
        paths = [path for item in items for path in self.target.paths(item)]
        there = [] if self.overwrite else [p for p in paths if p.exists() and self._relative(p) not in ours]
        if there:
            more = f", and {len(there) - 1} more" if len(there) > 1 else ""
            raise OutputError(
                f"{there[0]}: exists already{more}",
                hint="--overwrite replaces it" + (", --resume skips what is done" if self.target.folder else ""),
                code="output.exists",
            )

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self.target.folder)) if self.target.folder else str(path)

    def _entry(self, item: Input) -> dict[str, Any]:
        size, mtime = 0, 0
        if item.place and item.place.is_file():
            stat = item.place.stat()
            size, mtime = stat.st_size, stat.st_mtime_ns
        span = [item.source.start, item.source.num_samples, item.source.channel] if item.source else []
        path = str(item.source.path) if item.source and item.place is None and item.name != "-" else ""
        settings = json.dumps([self.settings, span, path], sort_keys=True)
        return {
            "input": item.name,
            "size": size,
            "mtime": mtime,
            "settings": hashlib.sha256(settings.encode()).hexdigest()[:16],
            "outputs": [self._relative(path) for path in self.target.paths(item)],
        }

    def _append(self, entries: Sequence[dict[str, Any]]) -> None:
        assert self.target.folder is not None
        path = self.target.folder / self._own(RECORD)
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries))
        except OSError as error:
            raise unwritable(path, error) from error


def print_text(text: str) -> None:
    """Write to standard output at once, in UTF-8 unless it is a console of another encoding.

    Raises:
        OutputError: it is closed, or the disk that it is redirected to is full.
        BrokenPipeError: nobody reads it any more.
    """
    if sys.stdout is None:
        raise OutputError("standard output is closed", code="output.write")
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:  # a notebook's
        print(text, end="", flush=True)
        return
    encoding = sys.stdout.encoding if sys.stdout.isatty() else "utf-8"
    data = memoryview(text.encode(encoding, "replace"))
    try:
        sys.stdout.flush()
        while data:  # unbuffered output (PYTHONUNBUFFERED) may take a part without a word
            data = data[binary.write(data) :]
        binary.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable("standard output", error) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise unwritable(folder, error) from error


def _read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """The last entry of every input; where several shares had it, one that is done."""
    records: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob(f"{Path(RECORD).stem}*.jsonl")):
        entries: dict[str, dict[str, Any]] = {}
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # the last line of a killed run is torn
                entry = json.loads(line)
                entries[entry["input"]] = entry
        records |= {name: e for name, e in entries.items() if name not in records or e["status"] == "done"}
    return records
