"""What a stage is given when it runs. It holds no configuration: a stage sees only the settings that it declared."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

from speechkit.errors import SpeechkitError
from speechkit.jobs import Done, Executor, Piece, Shard, Walk, Work, run_jobs

Unit = TypeVar("Unit")
Result = TypeVar("Result")

_NOTE_SECONDS = 10.0


class Bar(Protocol):
    """Shows how far something is."""

    def update(self, done: int, total: int, text: str) -> None:
        """Show the number done, that of all, and a line for people."""

    def close(self) -> None:
        """Leave the line."""


class Console(Protocol):
    """Where a run tells how it goes."""

    def line(self, text: str) -> None:
        """Say what is happening."""

    def result(self, text: str) -> None:
        """Say what came out."""

    def bar(self, label: str, unit: str) -> Bar:
        """Begin to show the progress of something counted in `unit`."""


class Progress:
    """How far a stage is: on the console, and in its record for `--list`."""

    def __init__(self, bar: Bar, total: int, unit: str, note: Callable[[str], None]) -> None:
        self._bar = bar
        self._total = total
        self._unit = unit
        self._note = note
        self._noted = 0.0
        self._done = 0

    def update(self, done: int, total: int, text: str = "") -> None:
        """Set the number done and that of all."""
        self._done, self._total = done, total
        self._bar.update(done, total, text)
        if time.monotonic() - self._noted > _NOTE_SECONDS:
            self._write()

    def advance(self, count: int = 1, text: str = "") -> None:
        """Count some as done."""
        self.update(self._done + count, self._total, text)

    def _write(self) -> None:
        self._noted = time.monotonic()
        self._note(f"{self._unit} {self._done} of {self._total}")

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._write()


class ShareDone(Exception):
    """A process has done its share of a stage; the rest of the stage is not for it.

    Args:
        left: pieces that others have yet to compute; none in a training.
        pieces: how many there are.
    """

    def __init__(self, left: int = 0, pieces: int = 0) -> None:
        super().__init__(f"{left} of {pieces} pieces are left")
        self.left = left
        self.pieces = pieces


def named(inputs: Mapping[str, Path], kind: str) -> dict[str, Path]:
    """Those of the inputs that are declared as `KIND NAME`, by NAME."""
    return {n.removeprefix(f"{kind} "): path for n, path in inputs.items() if n.startswith(f"{kind} ")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What a stage may use while it runs.

    Args:
        inputs: the declared inputs.
        outputs: where to write the declared outputs: temporary names beside the final ones, renamed when the stage
            returns and removed when it raises. A folder is not there yet.
        work: the folder that survives interruption, where the stage declares one.
        exp: the experiment's folder.
        egs: the folder egs/CORPUS, with prepare.py; paths in wav.scp count from it.
        corpus_dir: where the corpus itself lies (`--data-dir`), None when not given.
        device: `cpu`, `cuda`, or `auto` to take the best there is.
        nj: how many jobs `map` starts.
        log: the stage's logger; what any module of speechkit logs goes to the stage's log too.
        log_file: where that log is.
        console: what the user sees.
        note: says how far the stage is, for its record.
        should_stop: true once the user or the scheduler wants the run to end.
        key: of everything that the stage depends on.
        pieces: the folder of what `walk` makes, which stays until the stage is done.
        executor: where `map` and `walk` run: processes of this machine, or Ray.
        shard: the share of `walk` that is this process's, where others do the rest.
    """

    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]
    work: Path | None
    exp: Path
    egs: Path
    corpus_dir: Path | None
    device: str
    nj: int
    log: logging.Logger
    log_file: Path
    console: Console
    note: Callable[[str], None]
    should_stop: Callable[[], bool]
    key: str = ""
    pieces: Path | None = None
    executor: Executor = "local"
    shard: Shard | None = None

    def named(self, kind: str) -> dict[str, Path]:
        """The inputs that are declared as `KIND NAME`, by NAME."""
        return named(self.inputs, kind)

    def progress(self, total: int, unit: str) -> Progress:
        """Begin to show progress; its `update(done, total, text)` or `advance()` moves it. Use it in a `with`."""
        return Progress(self.console.bar(self.log_file.stem, unit), total, unit, self.note)

    def map(
        self, function: Work[Unit, Result], units: Sequence[Unit], nj: int | None = None, *, unit: str = "unit"
    ) -> list[Result]:
        """Call a function on every unit in `nj` processes; the results do not depend on `nj`. See `jobs.run_jobs`."""
        with self.progress(len(units), unit) as progress:
            return run_jobs(
                function,
                units,
                nj=nj or self.nj,
                executor=self.executor,
                log_file=self.log_file,
                progress=progress.update,
                should_stop=self.should_stop,
            )

    def walk(
        self, compute: Callable[[Piece[Unit], Path], dict[str, Any]], pieces: Sequence[Piece[Unit]], suffix: str
    ) -> list[tuple[Path, Done]]:
        """Compute every piece of a corpus once, whatever was interrupted before; see `jobs.Walk`.

        Only for a stage that declares `pieces`.

        Args:
            compute: writes the output of a piece. It goes to other processes.
            pieces: of the corpus; the results do not depend on who computes them.
            suffix: of the outputs.

        Returns:
            The output of every piece and what is known of it, in the order of the pieces.

        Raises:
            ShareDone: the pieces of `shard` are computed; the rest of the stage is not for this process.
        """
        assert self.pieces is not None
        walk = Walk(compute=compute, folder=self.pieces, suffix=suffix, settings=self.key)
        with self.progress(len(pieces), "piece") as progress:
            left = walk.run(
                pieces,
                self.shard,
                nj=self.nj,
                executor=self.executor,
                gpu=self.device != "cpu",
                log_file=self.log_file,
                progress=progress.update,
                should_stop=self.should_stop,
            )
        if self.shard:
            raise ShareDone(left=len(left), pieces=len(pieces))
        if left:
            raise SpeechkitError(f"{len(left)} pieces are gone again", hint="run the stage again", code="recipe.pieces")
        return [(walk.output(piece), done) for piece in pieces if (done := walk.done(piece))]

    def say(self, text: str) -> None:
        """Tell the user a result, on the console and in the log."""
        self.log.info("%s", text)
        self.console.result(text)

    @property
    def scratch(self) -> Path:
        """A folder for the time of the stage."""
        folder = self._scratch
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def remove_scratch(self) -> None:
        """Remove the scratch folder."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def _scratch(self) -> Path:
        return self.exp / ".scratch" / self.log_file.stem
