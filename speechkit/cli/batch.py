"""Many inputs of `speechkit transcribe` on their way to their outputs, here or in other processes."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechkit.cli.console import Console
from speechkit.cli.inputs import Input
from speechkit.cli.model import open_recognizer
from speechkit.cli.outputs import Outputs, print_text
from speechkit.cli.progress import Progress, clock
from speechkit.errors import InputError, SpeechkitError
from speechkit.jobs import Shard, run_jobs
from speechkit.pipelines.formats import json_line, render
from speechkit.pipelines.subtitles import Layout

if TYPE_CHECKING:
    from speechkit.decode.ngram import NgramSearch
    from speechkit.decode.vocabulary import Vocabulary
    from speechkit.pipelines.sources import Failure
    from speechkit.pipelines.transcribe import Transcriber
    from speechkit.pipelines.transcript import Transcript

LAYOUT = ("max_line_width", "max_line_count", "max_words_per_line", "highlight_words")

_PARTS_A_JOB = 4  # so that all end at about the same time
_LARGEST_PART = 100  # inputs that are begun anew when a process of Ray dies


class Batch:
    """The inputs of one command on their way to their outputs, and what became of them."""

    def __init__(self, args: argparse.Namespace, outputs: Outputs, *, single: bool, skipped: int) -> None:
        self.args = args
        self.outputs = outputs
        self.single = single
        self.layout = Layout(**{name: getattr(args, name) for name in LAYOUT})
        self.skipped = skipped  # done by an earlier run
        self.done = skipped
        self.errors: list[SpeechkitError] = []
        self.held: list[str] = []  # JSON lines of failures: when all fail, nothing goes to stdout

    def run(self, items: Sequence[Input]) -> int:
        """Transcribe inputs, here or in other processes, and say how it went; gives the exit code."""
        shown = not (self.args.verbosity < 0 or self.args.no_progress)
        shared = is_shared(self.args)
        progress = Progress(None if shared else _total_seconds(items), shown=shown and not shared)
        with progress:
            if shared:
                self._share_out(items, progress, shown=shown)
            else:
                self.work(items, progress)
        if not self.single and self.args.verbosity >= 0:
            before = f" ({self.skipped} before)" if self.skipped else ""
            failed = f" · {len(self.errors)} failed" if self.errors else ""
            audio = f"{clock(progress.done_s)} audio · {progress.speed:.0f}x"
            print(f"{self.done + len(self.errors)} files · {self.done} ok{before}{failed} · {audio}", file=sys.stderr)
        return self._exit_code()

    def work(self, items: Sequence[Input], progress: Progress) -> None:
        """Transcribe inputs here."""
        for item, result in zip(items, self._results(items, progress), strict=True):
            if isinstance(result, SpeechkitError):
                self._failed(item, result, progress)
                if self.args.fail_fast:
                    break
            else:
                self._write(item, result, progress)

    def _share_out(self, items: Sequence[Input], progress: Progress, *, shown: bool) -> None:
        """Let several processes work on the inputs, a part at a time."""
        count = min(len(items), max(_PARTS_A_JOB * self.args.nj, math.ceil(len(items) / _LARGEST_PART)))
        outputs = replace(self.outputs, record={})
        parts = [_Part(args=self.args, outputs=outputs, items=Shard(index, count).of(items)) for index in range(count)]
        bar = Console(quiet=not shown).bar("transcribe", "part")
        try:
            tallies = run_jobs(
                _work_on,
                parts,
                nj=self.args.nj,
                executor=self.args.executor,
                gpu=self.args.device != "cpu",
                progress=lambda done, total: bar.update(done, total, ""),
                fail_fast=True,  # inputs that fail are told; what fails a part fails all
            )
        finally:
            bar.close()
        for tally in tallies:
            for message in tally.messages:
                progress.message(message)
            progress.done_s += tally.seconds
            self.done += tally.done
            self.errors += tally.errors

    def _results(self, items: Sequence[Input], progress: Progress) -> Iterator[Transcript | SpeechkitError]:
        from speechkit.pipelines.sources import Failure

        sources = [item.source for item in items if item.source]
        results: Iterator[Transcript | Failure] = iter(())
        if sources:
            results = _transcriber(_Opening.of(self.args, self.outputs)).transcribe(sources, progress)
        for item in items:
            if item.source is None:
                assert item.error is not None
                yield item.error
            else:
                result = next(results)
                yield result.error if isinstance(result, Failure) else result

    def _write(self, item: Input, transcript: Transcript, progress: Progress) -> None:
        for warning in transcript.warnings if self.args.verbosity >= 0 else ():
            progress.message(f"speechkit: warning: {item.name}: {warning}")
        assert item.source is not None
        channel = item.source.channel
        place = {"file": Path(item.output).name, "channel": str(channel + 1) if isinstance(channel, int) else "1"}
        texts = [render(transcript, f, **place, layout=self.layout) for f in self.outputs.target.formats]
        self.done += 1
        if not self.outputs.target.is_stdout:
            self.outputs.write(item, texts)
        if self.args.jsonl or self.outputs.target.is_stdout:
            text = json_line(transcript) if self.args.jsonl else texts[0]
            print_text("".join(self.held) + (self._labelled(item, text) if self._labels else text))
            self.held = []

    @property
    def _labels(self) -> bool:
        """Whether standard output gets plain text of several inputs, which does not say whose it is."""
        return not self.single and not self.args.jsonl and self.outputs.target.formats == ("txt",)

    def _labelled(self, item: Input, text: str) -> str:
        """Every line after the input's name and a tab."""
        return "".join(f"{item.name}\t{line}\n" for line in text.splitlines() or [""])

    def _failed(self, item: Input, error: SpeechkitError, progress: Progress) -> None:
        if self.single:
            raise error
        self.errors.append(error)
        self.outputs.finish(item, "failed")
        named = error.message if item.name in error.message else f"{item.name}: {error.message}"
        progress.message(f"speechkit: error: {named}" + (f"\nhint: {error.hint}" if error.hint else ""))
        if self.args.jsonl:
            line = {"input": item.name, "ok": False, "error": _as_json(error)}
            self.held.append(json.dumps(line, ensure_ascii=False) + "\n")
            if self.done:
                print_text("".join(self.held))
                self.held = []

    def _exit_code(self) -> int:
        if not self.errors:
            return 0
        codes = {error.exit_code for error in self.errors}
        return codes.pop() if not self.done and len(codes) == 1 else 1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """Inputs of a command for another process."""

    args: argparse.Namespace
    outputs: Outputs
    items: list[Input]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tally:
    """What became of the inputs of a part, and what is to be told."""

    done: int
    errors: list[SpeechkitError]
    messages: list[str]
    seconds: float


class _Told(Progress):
    """Keeps what another process is to tell."""

    def __init__(self) -> None:
        super().__init__(None, shown=False)
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        """Keep a line."""
        self.messages.append(text)


def _work_on(part: _Part) -> _Tally:
    batch, progress = Batch(part.args, part.outputs, single=False, skipped=0), _Told()
    batch.work(part.items, progress)
    return _Tally(done=batch.done, errors=batch.errors, messages=progress.messages, seconds=progress.done_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opening:
    """The model and the search of a command, which are the same where all that they depend on is."""

    settings: str
    args: argparse.Namespace = field(compare=False)

    @classmethod
    def of(cls, args: argparse.Namespace, outputs: Outputs) -> _Opening:
        how = (args.device, args.dtype, args.batch_seconds, args.threads, args.offline)
        return cls(settings=json.dumps([outputs.settings, how]), args=args)


@functools.lru_cache(maxsize=1)
def _transcriber(opening: _Opening) -> Transcriber:
    """Load the model once in each process."""
    from speechkit.pipelines.transcribe import Transcriber

    args = opening.args
    recognizer = open_recognizer(args)
    search = _search(args, recognizer.vocabulary) if args.lm else None
    return Transcriber(recognizer, beam_size=args.beam_size, search=search, name=args.model)


def is_shared(args: argparse.Namespace) -> bool:
    """Whether a command leaves the work to other processes."""
    return args.nj > 1 or args.executor == "ray"


def _as_json(error: SpeechkitError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "hint": error.hint, "exit": error.exit_code}


def _search(args: argparse.Namespace, vocabulary: Vocabulary) -> NgramSearch:
    from speechkit.decode.ngram import BEAM_SIZE, NgramSearch, NgramSettings

    given = {name: getattr(args, name) for name in ("lm_weight", "word_score") if getattr(args, name) is not None}
    settings = NgramSettings(beam_size=args.beam_size or BEAM_SIZE, **given)
    return NgramSearch(vocabulary, Path(args.lm), Path(args.lexicon) if args.lexicon else None, settings)


def _total_seconds(items: Sequence[Input]) -> float | None:
    """Seconds of audio by the headers, for the bar of a terminal; None where nobody looks."""
    if not sys.stderr.isatty():
        return None
    from speechkit.audio.files import info

    total = 0.0
    for item in items:
        if item.place and item.source:
            with contextlib.suppress(InputError):  # told when it is read
                total += info(item.place).duration_s
    return total or None
